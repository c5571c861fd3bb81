"""The carrying pass: what does not divide into shards, and waits for a later version. One Parquet file a split, by place.

Its columns are the fields in their `layout.sample_type`, the sample key and the source.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.pandas.types import from_arrow_schema

from shardwright.format.layout import CARRY, KEY, part_name, sample_type
from shardwright.format.manifest import FileDigest
from shardwright.hashing import KEY_BYTES
from shardwright.hashing.places import as_matrix, as_sortable
from shardwright.schema import Schema
from shardwright.spark.encoding import bare_column
from shardwright.spark.exchange import Exchange, Fetch
from shardwright.spark.index import IndexFiles
from shardwright.spark.reading import REPORT
from shardwright.spark.row_groups import row_groups
from shardwright.spark.writing import SplitRoutes
from shardwright.stages import SOURCE
from shardwright.storage import WritableStorage

_GROUP_BYTES = 32 * 2**20
_SPLIT = "split_number"
_HEAD = pa.schema(
    [(_SPLIT, pa.int32()), ("place_key", pa.binary()), ("key", pa.binary()), ("source", pa.string()), ("bytes", pa.int64())]
)


@dataclass(frozen=True)
class Carried:
    """One file of carried samples, as it lies in staging."""

    split: str
    file: str
    samples: int
    bytes: int
    sha256: str

    def to_json(self) -> str:
        """The report as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Carried:
        """What `to_json` gave."""
        return cls(**json.loads(text))

    @property
    def digest(self) -> FileDigest:
        """The file as it is in the version."""
        return FileDigest(name=f"{CARRY}/{self.split}/{part_name(0)}", bytes=self.bytes, sha256=self.sha256)


@dataclass(frozen=True, kw_only=True)
class CarryPass:
    """Brings the samples past the last part of each split together, and writes them."""

    index: IndexFiles
    routes: dict[str, SplitRoutes]
    exchange: Exchange
    schema: Schema
    directory: WritableStorage

    def frame(self, spark: SparkSession) -> DataFrame:
        """The samples, a partition for each split: what the pass is called with."""
        rest = self.index.numbers(spark).mapInArrow(self._send, from_arrow_schema(self.exchange.sent(_HEAD)))
        return rest.repartitionById(len(self.routes), sf.col(_SPLIT))

    def _send(self, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return self.exchange.send(self._rest(numbers), _HEAD)

    def _rest(self, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        schema = pa.schema([*_HEAD, *self.exchange.columns])
        for batch in self.index.read(numbers, ["split", *schema.names[1:]]):
            for number, (split, route) in enumerate(sorted(self.routes.items())):
                own = batch.filter(pc.equal(batch["split"], split))
                past = as_sortable(as_matrix(own["place_key"])) >= np.bytes_(route.end)
                rows = own.filter(pa.array(past)) if len(past) else own
                numbers_ = pa.repeat(pa.scalar(number, pa.int32()), rows.num_rows)
                yield pa.RecordBatch.from_arrays([numbers_, *(rows[name] for name in schema.names[1:])], schema=schema)

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Write the file of one split; one report."""
        with self.exchange.receive(batches, _HEAD) as (table, samples):
            if not table.num_rows:
                return
            rows = table.combine_chunks()
            order = np.argsort(as_sortable(as_matrix(rows["place_key"].chunk(0))))
            report = self._write(rows.take(pa.array(order)), samples)
        yield pa.RecordBatch.from_pylist([{"report": report.to_json()}], REPORT)

    def _write(self, refs: pa.Table, samples: Fetch) -> Carried:
        name = f"{uuid.uuid4().hex}.parquet"
        kinds = [pa.field(field.name, sample_type(field)) for field in self.schema]
        schema = pa.schema([*kinds, (KEY, pa.binary(KEY_BYTES)), (SOURCE, pa.string())])
        with self.directory.new_file(name) as path:
            with pq.ParquetWriter(path, schema, compression="zstd", store_schema=False) as writer:
                for first, stop in row_groups(refs["bytes"].to_numpy(), _GROUP_BYTES):
                    own = refs.slice(first, stop - first)
                    fetched = samples.fetch(own, [bare_column(field) for field in self.schema])
                    arrays = [*fetched, own["key"].combine_chunks(), own["source"].combine_chunks()]
                    named = zip(arrays, schema, strict=True)
                    writer.write_table(pa.Table.from_arrays([array.cast(field.type) for array, field in named], schema=schema))
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = path.stat().st_size
        return Carried(sorted(self.routes)[refs[_SPLIT][0].as_py()], name, refs.num_rows, size, digest)
