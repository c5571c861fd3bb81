"""compress: how columns and values are made smaller, what that costs, and the bounds within which it has to stay."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import (
    BaseModel,
    ConfigDict,
    TypeAdapter,
    ValidationError,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic import Field as Constraint

from shardwright.codecs import ValueCodec, is_lossless, stored_field
from shardwright.errors import CompressionError, SchemaError
from shardwright.format.compression import ZSTD, ColumnCodec
from shardwright.format.exact import sqrt_ratio
from shardwright.format.manifest import Compression
from shardwright.format.statistics import Accumulator, accumulator
from shardwright.format.values import Values
from shardwright.schema import Field, Schema, suggest

_BOUNDS = ("max_error", "min_psnr", "min_ratio")
_VALUE: TypeAdapter[Any] = TypeAdapter(ValueCodec)
_COLUMN_CODECS = ("zstd", "gzip", "zlib", "lz4", "snappy", "brotli", "none")
_VALUE_CODECS = ("jpeg", "webp", "png", "jpegxl", "float16", "bfloat16", "int8", "zfp")
_DIFFERENCE = {"uint8": "int16", "uint16": "int32"}
"""What holds every difference of two integers; floats are subtracted as float64."""


class FieldCompression(BaseModel):
    """How one field is compressed, and what has to hold for it; at the column level, or value by value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    codec: ColumnCodec | ValueCodec
    max_error: float | None = Constraint(default=None, ge=0)
    """The largest |stored - original| of any element."""
    min_psnr: float | None = Constraint(default=None, gt=0)
    """In dB, of pictures."""
    min_ratio: float | None = Constraint(default=None, gt=0)
    """The bytes of the values, divided by those of the column."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: object) -> object:
        """From what users write: a codec's name alone, or a table of the codec's parameters and the bounds."""
        if isinstance(value, str):
            value = {"codec": value}
        if not isinstance(value, dict) or not isinstance(value.get("codec"), str):
            return value  # what it is, the fields say
        bounds = {key: value[key] for key in _BOUNDS if key in value}
        return {"codec": _codec({key: item for key, item in value.items() if key not in _BOUNDS}), **bounds}

    @model_serializer
    def _write(self) -> dict[str, Any]:
        """What users write, defaults included."""
        name, configuration = self.named
        bounds = {bound: getattr(self, bound) for bound in _BOUNDS}
        return {"codec": name, **configuration, **{key: value for key, value in bounds.items() if value is not None}}

    @property
    def column(self) -> ColumnCodec | None:
        """The codec of the column's pages; None where values are encoded."""
        return self.codec if isinstance(self.codec, ColumnCodec) else None

    def stored(self, field: Field) -> Field:
        """The field that is stored for `field`. Raises SchemaError where the codec does not take it."""
        return field if isinstance(self.codec, ColumnCodec) else stored_field(field, self.codec)

    @property
    def named(self) -> tuple[str, dict[str, int | float | str | bool]]:
        """The codec's name and its parameters, defaults included."""
        if isinstance(self.codec, ColumnCodec):
            level = self.codec.effective_level
            return self.codec.name, {} if level is None else {"level": level}
        return self.codec.codec, self.codec.configuration

    @property
    def bounded(self) -> bool:
        """Whether anything has to hold for it."""
        return any(getattr(self, bound) is not None for bound in _BOUNDS)

    def problems(self, field: Field) -> list[str]:
        """Why `field` can't be compressed so; empty where it can."""
        out = []
        try:
            lossless = self.column is not None or is_lossless(self.stored(field))
        except SchemaError as error:
            return [str(error).removeprefix(f"field {field.name!r}: ")]
        if lossless and (self.max_error is not None or self.min_psnr is not None):
            out.append("nothing is lost, so leave out max_error and min_psnr")
        elif self.min_psnr is not None and field.dtype not in _DIFFERENCE:
            out.append(f"min_psnr is for pictures of uint8 or uint16, found {field.dtype}; use max_error")
        return out


class CompressOptions(BaseModel):
    """How the columns are compressed that are not read by offset, and fields with a codec of their own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: ColumnCodec = ZSTD
    fields: dict[str, FieldCompression] = {}

    @field_validator("columns", mode="before")
    @classmethod
    def _columns(cls, value: object) -> object:
        found = FieldCompression.model_validate(value) if isinstance(value, (str, dict)) else None
        if found is None:
            return value
        if found.column is None or found.bounded:
            raise ValueError(
                f"expected one of {', '.join(_COLUMN_CODECS)} and a level; what is for one field goes to [compress.fields]"
            )
        return found.codec

    def problems(self, schema: Schema) -> list[str]:
        """What can't be done with the fields of `schema`, one line each."""
        out = [
            f"compress.fields: no field {name!r}; {suggest(name, schema.names)}" for name in self.fields if name not in schema
        ]
        for name, how in self.fields.items():
            if name in schema:
                out += [f"compress.fields.{name}: {problem}" for problem in how.problems(schema[name])]
        return out

    def stored(self, field: Field) -> Field:
        """The field that is stored for `field`. Raises SchemaError where its codec does not take it."""
        how = self.fields.get(field.name)
        return how.stored(field) if how else field

    @field_serializer("columns")
    def _write_columns(self, columns: ColumnCodec) -> dict[str, Any]:
        return FieldCompression(codec=columns).model_dump()

    @property
    def column_codecs(self) -> dict[str, ColumnCodec]:
        """The fields that are compressed at the column level although they could be read by offset."""
        return {name: how.column for name, how in sorted(self.fields.items()) if how.column is not None}


def _codec(parameters: dict[str, Any]) -> Any:
    name = parameters["codec"]
    if name not in (*_COLUMN_CODECS, *_VALUE_CODECS):
        raise ValueError(f"no codec {name!r}; {suggest(name, (*_COLUMN_CODECS, *_VALUE_CODECS))}")
    try:
        if name in _COLUMN_CODECS:
            return ColumnCodec.model_validate({"name" if key == "codec" else key: item for key, item in parameters.items()})
        return _VALUE.validate_python(parameters)
    except ValidationError as error:
        raise ValueError("; ".join(_problem(name, dict(one)) for one in error.errors())) from error


def _problem(codec: str, detail: dict[str, Any]) -> str:
    key = str(detail["loc"][-1]) if detail["loc"] else codec
    if detail["type"] == "extra_forbidden":
        return f"{key}: codec {codec!r} has no such parameter"
    text = str(detail["msg"]).removeprefix("Value error, ")
    return f"{key}: {text[0].lower()}{text[1:]}, found {detail['input']!r}"


class CompressionSums:
    """A Fit of one field: the bytes of its values, and the exact sums of what encoding changed.

    `field` is the field before encoding. The sums depend on the values alone: differences are taken element by element
    (of floats in float64), and added exactly.
    """

    def __init__(self, field: Field, *, lossy: bool) -> None:
        self._field = field
        self._bytes = 0
        self._difference = np.dtype(_DIFFERENCE.get(field.dtype, "float64"))
        self._errors: Accumulator | None = accumulator(self._difference) if lossy else None

    def update(self, original: Values, stored: Values | None) -> None:
        """Take values in, and what they became, for a lossy codec."""
        self._bytes += value_bytes(original)
        if self._errors is not None and stored is not None:
            for before, after in zip(_arrays(original), _arrays(stored), strict=True):
                self._take(before.reshape(-1), after.reshape(-1))

    def merge(self, other: Mapping[str, Any]) -> None:
        """Take in what `to_json` gave elsewhere."""
        self._bytes += other["bytes"]
        if self._errors is not None:
            more = accumulator(self._difference)
            more.load(other["errors"])
            self._errors.merge(more)

    def to_json(self) -> dict[str, Any]:
        """The sums as plain JSON."""
        return {"bytes": self._bytes, "errors": None if self._errors is None else self._errors.to_json()}

    def finish(self, how: FieldCompression, stored_bytes: int) -> Compression:
        """The manifest's record of it; `stored_bytes` are those of the column in all parts."""
        name, configuration = how.named
        return Compression(
            codec=name,
            configuration=configuration,
            level="value" if how.column is None else "column",
            raw_bytes=self._bytes,
            stored_bytes=stored_bytes,
            **(self._measured() if self._errors is not None else {}),
        )

    def _take(self, before: npt.NDArray[Any], after: npt.NDArray[Any]) -> None:
        assert self._errors is not None
        for start in range(0, len(before), self._errors.CHUNK):
            piece = slice(start, start + self._errors.CHUNK)
            old, new = before[piece].astype(self._difference), after[piece].astype(self._difference)
            with np.errstate(invalid="ignore"):
                difference = new - old
            if self._difference.kind == "f":  # NaN and infinity come back as they were
                difference[~np.isfinite(old)] = 0
            self._errors.add(difference)

    def _measured(self) -> dict[str, float | None]:
        assert self._errors is not None
        sums = self._errors.moments()
        if not sums.finite:
            return {"max_error": 0.0, "rmse": 0.0}
        assert sums.low is not None
        assert sums.high is not None
        rmse = sqrt_ratio(sums.squares, sums.finite << (2 * sums.power))
        psnr = None
        if rmse and self._field.dtype in _DIFFERENCE:
            # rounded: the last digits of a logarithm are not the same on every machine
            psnr = round(20 * math.log10(np.iinfo(self._field.dtype).max / rmse), 4)
        return {"max_error": float(max(-sums.low, sums.high)), "rmse": rmse, "psnr": psnr}


def check_bounds(options: CompressOptions, measured: Mapping[str, Compression]) -> None:
    """Raise CompressionError that lists every bound that does not hold, with what was measured and what to do."""
    problems = []
    for name, how in sorted(options.fields.items()):
        found = measured[name]
        where = f"compress.fields.{name} ({found.codec})"
        if how.max_error is not None and (found.max_error or 0) > how.max_error:
            problems.append(
                f"{where}: max_error {how.max_error:g} is exceeded: an element is off by {found.max_error:g}; raise the bound, "
                "or choose a finer codec"
            )
        if how.min_psnr is not None and found.psnr is not None and found.psnr < how.min_psnr:
            problems.append(
                f"{where}: min_psnr {how.min_psnr:g} dB is not reached: {found.psnr:g} dB; raise the quality, or lower the "
                "bound"
            )
        ratio = found.raw_bytes / max(found.stored_bytes, 1)
        if how.min_ratio is not None and ratio < how.min_ratio:
            problems.append(
                f"{where}: min_ratio {how.min_ratio:g} is not reached: {found.raw_bytes:,} bytes became "
                f"{found.stored_bytes:,}, {ratio:.3g} times less; choose a stronger codec, or lower the bound"
            )
    if problems:
        raise CompressionError("nothing was published: " + "; ".join(problems))


def value_bytes(values: Values) -> int:
    """The bytes of decoded values: elements of arrays and numbers, the characters (UTF-8) of strings; nulls have none."""
    if isinstance(values, np.ndarray):
        return values.nbytes
    if isinstance(values, list):
        return sum(value.nbytes for value in values if value is not None)
    present = values.drop_null()
    if pa.types.is_binary(values.type) or pa.types.is_string(values.type):
        return int(pc.sum(pc.binary_length(present)).as_py() or 0)
    return len(present) * max(int(values.type.bit_width) // 8, 1)


def _arrays(values: Values) -> list[npt.NDArray[Any]]:
    if isinstance(values, np.ndarray):
        return [values]
    return [value for value in values if value is not None]
