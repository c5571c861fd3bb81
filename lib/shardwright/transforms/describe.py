"""Transforms and compression in words, for people."""

from __future__ import annotations

from shardwright.format.manifest import Affine, Channels, Compression, Transform

_SHOWN = 3


def describe(transform: Transform) -> str:
    """One line without the field's name: 'mean 33.9, std 79.3 (applied when read)'."""
    when = "applied when read" if transform.at == "read" else "applied at write"
    if isinstance(transform, Affine):
        parameters = transform.model_dump(include=set(type(transform).model_fields) - {"field", "name", "at", "original"})
        return f"{', '.join(f'{name} {_numbers(values)}' for name, values in parameters.items())} ({when})"
    first = ", ".join(map(repr, transform.values[:_SHOWN]))
    more = ", …" if len(transform.values) > _SHOWN else ""
    unknown = "any other is unknown" if transform.unknown else "no other occurs"
    return f"{transform.name} of {len(transform.values):,} values ({first}{more}; {unknown}; {when})"


def describe_compression(found: Compression) -> str:
    """One line without the field's name: 'jpeg (quality 90) of each value: 11.8 times smaller; psnr 38.2 dB, …'."""
    parameters = ", ".join(f"{name} {value}" for name, value in found.configuration.items())
    how = (
        f"{found.codec}{f' ({parameters})' if parameters else ''} of {'each value' if found.level == 'value' else 'the column'}"
    )
    lost = {"psnr": found.psnr, "rmse": found.rmse, "largest error": found.max_error}
    told = [f"{name} {value:.4g}{' dB' if name == 'psnr' else ''}" for name, value in lost.items() if value is not None]
    sizes = (
        f"{found.raw_bytes:,} bytes in {found.stored_bytes:,}, a ratio of {found.raw_bytes / max(found.stored_bytes, 1):.3g}"
    )
    return f"{how}: {sizes}; {', '.join(told) or 'lossless'}"


def _numbers(values: Channels) -> str:
    return repr(values[0]) if len(values) == 1 else str(list(values))
