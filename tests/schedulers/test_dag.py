"""Must show, where there is no Airflow: the DAG of conf/airflow gives jobs what they take, and reads what they give."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import typer
from pyspark.sql import SparkSession

from jobs import prepare, verify
from shardwright.cli import run
from shardwright.errors import ConfigError, LockedError, ShardwrightError
from tests.conftest import ROOT
from tests.spark.mnist import write_digits

_DAG = ROOT / "conf/airflow/shardwright_prepare.py"
_CALLS = {prepare.app: ("new_input", "prepare", "dataset_words", "submit"), verify.app: ("verify", "submit")}
"""The functions of the DAG that have the words of each job."""

_SPARK = {"--master"}


@pytest.fixture(scope="module")
def source() -> ast.Module:
    """Parsed, so it is Python."""
    return ast.parse(_DAG.read_text())


@pytest.mark.parametrize("app", _CALLS, ids=["prepare", "verify"])
def test_options(source: ast.Module, app: typer.Typer) -> None:
    words = {text for name in _CALLS[app] for text in _texts(source, name) if text.startswith("--") and text[2:]}
    taken = {option for parameter in typer.main.get_command(app).params for option in parameter.opts}
    assert "--json" in words
    assert words - _SPARK <= taken


@pytest.mark.parametrize("error, name", [(ShardwrightError, "FAILED"), (ConfigError, "WRONG_CALL"), (LockedError, "HELD")])
def test_exit_codes_of_errors(source: ast.Module, error: type[Exception], name: str) -> None:
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        raise error("why")

    assert _call(app, []) == _codes(source)[name]


def test_what_jobs_say(source: ast.Module, spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The names that the DAG reads are in what a job prints; a look at what stands ends with the code for nothing new."""
    folder, output = write_digits(tmp_path / "in", [np.arange(300)], ["a"]), str(tmp_path / "out")
    words = [str(ROOT / "conf/datasets/mnist.toml"), "--set", f"read.path={folder}", "--output", output, "--json"]
    assert not _call(prepare.app, words)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    read = [node for node in ast.walk(_function(source, "report")) if isinstance(node, ast.comprehension)]
    names = set(ast.literal_eval(read[0].iter))
    assert {"url", "version"} < names <= set(told)
    assert _call(prepare.app, [*words, "--check"]) == _codes(source)["NOTHING_NEW"]
    next(Path(output).glob("v000001/train/**/*.parquet")).write_bytes(b"")
    assert _call(verify.app, [output, "--json"]) == _codes(source)["FAILED"]
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["problems"]


def test_the_configuration_is_there(source: ast.Module) -> None:
    """Of the dataset that the file comes with."""
    (call,) = [node.value for node in source.body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    (config,) = [keyword.value for keyword in call.keywords if keyword.arg == "config"]
    assert (ROOT / ast.literal_eval(config)).is_file()


def _call(app: typer.Typer, words: Sequence[str]) -> object:
    with pytest.raises(SystemExit) as ended:
        run(app, words, name="job.py")
    return ended.value.code


def _function(source: ast.Module, name: str) -> ast.FunctionDef:
    (found,) = [node for node in source.body if isinstance(node, ast.FunctionDef) and node.name == name]
    return found


def _texts(source: ast.Module, name: str) -> list[str]:
    """All texts of a function."""
    nodes = ast.walk(_function(source, name))
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def _codes(source: ast.Module) -> dict[str, int]:
    """The exit codes that it names."""
    (found,) = [node for node in source.body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple)]
    names = [ast.unparse(name) for name in ast.walk(found.targets[0]) if isinstance(name, ast.Name)]
    return dict(zip(names, ast.literal_eval(found.value), strict=True))
