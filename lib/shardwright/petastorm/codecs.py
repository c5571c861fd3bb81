"""Codecs: how a value of a field becomes what its Parquet column holds, and back.

Source of the forms: petastorm 0.13.1, ``codecs.py``. Arrays are never unpickled: one of Python objects is refused.
"""

from __future__ import annotations

import io
import zipfile
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from shardwright.codecs.extra import opencv
from shardwright.petastorm.npy_cells import decode_cell

_ARRAY = "arr"
"""What `CompressedNdarrayCodec` calls its array in the `numpy.savez_compressed` archive."""


class DataframeColumnCodec(ABC):
    """The base class of codecs, and of a team's own."""

    @abstractmethod
    def encode(self, unischema_field: Any, value: Any) -> Any:
        """What the column holds for `value`. Raises ValueError or TypeError for one that the field does not allow."""

    @abstractmethod
    def decode(self, unischema_field: Any, value: Any) -> Any:
        """The value of what the column holds."""

    @abstractmethod
    def spark_dtype(self) -> Any:
        """The `pyspark.sql.types` type of the column."""

    @abstractmethod
    def __str__(self) -> str:
        """How this codec is made again."""


class _Binary(DataframeColumnCodec):
    def spark_dtype(self) -> Any:
        """BinaryType."""
        from shardwright.petastorm.spark.rows import spark_type

        return spark_type("BinaryType")

    def __str__(self) -> str:
        return f"{type(self).__name__}()"


class CompressedImageCodec(_Binary):
    """An encoded picture: uint8 or uint16 of shape (height, width) or (height, width, 3), RGB. Needs OpenCV ([images]).

    `image_codec` is 'png' or 'jpeg', `quality` that of a JPEG, 0 to 100.
    """

    def __init__(self, image_codec: str = "png", quality: int = 80) -> None:
        self._image_codec = f".{image_codec}"
        self._quality = quality

    @property
    def image_codec(self) -> str:
        """'png' or 'jpeg'."""
        return self._image_codec[1:]

    @property
    def quality(self) -> int:
        """Of a JPEG."""
        return self._quality

    def encode(self, unischema_field: Any, value: Any) -> bytearray:
        """The picture's file. Raises ValueError for another dtype or shape than the field's."""
        if unischema_field.numpy_dtype != value.dtype:
            raise ValueError(
                f"Unexpected type of {unischema_field.name} feature, expected {unischema_field.numpy_dtype}, got {value.dtype}"
            )
        _check_shape(unischema_field, value.shape)
        cv2 = opencv()
        quality = [int(cv2.IMWRITE_JPEG_QUALITY), self._quality] if self.image_codec in ("jpeg", "jpg") else []
        done, contents = cv2.imencode(self._image_codec, _swapped(value), quality)
        if not done:
            raise ValueError(
                f"{unischema_field.name}: OpenCV could not encode {value.dtype} {value.shape} as {self.image_codec}"
            )
        return bytearray(contents)

    def decode(self, unischema_field: Any, value: Any) -> Any:
        """The picture, in C order. Raises ValueError for bytes that are no picture, or one of another number of channels."""
        cv2 = opencv()
        image = cv2.imdecode(np.frombuffer(value, np.uint8), cv2.IMREAD_UNCHANGED)
        if image is None:
            raise ValueError(f"{unischema_field.name}: not a picture that OpenCV decodes")
        return _swapped(image)

    def __str__(self) -> str:
        return f"{type(self).__name__}('{self.image_codec}', {self._quality})"


class NdarrayCodec(_Binary):
    """An array as `numpy.save` bytes."""

    def encode(self, unischema_field: Any, value: Any) -> bytearray:
        """`numpy.save` bytes. Raises ValueError for another dtype or shape than the field's."""
        _check_array(unischema_field, value)
        buffer = io.BytesIO()
        np.save(buffer, value, allow_pickle=False)
        return bytearray(buffer.getbuffer())

    def decode(self, unischema_field: Any, value: Any) -> Any:  # noqa: ARG002 - the protocol's
        """The array, writable. Raises ValueError for other bytes, and for an array of Python objects."""
        return decode_cell(memoryview(value))


class CompressedNdarrayCodec(_Binary):
    """An array as a `numpy.savez_compressed` archive."""

    def encode(self, unischema_field: Any, value: Any) -> bytearray:
        """The archive. Raises ValueError for another dtype or shape than the field's."""
        _check_array(unischema_field, value)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, arr=value)
        return bytearray(buffer.getbuffer())

    def decode(self, unischema_field: Any, value: Any) -> Any:  # noqa: ARG002 - the protocol's
        """The array, writable. Raises ValueError for other bytes, and for an array of Python objects."""
        try:
            with zipfile.ZipFile(io.BytesIO(value)) as archive:
                cell = archive.read(f"{_ARRAY}.npy")
        except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"not a numpy.savez archive with an array {_ARRAY!r} ({error})") from error
        return decode_cell(memoryview(cell))


class ScalarCodec(DataframeColumnCodec):
    """A scalar in a native column; `spark_type` is an instance of a class of `pyspark.sql.types`.

    Where a dataset is read, which needs no Spark, it is that class's name, as in 'LongType' or 'DecimalType(10,2)'.
    """

    def __init__(self, spark_type: Any) -> None:
        self._spark_type = spark_type

    def encode(self, unischema_field: Any, value: Any) -> Any:
        """The Python value that Spark stores.

        Raises TypeError for one that is no scalar, ValueError for a field with a shape.
        """
        scalar_array = isinstance(value, np.ndarray) and value.shape == ()
        if not scalar_array and hasattr(value, "__len__") and not isinstance(value, str):
            raise TypeError(
                f"Expected a scalar as a value for field '{unischema_field.name}'. Got a non-numpy type'{type(value)}'"
            )
        if unischema_field.shape:
            raise ValueError(
                f"The shape field of unischema_field '{unischema_field.name}' must be an empty tuple (i.e. '()' to indicate a "
                f"scalar. However, the actual shape is {unischema_field.shape}"
            )
        name = self.spark_name[0]
        if name == "StringType":
            if not isinstance(value, str):
                raise ValueError(f"Expected a string value for field {unischema_field.name}. Got type {type(value)}")
            return str(value)
        convert = _PYTHON.get(name)
        return convert(value) if convert else value

    def decode(self, unischema_field: Any, value: Any) -> Any:
        """A value of the field's NumPy class."""
        return unischema_field.numpy_dtype(value)

    def spark_dtype(self) -> Any:
        """The type it was made with."""
        from shardwright.petastorm.spark.rows import spark_type

        return spark_type(self._spark_type)

    @property
    def spark_name(self) -> tuple[str, int | None, int | None]:
        """The class's name, and the precision and scale of a DecimalType."""
        spark = self._spark_type
        if not isinstance(spark, str):
            return type(spark).__name__, getattr(spark, "precision", None), getattr(spark, "scale", None)
        name, _, numbers = spark.rstrip(")").partition("(")
        precision, scale = map(int, numbers.split(",")) if numbers else (None, None)
        return name, precision, scale

    def __str__(self) -> str:
        return f"{type(self).__name__}({self.spark_name[0]}())"


_PYTHON = {
    **dict.fromkeys(("ByteType", "ShortType", "IntegerType", "LongType"), int),
    **dict.fromkeys(("FloatType", "DoubleType"), float),
    "BooleanType": bool,
}


def _swapped(image: Any) -> Any:
    """RGB for BGR and back; a grey picture as it is. Raises ValueError for another number of channels."""
    if image.ndim == 2:
        return image
    if image.ndim == 3 and image.shape[2] == 3:
        return opencv().cvtColor(np.ascontiguousarray(image), opencv().COLOR_BGR2RGB)
    raise ValueError(f"Unexpected image dimensions. Supported dimensions are (H, W) or (H, W, 3). Got {image.shape}")


def _check_array(field: Any, value: Any) -> None:
    if not isinstance(value, np.ndarray):
        raise ValueError(f"Unexpected type of {field.name} feature. Expected ndarray of {field.numpy_dtype}. Got {type(value)}")
    if field.numpy_dtype != value.dtype.type:
        raise ValueError(f"Unexpected type of {field.name} feature. Expected {field.numpy_dtype}. Got {value.dtype}")
    _check_shape(field, value.shape)


def _check_shape(field: Any, shape: tuple[int, ...]) -> None:
    fits = len(shape) == len(field.shape) and all(not want or not got or want == got for want, got in zip(field.shape, shape))  # noqa: B905
    if not fits:
        raise ValueError(f"Unexpected dimensions of {field.name} feature. Expected {field.shape}. Got {shape}")
