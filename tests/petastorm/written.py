"""Small Petastorm datasets with any Unischema, for what no stored one has."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shardwright.format import pickle_opcodes as op
from shardwright.format.common_metadata import UNISCHEMA_KEY

NDARRAY = op.instance(op.named("petastorm.codecs", "NdarrayCodec"))
COMPRESSED = op.instance(op.named("petastorm.codecs", "CompressedNdarrayCodec"))
NATIVE = op.NONE


def scalar(spark_type: str) -> bytes:
    spark = op.instance(op.named("pyspark.sql.types", spark_type))
    return op.instance(op.named("petastorm.codecs", "ScalarCodec"), state=op.mapping([(op.text("_spark_type"), spark)]))


def image(kind: str) -> bytes:
    state = op.mapping([(op.text("_image_codec"), op.text(f".{kind}")), (op.text("_quality"), op.integer(80))])
    return op.instance(op.named("petastorm.codecs", "CompressedImageCodec"), state=state)


def unischema_field(
    name: str, dtype: str, codec: bytes = NATIVE, shape: Sequence[int | None] = (), nullable: bool = False
) -> tuple[str, bytes]:
    module, _, cls = dtype.rpartition(".")
    sizes = op.sequence(op.NONE if size is None else op.integer(size) for size in shape)
    arguments = op.sequence([op.text(name), op.named(module or "numpy", cls), sizes, codec, op.boolean(nullable)])
    return name, op.instance(op.named("petastorm.unischema", "UnischemaField"), arguments)


def unischema(*fields: tuple[str, bytes]) -> bytes:
    named = op.call(op.named("collections", "OrderedDict")) + op.set_items((op.text(name), made) for name, made in fields)
    state = op.mapping([(op.text("_name"), op.text("Written")), (op.text("_fields"), named)])
    return op.program(op.instance(op.named("petastorm.unischema", "Unischema"), state=state))


def write_dataset(
    root: Path, pickled: bytes | None, files: Mapping[str, pa.Table], keys: Mapping[str, bytes] | None = None, **options: Any
) -> Path:
    for name, table in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, root / name, **options)
    metadata = dict(keys or {})
    if pickled is not None:
        metadata[UNISCHEMA_KEY] = pickled
    with pq.ParquetWriter(root / "_common_metadata", next(iter(files.values())).schema, store_schema=False) as writer:
        writer.add_key_value_metadata(metadata)
    return root


def npy(value: object, dtype: str | None = None) -> bytes:
    sink = io.BytesIO()
    np.save(sink, np.asarray(value, dtype), allow_pickle=False)
    return sink.getvalue()


def npz(value: object, dtype: str | None = None) -> bytes:
    sink = io.BytesIO()
    np.savez_compressed(sink, arr=np.asarray(value, dtype))
    return sink.getvalue()
