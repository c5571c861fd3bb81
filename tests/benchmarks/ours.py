"""Contender: `shardwright.spark.prepare`, with all that it guarantees. Starts as a process of its own.

python -m tests.benchmarks.ours INPUT OUTPUT --memory 2g --shards 8
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.benchmarks.report import now, report

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--memory", required=True)
    parser.add_argument("--shards", type=int, required=True)
    parser.add_argument("--row-group-bytes", type=int)
    parser.add_argument("--format", default="idx")
    args = parser.parse_args()

    from pyspark.sql import SparkSession

    from shardwright.config import Config
    from shardwright.spark import prepare

    settings = {**_local_conf(), "spark.master": "local[2]", "spark.driver.memory": args.memory}
    session = SparkSession.builder.config(map=settings).getOrCreate()
    marks = {"session": now()}
    shard = {"count": args.shards} | ({"row_group_bytes": args.row_group_bytes} if args.row_group_bytes else {})
    config = Config.model_validate(
        {
            "name": "benchmark",
            "read": {"format": args.format, "path": str(args.input)},
            "standardise": {"fields": ["image"] if args.format == "idx" else []},
            "shard": shard,
            "publish": {"path": str(args.output)},
        }
    )
    published = prepare(config)
    marks["done"] = now()
    counts, seconds = published.manifest.lineage.counts, published.manifest.provenance.seconds
    session.stop()
    report(marks, rows=counts.published, dropped=counts.dropped, passes=dict(seconds))


def _local_conf() -> dict[str, str]:
    """What ./spark-submit.sh starts Spark with on one machine."""
    lines = (ROOT / "conf/spark/local.conf").read_text(encoding="utf-8").splitlines()
    pairs = (line.split(None, 1) for line in lines if line.strip() and not line.startswith("#"))
    return {key: value.strip() for key, value in pairs}


if __name__ == "__main__":
    main()
