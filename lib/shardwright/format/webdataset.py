"""WebDataset: tar files whose members are, by their names, the fields of samples.

Convention: https://github.com/webdataset/webdataset, `base_plus_ext` and `group_by_keys`. The name of a member up to the first
dot behind its folder is the key of its sample; what follows is the member's extension, in which upper and lower case are one,
and whose last part says what the content is. The members of a sample lie side by side.

What an export writes, the value of the field `x` of the sample `00003-00000017` as the member `00003-00000017.x.<suffix>`:

=========================================================  ========================================================
field                                                      suffix and content
=========================================================  ========================================================
string                                                     ``txt``: UTF-8
bytes                                                      ``bin``: the bytes
picture                                                    ``jpg``, ``png``, ``webp``, ``jxl``: the encoded picture
bool (0, 1), integers, timestamp (microseconds from 1970)  ``cls``: decimal digits
float16, float32, float64                                  ``json``: a number, NaN, Infinity or -Infinity
arrays                                                     ``npy``: a `numpy.save` cell
null                                                       no such member
=========================================================  ========================================================
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shardwright.codecs import encode_npy, probe_image
from shardwright.errors import SchemaError
from shardwright.format.batch import each_sample
from shardwright.schema import FLOATS, Field, Schema

KEY = "__key__"
"""What the library calls the key of a sample."""
INTEGERS = frozenset({"cls", "cls2", "id", "index", "inx"})
"""Last parts of extensions whose members are numbers in decimal digits, as the library decodes them."""
TEXTS = frozenset({"txt", "text", "transcript", "json", "jsn"})
IMAGES = frozenset({"jpg", "jpeg", "jpe", "png", "webp", "jxl"})
"""Those that are decoded here; other pictures are bytes."""
ARRAYS = frozenset({"npy"})
PICKLES = frozenset({"pickle", "pkl", "pyd", "pth", "pt"})
"""Members that the library, or torch, unpickles. Nothing here ever does."""

END = bytes(2 * tarfile.BLOCKSIZE)
"""What follows the last member."""

_META = re.compile(r"__[^/]*__($|/)")
_SUFFIXES = {"jpeg": "jpg", "png": "png", "webp": "webp", "jpegxl": "jxl"}


def split_name(name: str) -> tuple[str, str] | None:
    """The key and the extension, in lower case, of a member; None for one that is no data: hidden, or about the dataset."""
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    if not stem or not dot or _META.match(name):
        return None
    return folder + slash + stem, extension.lower()


def kind_of(extension: str) -> str:
    """The last part of an extension: what the content is."""
    return extension.rpartition(".")[2]


def extensions_of(field: Field) -> tuple[str, ...]:
    """The extensions that an exported value of a field may have."""
    return tuple(f"{field.name.lower()}.{suffix}" for suffix in (_SUFFIXES.values() if field.is_image else (_suffix(field),)))


def check_schema(schema: Schema) -> None:
    """Raise SchemaError where a sample may be without a member, and so be lost."""
    if all(field.nullable for field in schema):
        raise SchemaError(
            f"every field may be null ({', '.join(schema.names)}), and a sample without values has no member in a WebDataset: "
            "export a field that has a value in each sample too, or another format"
        )


def encode_samples(schema: Schema, batch: Mapping[str, npt.NDArray[Any]], keys: Sequence[str]) -> Iterator[bytes]:
    """The members of each sample as they stand in a tar file, which ends with `END`; the same bytes for the same values.

    `batch` is what `Dataset.take` gives (with `<name>_mask` for nullable numbers and arrays), but for pictures, which are
    object arrays of their encoded bytes; `keys` are the samples' own, without a dot.
    """
    for key, sample in zip(keys, each_sample(schema, batch), strict=True):
        members = []
        for field, value in sample:
            suffix = _SUFFIXES.get(probe_image(value) or "", "bin") if field.is_image else _suffix(field)
            members.append(_member(f"{key}.{field.name.lower()}.{suffix}", _content(field, value)))
        yield b"".join(members)


def _suffix(field: Field) -> str:
    if field.shape:
        return "npy"
    if field.dtype in FLOATS:
        return "json"
    return {"string": "txt", "bytes": "bin"}.get(field.dtype, "cls")


def _content(field: Field, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if field.shape:
        return encode_npy(value)
    if field.dtype in FLOATS:
        return json.dumps(float(value)).encode()
    if field.dtype == "string":
        return str(value).encode()
    return str(int(value.astype(np.int64) if field.dtype == "timestamp" else value)).encode()


def _member(name: str, content: bytes) -> bytes:
    """Header, content and padding: of nobody, at no time, so that the bytes depend on nothing else."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o444
    padding = bytes(-len(content) % tarfile.BLOCKSIZE)
    return b"".join((info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict"), content, padding))
