"""Measures shardwright next to others and writes what came out as Markdown. Needs Linux, for /proc; full size takes 30 minutes.

./tests/run --benchmarks
./tests/run --benchmarks -- --only read --repeats 5
./tests/run --benchmarks -- --scale 0.05            a try: not a measurement
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.benchmarks import hdfs, memory, opening, prepare, reading, small_files, yarn
from tests.benchmarks.contenders import ROOT, Settings, fresh, petastorm_python, say
from tests.benchmarks.machine import head
from tests.benchmarks.measure import ContenderError

_GROUPS = {
    "prepare": prepare.run,
    "memory": memory.run,
    "read": reading.run,
    "open": opening.run,
    "hdfs": hdfs.run,
    "small_files": small_files.run,
    "yarn": yarn.run,
}
_FULL_BYTES = 16 * 10**9


def main() -> None:
    args = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that what runs and what lies there goes too
    if not sys.platform.startswith("linux"):
        sys.exit("the benchmarks count CPU time and memory of whole process trees by Linux's /proc: run them on Linux")
    chosen = args.only or list(_GROUPS)
    with tempfile.TemporaryDirectory(prefix="shardwright-benchmarks-", dir=args.work) as temporary:
        work = Path(temporary)
        _check_space(work, args.scale)
        python = petastorm_python() if "prepare" in chosen and not args.no_petastorm else None
        settings = Settings(
            work=work, scale=args.scale, repeats=args.repeats, petastorm_python=python,
            petastorm_repartition=args.petastorm_repartition,
        )  # fmt: skip
        sections = [head(_command(args), python)]
        if args.scale != 1:
            sections.append(f"**A try with {args.scale:g} of the data: not a measurement.**\n")
        failed = []
        for name in chosen:
            try:
                sections.append(_GROUPS[name](replace(settings, work=fresh(work / name))))
            except ContenderError as error:  # the other groups are still worth their time
                say(f"{name}: nothing is reported, because a contender failed. {error}")
                failed.append(name)
            shutil.rmtree(work / name)
            _write(args.output or _output(args), "\n".join(sections))  # after each group: what is measured is kept
    print("\n".join(sections))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


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


def _output(args: argparse.Namespace) -> Path:
    whole = args.only is None and args.scale == 1
    return ROOT / ("docs" if whole else "build") / "benchmarks.md"


def _command(args: argparse.Namespace) -> str:
    words = [f"--only {name}" for name in args.only or ()]
    words += [f"--repeats {args.repeats}"]
    words += [f"--scale {args.scale:g}"] if args.scale != 1 else []
    words += ["--no-petastorm"] if args.no_petastorm else []
    words += ["--petastorm-repartition"] if args.petastorm_repartition else []
    return f"./tests/run --benchmarks -- {' '.join(words)}"


def _check_space(work: Path, scale: float) -> None:
    free, needed = shutil.disk_usage(work).free, round(_FULL_BYTES * min(scale, 1))
    if free < needed:
        sys.exit(
            f"expected {needed / 1e9:.0f} GB of free space in {work}, found {free / 1e9:.0f}; name another folder by --work"
        )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    say(f"written: {path}")


if __name__ == "__main__":
    main()
