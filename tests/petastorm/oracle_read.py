"""Read a dataset with stock Petastorm and store what it returned; runs in the environment of setup-oracle.sh.

python -m tests.petastorm.oracle_read URL reader|batch OUT.npz [--id FIELD] [--shard K/N] [--fields A,B]
"""

from __future__ import annotations

import argparse
import os
import warnings
from typing import Any

import numpy as np

from tests.petastorm.oracle_common import pack

warnings.filterwarnings("ignore")  # those of old libraries about each other


def main() -> None:
    args = _arguments()
    rows = _read(args.url, args.kind, args.shard, args.fields)
    if args.id:
        rows.sort(key=lambda row: row[args.id])
    members: dict[str, Any] = pack(rows)
    np.savez(args.out, **members)
    os._exit(0)  # all is said: at an ordinary end a thread of the old pyarrow sometimes aborts the process


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("kind", choices=["reader", "batch"])
    parser.add_argument("out")
    parser.add_argument("--id", help="sort rows by this field; without it they stay in the order of delivery")
    parser.add_argument("--shard", type=lambda text: tuple(map(int, text.split("/"))), help="K/N")
    parser.add_argument("--fields", type=lambda text: text.split(","))
    return parser.parse_args()


def _read(url: str, kind: str, shard: tuple[int, int] | None, fields: list[str] | None) -> list[dict[str, Any]]:
    from petastorm import make_batch_reader, make_reader  # type: ignore[import-not-found]

    options: dict[str, Any] = {"reader_pool_type": "dummy", "num_epochs": 1, "shuffle_row_groups": False}
    if shard:
        options.update(cur_shard=shard[0], shard_count=shard[1])
    if fields:
        options["schema_fields"] = fields
    if kind == "reader":
        with make_reader(url, **options) as reader:
            return [dict(row._asdict()) for row in reader]
    with make_batch_reader(url, **options) as reader:
        return [row for batch in reader for row in _rows(batch._asdict())]


def _rows(batch: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    return [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]


if __name__ == "__main__":
    main()
