"""Checksums of fields: the same in any order and from either side, another for every value that is lost, changed or moved."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from shardwright.format.checksums import FieldChecksums, add_sums, show_sums
from shardwright.schema import Field, Schema

KEYS = np.arange(64, dtype=np.uint8).reshape(4, 16)


def npy(array: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()


def as_read(field: Field, column: pa.Array, keys: np.ndarray = KEYS) -> int:
    sums = FieldChecksums(Schema(fields=(field,)))
    batch = pa.RecordBatch.from_pydict({field.name: column})
    sums.add_read(batch, pa.array([key.tobytes() for key in keys[: len(column)]], pa.binary(16)))
    return sums.sums[field.name]


def decoded(field: Field, values: Any, mask: list[bool] | None = None, keys: np.ndarray = KEYS) -> int:
    sums = FieldChecksums(Schema(fields=(field,)))
    masks = {} if mask is None else {f"{field.name}_mask": np.array(mask)}
    sums.add_decoded({"_key": keys[: len(values)], field.name: values, **masks})
    return sums.sums[field.name]


def test_the_sum_is_as_described() -> None:
    field = Field(name="x", dtype="float32", shape=(2,))
    values = np.array([[1, 2], [3, 4]], np.float32)
    wanted = sum(
        int.from_bytes(xxhash.xxh3_128(key.tobytes() + b"a<f4(2,)\0" + value.tobytes()).digest(), "big")
        for key, value in zip(KEYS, values, strict=False)
    )
    assert decoded(field, values) == wanted % 2**128
    text = Field(name="s", dtype="string", nullable=True)
    wanted = sum(xxhash.xxh3_128_intdigest(KEYS[row].tobytes() + value) for row, value in enumerate(("sä".encode(), b"n")))
    found = decoded(text, np.array(["ä", None], object))
    assert found == wanted % 2**128
    assert show_sums({"s": found}) == {"s": f"{found:032x}"}


SIDES: dict[str, tuple[Field, pa.Array, Any, list[bool] | None]] = {
    "number": (Field(name="x", dtype="uint8"), pa.array([1, 255], pa.int64()), np.array([1, 255], np.uint8), None),
    "null": (
        Field(name="x", dtype="int32", nullable=True), pa.array([7, None], pa.int64()), np.array([7, 0], np.int32),
        [False, True],
    ),
    "float": (
        Field(name="x", dtype="float32"), pa.array([0.5, float("nan")], pa.float64()),
        np.array([0.5, np.nan], np.float32), None,
    ),
    "bool": (Field(name="x", dtype="bool"), pa.array([True, False]), np.array([True, False]), None),
    "time": (
        Field(name="x", dtype="timestamp", nullable=True), pa.array([5_000_000, None], pa.timestamp("ns")),
        np.array([5000, "NaT"], "<M8[us]"), None,
    ),
    "string": (Field(name="x", dtype="string"), pa.array(["a", "é"]), np.array(["a", "é"], object), None),
    "bytes": (Field(name="x", dtype="bytes"), pa.array([b"a", b""]), np.array([b"a", b""], object), None),
    "picture": (
        Field(name="x", dtype="uint8", shape=(2, 2), codec="image"), pa.array([b"\x89PNG"]),
        np.array([b"\x89PNG"], object), None,
    ),
    "npy": (
        Field(name="x", dtype="int16", shape=(2, 2)), pa.array([npy(np.asfortranarray([[1, 2], [3, 4]], np.dtype(">i2")))]),
        np.array([[[1, 2], [3, 4]]], np.int16), None,
    ),
    "raw": (Field(name="x", dtype="int16", shape=(2,)), pa.array([b"\1\0\2\0"]), np.array([[1, 2]], np.int16), None),
    "list": (Field(name="x", dtype="int16", shape=(2, 1)), pa.array([[1, 2]]), np.array([[[1], [2]]], np.int16), None),
    "ragged": (
        Field(name="x", dtype="int16", shape=(None,), nullable=True), pa.array([[1], [], None]),
        np.array([np.array([1], np.int16), np.array([], np.int16), None], object), [False, False, True],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SIDES)
def test_both_sides_agree(name: str) -> None:
    field, column, values, mask = SIDES[name]
    assert as_read(field, column) == decoded(field, values, mask) != 0


def test_order_and_cuts_do_not_matter_but_values_and_their_samples_do() -> None:
    field = Field(name="x", dtype="int64")
    values = np.array([1, 2, 3, 4])
    whole = decoded(field, values)
    turned = [3, 1, 0, 2]
    assert decoded(field, values[turned], keys=KEYS[turned]) == whole
    halves = [{"x": decoded(field, values[part], keys=KEYS[part])} for part in (slice(0, 1), slice(1, 4))]
    assert add_sums(*halves) == {"x": whole}
    assert decoded(field, values[[1, 0, 2, 3]]) != whole  # two samples have each other's value
    assert decoded(field, values[:3]) != whole
    assert decoded(field, np.array([1, 2, 3, 5])) != whole
    assert decoded(field, np.array([1, 2, 3, 3]), keys=KEYS[[0, 1, 2, 2]]) != whole
    assert decoded(Field(name="x", dtype="int32"), values.astype(np.int32)) != whole


def test_a_null_is_no_zero_and_no_empty_text() -> None:
    field = Field(name="x", dtype="int32", nullable=True)
    assert as_read(field, pa.array([None], pa.int32())) != as_read(field, pa.array([0], pa.int32()))
    text = Field(name="x", dtype="string", nullable=True)
    assert as_read(text, pa.array([None], pa.string())) != as_read(text, pa.array([""]))
    assert as_read(text, pa.nulls(1)) == as_read(text, pa.array([None], pa.string()))
