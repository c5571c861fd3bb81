#!/usr/bin/env bash
# Runs a job on Spark, in an environment that it makes itself on the first start (Python >= 3.11 and Java 17+ are all it
# needs). Everything that spark-submit takes passes through.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=conf/environment.sh
. "$root/conf/environment.sh"

usage() {
  cat <<'TEXT'
usage: ./spark-submit.sh [what spark-submit takes] JOB.py [what the job takes]

  ./spark-submit.sh jobs/prepare.py conf/datasets/mnist.toml                    here, on all cores
  ./spark-submit.sh --master 'local[2]' jobs/prepare.py conf/datasets/mnist.toml
  ./spark-submit.sh --master yarn --conf spark.executor.memory=8g jobs/prepare.py hdfs.toml

  ./spark-submit.sh jobs/prepare.py --help     what the job takes
  ./spark-submit.sh --help                     what spark-submit takes

  SHARDWRIGHT_PYTHON   the Python to use (else python3, python3.13, 3.12 or 3.11 on the PATH)
  XDG_CACHE_HOME       where the environment is kept (else ~/.cache)
TEXT
}

master=${MASTER:-local} job='' properties='' option=''
for argument in "$@"; do
  case $option in
  '') ;;
  --master) master=$argument option='' && continue ;;
  --conf | -c) case $argument in spark.master=*) master=${argument#*=} ;; esac && option='' && continue ;;
  *) option='' && continue ;;
  esac
  case $argument in
  --help | -h | --version | --verbose | -v | --supervise | --usage-error | --load-spark-defaults) ;;
  --master=* | --conf=spark.master=*) master=${argument##*=} ;;
  --properties-file | --properties-file=*) properties=given && [ "$argument" = "${argument%%=*}" ] && option=$argument ;;
  --*=*) ;;
  -*) option=$argument ;;
  *) job=$argument && break ;;
  esac
done

[ $# -gt 0 ] || { usage >&2 && exit 2; }
case $job in
'' | *://* | local:*) ;;
*)
  if [ ! -f "$job" ]; then
    say "no such job file: $job (looked in $PWD)"
    [ ! -f "$root/$job" ] || say "there is one in $root: start from there, or name it $root/$job"
    exit 2
  fi
  ;;
esac

find_java
make_environment spark images avro tfrecord hdfs

executors=${PYSPARK_PYTHON:-} conf=${SPARK_CONF_DIR:-}
use_environment
case $master in
local | local\[*)
  export SPARK_LOCAL_IP=${SPARK_LOCAL_IP:-127.0.0.1}
  [ -n "$properties$conf" ] || set -- --properties-file "$root/conf/spark/local.conf" "$@"
  ;;
*) export PYSPARK_PYTHON=${executors:-$PYSPARK_PYTHON} ;; # on a cluster it may lie elsewhere
esac
[ ! -t 2 ] || export SHARDWRIGHT_TERMINAL=/dev/tty # Spark hands its driver pipes: progress is shown there
# Java announces a module that Spark asks for; no option silences that. The job's own output comes on stdout.
exec "$ENVIRONMENT/bin/spark-submit" "$@" 2> >(exec grep --line-buffered -v '^WARNING: Using incubator modules' >&2)
