"""Samples with a field of every kind, of which a few are published for the exports."""

from __future__ import annotations

from typing import Any, get_args

import imagecodecs
import numpy as np

from shardwright.schema import FLOATS, INTEGERS, DType, Field, Schema

SCHEMA = Schema(
    fields=(
        Field(name="number", dtype="int64"),
        Field(name="picture", dtype="uint8", shape=(None, None, 3), codec="image"),
        *(Field(name=f"one_{dtype}", dtype=dtype) for dtype in get_args(DType)),
        *(Field(name=f"array_{dtype}", dtype=dtype, shape=(2, 3)) for dtype in ("bool", *INTEGERS, *FLOATS)),
        Field(name="packed", dtype="float32", shape=(5,), codec="bfloat16"),
        Field(name="Track", dtype="float32", shape=(None, 2)),
        Field(name="flags", dtype="bool", shape=(None,)),
    )
)
NULLABLE = Schema(
    fields=(
        *SCHEMA,
        Field(name="age", dtype="int32", nullable=True),
        Field(name="note", dtype="string", nullable=True),
        Field(name="place", dtype="float64", shape=(2,), nullable=True),
    )
)


def samples(count: int) -> dict[str, Any]:
    """Values of `NULLABLE`, with the largest, the smallest and the odd ones among them."""
    random = np.random.default_rng(count)
    out: dict[str, Any] = {
        "number": np.arange(count),
        "picture": [_picture(row) for row in range(count)],
        "packed": random.integers(0, 100, (count, 5)).astype(np.float32),
        "Track": [random.normal(size=(row % 4, 2)).astype(np.float32) for row in range(count)],
        "flags": [random.integers(0, 2, 1 + row % 3) == 1 for row in range(count)],
        "age": [None if row % 3 == 0 else row - 5 for row in range(count)],
        "note": [None if row % 2 else "ein\nWort" for row in range(count)],
        "place": [None if row % 4 == 0 else np.array([row / 3, -0.0]) for row in range(count)],
    }
    for field in SCHEMA:
        if field.name.startswith(("one_", "array_")):
            out[field.name] = _values(field, count, random)
    return out


def _values(field: Field, count: int, random: np.random.Generator) -> Any:
    shape = tuple(size or 0 for size in field.shape)
    if field.dtype in ("string", "bytes"):
        texts = [f"größe {row}\n" * (row % 3) for row in range(count)]
        return texts if field.dtype == "string" else [text.encode() + b"\0\xff" for text in texts]
    if field.dtype == "timestamp":
        return np.array([row * 10**15 - 10**16 + row for row in range(count)], "<M8[us]")
    if field.dtype == "bool":
        return random.integers(0, 2, (count, *shape)) == 1
    if field.dtype in FLOATS:
        return random.normal(size=(count, *shape)).astype(field.dtype)
    limits = np.iinfo(field.dtype)
    values = random.integers(limits.min, limits.max, (count, *shape), field.dtype, endpoint=True)
    values.flat[:2] = limits.min, limits.max
    return values


def _picture(row: int) -> bytes:
    pixels = np.full((2 + row % 2, 3, 3), row, np.uint8)
    encode = imagecodecs.jpeg8_encode if row % 3 else imagecodecs.png_encode
    return bytes(encode(pixels))
