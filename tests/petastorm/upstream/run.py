"""Petastorm's own tests and examples against the drop-in; leaves what they showed in docs/petastorm.md.

python -m tests.petastorm.upstream.run [--speed | --only test_NAME …] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from tests.petastorm.upstream.examples import run_examples
from tests.petastorm.upstream.report import summary, write_report, write_speed
from tests.petastorm.upstream.speed import measure
from tests.petastorm.upstream.suite import TESTS, run_suite


def main() -> None:
    """Exit code 1 where fewer than 85 % pass, or an example does not run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", default=[], choices=TESTS, help="only this file; writes no report")
    parser.add_argument("--keep", type=Path, help="a folder, which must not exist, for the tests and their logs")
    parser.add_argument("--speed", action="store_true", help="only measure, beside stock Petastorm")
    args = parser.parse_args()
    if args.speed:
        _measure()
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        (folder / "suite").mkdir(parents=True)
        (folder / "examples").mkdir()
        outcomes = run_suite(args.only, folder / "suite")
        ran = [] if args.only else run_examples(folder / "examples" / "run")
    told = summary(outcomes)
    print(told.text)
    for one in told.failed:
        print(f"{one.outcome} {one.file}::{one.test}: {one.reason}")
    if not args.only:
        write_report(outcomes, ran)
    sys.exit(0 if told.enough and all(one.passed for one in ran) else 1)


def _measure() -> None:
    """Exit code 1 where a goal is missed."""
    with tempfile.TemporaryDirectory() as temporary:
        measured = measure(Path(temporary))
    write_speed(measured)
    missed = [one.case.title for one in measured if statistics.median(one.ratios) < one.case.goal]
    sys.exit(f"not as fast as it should be: {', '.join(missed)}" if missed else 0)


if __name__ == "__main__":
    main()
