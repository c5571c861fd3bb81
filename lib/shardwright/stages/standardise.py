"""standardise: exact statistics over what is published, and the transforms that are fitted to them.

At read, the stored values stay as they are and the reader applies the transform. At write, the parameters are fitted in a
pass of their own and the stored values are the results.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator
from pydantic import Field as Constraint

from shardwright.errors import SchemaError
from shardwright.format.manifest import (
    Affine,
    Content,
    MinMax,
    OneHot,
    Robust,
    Standardisation,
    Statistics,
    Transform,
    Vocabulary,
)
from shardwright.format.statistics import MAX_LABEL_BYTES, FieldSummary, Label, channel_count
from shardwright.format.values import Values, unpack
from shardwright.schema import INTEGERS, NUMBERS, Field, Schema, suggest

MAX_VALUES = 1_000_000
"""Distinct values that are counted for a vocabulary or a one-hot code."""
MAX_ONE_HOT = 65_536
"""Elements of a one-hot vector."""

_FROZEN = ConfigDict(frozen=True, extra="forbid")
_METHODS = ("mean_std", "min_max", "robust", "vocabulary", "one_hot")
_QUARTER = Fraction(1, 4)


class Scaling(BaseModel):
    """(x - offset) / scale with parameters of each channel, or of the whole field; what is None is as in `[standardise]`."""

    model_config = _FROZEN

    method: Literal["mean_std", "min_max", "robust"]
    at: Literal["read", "write"] | None = None
    per: Literal["channel", "field"] | None = None
    dtype: Literal["float16", "float32", "float64"] | None = None
    """Of the stored values, at write."""


class Coding(BaseModel):
    """The number of a value among those of the fit, most frequent first, or a vector with a 1 at that number."""

    model_config = _FROZEN

    method: Literal["vocabulary", "one_hot"]
    at: Literal["write"] = "write"
    max_size: int | None = Constraint(default=None, ge=1)
    """Only the most frequent values; the others are unknown."""
    min_count: int = Constraint(default=1, ge=1)
    """Only values that occur so often; the others are unknown."""
    unknown: bool = True
    """Whether there may be other values; else one fails the job."""

    @model_validator(mode="after")
    def _check(self) -> Coding:
        if not self.unknown and (self.max_size is not None or self.min_count > 1):
            raise ValueError("max_size and min_count make values unknown, which needs unknown = true")
        return self


def _policy(value: object) -> object:
    """A method alone stands for a policy; an unknown method is told by name."""
    value = {"method": value} if isinstance(value, str) else value
    if isinstance(value, dict) and value.get("method") not in _METHODS:
        method = value.get("method")
        if method is None:
            raise ValueError(f"expected a method: {', '.join(_METHODS)}")
        raise ValueError(f"no method {method!r}; {suggest(str(method), _METHODS)}")
    return value


Policy = Annotated[Scaling | Coding, Constraint(discriminator="method")]


class StandardiseOptions(BaseModel):
    """Which fields are standardised, how, when, and from which split's samples the parameters come."""

    model_config = _FROZEN

    fields: tuple[str, ...] = ()
    """Fields with the method, place and dtype that stand beside; `features` gives a field its own."""
    method: Literal["mean_std", "min_max", "robust"] = "mean_std"
    at: Literal["read", "write"] = "read"
    per: Literal["channel", "field"] = "channel"
    dtype: Literal["float16", "float32", "float64"] | None = None
    split: str = "train"
    features: dict[str, Annotated[Policy, BeforeValidator(_policy)]] = {}

    @model_validator(mode="after")
    def _check(self) -> StandardiseOptions:
        twice = sorted(set(self.fields) & set(self.features))
        if twice:
            raise ValueError(f"{', '.join(twice)}: named in fields and in features; leave one out")
        for name, policy in self.policies.items():
            own = self.features.get(name)
            asked = own.dtype if isinstance(own, Scaling) else self.dtype
            if isinstance(policy, Scaling) and policy.at == "read" and asked not in (None, "float32"):
                raise ValueError(f'{name}: dtype {asked!r} is for at = "write"; the reader gives float32')
        return self

    @property
    def policies(self) -> dict[str, Scaling | Coding]:
        """The whole policy of every field, in order of the fields' names."""
        named = {name: Scaling(method=self.method) for name in self.fields} | self.features
        return {name: self._whole(policy) for name, policy in sorted(named.items())}

    def at_write(self) -> dict[str, Scaling | Coding]:
        """The policies that are fitted before writing."""
        return {name: policy for name, policy in self.policies.items() if policy.at == "write"}

    def at_read(self) -> dict[str, Scaling]:
        """The policies that the reader applies."""
        return {name: p for name, p in self.policies.items() if isinstance(p, Scaling) and p.at == "read"}

    def problems(self, schema: Schema) -> list[str]:
        """What can't be done with the fields of `schema`, one line each."""
        out = []
        for name, policy in self.policies.items():
            key = "standardise.fields" if name in self.fields else "standardise.features"
            if name not in schema:
                out.append(f"{key}: no field {name!r}; {suggest(name, schema.names)}")
            elif isinstance(policy, Scaling) and schema[name].dtype not in NUMBERS:
                out.append(f"{key}: {name!r} is {schema[name].dtype}; expected a field of numbers for {policy.method}")
            elif isinstance(policy, Coding) and (schema[name].shape or schema[name].dtype not in (*INTEGERS, "bool", "string")):
                held = f"an array of {schema[name].dtype}" if schema[name].shape else schema[name].dtype
                out.append(f"{key}: {name!r} is {held}; expected strings, integers or booleans for {policy.method}")
        return out

    def _whole(self, policy: Scaling | Coding) -> Scaling | Coding:
        if isinstance(policy, Coding):
            return policy
        at = policy.at or self.at
        dtype = (policy.dtype or self.dtype or "float32") if at == "write" else None
        return Scaling(method=policy.method, at=at, per=policy.per or self.per, dtype=dtype)


class CollectStatistics:
    """A Fit: the summary of every field; pictures are decoded for it where `decoded` names them.

    Fields in `ranked` can be told quantiles of.
    """

    name = "standardise"

    def __init__(self, schema: Schema, *, decoded: tuple[str, ...] = (), ranked: tuple[str, ...] = ()) -> None:
        self._schema = schema
        self._decoded = decoded
        self._summaries = {field.name: FieldSummary(field, ranked=field.name in ranked) for field in schema}

    def update(self, samples: Mapping[str, Values]) -> None:
        """Take samples in: for each field its values, or an Arrow array of stored form, fixed arrays with their header."""
        for field in self._schema:
            self._update_field(field, samples[field.name])

    def _update_field(self, field: Field, values: Values) -> None:
        summary = self._summaries[field.name]
        if field.is_image and field.name not in self._decoded:
            missing = values.null_count if isinstance(values, pa.Array) else sum(value is None for value in values)
            summary.add_missing(missing)
            summary.add_unseen(len(values) - missing)
            return
        take_in(summary, unpack(field, values) if isinstance(values, pa.Array) else values)

    def merge(self, other: Mapping[str, Any]) -> None:
        """Take in what `to_json` gave elsewhere."""
        for name, summary in self._summaries.items():
            summary.merge(FieldSummary.from_json(self._schema[name], other[name]))

    def to_json(self) -> dict[str, Any]:
        """The summaries as plain JSON."""
        return {name: summary.to_json() for name, summary in self._summaries.items()}

    def finish(self, split: str) -> Statistics:
        """The statistics of all that was taken in."""
        return Statistics(split=split, fields={name: summary.finish() for name, summary in self._summaries.items()})

    def transforms(self, options: StandardiseOptions) -> tuple[Affine, ...]:
        """What the reader will apply. Raises SchemaError for a field without finite values."""
        return tuple(fit_affine(policy, self._summaries[name], "read") for name, policy in options.at_read().items())


def collector(content: Content) -> CollectStatistics:
    """What collects the statistics of a published version anew: it looks into the same fields."""
    seen = (name for name, found in content.statistics.fields.items() if any(found.elements))
    return CollectStatistics(content.dataset_schema, decoded=tuple(seen))


class FitTransforms:
    """A Fit: the parameters of everything that is transformed at write."""

    name = "fit"

    def __init__(self, schema: Schema, options: StandardiseOptions) -> None:
        self._policies = options.at_write()
        self._split = options.split
        self._fields = {name: schema[name] for name in self._policies}
        self._fits: dict[str, FieldSummary | _ValueCounts] = {
            name: _ValueCounts(name) if isinstance(policy, Coding) else _summary(schema[name], policy)
            for name, policy in self._policies.items()
        }

    def update(self, samples: Mapping[str, pa.Array]) -> None:
        """Take samples in: one array of stored form for each field at write."""
        for name, fit in self._fits.items():
            if isinstance(fit, _ValueCounts):
                fit.update(samples[name])
            else:
                take_in(fit, unpack(self._fields[name], samples[name]))

    def merge(self, other: Mapping[str, Any]) -> None:
        """Take in what `to_json` gave elsewhere."""
        for name, fit in self._fits.items():
            if isinstance(fit, _ValueCounts):
                fit.merge(other[name])
            else:
                fit.merge(FieldSummary.from_json(self._fields[name], other[name]))

    def to_json(self) -> dict[str, Any]:
        """The summaries as plain JSON."""
        return {name: fit.to_json() for name, fit in self._fits.items()}

    def finish(self) -> tuple[Transform, ...]:
        """The fitted transforms. Raises SchemaError where nothing can be fitted."""
        return tuple(self._finish(name, policy) for name, policy in self._policies.items())

    def _finish(self, name: str, policy: Scaling | Coding) -> Transform:
        fit = self._fits[name]
        if isinstance(policy, Scaling):
            assert isinstance(fit, FieldSummary)
            return fit_affine(policy, fit, "write")
        assert isinstance(fit, _ValueCounts)
        kind = Vocabulary if policy.method == "vocabulary" else OneHot
        values = fit.finish(policy, self._split)
        return kind(field=name, at="write", original=self._fields[name], values=values, unknown=policy.unknown)


def transformed(field: Field, policy: Scaling | Coding, fitted: Transform | None = None) -> Field:
    """The field that a policy at write makes of `field`; before the fit, a one-hot vector is of unknown length."""
    if isinstance(policy, Coding):
        if policy.method == "vocabulary":
            return Field(name=field.name, dtype="int32")
        return Field(name=field.name, dtype="uint8", shape=(len(fitted.values) if isinstance(fitted, OneHot) else None,))
    raw = field.codec is not None and field.codec.name == "raw"
    codec = "raw" if raw else "npy" if field.shape else None
    return Field.model_validate(
        {"name": field.name, "dtype": policy.dtype, "shape": field.shape, "codec": codec, "nullable": field.nullable}
    )


def take_in(summary: FieldSummary, values: Values) -> None:
    """Give the values of a field to its summary, nulls as missing."""
    if isinstance(values, pa.Array):
        summary.update_column(values)
    elif isinstance(values, list):
        summary.add_missing(sum(value is None for value in values))
        for value in values:
            if value is not None:
                summary.update(value[None])
    else:
        summary.update(values)


def fit_affine(policy: Scaling, summary: FieldSummary, at: Literal["read", "write"]) -> Affine:
    """The transform of one field. Raises SchemaError for one without finite values, or with too wide a range."""
    field, whole = summary.field, policy.per == "field"
    common: dict[str, Any] = {"field": field.name, "at": at, "original": field if at == "write" else None}
    if policy.method == "robust":
        low, middle, high = (_known(field, summary.quantiles(n * _QUARTER, whole=whole)) for n in (1, 2, 3))
        return Robust(median=middle, iqr=tuple(b - a for a, b in zip(low, high, strict=True)), **common)
    moments = summary.moments(whole=whole)
    if policy.method == "mean_std":
        mean, std = _known(field, [m.mean() for m in moments]), _known(field, [m.std() for m in moments])
        return Standardisation(mean=mean, std=std, **common)
    low, high = _known(field, [m.low for m in moments]), _known(field, [m.high for m in moments])
    if not all(math.isfinite(b - a) for a, b in zip(low, high, strict=True)):
        raise SchemaError(f"standardise: field {field.name!r} ranges from {low} to {high}, too wide for min_max; use robust")
    return MinMax(min=low, max=high, **common)


def _summary(field: Field, policy: Scaling) -> FieldSummary:
    return FieldSummary(field, ranked=policy.method == "robust")


def _known(field: Field, values: list[int | float | None] | list[float | None]) -> tuple[float, ...]:
    known = tuple(float(value) for value in values if value is not None)
    if len(known) != len(values):
        channel = f"one of its {channel_count(field)} channels has" if len(values) > 1 else "it has"
        raise SchemaError(f"standardise: nothing to fit field {field.name!r} to: {channel} no finite value; leave it out")
    return known


class _ValueCounts:
    """How often each value of a field occurs."""

    def __init__(self, field: str) -> None:
        self._field = field
        self._counts: Counter[Label] = Counter()

    def update(self, column: pa.Array) -> None:
        present = column.drop_null()
        if pa.types.is_string(present.type) and len(present):
            longest = pc.max(pc.binary_length(present)).as_py()
            if longest > MAX_LABEL_BYTES:
                raise SchemaError(
                    f"standardise: field {self._field!r} has a value of {longest} bytes, at most {MAX_LABEL_BYTES} can be "
                    "coded: it holds texts; tokenize it, or leave it out"
                )
        found = pc.value_counts(present)
        self._add(zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True))

    def merge(self, other: Mapping[str, Any]) -> None:
        self._add(zip(other["values"], other["counts"], strict=True))

    def to_json(self) -> dict[str, Any]:
        values = sorted(self._counts)
        return {"values": values, "counts": [self._counts[value] for value in values]}

    def finish(self, policy: Coding, split: str) -> tuple[Label, ...]:
        """The values by descending count, those of equal count in ascending order."""
        ordered = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        values = tuple(value for value, count in ordered if count >= policy.min_count)[: policy.max_size]
        if not values:
            raise SchemaError(
                f"standardise: nothing to fit field {self._field!r} to: no value occurs {policy.min_count} times or more in "
                f"split {split!r}; lower min_count, or leave it out"
            )
        if policy.method == "one_hot" and len(values) > MAX_ONE_HOT:
            raise SchemaError(
                f"standardise: field {self._field!r} has {len(values):,} values, a one-hot vector holds at most "
                f'{MAX_ONE_HOT:,}; set max_size, or use method = "vocabulary"'
            )
        return values

    def _add(self, pairs: Any) -> None:
        for value, count in pairs:
            self._counts[value] += count
        if len(self._counts) > MAX_VALUES:
            raise SchemaError(
                f"standardise: field {self._field!r} has more than {MAX_VALUES:,} distinct values, too many to code; leave it "
                "out"
            )
