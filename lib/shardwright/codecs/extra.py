"""The encoders and decoders of the [images] extra, imported when the first value needs them."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

from shardwright.errors import MissingDependencyError


@functools.cache
def imagecodecs() -> ModuleType:
    """The module imagecodecs. Raises MissingDependencyError where it is not installed."""
    return _extra("imagecodecs", "pictures and the codec 'zfp' need imagecodecs")


@functools.cache
def simplejpeg() -> ModuleType:
    """The module simplejpeg. Raises MissingDependencyError where it is not installed."""
    return _extra("simplejpeg", "JPEG pictures need simplejpeg")


@functools.cache
def opencv() -> ModuleType:
    """The module cv2. Raises MissingDependencyError where it is not installed."""
    return _extra("cv2", "decode= needs OpenCV for other sizes than the picture's own")


def _extra(name: str, why: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(f"{why}: pip install 'shardwright[images]'") from error
