"""What a sample is: fields with a name, dtype, shape, codec and nullability."""

from __future__ import annotations

import difflib
import keyword
import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from shardwright.errors import SchemaError

INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
FLOATS = ("float16", "float32", "float64")
NUMBERS = INTEGERS + FLOATS
DType = Literal[
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "float16", "float32", "float64", "string", "bytes", "timestamp",
]  # fmt: skip
"""NumPy names; ``timestamp`` is ``datetime64[us]``."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_RESERVED = frozenset({"shard"})
_SUGGESTED = 50
"""Names that a message lists at most."""
_FLOAT_CODECS = frozenset({"float16", "bfloat16", "int8", "zfp"})
_FROZEN = ConfigDict(frozen=True, extra="forbid")


class CodecSpec(BaseModel):
    """How the values of a field become bytes, as stored in configuration and manifest.

    Names: ``npy`` (`numpy.save` bytes), ``raw`` (C-order bytes without a header), ``image`` (an encoded picture whose own
    magic says which format); and for float32 and float64 ``float16`` (`numpy.save` bytes of the rounded values),
    ``bfloat16`` (their upper 16 bits), ``int8`` (a float32 scale, then 8-bit integers) and ``zfp`` (a ZFP stream).
    What `configuration` may hold is said by `codecs.options`; nothing in it is needed to decode.
    """

    model_config = _FROZEN

    name: Literal["npy", "raw", "image", "float16", "bfloat16", "int8", "zfp"]
    configuration: dict[str, int | float | str | bool] = {}


def _codec(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


class Field(BaseModel):
    """One column: `shape` is () for a scalar; a None in it is a dimension that varies."""

    model_config = _FROZEN

    name: str
    dtype: DType
    shape: tuple[int | None, ...] = ()
    codec: Annotated[CodecSpec | None, BeforeValidator(_codec)] = None
    nullable: bool = False

    @model_validator(mode="before")
    @classmethod
    def _default_codec(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("shape") and values.get("codec") is None:
            return {**values, "codec": "npy"}
        return values

    @model_validator(mode="after")
    def _check(self) -> Field:
        check_field_name(self.name)
        if any(size is not None and size < 1 for size in self.shape):
            raise ValueError(f"field {self.name!r}: every dimension must be at least 1 (or null), found {self.shape}")
        if self.shape and self.dtype in ("string", "bytes", "timestamp"):
            raise ValueError(f"field {self.name!r}: arrays of {self.dtype} are not supported; use a number or bool")
        if self.codec and not self.shape:
            raise ValueError(f"field {self.name!r}: codec {self.codec.name!r} needs a shape")
        if self.codec and self.codec.name == "raw" and (None in self.shape or self.nullable):
            raise ValueError(f"field {self.name!r}: layout 'raw' needs a fixed shape and no nulls")
        if self.codec and self.codec.name == "image" and (self.dtype not in ("uint8", "uint16") or len(self.shape) > 3):
            raise ValueError(f"field {self.name!r}: an image is uint8 or uint16, (height, width[, channels])")
        if self.codec and self.codec.name in _FLOAT_CODECS:
            self._check_float_codec(self.codec.name)
        return self

    def _check_float_codec(self, codec: str) -> None:
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"field {self.name!r}: codec {codec!r} is for float32 and float64, found {self.dtype}")
        if codec in ("bfloat16", "int8") and None in self.shape:
            raise ValueError(
                f"field {self.name!r}: codec {codec!r} needs a fixed shape; 'float16' and 'zfp' keep each value's own"
            )
        if codec == "zfp" and len(self.shape) > 4:
            raise ValueError(f"field {self.name!r}: codec 'zfp' takes 1 to 4 dimensions, found {len(self.shape)}")

    @property
    def fixed(self) -> bool:
        """An array of one shape whose stored values are of one width: `stored_nbytes`."""
        return bool(self.shape) and None not in self.shape and not self.encoded

    @property
    def encoded(self) -> bool:
        """Whether each stored value is compressed by itself, to a length of its own: a picture or a ZFP stream."""
        return self.codec is not None and self.codec.name in ("image", "zfp")

    @property
    def is_image(self) -> bool:
        """Whether the stored value is an encoded picture."""
        return self.codec is not None and self.codec.name == "image"

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The NumPy dtype of one element, little-endian; object for strings and bytes."""
        if self.dtype in ("string", "bytes"):
            return np.dtype(object)
        return np.dtype("<M8[us]" if self.dtype == "timestamp" else self.dtype).newbyteorder("<")

    @property
    def nbytes(self) -> int:
        """Bytes of one decoded value of a fixed array or a number."""
        return math.prod(size or 0 for size in self.shape) * self.numpy_dtype.itemsize

    @property
    def stored_nbytes(self) -> int:
        """Bytes of one value of a fixed array as stored, without a header."""
        elements = math.prod(size or 0 for size in self.shape)
        widths = {"float16": 2 * elements, "bfloat16": 2 * elements, "int8": 4 + elements}
        return widths.get(self.codec.name, self.nbytes) if self.codec else self.nbytes


class Schema(BaseModel):
    """The fields of a dataset, in order."""

    model_config = _FROZEN

    fields: tuple[Field, ...]

    @model_validator(mode="after")
    def _check(self) -> Schema:
        names = [field.name for field in self.fields]
        if not names:
            raise ValueError("a schema needs at least one field")
        lower = [name.lower() for name in names]  # Spark and DuckDB do not tell upper from lower case
        twice = sorted({name for name in names if lower.count(name.lower()) > 1})
        if twice:
            raise ValueError(f"fields named twice: {', '.join(twice)}")
        return self

    def __iter__(self) -> Iterator[Field]:  # type: ignore[override]
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    @property
    def names(self) -> tuple[str, ...]:
        """The field names, in order."""
        return tuple(field.name for field in self.fields)

    def __getitem__(self, name: str) -> Field:
        for field in self.fields:
            if field.name == name:
                return field
        raise SchemaError(f"no field {name!r}; {suggest(name, self.names)}")


def check_field_name(name: str) -> None:
    """Raise ValueError unless `name` can name a field in Parquet, Petastorm and a file name."""
    if name.lower() in _RESERVED or name.startswith("_"):
        raise ValueError(f"field {name!r}: 'shard' and names that begin with '_' are reserved; rename the field")
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ValueError(
            f"field {name!r}: expected a letter followed by letters, digits or '_' and no Python keyword; rename the field"
        )


def suggest(name: str, known: tuple[str, ...] | list[str]) -> str:
    """The end of an error message: the nearest valid name, and all of them, or the first where there are very many."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    more = f", … ({len(known)} in all)" if len(known) > _SUGGESTED else ""
    return f"{hint}known: {', '.join(known[:_SUGGESTED])}{more}"
