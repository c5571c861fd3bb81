#!/usr/bin/env bash
# Make the environment of stock Petastorm, which the tests compare with, and print its Python. Running again is free.
# usage: setup-oracle.sh
# UV: a `uv` to install with (default: the one on PATH, else pip); ORACLE_PYTHON: a CPython 3.11 that is not found by its name.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
pins=$here/requirements-oracle.txt
uv=${UV:-$(command -v uv || true)}

hash() { if command -v sha256sum > /dev/null; then sha256sum; else shasum -a 256; fi | cut -c1-12; }
cache=${XDG_CACHE_HOME:-$HOME/.cache}/shardwright
oracle=$cache/petastorm-oracle-$(hash < "$pins")
ready=$oracle/.ready

build() {
  rm -rf "$oracle" # what an interrupted run left
  if [ -n "$uv" ]; then
    "$uv" venv --quiet --python "${ORACLE_PYTHON:-3.11}" "$oracle"
    "$uv" pip install --quiet --python "$oracle/bin/python" -r "$pins"
  else
    "${ORACLE_PYTHON:-python3.11}" -m venv "$oracle"
    "$oracle/bin/python" -m pip install --quiet --disable-pip-version-check -r "$pins"
  fi
  "$oracle/bin/python" -W ignore -c 'import sys, petastorm; assert sys.version_info[:2] == (3, 11), sys.version'
  touch "$ready"
}

if [ ! -e "$ready" ]; then
  mkdir -p "$cache"
  # One builder at a time. flock(2) on this shell's own file, since macOS has no flock(1): it ends with the shell, so that
  # nothing can stay locked.
  exec 9> "$oracle.lock"
  "${ORACLE_PYTHON:-python3}" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
  [ -e "$ready" ] || build 1>&2
fi
echo "$oracle/bin/python"
