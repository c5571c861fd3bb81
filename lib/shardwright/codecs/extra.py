"""The encoders and decoders of the [images] extra, imported when the first value needs them."""

from __future__ import annotations

from types import ModuleType

from shardwright.errors import MissingDependencyError


def imagecodecs() -> ModuleType:
    """The module imagecodecs. Raises MissingDependencyError where it is not installed."""
    try:
        import imagecodecs as module
    except ImportError as error:
        raise MissingDependencyError(
            "pictures and the codec 'zfp' need imagecodecs: pip install 'shardwright[images]'"
        ) from error
    return module
