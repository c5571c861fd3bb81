"""``python -m shardwright.spark.submit …``: spark-submit for YARN, with all that a job needs there. Called by spark-submit.sh.

It takes what spark-submit takes and adds to it: archives and code (`shardwright.spark.shipping`), the variables that Python on
the nodes needs, and in cluster mode the files that the job's arguments name. What the user said stays, and is added to.
"""

from __future__ import annotations

import getpass
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shardwright.errors import ConfigError, ShardwrightError
from shardwright.spark.client_log import tell_from_here_on
from shardwright.spark.keytab import check_keytab
from shardwright.spark.shipping import Archives, code_zip, spark_home
from shardwright.storage import open_writable

ARCHIVES = "spark.shardwright.archives"
"""The property that says where archives are kept."""
_FLAGS = {"--help", "-h", "--version", "--verbose", "-v", "--supervise", "--usage-error", "--load-spark-defaults"}
_LISTS = {
    "--py-files": ("spark.submit.pyFiles",),
    "--files": ("spark.yarn.dist.files", "spark.files"),
    "--archives": ("spark.yarn.dist.archives", "spark.archives"),
}
"""Options that hold a list, and the properties that say the same: spark-submit takes the last option, or else a property."""
_HADOOP_CONF = "__spark_conf__/__hadoop_conf__"
"""Where Spark puts the configuration of Hadoop in every container. Relative: Python workers get the text as it stands here."""
_UNPACKED = "environment"


@dataclass(frozen=True)
class Submission:
    """A command line of spark-submit."""

    options: tuple[tuple[str, str | None], ...]
    job: str
    arguments: tuple[str, ...]

    @classmethod
    def parse(cls, words: Sequence[str]) -> Submission:
        """Split at the job. Raises ConfigError where there is none."""
        options: list[tuple[str, str | None]] = []
        left = iter(words)
        for word in left:
            name, equals, value = word.partition("=")
            if not word.startswith("-"):
                return cls(tuple(options), word, tuple(left))
            if word in _FLAGS:
                options.append((word, None))
            elif equals and word.startswith("--"):
                options.append((name, value))
            else:
                options.append(("--conf" if word == "-c" else word, next(left, None)))
        raise ConfigError([f"expected a job after spark-submit's options, found {' '.join(words) or 'nothing'}"])

    def last(self, name: str) -> str | None:
        """The value of an option, the last where it is repeated."""
        return next((value for option, value in reversed(self.options) if option == name), None)

    @property
    def cluster(self) -> bool:
        """Whether the driver runs on the cluster too."""
        return (self.last("--deploy-mode") or self.properties().get("spark.submit.deployMode")) == "cluster"

    def words(self) -> list[str]:
        """The command line again."""
        options = [word for option in self.options for word in option if word is not None]
        return [*options, self.job, *self.arguments]

    @property
    def brings_spark(self) -> bool:
        """Whether its properties say where Spark's jars are."""
        return not {"spark.yarn.archive", "spark.yarn.jars"}.isdisjoint(self.properties())

    def properties(self) -> dict[str, str]:
        """What Spark's properties are: those of the file, and --conf over them."""
        given = self.last("--properties-file")
        found = dict(_properties_of(Path(given))) if given else {}
        confs = [value for option, value in self.options if option == "--conf" and value]
        return found | {key: value for key, _, value in (conf.partition("=") for conf in confs)}

    def extended(self, name: str, values: Sequence[str], properties: Mapping[str, str]) -> Submission:
        """With `values` before those that a list option, or a property in its place, already has."""
        given = self.last(name) or next((properties[key] for key in _LISTS[name] if key in properties), "")
        kept = tuple(option for option in self.options if option[0] != name)
        return replace(self, options=(*kept, (name, ",".join([*values, *filter(None, [given])]))))

    def with_properties(self, properties: Mapping[str, str]) -> Submission:
        """With these properties, each in place of what was said before."""
        return replace(self, options=(*self.options, *(("--conf", f"{key}={value}") for key, value in properties.items())))


def _properties_of(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        found = re.fullmatch(r"\s*([^\s#!=:][^\s=:]*)\s*[=:\s]\s*(.*?)\s*", line)
        if found:
            yield found[1], found[2]


def prepared(
    submission: Submission, environ: Mapping[str, str], *, environment: str, spark: str | None, code: str
) -> Submission:
    """The submission with all that the job needs: `environment`, `spark` and `code` are URLs or paths of the archives.

    `spark` is None where the submission brings its own.
    """
    properties = submission.properties()
    user = _user(submission, environ)
    python = properties.get("spark.pyspark.python") or environ.get("PYSPARK_PYTHON")
    added = {"spark.pyspark.python": python or "python{}.{}".format(*sys.version_info[:2])}
    if not submission.cluster:
        added["spark.pyspark.driver.python"] = sys.executable
    if spark is not None:
        added["spark.yarn.archive"] = spark
    for prefix in ("spark.executorEnv.", "spark.yarn.appMasterEnv."):
        theirs = properties.get(f"{prefix}PYTHONPATH")
        added[f"{prefix}PYTHONPATH"] = ":".join([*filter(None, [theirs]), f"{{{{PWD}}}}/{_UNPACKED}"])
        for name, value in {"HADOOP_CONF_DIR": _HADOOP_CONF, "HADOOP_USER_NAME": user}.items():
            added[prefix + name] = properties.get(prefix + name, value)
    out = submission.with_properties(added)
    out = out.extended("--archives", [f"{environment}#{_UNPACKED}"], properties).extended("--py-files", [code], properties)
    return _with_named_files(out, properties) if submission.cluster else out


def _user(submission: Submission, environ: Mapping[str, str]) -> str:
    """Whose files are read and written: containers run as another user of their machine. With Kerberos only whose home."""
    principal = _principal(submission)
    short = re.split("[/@]", principal)[0] if principal else None
    return environ.get("HADOOP_USER_NAME") or short or getpass.getuser()


def _principal(submission: Submission) -> str | None:
    return submission.last("--principal") or submission.properties().get("spark.kerberos.principal")


def _with_named_files(submission: Submission, properties: Mapping[str, str]) -> Submission:
    """For cluster mode: local files that the job's arguments name travel along, and are named there as they lie there."""
    named = {word: Path(word).name for word in submission.arguments if Path(word).is_file()}
    twice = sorted(name for name in named.values() if list(named.values()).count(name) > 1)
    if twice:
        raise ConfigError([f"expected files of different names among the job's arguments, found {twice[0]} twice"])
    if not named:
        return submission
    arguments = tuple(named.get(word, word) for word in submission.arguments)
    return replace(submission.extended("--files", list(named), properties), arguments=arguments)


def _ready(submission: Submission, environ: Mapping[str, str]) -> Submission:
    """The submission, and all that it names is there: archives, code, the directory of the event log."""
    properties = submission.properties()
    if keytab := submission.last("--keytab") or properties.get("spark.kerberos.keytab"):
        check_keytab(keytab, _principal(submission))
    place = (properties.get(ARCHIVES) or f"hdfs:///user/{_user(submission, environ)}/.shardwright").rstrip("/")
    archives = Archives(place, _say)
    cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shardwright" / "code"
    spark = None if submission.brings_spark else archives.spark()
    environment, code = archives.environment(), code_zip(cache)
    if properties.get("spark.eventLog.enabled") == "true":
        events = properties.get("spark.eventLog.dir") or f"{place}/events"
        submission = submission.with_properties({"spark.eventLog.dir": events})
        if events.startswith(("hdfs://", "file:")):
            open_writable(events).make_directory()  # Spark does not start without
    return prepared(submission, environ, environment=environment, spark=spark, code=str(code))


def main() -> None:
    """Make the archives where they are not there yet, and become spark-submit."""
    if not os.environ.get("HADOOP_CONF_DIR"):
        os.environ["HADOOP_CONF_DIR"] = os.environ.get("YARN_CONF_DIR", "")  # hdfs-native knows no other
    try:
        ready = _ready(Submission.parse(sys.argv[1:]), os.environ)
    except (ShardwrightError, OSError) as error:
        _say(str(error))
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    for name in ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON", "PYTHONPATH"):
        os.environ.pop(name, None)  # properties say all that; Spark would take them to the nodes
    os.environ["SPARK_HOME"] = str(spark_home())
    program = str(spark_home() / "bin" / "spark-submit")
    tell_from_here_on(cluster=ready.cluster)
    os.execv(program, [program, *ready.words()])  # noqa: S606 - the same command with more options


def _say(text: str) -> None:
    print(f"shardwright: {text}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
