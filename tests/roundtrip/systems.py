"""Each system reads the whole dataset: the values of every field by id, and what the system made of the field, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

import shardwright as sw
from shardwright.format.batch import mask_name
from tests.roundtrip.kinds import KINDS, ROWS, Kind

BATCH = 7  # so that batches are several, and the last is short


@dataclass
class Read:
    """Field -> values in the order of ids, NumPy's or Python's, None where missing; field -> what the system made of it."""

    values: dict[str, list[Any]]
    forms: dict[str, str]


def numpy(root: Path) -> Read:
    batches = list(_loader(root))
    return Read(_joined([_plain(batch) for batch in batches]), {kind.name: _numpy_form(kind, batches[0]) for kind in KINDS})


def torch(root: Path) -> Read:
    import torch as framework

    import shardwright.torch as swt

    batches = list(swt.loader(sw.open_dataset(str(root)), BATCH, world=sw.World(), epochs=1))

    def form(kind: Kind) -> str:
        value = batches[0][kind.name]
        if isinstance(value, framework.Tensor):
            return _masked(kind, batches[0], _shaped(str(value.dtype).removeprefix("torch."), value.shape))
        first = next(one for one in value if one is not None)
        return _optional(kind, f"list of {'Tensor' if isinstance(first, framework.Tensor) else _python(first)}")

    arrays = [
        {name: value.numpy() if isinstance(value, framework.Tensor) else _objects(value) for name, value in batch.items()}
        for batch in batches
    ]
    return Read(_joined([_plain(_timed(batch)) for batch in arrays]), {kind.name: form(kind) for kind in KINDS})


def tensorflow(root: Path) -> Read:
    import tensorflow as tf

    import shardwright.tensorflow as swf

    batches = list(swf.dataset(_loader(root)))

    def rows(value: Any) -> Any:
        if not isinstance(value, tf.RaggedTensor):
            return value.numpy()
        return _objects([one.to_tensor().numpy() if isinstance(one, tf.RaggedTensor) else one.numpy() for one in value])

    def form(kind: Kind) -> str:
        value = batches[0][kind.name]
        ragged = "RaggedTensor " if isinstance(value, tf.RaggedTensor) else ""
        shape = [None if axis == 0 else size for axis, size in enumerate(value.shape)]
        return _masked(kind, batches[0], ragged + _shaped(value.dtype.name, shape))

    arrays = [_timed({name: rows(value) for name, value in batch.items()}) for batch in batches]
    return Read(_joined([_plain(batch) for batch in arrays]), {kind.name: form(kind) for kind in KINDS})


def jax(root: Path) -> Read:
    import jax as framework

    import shardwright.jax as swj

    host = [kind.name for kind in KINDS if kind.field.dtype in ("string", "bytes") or None in kind.field.shape]
    with framework.enable_x64(True):
        batches = list(swj.arrays(_loader(root), host=host))

    def form(kind: Kind) -> str:
        value = batches[0][kind.name]
        if not isinstance(value, framework.Array):
            return f"with host=: {_numpy_form(kind, batches[0])}"
        return _masked(kind, batches[0], _shaped(str(value.dtype), value.shape))

    arrays = [_timed({name: np.asarray(value) for name, value in batch.items()}) for batch in batches]
    return Read(_joined([_plain(batch) for batch in arrays]), {kind.name: form(kind) for kind in KINDS})


def arrow(root: Path) -> Read:
    tables = list(_loader(root).as_arrow())
    values: dict[str, list[Any]] = {}
    for kind in KINDS:
        columns = [table[kind.name].combine_chunks() for table in tables]
        storage = [column.storage if isinstance(column, pa.ExtensionArray) else column for column in columns]
        values[kind.name] = [_array(kind, value) for column in storage for value in column.to_pylist()]
    return Read(_sorted(values), {kind.name: _arrow_form(tables[0].schema.field(kind.name).type) for kind in KINDS})


def petastorm(root: Path, oracle: Callable[..., list[dict[str, Any]]], kind: str) -> Read:
    """Stock Petastorm's `make_reader` ("reader") or `make_batch_reader` ("batch")."""
    rows = oracle(root / "v000001/train", kind)
    values = {one.name: [_stored(one, row[one.name]) for row in rows] for one in KINDS}

    def form(one: Kind) -> str:
        first = next(row[one.name] for row in rows if row[one.name] is not None)
        if isinstance(first, np.ndarray) and first.ndim:
            return f"{first.dtype} array"
        return "bytes" if isinstance(first, bytes) else str(getattr(first, "dtype", type(first).__name__))

    return Read(values, {one.name: form(one) for one in KINDS})


def spark(root: Path, session: Any) -> Read:
    frame = session.read.parquet(str(root / "v000001/train")).orderBy("id")
    table = frame.toArrow()
    values = {kind.name: [_stored(kind, value) for value in table[kind.name].to_pylist()] for kind in KINDS}
    return Read(values, {kind.name: frame.schema[kind.name].dataType.simpleString() for kind in KINDS})


def duckdb(root: Path) -> Read:
    import duckdb as engine

    found = engine.sql(f"select * from '{root}/v000001/train/*/*.parquet' order by id")
    assert found is not None
    types = dict(zip(found.columns, map(str, found.types), strict=True))
    rows = found.fetchall()
    position = {name: number for number, name in enumerate(found.columns)}
    values = {kind.name: [_stored(kind, row[position[kind.name]]) for row in rows] for kind in KINDS}
    return Read(values, {kind.name: types[kind.name].lower() for kind in KINDS})


def pyarrow(root: Path) -> Read:
    table = ds.dataset(str(root / "v000001/train"), partitioning="hive").to_table().sort_by("id")
    values = {kind.name: [_stored(kind, value) for value in table[kind.name].to_pylist()] for kind in KINDS}
    return Read(values, {kind.name: str(table.schema.field(kind.name).type) for kind in KINDS})


def _loader(root: Path) -> sw.Loader:
    return sw.open_dataset(str(root)).loader(batch_size=BATCH, world=sw.World(), epochs=1)


def _plain(batch: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The rows of a batch, with None where its mask says so."""
    out = {}
    for kind in KINDS:
        mask = batch.get(mask_name(kind.name), np.zeros(len(batch["id"]), bool))
        out[kind.name] = [None if gone else value for value, gone in zip(batch[kind.name], mask, strict=True)]
    return out


def _timed(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Microseconds since 1970 as what they mean."""
    out = dict(batch)
    for kind in KINDS:
        if kind.field.dtype == "timestamp":
            out[kind.name] = np.asarray(batch[kind.name]).view("M8[us]")
    return out


def _joined(batches: list[dict[str, list[Any]]]) -> dict[str, list[Any]]:
    return _sorted({kind.name: [value for batch in batches for value in batch[kind.name]] for kind in KINDS})


def _sorted(values: dict[str, list[Any]]) -> dict[str, list[Any]]:
    order = np.argsort(np.array(values["id"]))
    assert len(order) == ROWS
    return {name: [own[row] for row in order] for name, own in values.items()}


def _stored(kind: Kind, value: Any) -> Any:
    """What a cell means, where the system leaves it as stored."""
    return kind.stored(bytes(value)) if isinstance(value, bytes | bytearray) and kind.stored else value


def _objects(values: list[Any]) -> Any:
    out = np.empty(len(values), object)
    for row, value in enumerate(values):
        out[row] = value
    return out


def _array(kind: Kind, value: Any) -> Any:
    """The array in nested lists; one of no elements has lost what its inner dimensions were."""
    if not kind.field.shape or value is None:
        return value
    array = np.array(value, kind.field.numpy_dtype)
    return (
        array.reshape([size or (-1 if array.size else 0) for size in kind.field.shape])
        if kind.field.shape.count(None) < 2
        else array
    )


def _numpy_form(kind: Kind, batch: Mapping[str, Any]) -> str:
    value = batch[kind.name]
    if value.dtype == object:
        return _optional(kind, f"object (n,) of {_python(next(one for one in value if one is not None))}")
    return _masked(kind, batch, _shaped(str(value.dtype), value.shape))


def _masked(kind: Kind, batch: Mapping[str, Any], form: str) -> str:
    return f"{form}, mask" if mask_name(kind.name) in batch else form


def _optional(kind: Kind, form: str) -> str:
    return f"{form} or None" if kind.field.nullable else form


def _python(value: Any) -> str:
    return "arrays" if isinstance(value, np.ndarray) else type(value).__name__


def _shaped(dtype: str, shape: Any) -> str:
    return f"{dtype} ({', '.join(['n', *map(str, list(shape)[1:])])}{',' if len(shape) == 1 else ''})"


def _arrow_form(type_: Any) -> str:
    if isinstance(type_, pa.FixedShapeTensorType):
        return f"fixed_shape_tensor {type_.value_type} {tuple(type_.shape)}"
    return str(type_).replace("item: ", "").replace("element: ", "")
