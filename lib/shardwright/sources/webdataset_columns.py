"""What the members of a WebDataset become: columns, by their extensions and by the first samples."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter

import pyarrow as pa

from shardwright.codecs import read_npy_header
from shardwright.errors import InputError
from shardwright.format.webdataset import ARRAYS, IMAGES, INTEGERS, PICKLES, TEXTS, kind_of, split_name
from shardwright.schema import NUMBERS
from shardwright.sources.base import InputFile
from shardwright.sources.columns import PICTURE, Declaration, arrow_type, common_shape
from shardwright.sources.tar import Member, open_tar

LOOKED_AT = 100
"""Samples of the first file whose members become the columns."""
_MAX_EXTENSIONS = 1000
_HEAD_BYTES = 2**16
"""Of an array: more than any header has."""

Heads = Mapping[str, Sequence[bytes]]
"""The extensions of the first samples, and how the arrays of each begin."""


@dataclass(frozen=True)
class Column:
    """What the members with one of these extensions become."""

    extensions: tuple[str, ...]
    parsed: pa.DataType
    """What texts are parsed as; binary: the content is taken as it is."""
    kind: pa.DataType
    known: Declaration

    @classmethod
    def of(cls, extensions: tuple[str, ...], known: Declaration) -> Column:
        """The column of members of which `known` is known."""
        whole = kind_of(extensions[0]) in INTEGERS
        if known.get("shape") or known.get("codec"):
            return cls(extensions, pa.binary(), pa.binary(), known)
        kind = arrow_type(known, pa.int64() if whole else pa.binary())
        if pa.types.is_string(kind):  # whether it is UTF-8 is seen where samples are checked
            kind = pa.binary()
        micros = whole and pa.types.is_timestamp(kind)
        return cls(extensions, pa.int64() if micros else kind, kind, known)


def grouped(members: Iterable[Member]) -> Iterator[tuple[str, Iterator[tuple[str, str, Member]]]]:
    """Each key with its members that lie side by side: the key again, the extension and the member."""
    named = ((*names, member) for member in members if (names := split_name(member.name)))
    return groupby(named, key=itemgetter(0))


def look(file: InputFile) -> Heads:
    """What the first samples of a file have. Raises InputError where there is none, or too much."""
    heads: dict[str, list[bytes]] = {}
    with open_tar(file) as members:
        for _, sample in islice(grouped(members), LOOKED_AT):
            for _, extension, member in sample:
                found = heads.setdefault(extension, [])
                if kind_of(extension) in ARRAYS and not member.problem and len(found) < LOOKED_AT:
                    found.append(member.read(_HEAD_BYTES))
                if len(heads) > _MAX_EXTENSIONS:
                    raise InputError(
                        f"{file.path}: expected at most {_MAX_EXTENSIONS} extensions of members in the first {LOOKED_AT} "
                        "samples, found more; is it a WebDataset? then declare the option `members`"
                    )
    if not heads:
        raise InputError(f"{file.path}: expected members with a key and an extension, such as '0001.jpg', found none")
    return heads


def known_of(file: InputFile, extensions: Sequence[str], heads: Heads, declared: Declaration) -> Declaration:
    """What is known of members: by their extensions, of arrays by the first ones, and above it what is declared.

    Raises InputError for pickles, and for what can't be a field.
    """
    kinds = {kind_of(extension) for extension in extensions}
    pickled = sorted(kinds & PICKLES)
    if pickled and declared.get("dtype") != "bytes":
        shown = ", ".join(f"*.{kind}" for kind in pickled)
        raise InputError(
            f"{file.path}: found members that are pickles ({shown}), which can run any code when they are loaded, and are "
            'never read; leave them out by read.columns, or keep their bytes as they are: dtype = "bytes" in read.fields'
        )
    if declared.get("dtype"):
        return declared
    if kinds <= ARRAYS:
        return {**_array(file, [head for extension in extensions for head in heads.get(extension, ())]), **declared}
    inferred = "int64" if kinds <= INTEGERS else "string" if kinds <= TEXTS else "bytes"
    return {**(PICTURE if kinds <= IMAGES else {"dtype": inferred}), **declared}


def _array(file: InputFile, heads: Sequence[bytes]) -> Declaration:
    """What `numpy.save` cells that begin so are; a dimension that is not the same in all of them varies."""
    found, problem = [], "none in the first samples"
    for head in heads:
        try:
            found.append(_read_header(head))
        except ValueError as error:
            problem = str(error)  # a bad sample, as it would be further on
    if not found:
        raise InputError(
            f"{file.path}: expected arrays of numbers in *.npy, found something else ({problem}); declare them by read.fields"
        )
    dtype, _ = found[0]
    shapes = [shape for other, shape in found if other == dtype]
    return {"dtype": dtype, "shape": common_shape(shapes)}


def _read_header(head: bytes) -> tuple[str, tuple[int, ...]]:
    shape, _, dtype = read_npy_header(io.BytesIO(head))
    if dtype.hasobject:
        raise ValueError("pickled Python objects, which are never loaded")
    if dtype.name not in (*NUMBERS, "bool") or not shape:
        raise ValueError(f"{dtype} of shape {shape}")
    return dtype.name, shape
