"""One way to read a dataset: python -m tests.benchmarks.hdfs_reading URL none|window|global|bare BATCH EPOCHS"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

from tests.benchmarks.report import now, report

if TYPE_CHECKING:
    from shardwright.order import Shuffle

SHUFFLES: tuple[Shuffle, ...] = ("none", "window", "global")
BARE = "bare"
_REQUEST_BYTES = 8 * 2**20


def main() -> None:
    """Report the seconds and bytes of each epoch; the first counts from before the dataset is opened."""
    url, what, batch, epochs = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    import shardwright
    from shardwright.storage import open_storage

    seconds, counted = [], []
    loader: Any = None
    parts: list[str] = []
    for _ in range(epochs):
        began = now()
        if what == BARE:
            parts = parts or sorted(one.name for one in open_storage(url).listing() if one.name.endswith(".parquet"))
            nbytes = sum(_read(url, name) for name in parts if "/part-" in name)
        else:
            if loader is None:
                dataset = shardwright.open_dataset(url, split="train")
                loader = dataset.loader(batch_size=batch, world=shardwright.World(), seed=1, shuffle=cast("Shuffle", what))
            nbytes = sum(values.nbytes for values in (value for one in loader for value in one.values()))
        seconds.append(now() - began)
        counted.append(nbytes)
    report({}, seconds=seconds, bytes=counted)


def _read(url: str, name: str) -> int:
    """Read a file to its end by the client that lies below our storage; its bytes."""
    if url.startswith("webhdfs://"):
        import fsspec

        system, root = fsspec.core.url_to_fs(url)
        return len(system.cat_file(f"{root}/{name}"))
    import hdfs_native

    server, _, path = url.removeprefix("hdfs://").partition("/")
    file = hdfs_native.Client(f"hdfs://{server}").read(f"/{path}/{name}")
    for start in range(0, len(file), _REQUEST_BYTES):
        file.read_range(start, min(_REQUEST_BYTES, len(file) - start))
    return len(file)


if __name__ == "__main__":
    main()
