"""Petastorm's own tests, as published, against the drop-in: by changed imports, in a folder outside of this project.

Or against stock Petastorm in an environment of its own, imports as they are: which of them pass there at all.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.environments import make_environment
from tests.petastorm.conftest import oracle_environment, oracle_python
from tests.petastorm.upstream import recorder

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
_SECONDS_A_FILE = 1800
_STARTS = 5
"""A file's tests are begun again after one that aborted or hung, so often."""
_LOCAL = (re.compile(r"\bpetastorm\.tests\b"), "upstream_tests")
_REWRITES = (
    _LOCAL,
    (re.compile(r"\b(from|import) petastorm\b"), r"\1 shardwright.petastorm"),
    (re.compile(r"(['\"])petastorm\.(?=unischema|spark\.spark_|arrow_)"), r"\1shardwright.petastorm."),
)
_WORST_LAST = ("passed", "skipped", "failed")


@dataclass(frozen=True)
class Outcome:
    """Of one test with one set of parameters."""

    file: str
    test: str
    outcome: str
    """passed, failed or skipped."""
    reason: str


class SuiteError(Exception):
    """The tests could not be run: no result at all."""


@dataclass(frozen=True)
class Subject:
    """What is tested: the Python that has it, where that imports from, its pytest plugins, and whether imports are changed."""

    python: str
    path: tuple[Path, ...]
    plugins: tuple[str, ...]
    rewritten: bool


def drop_in() -> Subject:
    """`shardwright.petastorm` in this environment."""
    return Subject(sys.executable, (ROOT / "lib", ROOT, extra_packages()), ("tests.petastorm.upstream.shim",), rewritten=True)


def stock() -> Subject:
    """Stock Petastorm in the environment of requirements-stock.txt, which is made first where there is none yet."""
    python = make_environment("petastorm-stock", HERE / "requirements-stock.txt")
    return Subject(str(python), (ROOT,), (), rewritten=False)


def run_suite(only: Sequence[str], folder: Path, subject: Subject | None = None) -> list[Outcome]:
    """Copies the tests to `folder`, runs them, and says what happened to each; on the drop-in, unless told.

    Raises SuiteError where a file can't be imported, or its tests abort or hang again and again.
    """
    subject = subject or drop_in()
    package = folder / "upstream_tests"
    _copy_tests(package, _REWRITES if subject.rewritten else (_LOCAL,))
    found: list[Outcome] = []
    for name in only or TESTS:
        ran = run_file(package / f"{name}.py", subject)
        print(f"{name}: {dict(Counter(one.outcome for one in ran))}", flush=True)
        found += ran
    return found


def run_file(file: Path, subject: Subject) -> list[Outcome]:
    """What happened to each test of a file, one that aborts or hangs its process included. Raises SuiteError."""
    folder = file.parent.parent
    record, log = folder / f"{file.stem}.jsonl", folder / f"{file.stem}.log"
    plugins = [word for plugin in ("tests.petastorm.upstream.recorder", *subject.plugins) for word in ("-p", plugin)]
    command = [
        subject.python, "-m", "pytest", *plugins, "-q", "--no-header", "-rN", "-c", os.devnull, f"--rootdir={folder}",
        "-W", "ignore", "-o", f"faulthandler_timeout={_SECONDS_A_TEST}", "-o", "faulthandler_exit_on_timeout=true",
        "-p", "no:cacheprovider", str(file),
    ]  # fmt: skip
    environment = oracle_environment() | {
        "PYTHONPATH": os.pathsep.join(map(str, (folder, *subject.path))), "PYTHONWARNINGS": "ignore",
        "PYSPARK_PYTHON": subject.python, "PYSPARK_DRIVER_PYTHON": subject.python, "TF_CPP_MIN_LOG_LEVEL": "3",
        recorder.VARIABLE: str(record),
    }  # fmt: skip
    for _ in range(_STARTS):
        with open(log, "ab") as out, suppress(subprocess.TimeoutExpired):
            subprocess.run(
                command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT, timeout=_SECONDS_A_FILE
            )  # fmt: skip
        lines = recorder.read(record)
        if broken := [line for line in lines if line[0] == "broken"]:
            raise SuiteError(f"{file.stem} can't be imported: {broken[0][2]} (see {log})")
        collected = next((line[1:] for line in lines if line[0] == "collected"), [])
        if not collected:
            raise SuiteError(f"no test of {file.stem} was collected: see {log}")
        if {line[1] for line in lines if line[0] == "began"}.issuperset(collected):
            return list(_outcomes(file.stem, collected, lines))
    raise SuiteError(f"tests of {file.stem} abort or hang again and again: see {log}")


def _outcomes(file: str, collected: Sequence[str], lines: list[list[str]]) -> Iterator[Outcome]:
    """Of every test that was collected; the worst of what was said of it, and failed where nothing was."""
    ended: dict[str, list[tuple[str, str]]] = {test: [] for test in collected}
    for line in lines:
        if line[0] == "ended":
            ended[line[1]].append((line[2], line[3]))
    for test, said in ended.items():
        lost = ("failed", f"it aborted its process, or took more than {_SECONDS_A_TEST} s")
        outcome, reason = max(said, key=lambda one: _WORST_LAST.index(one[0]), default=lost)
        yield Outcome(file, test.partition("::")[2], outcome, reason)


def not_applicable() -> dict[str, str]:
    """Tests that reach into private modules, by 'file::test', each with the reason."""
    listed: dict[str, dict[str, str]] = tomllib.loads((HERE / "not_applicable.toml").read_text())
    return {f"{file}::{test}": reason for file, tests in listed.items() for test, reason in tests.items()}


def _copy_tests(package: Path, changes: Sequence[tuple[re.Pattern[str], str]]) -> None:
    source = Path(oracle_python()).parents[1] / f"lib/python3.{sys.version_info[1]}/site-packages/petastorm/tests"
    package.mkdir()
    (package / "__init__.py").write_text("import tests.petastorm.upstream.old_numpy\n")  # also in Spark's workers
    for name in (*_BESIDE, *TESTS):
        (package / f"{name}.py").write_text(rewritten((source / f"{name}.py").read_text(), changes))
    shutil.copyfile(HERE / "graphs.py", package / "test_tf_utils.py")


def rewritten(text: str, changes: Sequence[tuple[re.Pattern[str], str]] = _REWRITES) -> str:
    """A source of theirs with other names in its imports: the drop-in's, unless told."""
    for pattern, new in changes:
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
