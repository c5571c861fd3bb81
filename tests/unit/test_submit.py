"""What is added to a command line of spark-submit for YARN, and what stays as the user said it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shardwright.errors import ConfigError
from shardwright.spark.submit import Submission, prepared
from tests.conftest import ROOT

PYTHON = "python{}.{}".format(*sys.version_info[:2])


def ready(*words: str, **environ: str) -> Submission:
    submission = Submission.parse(words)
    return prepared(
        submission, {"HADOOP_USER_NAME": "ada", **environ}, environment="hdfs:///a/environment.tar.gz",
        spark=None if submission.brings_spark else "hdfs:///a/spark.zip", code="/cache/shardwright.zip",
    )  # fmt: skip


def test_a_command_line_is_split_at_the_job() -> None:
    words = ["--master", "yarn", "--verbose", "--conf", "a=b=c", "-c", "d=e", "--files=x,y"]
    submission = Submission.parse([*words, "jobs/prepare.py", "c.toml", "--conf", "mine", "--set", "shard.count=8"])
    assert submission.job == "jobs/prepare.py"
    assert submission.arguments == ("c.toml", "--conf", "mine", "--set", "shard.count=8")
    assert submission.properties() == {"a": "b=c", "d": "e"}
    assert (submission.last("--files"), submission.last("--verbose"), submission.last("--archives")) == ("x,y", None, None)
    again = Submission.parse(submission.words())
    assert again == submission
    with pytest.raises(ConfigError, match="expected a job after spark-submit's options, found --master yarn"):
        Submission.parse(["--master", "yarn"])


def test_properties_of_a_file_are_below_those_of_the_line(tmp_path: Path) -> None:
    file = tmp_path / "yarn.conf"
    file.write_text("# a comment\n\nspark.a   one two\nspark.b=two\nspark.c: three\n  spark.d four  \n! another\n")
    found = Submission.parse(["--properties-file", str(file), "--conf", "spark.b=mine", "job.py"]).properties()
    assert found == {"spark.a": "one two", "spark.b": "mine", "spark.c": "three", "spark.d": "four"}


def test_what_a_job_takes_along() -> None:
    submission = ready("job.py", "x")
    assert submission.words()[-2:] == ["job.py", "x"]
    assert submission.last("--archives") == "hdfs:///a/environment.tar.gz#environment"
    assert submission.last("--py-files") == "/cache/shardwright.zip"
    assert submission.last("--files") is None
    assert submission.properties() == {
        "spark.pyspark.python": PYTHON,
        "spark.pyspark.driver.python": sys.executable,
        "spark.yarn.archive": "hdfs:///a/spark.zip",
        "spark.executorEnv.PYTHONPATH": "{{PWD}}/environment",
        "spark.executorEnv.HADOOP_CONF_DIR": "__spark_conf__/__hadoop_conf__",
        "spark.executorEnv.HADOOP_USER_NAME": "ada",
        "spark.yarn.appMasterEnv.PYTHONPATH": "{{PWD}}/environment",
        "spark.yarn.appMasterEnv.HADOOP_CONF_DIR": "__spark_conf__/__hadoop_conf__",
        "spark.yarn.appMasterEnv.HADOOP_USER_NAME": "ada",
    }


@pytest.mark.parametrize(
    ("given", "option", "expected"),
    [
        (["--py-files", "mine.py,more.zip"], "--py-files", "/cache/shardwright.zip,mine.py,more.zip"),
        (["--conf", "spark.submit.pyFiles=mine.py"], "--py-files", "/cache/shardwright.zip,mine.py"),
        (["--archives", "m.tgz#m"], "--archives", "hdfs:///a/environment.tar.gz#environment,m.tgz#m"),
        (["--conf", "spark.yarn.dist.archives=m.tgz#m"], "--archives", "hdfs:///a/environment.tar.gz#environment,m.tgz#m"),
        (["--conf", "spark.archives=m.tgz#m"], "--archives", "hdfs:///a/environment.tar.gz#environment,m.tgz#m"),
    ],
)
def test_lists_of_the_user_are_kept(given: list[str], option: str, expected: str) -> None:
    """spark-submit takes one list, the last: so there has to be one."""
    words = ready(*given, "job.py").words()
    assert words.count(option) == 1
    assert words[words.index(option) + 1] == expected


def test_what_the_user_sets_stays() -> None:
    mine = ["--conf", "spark.yarn.jars=hdfs:///jars/*", "--conf", "spark.executorEnv.PYTHONPATH=m/lib"]
    mine += ["--conf", "spark.executorEnv.HADOOP_CONF_DIR=/etc/hadoop", "--conf", "spark.pyspark.python=./python/bin/python3"]
    assert Submission.parse([*mine, "job.py"]).brings_spark
    found = ready(*mine, "job.py", PYSPARK_PYTHON="/ignored").properties()
    assert "spark.yarn.archive" not in found
    assert found["spark.executorEnv.PYTHONPATH"] == "m/lib:{{PWD}}/environment"
    assert found["spark.executorEnv.HADOOP_CONF_DIR"] == "/etc/hadoop"
    assert found["spark.pyspark.python"] == "./python/bin/python3"
    assert ready("job.py", PYSPARK_PYTHON="/opt/python").properties()["spark.pyspark.python"] == "/opt/python"


@pytest.mark.parametrize("mode", [["--deploy-mode", "cluster"], ["--conf", "spark.submit.deployMode=cluster"]])
def test_files_that_arguments_name_travel_in_cluster_mode(tmp_path: Path, mode: list[str]) -> None:
    config = tmp_path / "c.toml"
    config.touch()
    submission = ready(*mode, "--files", "own.txt", "job.py", str(config), "--output", "hdfs:///d", str(tmp_path))
    assert submission.cluster
    assert submission.last("--files") == f"{config},own.txt"
    assert submission.arguments == ("c.toml", "--output", "hdfs:///d", str(tmp_path))
    assert "spark.pyspark.driver.python" not in submission.properties()
    client = ready("job.py", str(config))
    assert (client.last("--files"), client.arguments) == (None, (str(config),))


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "c.toml").touch()
    with pytest.raises(ConfigError, match=r"expected files of different names among the job's arguments, found c\.toml twice"):
        ready("--deploy-mode", "cluster", "job.py", str(tmp_path / "a/c.toml"), str(tmp_path / "b/c.toml"))


def submitted(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["./spark-submit.sh", *words, "jobs/verify.py", "hdfs:///d"]
    environment = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("environment", [{}, {"HADOOP_CONF_DIR": ""}, {"YARN_CONF_DIR": "/nonexistent"}])
def test_yarn_needs_the_configuration_of_the_cluster(environment: dict[str, str]) -> None:
    """Said before an environment is made."""
    done = submitted("--master", "yarn", **environment)
    assert done.returncode == 1
    wanted = "no core-site.xml in /nonexistent" if environment.get("YARN_CONF_DIR") else "--master yarn needs HADOOP_CONF_DIR"
    assert wanted in done.stderr


@pytest.mark.parametrize("words", ["--master=yarn", "--conf spark.master=yarn", "--properties-file", "--properties-file="])
def test_yarn_is_asked_for_in_each_way_that_spark_knows(words: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine.conf"
    mine.write_text("# spark.master local\n spark.master = yarn\nspark.submit.deployMode cluster\n")
    options = {"--properties-file": ["--properties-file", str(mine)], "--properties-file=": [f"--properties-file={mine}"]}
    assert "--master yarn needs HADOOP_CONF_DIR" in submitted(*options.get(words, words.split())).stderr
