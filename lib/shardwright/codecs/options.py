"""What a configuration says about how each value of a field is encoded, and the field that comes of it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic import Field as Constraint

from shardwright.codecs.npy import show_shape
from shardwright.errors import SchemaError
from shardwright.schema import CodecSpec, Field

Configuration = dict[str, int | float | str | bool]


class _Codec(BaseModel):
    """One codec with its parameters; `codec` is the name that users write."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    codec: str

    @property
    def configuration(self) -> Configuration:
        """The parameters, defaults included."""
        return self.model_dump(exclude={"codec"})

    @property
    def exact(self) -> bool:
        """Whether every value comes back as it was."""
        return False


class _ImageCodec(_Codec):
    accepts: ClassVar[str]
    """The pictures that it takes, in words."""
    dtypes: ClassVar[tuple[str, ...]] = ("uint8",)
    channels: ClassVar[tuple[int | None, ...]]
    """The sizes of the last of 3 dimensions, None for one that varies. Grey pictures have 1 channel, or no such dimension."""

    @classmethod
    def takes(cls, dtype: str, shape: tuple[int | None, ...]) -> bool:
        """Whether there are such pictures."""
        channels = shape[2] if len(shape) == 3 else 1
        return len(shape) in (2, 3) and dtype in cls.dtypes and channels in cls.channels


class Jpeg(_ImageCodec):
    """JPEG, lossy: uint8, grey or RGB."""

    accepts = "uint8, grey or RGB"
    channels = (1, 3, None)

    codec: Literal["jpeg"] = "jpeg"
    quality: int = Constraint(default=90, ge=1, le=100)
    subsampling: Literal["444", "422", "420"] = "420"
    """Of the colours: full, half, or a quarter of the resolution."""


class WebP(_ImageCodec):
    """WebP: uint8, RGB or RGBA."""

    accepts = "uint8, RGB or RGBA"
    channels = (3, 4)

    codec: Literal["webp"] = "webp"
    quality: int = Constraint(default=90, ge=1, le=100)
    """Lossless: the effort."""
    lossless: bool = False

    @property
    def exact(self) -> bool:
        """Whether every value comes back as it was."""
        return self.lossless


class Png(_ImageCodec):
    """PNG, lossless: uint8 or uint16, grey, RGB or RGBA."""

    accepts = "uint8 or uint16, grey, RGB or RGBA"
    dtypes = ("uint8", "uint16")
    channels = (1, 3, 4, None)

    codec: Literal["png"] = "png"
    level: int = Constraint(default=6, ge=0, le=9)

    @property
    def exact(self) -> bool:
        """Whether every value comes back as it was."""
        return True


class JpegXl(_ImageCodec):
    """JPEG XL: uint8 or uint16, grey, RGB or RGBA."""

    accepts = "uint8 or uint16, grey, RGB or RGBA"
    dtypes = ("uint8", "uint16")
    channels = (1, 3, 4, None)

    codec: Literal["jpegxl"] = "jpegxl"
    distance: float = Constraint(default=1.0, ge=0.01, le=25)
    """Butteraugli distance: 1 is about the least that is seen. Of no effect where `lossless`."""
    lossless: bool = False
    effort: int = Constraint(default=4, ge=1, le=9)
    """libjxl's own default, 7, took 5 times as long as 4 for pictures of the same size."""

    @property
    def exact(self) -> bool:
        """Whether every value comes back as it was."""
        return self.lossless


class Float16(_Codec):
    """Each number as the nearest float16: within 2^-11 of itself, or 2^-25; at most 65504."""

    codec: Literal["float16"] = "float16"


class BFloat16(_Codec):
    """Each number as the nearest bfloat16: within 2^-8 of itself, or 2^-134; in the range of float32."""

    codec: Literal["bfloat16"] = "bfloat16"


class Int8(_Codec):
    """Each value as one float32 scale and 8-bit integers: every element within max |x| / 254."""

    codec: Literal["int8"] = "int8"


class Zfp(_Codec):
    """ZFP in fixed-accuracy mode: every element within `tolerance`."""

    codec: Literal["zfp"] = "zfp"
    tolerance: float = Constraint(default=1e-3, gt=0, le=1e30)


def _named(value: object) -> object:
    return {"codec": value} if isinstance(value, str) else value


ImageCodec = Annotated[Jpeg | WebP | Png | JpegXl, Constraint(discriminator="codec")]
ValueCodec = Annotated[
    Jpeg | WebP | Png | JpegXl | Float16 | BFloat16 | Int8 | Zfp,
    Constraint(discriminator="codec"),
    BeforeValidator(_named),
]
"""How each value of a field is encoded: a name alone ("png"), or with parameters ({codec = "jpeg", quality = 85})."""

_ANY: TypeAdapter[Any] = TypeAdapter(ValueCodec)


def stored_field(field: Field, options: ValueCodec) -> Field:
    """`field` as it is stored with its values encoded: the same name, dtype and shape, another codec.

    An array of uint8 or uint16 becomes a picture, a picture one of another kind, a float array one that decodes to the
    declared dtype. Raises SchemaError, which says what the codec takes, for a field that it does not take.
    """
    if isinstance(options, _ImageCodec):
        if not options.takes(field.dtype, field.shape):
            raise SchemaError(
                f"field {field.name!r}: {options.codec} takes {options.accepts}, of shape (height, width[, channels]); found "
                f"{field.dtype} {show_shape(field.shape)}"
            )
        spec = CodecSpec(name="image", configuration={"format": options.codec, **options.configuration})
    else:
        if not field.shape:
            raise SchemaError(
                f"field {field.name!r}: codec {options.codec!r} is for arrays; a number is compressed by its column"
            )
        spec = CodecSpec.model_validate({"name": options.codec, "configuration": options.configuration})
    try:
        return Field.model_validate({**field.model_dump(), "codec": spec})
    except ValidationError as error:
        raise SchemaError("; ".join(str(one["msg"]).removeprefix("Value error, ") for one in error.errors())) from error


def value_codec(field: Field) -> Any:
    """The `ValueCodec` that encodes a field's values; None for ``npy``, ``raw`` and pictures that are kept as they came.

    Raises SchemaError for a configuration that its codec does not have.
    """
    spec = field.codec
    if spec is None or spec.name in ("npy", "raw") or (spec.name == "image" and not spec.configuration):
        return None
    configuration = dict(spec.configuration)
    name = configuration.pop("format", None) if spec.name == "image" else spec.name
    try:
        return _ANY.validate_python({"codec": name, **configuration})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors())
        raise SchemaError(f"field {field.name!r}: codec {spec.name!r} with {spec.configuration}: {problems}") from error


def is_lossless(field: Field) -> bool:
    """Whether every value of a field comes back as it was before it was encoded."""
    codec = value_codec(field)
    return codec is None or codec.exact
