"""Petastorm's own tests against stock Petastorm in its own environment: which of them pass there at all.

python -m tests.petastorm.upstream.stock [--only test_NAME …] FOLDER     a folder, which must not exist, for tests and logs
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.petastorm.upstream.suite import TESTS, run_suite, stock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", action="append", default=[], choices=TESTS)
    args = parser.parse_args()
    args.folder.mkdir(parents=True)
    outcomes = run_suite(args.only, args.folder, stock())
    for one in outcomes:
        if one.outcome != "passed":
            print(f"{one.outcome} {one.file}::{one.test}: {one.reason}")
    print(f"{sum(one.outcome == 'passed' for one in outcomes)} of {len(outcomes)} passed")


if __name__ == "__main__":
    main()
