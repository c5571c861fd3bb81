"""Every kind of field: its declaration, its values, how they come in, and how the stored form is read without this software."""

from __future__ import annotations

import datetime
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np

from shardwright.schema import FLOATS, INTEGERS, Field

ROWS = 24
START = np.datetime64("1969-12-31T23:59:59.999999")


@dataclass(frozen=True)
class Kind:
    """One field of the dataset; `value(i)` is what sample i holds, None where it is missing."""

    field: Field
    spark: str
    """The type of the column that is written."""
    value: Callable[[int], Any]
    shown: str | None = None
    """Its name in the table of docs/batches.md; None: like another one."""
    compress: dict[str, Any] | None = None
    """Its table of `[compress.fields]`."""
    bound: float = 0.0
    """How far an element that comes back may be from the one that was written."""
    stored: Callable[[bytes], Any] | None = None
    """The value in a stored cell; None: Parquet's own types."""

    @property
    def name(self) -> str:
        return self.field.name

    def cell(self, i: int) -> Any:
        """The value of sample i as a DataFrame is given it."""
        value = self.value(i)
        if isinstance(value, np.ndarray):
            return imagecodecs.png_encode(value) if self.field.is_image else npy(value)
        return value.astype(datetime.datetime) if isinstance(value, np.datetime64) else getattr(value, "item", lambda: value)()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def from_npy(cell: bytes) -> Any:
    return np.load(io.BytesIO(cell), allow_pickle=False)


def from_picture(cell: bytes) -> Any:
    return np.asarray(imagecodecs.imread(bytes(cell)))


def _from_bfloat16(cell: bytes) -> Any:
    return (np.frombuffer(cell, "<u2").astype("<u4") << 16).view("<f4")


def _from_int8(cell: bytes) -> Any:
    return np.frombuffer(cell[:4], "<f4") * np.frombuffer(cell[4:], "i1").astype("f4")


def _number(dtype: Any) -> Callable[[int], Any]:
    if dtype in FLOATS:
        return lambda i: np.dtype(dtype).type(i / 7)
    info = np.iinfo(dtype)
    greatest = min(info.max, 2**63 - 1)  # Spark has no unsigned 64-bit number
    return lambda i: np.dtype(dtype).type(greatest - i if i % 2 else info.min + i)


def _nullable(value: Callable[[int], Any]) -> Callable[[int], Any]:
    return lambda i: None if i % 3 == 1 else value(i)


def _waves(*shape: int | None) -> Callable[[int], Any]:
    """float32 from -1 to 1; a dimension that varies has i % 4 elements."""

    def value(i: int) -> Any:
        actual = [i % 4 if size is None else size for size in shape]
        return np.sin(np.arange(np.prod(actual, dtype=int)) + i).astype("f4").reshape(actual)

    return value


def _picture(i: int, height: int = 8, width: int = 9) -> Any:
    return (np.arange(height * width * 3).reshape(height, width, 3) * 3 + i).astype(np.uint8)


def _grey(i: int) -> Any:
    """A picture that JPEG keeps, but for rounding."""
    return np.full((8, 9, 3), 10 * i, np.uint8)


def _field(name: str, dtype: str, *shape: int | None, **more: Any) -> Field:
    return Field.model_validate({"name": name, "dtype": dtype, "shape": shape, **more})


_SPARK = {
    "int8": "tinyint", "uint8": "smallint", "int16": "smallint", "uint16": "int", "int32": "int", "uint32": "bigint",
    "int64": "bigint", "uint64": "bigint", "float16": "float", "float32": "float", "float64": "double",
}  # fmt: skip


def _numbers() -> list[Kind]:
    shown = {"uint16": "uint16", "int64": "int64", "float16": "float16", "float32": "float32"}
    out = []
    for dtype in (*INTEGERS, *FLOATS):
        value = _number(dtype)
        compress = {"codec": "zstd", "level": 9} if dtype == "int16" else None  # then it is not read by offset
        out.append(Kind(_field(f"a_{dtype}", dtype), _SPARK[dtype], value, shown.get(dtype), compress))
        label = {"int64": "int64, nullable", "float32": "float32, nullable"}.get(dtype)
        out.append(Kind(_field(f"maybe_{dtype}", dtype, nullable=True), _SPARK[dtype], _nullable(value), label))
    return out


def _natives() -> list[Kind]:
    plain: dict[str, tuple[str, str, Callable[[int], Any]]] = {
        "flag": ("bool", "boolean", lambda i: np.bool_(i % 2)),
        "moment": ("timestamp", "timestamp_ntz", lambda i: START + np.timedelta64(i * 10**9, "us")),
        "text": ("string", "string", lambda i: "é中\0" * (i % 4)),
        "blob": ("bytes", "binary", lambda i: b"\0\xff\0" * (i % 3)),
    }
    out = []
    for name, (dtype, spark, value) in plain.items():
        out.append(Kind(_field(name, dtype), spark, value, dtype))
        out.append(Kind(_field(f"maybe_{name}", dtype, nullable=True), spark, _nullable(value), f"{dtype}, nullable"))
    return out


def _arrays() -> list[Kind]:
    fixed, ragged, picture = _waves(2, 3), _waves(None, 3), {"codec": "image"}
    maybe = {"nullable": True}
    return [
        Kind(_field("fixed", "float32", 2, 3), "binary", fixed, "float32 (2, 3)", stored=from_npy),
        Kind(_field("maybe_fixed", "float32", 2, 3, **maybe), "binary", _nullable(fixed), "float32 (2, 3), nullable",
             stored=from_npy),
        Kind(_field("bits", "bool", 5), "binary", lambda i: np.arange(5) % (i + 2) == 0, stored=from_npy),
        Kind(_field("ragged", "float32", None, 3), "binary", ragged, "float32 (null, 3)", stored=from_npy),
        Kind(_field("maybe_ragged", "float32", None, 3, **maybe), "binary", _nullable(ragged), "float32 (null, 3), nullable",
             stored=from_npy),
        Kind(_field("raw", "int16", 3, codec="raw"), "binary", lambda i: np.arange(3, dtype="i2") * i, "int16 (3), codec raw",
             stored=lambda cell: np.frombuffer(cell, "<i2")),
        Kind(_field("picture", "uint8", 8, 9, 3, **picture), "binary", _picture, "picture (8, 9, 3)", stored=from_picture),
        Kind(_field("photo", "uint8", None, None, 3, **picture), "binary", lambda i: _picture(i, 4 + i % 3, 5),
             "picture (null, null, 3)", stored=from_picture),
        Kind(_field("maybe_photo", "uint8", None, None, 3, **picture, **maybe), "binary",
             _nullable(lambda i: _picture(i, 4 + i % 3, 5)), "picture (null, null, 3), nullable", stored=from_picture),
    ]  # fmt: skip


def _compressed() -> list[Kind]:
    """Values from -1 to 1: the bounds are half a step of what the codec keeps there."""
    coded: dict[str, tuple[dict[str, Any], float, Callable[[bytes], Any]]] = {
        "float16": ({}, 2**-12, from_npy),
        "bfloat16": ({}, 2**-9, _from_bfloat16),
        "int8": ({}, 1 / 254 + 1e-6, _from_int8),
        "zfp": ({"tolerance": 1e-3}, 1e-3, imagecodecs.zfp_decode),
    }
    out = [
        Kind(_field(f"as_{codec}", "float32", 6), "binary", _waves(6), f"float32 (6), codec {codec}",
             {"codec": codec, **more, "max_error": bound}, bound, stored)
        for codec, (more, bound, stored) in coded.items()
    ]  # fmt: skip
    picture = _field("as_jpeg", "uint8", 8, 9, 3)
    smooth: Callable[[int], Any] = lambda i: np.full((8, 9, 3), 10 * i, np.uint8)  # noqa: E731
    out.append(
        Kind(picture, "binary", smooth, "uint8 (8, 9, 3), codec jpeg", {"codec": "jpeg", "quality": 95}, 2, from_picture)
    )
    return out


KINDS = [Kind(_field("id", "int64"), "bigint", np.int64), *_numbers(), *_natives(), *_arrays(), *_compressed()]
