"""Stock Petastorm as an oracle: its own environment, made once and kept, and a function that reads with it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardwright.petastorm.codecs import NdarrayCodec
from shardwright.petastorm.etl.dataset_metadata import write_metadata
from shardwright.petastorm.files import open_files
from shardwright.petastorm.unischema import Unischema, UnischemaField
from tests.petastorm.oracle_common import unpack

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]


class Oracle(Protocol):
    """Rows as stock Petastorm returns them, sorted by `id_field`, or in its order of delivery where that is None.

    `kind` "reader" is `make_reader`, "batch" `make_batch_reader`, whose batches come as rows; `values` names the wanted
    fields (None: all); `shard` is (cur_shard, shard_count). Fails with Petastorm's own traceback where it fails.
    """

    def __call__(
        self,
        url: str | Path,
        kind: Literal["reader", "batch"],
        *,
        shard: tuple[int, int] | None = None,
        id_field: str | None = "id",
        values: Sequence[str] | None = None,
    ) -> list[dict[str, Any]]: ...


@pytest.fixture(scope="session")
def petastorm_oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    python = oracle_python()
    results = tmp_path_factory.mktemp("oracle")

    def read(
        url: str | Path,
        kind: Literal["reader", "batch"],
        *,
        shard: tuple[int, int] | None = None,
        id_field: str | None = "id",
        values: Sequence[str] | None = None,
    ) -> list[dict[str, Any]]:
        out = results / f"{len(list(results.iterdir()))}.npz"
        url = url if isinstance(url, str) else url.resolve().as_uri()
        command = [python, "-m", "tests.petastorm.oracle_read", url, kind, str(out)]
        command += ["--id", id_field] if id_field else []
        command += [f"--shard={shard[0]}/{shard[1]}"] if shard else []
        command += [f"--fields={','.join(values)}"] if values else []
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=120, env=oracle_environment())
        assert done.returncode == 0, f"stock Petastorm failed on {url} ({kind}):\n{done.stderr}"
        with np.load(out, allow_pickle=False) as members:
            return unpack(members)

    return read


def oracle_python() -> str:
    """The Python of stock Petastorm's environment, which is made first where there is none yet."""
    environment = oracle_environment()
    if sys.version_info[:2] == (3, 11):
        environment.setdefault("ORACLE_PYTHON", sys.executable)
    done = subprocess.run([_HERE / "setup-oracle.sh"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"setup-oracle.sh could not make stock Petastorm's environment:\n{done.stderr}"
    return done.stdout.strip()


def oracle_environment() -> dict[str, str]:
    """The variables of this process, but for those that lead to its modules."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


GROUPS = (7, 1, 9, 4, 12, 8)
"""Rows of the row groups of `uneven`."""


@pytest.fixture(scope="session")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Row groups of several sizes in two files, with the metadata of a Unischema."""
    folder = tmp_path_factory.mktemp("uneven")
    ends = np.cumsum(GROUPS)
    for file, groups in enumerate((range(3), range(3, 6))):
        schema = pa.schema([pa.field("id", pa.int64(), False), pa.field("x", pa.binary(), False)])
        with pq.ParquetWriter(folder / f"part-{file}.parquet", schema, store_schema=False) as writer:
            for group in groups:
                ids = np.arange(ends[group] - GROUPS[group], ends[group])
                field = UnischemaField("x", np.float32, (3,), NdarrayCodec(), False)
                cells = [bytes(NdarrayCodec().encode(field, np.full(3, number, np.float32))) for number in ids]
                writer.write_table(pa.table({"id": pa.array(ids, pa.int64()), "x": cells}, schema=schema))
    unischema = Unischema(
        "Uneven", [UnischemaField("id", np.int64, ()), UnischemaField("x", np.float32, (3,), NdarrayCodec(), False)]
    )
    write_metadata(open_files(str(folder)), unischema)
    return folder
