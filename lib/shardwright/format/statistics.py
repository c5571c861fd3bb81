"""Statistics of a field: exact, and the same to the bit however the samples were partitioned.

A `FieldSummary` takes values batch by batch, travels as JSON, merges with others in any order, and finishes into the
`FieldStatistics` that stand in the manifest. Which numbers a channel has::

    kind of field                    mean, std, min, max, histogram     labels
    integers, bool                   one channel                        of scalars
    floats                           one channel                        no
    timestamp                        one channel, microseconds          no
    arrays (…, C), ndim >= 3, C <= 4 one channel for each last index    no
    other arrays                     one channel                        no
    string                           none                               yes
    bytes                            none                               no
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from shardwright.errors import SchemaError
from shardwright.format.exact import Floats, Moments, Narrow, Wide
from shardwright.format.quantiles import Quantiles
from shardwright.schema import Field

MAX_CHANNELS = 4
MAX_LABELS = 1024
MAX_LABEL_BYTES = 256
"""A field with a longer string (UTF-8) holds texts, not labels."""

_NARROW = ("bool", "int8", "uint8", "int16", "uint16")
_WIDE = ("int32", "uint32", "int64", "uint64")
_LABEL_CHUNK = 1 << 16
_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
Label = bool | int | str


class Histogram(BaseModel):
    """Nonempty bins in ascending order, and how many elements each holds.

    ``values``: a bin is one exact value. ``log2``: a bin is a quarter of an octave (in value), named by its bound
    nearest to zero; see `shardwright.format.exact.log_edge`.
    """

    model_config = _FROZEN

    kind: Literal["values", "log2"]
    bins: tuple[int | float, ...]
    counts: tuple[int, ...]


class LabelCounts(BaseModel):
    """The distinct values in ascending order, and how many samples have each."""

    model_config = _FROZEN

    values: tuple[Label, ...]
    counts: tuple[int, ...]


class FieldStatistics(BaseModel):
    """What is known of a field's values; every tuple has one entry for each channel.

    `count` samples have a value, `missing` have none. Mean, population standard deviation, min and max are those of
    the finite among a channel's `elements`, each rounded once from its exact value, None where there are none.
    `labels` is None where labels make no sense, or there are more than `MAX_LABELS`.
    """

    model_config = _FROZEN

    count: int
    missing: int
    elements: tuple[int, ...] = ()
    non_finite: tuple[int, ...] = ()
    mean: tuple[float | None, ...] = ()
    std: tuple[float | None, ...] = ()
    min: tuple[int | float | None, ...] = ()
    max: tuple[int | float | None, ...] = ()
    histogram: tuple[Histogram, ...] = ()
    labels: LabelCounts | None = None


def channel_count(field: Field) -> int:
    """How many channels the statistics of `field` have; 0 for strings and bytes."""
    if field.dtype in ("string", "bytes"):
        return 0
    last = field.shape[-1] if len(field.shape) >= 3 else None
    return last if last is not None and last <= MAX_CHANNELS else 1


class Accumulator(Protocol):
    """Exact sums of one channel; `CHUNK` is the most elements that one `add` takes."""

    CHUNK: ClassVar[int]

    def add(self, values: npt.NDArray[Any]) -> None:
        """Take elements of shape (n,), n <= CHUNK, strided or not."""

    def merge(self, other: Self) -> None:
        """Take all that another accumulator of the same dtype took."""

    def to_json(self) -> dict[str, Any]:
        """The state as plain JSON values, the same for the same elements."""

    def load(self, state: dict[str, Any]) -> None:
        """Take over a state from `to_json`; for a new accumulator."""

    def moments(self) -> Moments:
        """The exact sums and the histogram."""


def accumulator(dtype: np.dtype[Any]) -> Accumulator:
    """The accumulator for elements of a bool, integer or float dtype."""
    if dtype.kind == "f":
        return Floats(dtype)
    return Narrow(dtype) if dtype.itemsize <= 2 else Wide(dtype)


class FieldSummary:
    """A mergeable summary of one field. Its `to_json` depends on the values alone, not on batches or merge order.

    With `ranked`, it can also tell quantiles, which takes sorting.
    """

    def __init__(self, field: Field, *, ranked: bool = False) -> None:
        self.field = field
        self._count = 0
        self._missing = 0
        self._element_dtype = dtype = np.dtype(np.int64) if field.dtype == "timestamp" else field.numpy_dtype
        self._channels: list[Accumulator] = [accumulator(dtype) for _ in range(channel_count(field))]
        self._quantiles = [Quantiles(dtype) for _ in self._channels] if ranked else []
        # Of strings and wide integers; narrow ones have theirs in the exact histogram. None: more than MAX_LABELS.
        # Distinct values only ever grow in number, so whatever is merged first, None it is in the end.
        counted = not field.shape and (field.dtype == "string" or field.dtype in _WIDE)
        self._labels: Counter[Label] | None = Counter() if counted else None

    def update(self, values: npt.NDArray[Any]) -> None:
        """Take n samples of a field of numbers: an array of the field's dtype, shape (n, *field.shape).

        Where the shape has a None, the arrays of one call share one size: pass ``image[None]`` for a single image.
        NaT is a missing timestamp. Raises SchemaError for another dtype or shape, or a field of strings or bytes.
        """
        self._check(values)
        if self.field.dtype == "timestamp":
            present = values[~np.isnat(values)].view(np.int64)
            self.add_missing(len(values) - len(present))
            values = present
        self._count += len(values)
        channels = len(self._channels)
        # a view, also of cells with a header before each
        rows = values.reshape(len(values), math.prod(values.shape[1:]) // channels, channels)
        chunk = self._channels[0].CHUNK
        step = max(1, chunk // max(1, rows.shape[1]))
        for first in range(0, len(rows), step):
            for index, channel in enumerate(self._channels):
                elements = rows[first : first + step, :, index].reshape(-1)
                for start in range(0, len(elements), chunk):
                    channel.add(elements[start : start + chunk])
                if self._quantiles:
                    self._quantiles[index].add(elements)
        if self._labels is not None:
            self._count_integers(values)

    def update_column(self, column: pa.Array | pa.ChunkedArray | Sequence[Any]) -> None:
        """Take the samples of a scalar field, nulls as missing: an Arrow column, or a list with None for null."""
        if self.field.shape:
            raise SchemaError(f"field {self.field.name!r} holds arrays {self.field.shape}: pass them to update()")
        if not isinstance(column, pa.Array | pa.ChunkedArray):
            column = pa.array(column, _arrow_type(self.field))
        present = column.drop_null()
        self.add_missing(len(column) - len(present))
        if self._channels:
            if self.field.dtype == "timestamp":
                present = present.cast(pa.timestamp("us"))
            self.update(present.to_numpy(zero_copy_only=False))
            return
        self._count += len(present)
        if self._labels is not None and len(present):
            self._count_strings(present)

    def add_missing(self, count: int) -> None:
        """Count samples without a value."""
        self._missing += count

    def add_unseen(self, count: int) -> None:
        """Count samples whose value is present but is not looked into, such as pictures that nobody needs decoded."""
        self._count += count

    def merge(self, other: FieldSummary) -> None:
        """Take all that `other` took; raises SchemaError when it summarises another field."""
        if other.field != self.field:
            raise SchemaError(f"can't merge the summaries of two fields, {self.field!r} and {other.field!r}")
        self._count += other._count
        self._missing += other._missing
        for channel, others in zip(self._channels, other._channels, strict=True):
            channel.merge(others)
        for quantiles, more in zip(self._quantiles, other._quantiles, strict=True):
            quantiles.merge(more)
        self._add_labels(other._labels)

    def to_json(self) -> dict[str, Any]:
        """The state as plain JSON values: integers, finite floats, strings, lists, None."""
        labels = None if self._labels is None else _sorted_labels(self._labels).model_dump(mode="json")
        return {
            "count": self._count,
            "missing": self._missing,
            "channels": [channel.to_json() for channel in self._channels],
            "quantiles": [quantiles.to_json() for quantiles in self._quantiles],
            "labels": labels,
        }

    @classmethod
    def from_json(cls, field: Field, state: dict[str, Any]) -> Self:
        """The summary that `to_json` described."""
        summary = cls(field, ranked=bool(state["quantiles"]))
        summary._count, summary._missing = state["count"], state["missing"]
        for channel, stored in zip(summary._channels, state["channels"], strict=True):
            channel.load(stored)
        for quantiles, stored in zip(summary._quantiles, state["quantiles"], strict=True):
            quantiles.load(stored)
        labels = state["labels"]
        summary._labels = None if labels is None else Counter(dict(zip(labels["values"], labels["counts"], strict=True)))
        return summary

    def moments(self, *, whole: bool) -> list[Moments]:
        """The exact sums of each channel; where `whole`, of all of them as if they were one, without bins."""
        channels = [channel.moments() for channel in self._channels]
        return [_joined(channels)] if whole else channels

    def quantiles(self, share: Fraction, *, whole: bool) -> list[float | None]:
        """The quantile of each channel, or of the `whole` field; for a summary that is `ranked`."""
        if not whole:
            return [quantiles.quantile(share) for quantiles in self._quantiles]
        together = Quantiles(self._element_dtype)
        for quantiles in self._quantiles:
            together.merge(quantiles)
        return [together.quantile(share)]

    def finish(self) -> FieldStatistics:
        """The statistics, correctly rounded."""
        channels = [channel.moments() for channel in self._channels]
        kind: Literal["values", "log2"] = "values" if self.field.dtype in _NARROW else "log2"
        return FieldStatistics(
            count=self._count,
            missing=self._missing,
            elements=tuple(channel.finite + channel.non_finite for channel in channels),
            non_finite=tuple(channel.non_finite for channel in channels),
            mean=tuple(channel.mean() for channel in channels),
            std=tuple(channel.std() for channel in channels),
            min=tuple(channel.low for channel in channels),
            max=tuple(channel.high for channel in channels),
            histogram=tuple(
                Histogram(kind=kind, bins=tuple(channel.bins), counts=tuple(channel.counts)) for channel in channels
            ),
            labels=self._finish_labels(channels),
        )

    def _check(self, values: npt.NDArray[Any]) -> None:
        field = self.field
        if not self._channels:
            raise SchemaError(f"field {field.name!r} holds {field.dtype}: pass its column to update_column()")
        fits = values.ndim == 1 + len(field.shape) and all(
            size in (None, found) for size, found in zip(field.shape, values.shape[1:], strict=True)
        )
        if values.dtype != field.numpy_dtype or not fits:
            raise SchemaError(
                f"field {field.name!r}: expected {field.dtype} of shape (n, {str(field.shape)[1:]}, "
                f"found {values.dtype} of shape {values.shape}"
            )

    def _count_integers(self, values: npt.NDArray[Any]) -> None:
        for start in range(0, len(values), _LABEL_CHUNK):
            if self._labels is None:
                return
            found, counts = np.unique(values[start : start + _LABEL_CHUNK], return_counts=True)
            few = len(found) <= MAX_LABELS
            self._add_labels(Counter(dict(zip(found.tolist(), counts.tolist(), strict=True))) if few else None)

    def _count_strings(self, column: pa.Array | pa.ChunkedArray) -> None:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pc.max(pc.binary_length(column)).as_py() > MAX_LABEL_BYTES:
            self._labels = None
            return
        found = pc.value_counts(column)
        few = len(found) <= MAX_LABELS
        pairs = zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True)
        self._add_labels(Counter(dict(pairs)) if few else None)

    def _add_labels(self, labels: Counter[Label] | None) -> None:
        if self._labels is None or labels is None:
            self._labels = None
            return
        self._labels.update(labels)
        if len(self._labels) > MAX_LABELS:
            self._labels = None

    def _finish_labels(self, channels: list[Moments]) -> LabelCounts | None:
        if self._labels is not None:
            return _sorted_labels(self._labels)
        if self.field.shape or self.field.dtype not in _NARROW or len(channels[0].bins) > MAX_LABELS:
            return None
        values = channels[0].bins
        as_label = bool if self.field.dtype == "bool" else int
        return LabelCounts(values=tuple(map(as_label, values)), counts=tuple(channels[0].counts))


def _joined(channels: Sequence[Moments]) -> Moments:
    lows = [channel.low for channel in channels if channel.low is not None]
    highs = [channel.high for channel in channels if channel.high is not None]
    return Moments(
        finite=sum(channel.finite for channel in channels),
        non_finite=sum(channel.non_finite for channel in channels),
        total=sum(channel.total for channel in channels),
        squares=sum(channel.squares for channel in channels),
        power=channels[0].power,
        low=min(lows, default=None),
        high=max(highs, default=None),
        bins=[],
        counts=[],
    )


def _arrow_type(field: Field) -> pa.DataType:
    if field.dtype == "string":
        return pa.string()
    return pa.binary() if field.dtype == "bytes" else pa.from_numpy_dtype(field.numpy_dtype)


def _sorted_labels(labels: Counter[Label]) -> LabelCounts:
    values = sorted(labels)
    return LabelCounts(values=tuple(values), counts=tuple(labels[value] for value in values))
