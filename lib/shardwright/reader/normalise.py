"""x' = (x - offset) / scale on the way to the trainer, and the way back from everything that was done to a field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shardwright.errors import SchemaError
from shardwright.format.batch import Array, is_masked, mask_name
from shardwright.format.manifest import Affine, Standardisation, Statistics, Transform
from shardwright.reader.columns import Batch
from shardwright.schema import Field
from shardwright.transforms import inverse as inverse_values

if TYPE_CHECKING:
    from shardwright.reader.dataset import Dataset


Numbers = float | Sequence[float] | npt.NDArray[np.floating[Any]]
NormaliseOption = bool | Sequence[str] | Mapping[str, tuple[Numbers, Numbers]]
"""True: the fields that the manifest standardises at read; names of fields; or fields with a mean and std of one's own."""
Normalised = bool | tuple[str, ...] | dict[str, Standardisation]
"""A `NormaliseOption` that was checked."""
_NOT_NUMBERS = ("bool", "timestamp", "string", "bytes")


def check_normalise(wanted: NormaliseOption) -> Normalised:
    """`wanted`. Raises SchemaError for a text where names are expected, and for means and standard deviations that can't be."""
    if isinstance(wanted, str):
        raise SchemaError(f"normalise: expected True or a sequence of names such as [{wanted!r}], found {wanted!r}")
    if isinstance(wanted, Mapping):
        return {name: _own(name, numbers) for name, numbers in wanted.items()}
    return wanted if isinstance(wanted, bool) else tuple(wanted)


def _own(name: str, numbers: tuple[Numbers, Numbers]) -> Standardisation:
    try:
        mean, std = (np.atleast_1d(np.asarray(each, np.float64)) for each in numbers)
    except (TypeError, ValueError):
        mean = std = np.empty((0, 0))
    if mean.ndim != 1 or mean.shape != std.shape or not len(mean) or not np.isfinite([mean, std]).all() or (std < 0).any():
        raise SchemaError(
            f"normalise: field {name!r}: expected (mean, std), each one number or one for each channel, in units of the stored "
            f"values (pixels of 0 to 255, say), found {numbers!r}"
        )
    return Standardisation(field=name, mean=tuple(mean.tolist()), std=tuple(std.tolist()))


def normalising(dataset: Dataset, wanted: Normalised) -> dict[str, Affine]:
    """What normalises the fields `wanted`. Raises SchemaError for fields that are unknown, have no mean and std, or were
    transformed at write.
    """
    content = dataset.manifest.content
    fitted = {transform.field: transform for transform in content.transforms}
    if wanted is True:
        wanted = tuple(name for name, transform in fitted.items() if name in dataset.schema and transform.at == "read")
        if not wanted:
            raise SchemaError("normalise=True: no field that is read is standardised at read in the manifest; name the fields")
    own = wanted if isinstance(wanted, dict) else {}
    return {
        name: _normalising(dataset.schema[name], fitted.get(name), own.get(name), content.statistics) for name in wanted or ()
    }


def _normalising(field: Field, fitted: Transform | None, own: Standardisation | None, statistics: Statistics) -> Affine:
    """What was asked for; else what the manifest says of the field, or mean and std of its statistics."""
    if fitted is not None and fitted.at == "write":
        raise SchemaError(
            f"normalise: field {field.name!r} was transformed at write ({fitted.name}), its stored values are the results; "
            "leave it out (Dataset.inverse gives the original values)"
        )
    if own is not None:
        if field.dtype in _NOT_NUMBERS:
            raise SchemaError(f"normalise: expected a field of numbers, found {field.name!r} ({field.dtype})")
        channels = field.shape[-1] if field.shape else 1
        if len(own.mean) not in (1, channels) and channels is not None:
            raise SchemaError(f"normalise: field {field.name!r} has {channels} channels, found {len(own.mean)} means")
        return own
    if isinstance(fitted, Affine):
        return fitted
    found = statistics.fields.get(field.name)
    mean, std = (found.mean, found.std) if found else ((), ())
    if not mean or None in mean or None in std or field.dtype in ("bool", "timestamp"):
        raise SchemaError(f"normalise: the manifest has no mean and std of field {field.name!r} ({field.dtype})")
    return Standardisation(
        field=field.name, mean=tuple(m for m in mean if m is not None), std=tuple(s for s in std if s is not None)
    )


def inverse(dataset: Dataset, batch: Batch, normalised: Mapping[str, Affine]) -> Batch:
    """See `Dataset.inverse`; `normalised` are the fields that were normalised on their way, and by what."""
    content = dataset.manifest.content
    known: dict[str, Transform] = {transform.field: transform for transform in content.transforms if transform.at == "write"}
    for name, affine in normalised.items():
        known[name] = affine.model_copy(update={"at": "write", "original": content.dataset_schema[name]})
    out = dict(batch)
    for name, transform in known.items():
        if name in batch:
            out |= _original(transform, batch[name], batch.get(mask_name(name)))
    return out


def _original(transform: Transform, values: Array, missing: Array | None) -> Batch:
    """The original values, and where there is such a thing their mask."""
    name, original = transform.field, transform.original
    assert original is not None
    if missing is not None and missing.any():
        values = values.copy()
        values[missing] = 0  # a NaN there has no number in whole numbers
    back = inverse_values(transform, values)
    if not isinstance(transform, Affine) and original.dtype != "string":
        missing = np.fromiter((value is None for value in back), bool, len(back))
        back = np.where(missing, False, back).astype(original.numpy_dtype)
    if missing is None or not (is_masked(original) or missing.any()):
        return {name: back}
    back[missing] = np.nan if back.dtype.kind == "f" else 0
    return {name: back, mask_name(name): missing}
