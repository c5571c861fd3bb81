"""Petastorm's own tests, as published, against the drop-in: by changed imports, in a folder outside of this project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.petastorm.conftest import oracle_python

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
TESTS = (
    "test_end_to_end", "test_parquet_reader", "test_ngram_end_to_end", "test_pytorch_dataloader",
    "test_weighted_sampling_reader", "test_predicates", "test_unischema", "test_codec_scalar", "test_codec_ndarray",
    "test_codec_compressed_image", "test_shuffling_buffer", "test_spark_dataset_converter",
)  # fmt: skip
_BESIDE = ("conftest", "test_common", "test_end_to_end_predicates_impl", "tempdir")
_EXTRA = ("mock", "pillow", "pytz", "six")
"""What the tests import and this project does not need; torchvision with them, without its dependencies."""
_SECONDS_A_TEST = 180
_REWRITES = (
    (re.compile(r"\bpetastorm\.tests\b"), "upstream_tests"),
    (re.compile(r"\b(from|import) petastorm\b"), r"\1 shardwright.petastorm"),
    (re.compile(r"(['\"])petastorm\.(?=unischema|spark\.spark_|arrow_)"), r"\1shardwright.petastorm."),
)


@dataclass(frozen=True)
class Outcome:
    """Of one test with one set of parameters."""

    file: str
    test: str
    outcome: str
    """passed, failed or skipped."""
    reason: str


def run_suite(only: list[str], folder: Path) -> list[Outcome]:
    """Copies the tests to `folder`, runs them, and says what happened to each."""
    package = folder / "upstream_tests"
    _copy_tests(package)
    extra = extra_packages()
    found: list[Outcome] = []
    for name in only or TESTS:
        report = folder / f"{name}.xml"
        command = [
            sys.executable, "-m", "pytest", "-p", "tests.petastorm.upstream.shim", "-q", "--no-header", "-rN",
            f"--junitxml={report}", "-c", os.devnull, f"--rootdir={folder}", "-W", "ignore",
            "-o", f"faulthandler_timeout={_SECONDS_A_TEST}", "-o", "faulthandler_exit_on_timeout=true",
            "-p", "no:cacheprovider", str(package / f"{name}.py"),
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (folder, ROOT / "lib", ROOT, extra)))}
        environment |= {"PYSPARK_PYTHON": sys.executable, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
        with open(folder / f"{name}.log", "wb") as log:
            subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        ran = list(_outcomes(name, report))
        print(f"{name}: {dict(Counter(one.outcome for one in ran)) or f'nothing ran, see {log.name}'}", flush=True)
        found += ran
    return found


def not_applicable() -> dict[str, str]:
    """Tests that reach into private modules, by 'file::test', each with the reason."""
    listed: dict[str, dict[str, str]] = tomllib.loads((HERE / "not_applicable.toml").read_text())
    return {f"{file}::{test}": reason for file, tests in listed.items() for test, reason in tests.items()}


def _copy_tests(package: Path) -> None:
    source = Path(oracle_python()).parents[1] / f"lib/python3.{sys.version_info[1]}/site-packages/petastorm/tests"
    package.mkdir()
    (package / "__init__.py").write_text("import tests.petastorm.upstream.old_numpy\n")  # also in Spark's workers
    for name in (*_BESIDE, *TESTS):
        (package / f"{name}.py").write_text(rewritten((source / f"{name}.py").read_text()))
    shutil.copyfile(HERE / "graphs.py", package / "test_tf_utils.py")


def rewritten(text: str) -> str:
    """A source of theirs with the drop-in's names in its imports."""
    for pattern, new in _REWRITES:
        text = pattern.sub(new, text)
    return text


def extra_packages() -> Path:
    """A folder of the packages that only these tests import; made once, in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shardwright"
    folder = cache / f"petastorm-tests-{sys.version_info[0]}.{sys.version_info[1]}"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", str(folder), "--no-deps"]
        subprocess.run([*install, *_EXTRA, "torchvision"], check=True)
        (folder / "complete").touch()
    return folder


def _outcomes(file: str, report: Path) -> Iterator[Outcome]:
    if not report.exists():  # it ended in the middle: the log says where
        return
    for case in ET.parse(report).iter("testcase"):
        outcome, reason = "passed", ""
        for kind, word in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
            if (element := case.find(kind)) is not None:
                outcome, reason = word, " ".join((element.get("message") or "").split())[:300]
        yield Outcome(file, case.get("name") or "?", outcome, reason)
