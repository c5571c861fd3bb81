"""Measures shardwright next to others and writes what came out as Markdown. Needs Linux, for /proc; full size takes 30 minutes.

./tests/run --benchmarks
./tests/run --benchmarks -- --only read --repeats 5
./tests/run --benchmarks -- --scale 0.05            a try: not a measurement
"""

from __future__ import annotations

import argparse
import functools
from dataclasses import replace
from pathlib import Path

from tests.benchmarks import hdfs, memory, prepare, reading, small_files, yarn
from tests.benchmarks.contenders import Settings, petastorm_python
from tests.benchmarks.document import measure_groups, output_of
from tests.benchmarks.machine import head
from tests.benchmarks.workplace import workplace

_GROUPS = {
    "prepare": prepare.run,
    "memory": memory.run,
    "read": reading.run,
    "hdfs": hdfs.run,
    "small_files": small_files.run,
    "yarn": yarn.run,
}
_FULL_BYTES = 16 * 10**9


def main() -> None:
    args = _arguments()
    chosen = args.only or list(_GROUPS)
    with workplace(args.work, _FULL_BYTES * min(args.scale, 1)) as work:
        python = petastorm_python() if "prepare" in chosen and not args.no_petastorm else None
        settings = Settings(
            work=work, scale=args.scale, repeats=args.repeats, petastorm_python=python,
            petastorm_repartition=args.petastorm_repartition,
        )  # fmt: skip
        text = head(_command(args), python)
        if args.scale != 1:
            text += f"\n**A try with {args.scale:g} of the data: not a measurement.**\n"
        groups = {name: functools.partial(_group, name, settings) for name in chosen}
        measure_groups(text, groups, work, output_of(args.output, whole=args.only is None and args.scale == 1))


def _group(name: str, settings: Settings, work: Path) -> str:
    return _GROUPS[name](replace(settings, work=work))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(_GROUPS), help="this group alone; may be repeated")
    parser.add_argument("--repeats", type=int, default=3, help="how often each contender is started (3)")
    parser.add_argument("--scale", type=float, default=1.0, help="the share of the data, for a try (1)")
    parser.add_argument("--no-petastorm", action="store_true", help="leave stock Petastorm out; its environment is not made")
    parser.add_argument("--petastorm-repartition", action="store_true", help="measure it also with its rows shuffled")
    parser.add_argument("--work", type=Path, help="where input and output lie meanwhile: 16 GB (the system's temporary folder)")
    parser.add_argument("--output", type=Path, help="the document (docs/benchmarks.md; build/benchmarks.md for less than all)")
    args = parser.parse_args()
    if args.repeats < 1 or args.scale <= 0:
        parser.error("expected --repeats of at least 1 and --scale above 0")
    return args


def _command(args: argparse.Namespace) -> str:
    words = [f"--only {name}" for name in args.only or ()]
    words += [f"--repeats {args.repeats}"]
    words += [f"--scale {args.scale:g}"] if args.scale != 1 else []
    words += ["--no-petastorm"] if args.no_petastorm else []
    words += ["--petastorm-repartition"] if args.petastorm_repartition else []
    return f"./tests/run --benchmarks -- {' '.join(words)}"


if __name__ == "__main__":
    main()
