"""Measures shardwright's reader beside its peers, each in its own environment: a part of docs/benchmarks.md.

./tests/run --peers
./tests/run --peers -- --only B1 --peer litdata --peer huggingface
./tests/run --peers -- --scale 0.05                 a try: not a measurement
"""

from __future__ import annotations

import argparse
import functools
import platform
from dataclasses import replace
from pathlib import Path

import shardwright
from tests.benchmarks.document import measure_groups, output_of
from tests.benchmarks.machine import machine, today, versions
from tests.benchmarks.peers.contenders import LIMITS, PEERS, SHARDWRIGHT, Peer, PeerSettings
from tests.benchmarks.peers.environments import python_of
from tests.benchmarks.peers.groups import GROUPS
from tests.benchmarks.workplace import workplace

_FULL_BYTES = 8 * 10**9
_TEXT = """# The reader beside its peers

Medians over {rounds} rounds, with the smallest and the largest value in parentheses. Compare what stands in one table, and
nothing else.

Every contender gets the same samples, converts them into its own format (not timed), and starts anew in every round as a
process of its own, in an environment of its own, in turn with the others. It starts its workers in a first epoch, whose
samples are checked: every one once, with the content that it went in with. Then whole epochs are timed, from `iter()` to the
end, up to 5, or as many as begin within {seconds:g} s; the round's value is their median. *Of the limit*: the speed divided
by that of the limit in the same round. *CPU*: user and system time of the process and its workers during the timed epochs.
*private*: the largest sum of private memory over the same processes from start to end, the pages of mapped files not counted,
those that forked workers share counted once for each. *first batch*: from opening, the workers' start and what is imported
included. Everything lies in the page cache.

Settings: each as its documentation has it for training with shuffled samples, in batches. `workers`: worker processes of
PyTorch's DataLoader that live on from epoch to epoch (of shardwright and stock Petastorm: threads); 0: the process alone.
shardwright, PyTorch, Hugging Face datasets, Lance and Grain give a permutation of all samples; LitData and MosaicML Streaming
shuffle chunks and the samples within (blocks of) them; WebDataset shuffles tar files and a buffer of 5,000 samples; stock
Petastorm row groups and the rows within each. Lance (threads of its own) and Grain (16 threads) have no others here. Hugging
Face datasets are asked for whole batches, in DataLoader too; arrays lie in them as lists of fixed size. Stock Petastorm reads
what shardwright wrote.

"""


def main() -> None:
    args = _arguments()
    chosen = args.only or list(GROUPS)
    peers = [peer for peer in PEERS if args.peer is None or peer.reader in args.peer]
    with workplace(args.work, _FULL_BYTES * min(args.scale, 1)) as work:
        settings = PeerSettings(work=work, scale=args.scale, rounds=args.rounds, seconds=args.seconds, peers=peers)
        groups = {name: functools.partial(_group, name, settings) for name in chosen}
        whole = args.only is None and args.peer is None and args.scale == 1
        measure_groups(_head(args, peers), groups, work, output_of(args.output, whole=whole))


def _group(name: str, settings: PeerSettings, work: Path) -> str:
    return GROUPS[name](replace(settings, work=work))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(GROUPS), help="this group alone; may be repeated")
    parser.add_argument(
        "--peer", action="append", choices=[peer.reader for peer in PEERS], help="this one alone; may be repeated"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender is started (3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="no timed epoch begins after so many (2)")
    parser.add_argument("--scale", type=float, default=1.0, help="the share of the samples, for a try (1)")
    parser.add_argument(
        "--work", type=Path, help="where samples and stores lie meanwhile: 8 GB (the system's temporary folder)"
    )
    parser.add_argument("--output", type=Path, help="the document (docs/benchmarks.md; build/benchmarks.md for less than all)")
    args = parser.parse_args()
    if args.rounds < 1 or args.scale <= 0 or args.seconds <= 0:
        parser.error("expected --rounds of at least 1, --scale and --seconds above 0")
    return args


def _head(args: argparse.Namespace, peers: list[Peer]) -> str:
    lines = [f"* Date: {today()}", f"* Command: `{_command(args)}`", f"* Machine: {machine()}"]
    lines.append(f"* shardwright {shardwright.__version__}, Python {platform.python_version()}")
    lines += [
        f"* {peer.name}: {versions(python_of(peer.environment), peer.packages)}" for peer in (SHARDWRIGHT, LIMITS, *peers)
    ]
    if args.scale != 1:
        lines.append(f"\n**A try with {args.scale:g} of the samples: not a measurement.**")
    return _TEXT.format(rounds=args.rounds, seconds=args.seconds) + "\n".join([*lines, ""])


def _command(args: argparse.Namespace) -> str:
    words = [f"--only {name}" for name in args.only or ()] + [f"--peer {name}" for name in args.peer or ()]
    words += [f"--rounds {args.rounds}", f"--seconds {args.seconds:g}"]
    words += [f"--scale {args.scale:g}"] if args.scale != 1 else []
    return f"./tests/run --peers -- {' '.join(words)}"


if __name__ == "__main__":
    main()
