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
  ./spark-submit.sh --master yarn --deploy-mode cluster jobs/prepare.py images.toml --output hdfs:///data/images

  ./spark-submit.sh jobs/prepare.py --help     what the job takes
  ./spark-submit.sh --help                     what spark-submit takes

  SHARDWRIGHT_PYTHON   the Python to use (else python3, python3.13, 3.12 or 3.11 on the PATH)
  XDG_CACHE_HOME       where the environment is kept (else ~/.cache)
  HADOOP_CONF_DIR      the cluster's configuration, for YARN and hdfs:// (docs/hadoop.md)
  KRB5_CONFIG          Kerberos's configuration, where it is not /etc/krb5.conf; --principal and --keytab log in
  PYSPARK_PYTHON       the Python of the cluster's nodes (else python3.x of the same version)
TEXT
}

master=${MASTER:-} job='' properties='' option='' keytab=''
for argument in "$@"; do
  case $option in
  '') ;;
  --master) master=$argument option='' && continue ;;
  --properties-file) properties=$argument option='' && continue ;;
  --keytab) keytab=$argument option='' && continue ;;
  --conf | -c)
    case $argument in
    spark.master=*) master=${argument#*=} ;;
    spark.kerberos.keytab=*) keytab=${argument#*=} ;;
    esac
    option='' && continue
    ;;
  *) option='' && continue ;;
  esac
  case $argument in
  --help | -h | --version | --verbose | -v | --supervise | --usage-error | --load-spark-defaults) ;;
  --master=* | --conf=spark.master=*) master=${argument##*=} ;;
  --properties-file=*) properties=${argument#*=} ;;
  --keytab=* | --conf=spark.kerberos.keytab=*) keytab=${argument##*=} ;;
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

if [ -z "$master" ] && [ -f "$properties" ]; then
  master=$(sed -n 's/^[[:space:]]*spark\.master[[:space:]=:]\{1,\}\([^[:space:]]*\).*/\1/p' "$properties" | tail -n 1)
fi
master=${master:-local}
if [ "$master" = yarn ]; then # said before an environment is made
  hadoop=${HADOOP_CONF_DIR:-${YARN_CONF_DIR:-}}
  [ -n "$hadoop" ] || die "--master yarn needs HADOOP_CONF_DIR: the folder of the cluster's core-site.xml and yarn-site.xml"
  [ -f "$hadoop/core-site.xml" ] || die "there is no core-site.xml in $hadoop, which HADOOP_CONF_DIR (or YARN_CONF_DIR) names"
fi
find_java
make_environment spark images avro tfrecord hdfs

executors=${PYSPARK_PYTHON:-} conf=${SPARK_CONF_DIR:-}
use_environment
submit=("$ENVIRONMENT/bin/spark-submit")
case $master in
local | local\[*)
  export SPARK_LOCAL_IP=${SPARK_LOCAL_IP:-127.0.0.1}
  [ -n "$properties$conf" ] || set -- --properties-file "$root/conf/spark/local.conf" "$@"
  ;;
yarn)
  submit=("$ENVIRONMENT/bin/python" -m shardwright.spark.submit)
  export PYSPARK_PYTHON=$executors # that of the nodes
  [ -n "$properties$conf" ] || set -- --properties-file "$root/conf/spark/yarn.conf" "$@"
  ;;
*) export PYSPARK_PYTHON=${executors:-$PYSPARK_PYTHON} ;; # on a cluster it may lie elsewhere
esac
# Java does not look at KRB5_CONFIG. Tickets from the keytab, which Spark gets for its JVM, MIT's library gets for Python.
[ -z "${KRB5_CONFIG:-}" ] || export SPARK_SUBMIT_OPTS="${SPARK_SUBMIT_OPTS:-} -Djava.security.krb5.conf=$KRB5_CONFIG"
if [ -n "$keytab" ]; then
  [ -r "$keytab" ] || { say "can't read the keytab $keytab" && exit 2; }
  export KRB5_CLIENT_KTNAME=FILE:$keytab KRB5CCNAME=MEMORY:shardwright
fi
[ ! -t 2 ] || export SHARDWRIGHT_TERMINAL=/dev/tty # Spark hands its driver pipes: progress is shown there
# Java announces a module that Spark asks for; no option silences that. The job's own output comes on stdout.
exec "${submit[@]}" "$@" 2> >(exec grep --line-buffered -v '^WARNING: Using incubator modules' >&2)
