# shellcheck shell=bash
# Sourced by spark-submit.sh and tests/run: finds Python and Java, and makes the environment that they run in.
# Works with bash 3.2 (macOS). The caller sets `root`, the folder of the project.
#
#   make_environment EXTRA…   sets ENVIRONMENT, a virtual environment with the locked versions of these extras
#   use_environment           sets what Spark and Python need to run from it and from lib/
#   find_java                 sets and exports JAVA_HOME where it can, and dies with advice if there is no Java 17+

: "${root:?}"

say() { printf 'shardwright: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

# An environment is named by all that decides what is in it; one that is complete is never changed again.
environment_name='
import hashlib, os, sys
if sys.version_info < (3, 11):
    sys.exit(1)
import tomllib
wanted, pyproject, lock = sys.argv[1:]
project = tomllib.load(open(pyproject, "rb"))["project"]
packages = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in wanted.split())]
machine = [sys.version_info[:2], sys.base_prefix, os.uname()[0], os.uname()[4]]
digest = hashlib.sha256(open(lock, "rb").read() + repr((packages, machine)).encode())
print("env-" + digest.hexdigest()[:16])
'

# Prints the blocks of the lock file (version, hashes) that the extras in argv[3:] need, by its "# via" notes. pip and uv
# would take the whole lock file as constraints, but pip then refuses every requirement that is not pinned itself.
locked_requirements='
import re, sys, tomllib
plain = lambda name: re.match(r"[\w.-]+", name)[0].lower().replace("_", "-")
project = tomllib.load(open(sys.argv[1], "rb"))["project"]
blocks = re.findall(r"(?m)^[\w.-]+==.*\n(?: .*\n)+", open(sys.argv[2]).read())
extras = project["optional-dependencies"]
if sys.argv[3] == "--packages":
    needed = set(sys.argv[4:])
    blocks = [block for block in blocks if plain(block.split("==")[0]) in needed]
else:
    needed = {plain(item) for item in sum((extras[extra] for extra in sys.argv[3:]), project["dependencies"])}
    via = {plain(block.split("==")[0]): re.findall(r"(?m)^ +#(?: via)? +([\w.-]+)", block) for block in blocks}
    while more := {name for name, parents in via.items() if name not in needed and needed & set(map(plain, parents))}:
        needed |= more
    blocks = [block for block in blocks if plain(block.split("==")[0]) in needed]
print("".join(blocks))
'

find_python() { # sets PYTHON and NAME
  local candidate
  for candidate in ${SHARDWRIGHT_PYTHON:-python3 python3.13 python3.12 python3.11}; do
    PYTHON=$(command -v "$candidate") || continue
    NAME=$("$PYTHON" -I -S -c "$environment_name" "$*" "$root/pyproject.toml" "$root/requirements.lock" 2>/dev/null) && return
  done
  [ -z "${SHARDWRIGHT_PYTHON:-}" ] || die "SHARDWRIGHT_PYTHON=$SHARDWRIGHT_PYTHON is not a Python >= 3.11"
  say "needs Python 3.11 or newer, and found none on the PATH. Install it, or name one by SHARDWRIGHT_PYTHON=/path/to/python3:"
  say "  Debian, Ubuntu   apt install python3 python3-venv"
  say "  RHEL, Fedora     dnf install python3.12"
  die "  macOS            brew install python@3.13"
}

make_environment() {
  local lock
  find_python "$@"
  ENVIRONMENT=${XDG_CACHE_HOME:-$HOME/.cache}/shardwright/$NAME
  lock=$ENVIRONMENT.lock
  [ -f "$ENVIRONMENT/complete" ] && [ -x "$ENVIRONMENT/bin/python" ] && return
  mkdir -p "${ENVIRONMENT%/*}" || die "can't make ${ENVIRONMENT%/*}: set XDG_CACHE_HOME to a folder that can be written"
  exec 9>"$lock" # held by this shell's descriptor until it is closed, so a killed build leaves no lock behind
  if ! lock_9 'LOCK_EX | fcntl.LOCK_NB'; then
    say "another start is making the environment; waiting for it"
    lock_9 LOCK_EX || die "can't lock $lock: set XDG_CACHE_HOME to a folder on a local disk"
  fi
  if [ ! -f "$ENVIRONMENT/complete" ] || [ ! -x "$ENVIRONMENT/bin/python" ]; then
    build_environment "$@"
  fi
  exec 9>&-
}

lock_9() { "$PYTHON" -I -S -c "import fcntl; fcntl.flock(9, fcntl.$1)" 2>/dev/null; }

build_environment() {
  local log=$ENVIRONMENT.log seconds=$SECONDS version
  version=$("$PYTHON" -V)
  say "making its environment, once: $version with [$*], in $ENVIRONMENT"
  rm -rf "$ENVIRONMENT"
  if ! "$PYTHON" -m venv "$ENVIRONMENT" >"$log" 2>&1; then
    sed 's/^/    /' "$log" >&2
    die "$PYTHON can't make virtual environments. On Debian and Ubuntu: apt install python3-venv"
  fi
  locked --packages setuptools >"$ENVIRONMENT/build.txt"
  locked --packages uv >"$ENVIRONMENT/uv.txt"
  locked "$@" >"$ENVIRONMENT/requirements.txt"
  # setuptools builds pyspark, which comes as source; with --no-build-isolation nothing is installed that is not locked
  with_pip -r "$ENVIRONMENT/build.txt" || give_up "$log"
  if ! { with_pip -r "$ENVIRONMENT/uv.txt" && with_uv; }; then
    say "uv could not install it; trying the slower pip"
    with_pip --no-build-isolation -r "$ENVIRONMENT/requirements.txt" || give_up "$log"
  fi
  touch "$ENVIRONMENT/complete"
  say "made its environment in $((SECONDS - seconds)) s"
}

locked() { "$ENVIRONMENT/bin/python" -I -c "$locked_requirements" "$root/pyproject.toml" "$root/requirements.lock" "$@"; }

with_pip() { "$ENVIRONMENT/bin/python" -m pip install -q --disable-pip-version-check --require-hashes "$@" >>"$log" 2>&1; }

with_uv() { # from the same index as pip
  local index=${PIP_INDEX_URL:-}
  [ -n "$index" ] || index=$("$ENVIRONMENT/bin/python" -m pip config get global.index-url 2>/dev/null) || index=
  [ -z "$index" ] || [ -n "${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-}}" ] || export UV_DEFAULT_INDEX=$index
  set -- pip install --python "$ENVIRONMENT/bin/python" --no-build-isolation --require-hashes -r "$ENVIRONMENT/requirements.txt"
  if [ -t 2 ]; then "$ENVIRONMENT/bin/uv" "$@"; else "$ENVIRONMENT/bin/uv" -q "$@" >>"$log" 2>&1; fi
}

give_up() {
  tail -n 20 "$1" | sed 's/^/    /' >&2
  die "could not install the locked packages; what went wrong stands above and in $1"
}

use_environment() {
  unset SPARK_HOME PYSPARK_DRIVER_PYTHON_OPTS # a cluster's or a notebook's: pyspark brings its own Spark
  export PYTHONPATH=$root/lib${PYTHONPATH:+:$PYTHONPATH}
  export PYSPARK_PYTHON=$ENVIRONMENT/bin/python PYSPARK_DRIVER_PYTHON=$ENVIRONMENT/bin/python
  export SPARK_CONF_DIR=${SPARK_CONF_DIR:-$root/conf/spark} # log4j2.properties
}

find_java() {
  local java version=
  if [ -z "${JAVA_HOME:-}" ] && [ -x /usr/libexec/java_home ]; then # macOS: its /usr/bin/java is only a signpost
    JAVA_HOME=$(/usr/libexec/java_home -v 17+ 2>/dev/null) && export JAVA_HOME
  fi
  java=${JAVA_HOME:+$JAVA_HOME/bin/java}
  java=${java:-$(command -v java)} || java=
  if [ -n "$java" ]; then
    version=$(java_version "$java")
    [ "${version:-0}" -ge 17 ] && return
  fi
  if [ -n "$version" ]; then
    say "Spark needs Java 17 or newer; $java is Java $version. Install a newer one, or let JAVA_HOME name it:"
  else
    say "Spark needs Java 17 or newer, and none was found${JAVA_HOME:+ in JAVA_HOME=$JAVA_HOME}. Install one, or let JAVA_HOME name it:"
  fi
  say "  Debian, Ubuntu   apt install openjdk-17-jre-headless   (or openjdk-21-jre-headless)"
  say "  RHEL, Fedora     dnf install java-21-openjdk-headless"
  die "  macOS            brew install --cask temurin@21"
}

java_version() { # the release file beside it says it without the 0.2 s that starting Java takes
  local home release=
  home=$(readlink -f "$1" 2>/dev/null) && home=${home%/bin/java}
  [ -n "$home" ] && [ -f "$home/release" ] && release=$(sed -n 's/^JAVA_VERSION="\([^"]*\)".*/\1/p' "$home/release")
  [ -n "$release" ] || release=$("$1" -version 2>&1 | sed -n 's/.* version "\([^"]*\)".*/\1/p')
  release=${release#1.} # 1.8.0_392
  echo "${release%%[!0-9]*}"
}
