"""IDX files, the format of MNIST: two zero bytes, type, number of dimensions, big-endian sizes, values in C order.

Format: https://yann.lecun.com/exdb/mnist/ (at the end of the page).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from shardwright.errors import InputError
from shardwright.sources.arrays import ArrayFile, ArraySource, check_size, open_arrays
from shardwright.sources.base import InputFile
from shardwright.sources.columns import Asked
from shardwright.sources.files import select_files
from shardwright.sources.inputs import damaged, open_arrow

_DTYPES = {8: "uint8", 9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}
_NAME = re.compile(
    r"(?P<prefix>(?:.*?[^A-Za-z0-9])??)(?P<word>[A-Za-z][A-Za-z0-9]*)"  # train-, images
    r"(?:[-.]idx\d+(?:-\w+)?|\.idx)(?:\.idx)?(?:\.gz)?"  # -idx3-ubyte.gz, or .idx
)
_FIELDS = {"images": "image", "labels": "label"}
_EXPECTED = "files named <prefix>images-idx3-ubyte[.gz], <prefix>labels-idx1-ubyte[.gz] or the like"


def open_idx(files: Sequence[InputFile], asked: Asked) -> ArraySource:
    """The IDX files among `files`, those of one prefix as one set of samples: the word before `-idx3` names the field.

    Raises InputError for a header that is none or promises another size than the file has, and what `open_arrays` raises.
    """
    usable = select_files(files, lambda file: _match(file) is not None, expected=_EXPECTED)
    return open_arrays(_group([_read_header(file) for file in usable]), asked)


def _match(file: InputFile) -> re.Match[str] | None:
    return _NAME.fullmatch(file.name.rpartition("/")[2])


def _group(found: list[ArrayFile]) -> list[tuple[ArrayFile, ...]]:
    """The files of one folder and prefix together, arrays before numbers."""
    groups: dict[tuple[str, str], dict[str, ArrayFile]] = {}
    for item in found:
        match = _match(item.file)
        assert match is not None
        group = groups.setdefault((item.file.path.rpartition("/")[0], match["prefix"]), {})
        other = group.setdefault(item.field, item)
        if other is not item:
            raise InputError(f"{other.file.path} and {item.file.path} both hold field {item.field!r} of one set; leave one out")
    return [tuple(sorted(g.values(), key=lambda item: (-len(item.shape), item.field))) for g in groups.values()]


def _read_header(file: InputFile) -> ArrayFile:
    try:
        with open_arrow(file) as raw:
            gzipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream = pa.CompressedInputStream(raw, "gzip") if gzipped else raw
            head = stream.read(4)
            sizes = stream.read(4 * head[3]) if len(head) == 4 else b""
    except OSError as error:
        raise damaged(file, "an IDX file", error) from error
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _DTYPES:
        kinds = ", ".join(f"{code:#04x} {name}" for code, name in _DTYPES.items())
        raise InputError(f"{file.path}: expected an IDX header (two zero bytes, a type: {kinds}), found {head!r}")
    dims = tuple(int(size) for size in np.frombuffer(sizes[: len(sizes) // 4 * 4], ">u4"))
    if head[3] == 0 or len(dims) != head[3] or 0 in dims[1:]:
        raise InputError(f"{file.path}: expected an IDX header with {max(head[3], 1)} sizes above 0, found {dims}")
    match = _match(file)
    assert match is not None
    field = _FIELDS.get(match["word"], match["word"])
    found = ArrayFile(
        file=file, field=field, stored=np.dtype(_DTYPES[head[2]]).newbyteorder(">").str, shape=dims[1:], count=dims[0],
        offset=4 + 4 * len(dims), gzipped=gzipped,
    )  # fmt: skip
    check_size(found, None if gzipped else file.bytes - found.offset)
    return found
