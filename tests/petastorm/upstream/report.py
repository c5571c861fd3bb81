"""docs/petastorm.md, from what Petastorm's own tests and examples showed."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from tests.benchmarks.document import write_part
from tests.benchmarks.machine import machine, today, versions
from tests.conftest import ROOT
from tests.petastorm.upstream.examples import Ran
from tests.petastorm.upstream.speed import Measured, Round
from tests.petastorm.upstream.suite import HERE, TESTS, Outcome, not_applicable, stock

_PATH = ROOT / "docs" / "petastorm.md"
_ENOUGH = 0.85
_PACKAGES = ("numpy", "pyarrow", "pyspark", "pandas", "torch", "tensorflow")
_REASONS = (
    ("rowgroup_selector", "row-group indexes are pickles: refused, with the replacement named"),
    ("DID NOT RAISE NotImplementedError", "the drop-in can be reset at any time, which the test expects to fail"),
    (
        "_sanitize_pytorch_types modified",
        "PyTorch has uint16 and uint32 now; the drop-in still hands out int32 and int64, as stock",
    ),
)
"""What a failure means, by what its message has."""


_PRIVATE = (
    "private names that test modules import at their top, led to what does the same here: those of `arrow_reader_worker`, and "
    "`_fullmatch`, `_new_gt_255_compatible_namedtuple` and, without effect, `_UNISCHEMA_FIELD_ORDER` of `unischema`"
)
NEEDS = (
    "NumPy's removed names (`np.unicode_`, `np.string_`, `np.float`, `np.int`, `np.object`)",
    "pyarrow's removed names (`pq.PartitionSet`, `ParquetDataset.pieces`, `pa.LocalFileSystem`, `pyarrow.hdfs`)",
    "`pytest.warns(None)`, which pytest 8 removed, and the hook of pytest-logger, which their conftest implements",
    "packages that they import and this project does not need, in a folder of their own: mock, pillow, pytz, six, torchvision",
    "`create_tf_graph`, whose own `inspect.getargspec` Python 3.11 removed, written anew",
    _PRIVATE,
)
"""What `shim`, `old_numpy` and `graphs` do."""


@dataclass(frozen=True)
class Summary:
    """How many tests there are, and how many passed."""

    text: str
    enough: bool
    failed: tuple[Outcome, ...]


def summary(outcomes: Sequence[Outcome]) -> Summary:
    """Counts; enough is 85 % of all, private ones included."""
    private = not_applicable()
    named = [one for one in outcomes if _key(one) in private]
    passed = [one for one in outcomes if one.outcome == "passed" and _key(one) not in private]
    failed = tuple(one for one in outcomes if one.outcome != "passed" and _key(one) not in private)
    share = len(passed) / max(len(outcomes), 1)
    text = (
        f"{len(outcomes)} tests: {len(passed)} passed ({share:.1%}), {len(failed)} failed, "
        f"{len(named)} reach into private modules ({len(named) / max(len(outcomes), 1):.1%})"
    )
    return Summary(text, share >= _ENOUGH, failed)


def write_report(outcomes: Sequence[Outcome], ran: Sequence[Ran]) -> None:
    """Write the parts of the document that say what was run."""
    ours = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    head = f"`tests/run --petastorm`, {today()}: Python {platform.python_version()}, {ours}; {machine()}."
    lines = [
        "# Petastorm's own tests", "", head, "",
        f"petastorm {_petastorm()}'s tests, from its wheel; their imports name `shardwright.petastorm`, not `petastorm`.",
        f"{summary(outcomes).text}.", "",
        "What the tests, which are of NumPy 1 and pyarrow 14, get by a plugin in their process; nothing tested changes:",
        "", *(f"* {need}" for need in NEEDS), "",
        "| file | test | result |", "| --- | --- | --- |", *_rows(outcomes),
    ]  # fmt: skip
    write_part(_PATH, "\n".join(lines) + "\n")
    shown = [f"| {one.name} | {'ran' if one.passed else 'failed'} | {one.seconds:.0f} s | {_quoted(one.last)} |" for one in ran]
    examples = [
        "# Petastorm's examples", "", head, "",
        "As published in its wheel, with the import changed. MNIST's pictures are the digits of data/samples.", "",
        "| example | | time | last line |", "| --- | --- | --- | --- |", *shown,
    ]  # fmt: skip
    write_part(_PATH, "\n".join(examples) + "\n")


def write_speed(measured: Sequence[Measured]) -> None:
    """Write the part of the document that says how fast it was."""
    lines = [
        "# Beside stock Petastorm", "",
        f"`tests/run --petastorm -- --speed`, {today()}: {machine()}.",
        f"Stock in its own environment: {versions(stock().python, ('petastorm', 'numpy', 'pyarrow', 'torch'))}.",
        "",
        "Rows a second in thousands, medians of rounds in turn (smallest to largest). Memory: the most private memory that the",
        "process held above what its imports took (and with them), in MiB, the most of all rounds.", "",
        "| reading | stock | drop-in | times as fast | goal | memory, stock | memory, drop-in |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {one.case.title} | {_rates(one.stock)} | {_rates(one.ours)} | {_ratio(one.ratios)} | {one.case.goal:.0f} | "
            f"{_memory(one.stock)} | {_memory(one.ours)} |"
            for one in measured
        ),
    ]  # fmt: skip
    write_part(_PATH, "\n".join(lines) + "\n")


def _rates(rounds: Sequence[Round]) -> str:
    rates = [one.rate for one in rounds]
    return f"{statistics.median(rates) / 1000:.1f} ({min(rates) / 1000:.1f}-{max(rates) / 1000:.1f})"


def _memory(rounds: Sequence[Round]) -> str:
    return f"{max(one.mib for one in rounds):.0f} ({max(one.peak_mib for one in rounds):.0f})"


def _ratio(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.1f} ({min(ratios):.1f}-{max(ratios):.1f})"


def _rows(outcomes: Sequence[Outcome]) -> list[str]:
    """A line for each test function, its parameters folded."""
    private = not_applicable()
    grouped: dict[tuple[str, str], list[Outcome]] = {}
    for one in outcomes:
        grouped.setdefault((one.file, one.test.partition("[")[0]), []).append(one)
    rows = []
    for (file, test), group in sorted(grouped.items(), key=lambda item: TESTS.index(item[0][0])):
        passed = sum(one.outcome == "passed" for one in group)
        told = f"passed, {passed} of {len(group)}" if len(group) > 1 else "passed"
        if f"{file}::{test}" in private:
            told = f"not applicable: {private[f'{file}::{test}']}"
        elif passed < len(group):
            why = sorted({_reason(one) for one in group if one.outcome != "passed"})
            told = f"failed, {len(group) - passed} of {len(group)}: {'; '.join(why)}"
        rows.append(f"| {file} | {test} | {_cell(told)} |")
    return rows


def _reason(one: Outcome) -> str:
    return next((meaning for said, meaning in _REASONS if said in one.reason), one.reason[:200])


def _key(one: Outcome) -> str:
    return f"{one.file}::{one.test.partition('[')[0]}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'") if text.count("`") % 2 else text.replace("|", "\\|")


def _quoted(text: str) -> str:
    return f"`{_cell(text)}`" if text else ""


def _petastorm() -> str:
    pins = (HERE.parent / "requirements-oracle.txt").read_text()
    return next(line.partition("==")[2] for line in pins.splitlines() if line.startswith("petastorm=="))
