"""NumPy files: `.npy`, an array, and `.npz`, a zip file of arrays; rows along the first axis. Nothing is ever unpickled.

Format: numpy.lib.format (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from shardwright.codecs import read_npy_header
from shardwright.errors import InputError
from shardwright.schema import NUMBERS
from shardwright.sources.arrays import ArrayFile, check_size, open_arrays
from shardwright.sources.base import InputFile, Source
from shardwright.sources.columns import Asked, Declaration, common_shape
from shardwright.sources.files import select_files
from shardwright.sources.inputs import damaged, open_input, watched
from shardwright.sources.whole_files import open_whole

_ZIP_HEADER = 30
"""Bytes of a member's own header in a zip file, before its name and the extra field (APPNOTE 4.3.7)."""
_LOOKED_AT = 16
"""Files whose shapes say which dimensions vary, where a file is a sample."""


class NpyOptions(BaseModel):
    """Keys of ``[read.options]`` of the format ``npy``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample: Literal["row", "file"] = "row"


@dataclass(frozen=True)
class NpyFile:
    """A whole array as it is: a `numpy.save` cell."""

    def __call__(self, files: Sequence[InputFile], contents: pa.Array) -> Mapping[str, pa.Array]:  # noqa: ARG002 - Decoder's
        """`array`."""
        return {"array": contents}


def open_npy(files: Sequence[InputFile], asked: Asked, options: NpyOptions) -> Source:
    """The .npy files among `files`: those of one folder are the fields of the same rows; or each is a sample.

    Raises InputError for a file that is none, or holds what is no field, and what `open_arrays` raises.
    """
    usable = select_files(files, lambda file: file.name.lower().endswith(".npy"), expected="NumPy files (.npy)")
    if options.sample == "file":
        return open_whole(usable, NpyFile(), {"array": _cell(usable)}, asked)
    groups: dict[str, list[ArrayFile]] = {}
    for file in usable:
        folder, _, name = file.path.rpartition("/")
        groups.setdefault(folder, []).append(_read_file(file, name[: -len(".npy")]))
    return open_arrays([_sorted(group) for group in groups.values()], asked)


def open_npz(files: Sequence[InputFile], asked: Asked) -> Source:
    """The .npz files among `files`: each array in one is a field, and each file has further rows.

    Arrays that are stored as they are (`numpy.savez`) are read in place; compressed ones make their file one task. Raises
    InputError for a file that is none, or holds what is no field, and what `open_arrays` raises.
    """
    usable = select_files(files, lambda file: file.name.lower().endswith(".npz"), expected="NumPy files (.npz)")
    return open_arrays([_sorted(_read_zip(file)) for file in usable], asked)


def _cell(files: Sequence[InputFile]) -> Declaration:
    """What the arrays in files are, as the first of them say. Raises InputError where none of these is an array of numbers."""
    found: list[ArrayFile] = []
    problems: list[InputError] = []
    for file in files[:_LOOKED_AT]:
        try:
            read = _read_file(file, "array")
            if read.dtype not in (*NUMBERS, "bool"):
                raise InputError(f"{file.path}: expected an array of numbers, found {read.dtype}")
            found.append(read)
        except InputError as error:
            problems.append(error)  # a bad sample, as it would be further on
    if not found:
        raise problems[0]
    return {"dtype": found[0].dtype, "shape": common_shape([(item.count, *item.shape) for item in found])}


def _sorted(members: Sequence[ArrayFile]) -> tuple[ArrayFile, ...]:
    """Arrays before numbers, then by name."""
    return tuple(sorted(members, key=lambda item: (-len(item.shape), item.field)))


def _read_file(file: InputFile, field: str) -> ArrayFile:
    with watched(file), open_input(file) as raw:
        found = _read_header(file, raw, file.path, field)
    check_size(found, file.bytes - found.offset)
    return found


def _read_zip(file: InputFile) -> list[ArrayFile]:
    try:
        with watched(file), open_input(file) as raw, zipfile.ZipFile(raw) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            if not members:
                raise InputError(f"{file.path}: expected arrays (members named *.npy), found {archive.namelist()}")
            return [_read_member(file, archive, info, raw) for info in members]
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise damaged(file, "a NumPy .npz file", error) from error


def _read_member(file: InputFile, archive: zipfile.ZipFile, info: zipfile.ZipInfo, raw: IO[bytes]) -> ArrayFile:
    where = f"{file.path}: {info.filename}"
    if info.flag_bits & 1:
        raise InputError(f"{where}: expected an array, found one that is encrypted")
    with archive.open(info) as stream:
        compressed = info.compress_type != zipfile.ZIP_STORED
        raw.seek(info.header_offset + 26)
        name, extra = struct.unpack("<HH", raw.read(4))
        begin = 0 if compressed else info.header_offset + _ZIP_HEADER + name + extra
        found = _read_header(file, stream, where, info.filename[: -len(".npy")], begin, info.filename if compressed else None)
    check_size(found, info.file_size - (found.offset - begin))
    return found


def _read_header(
    file: InputFile, stream: IO[bytes], where: str, field: str, begin: int = 0, member: str | None = None
) -> ArrayFile:
    """The array whose header begins at byte `begin` of the file, or of the compressed `member`."""
    start = stream.tell()
    try:
        sizes, fortran, dtype = read_npy_header(stream)
    except ValueError as error:
        raise InputError(f"{where}: expected a NumPy array, found none ({error})") from error
    if dtype.hasobject:
        raise InputError(
            f"{where}: expected numbers, strings or times, found pickled Python objects, which are never loaded; save an "
            "array of one dtype, with numpy.save(..., allow_pickle=False)"
        )
    if not sizes or 0 in sizes[1:]:
        raise InputError(f"{where}: expected rows along the first axis, found shape {sizes}")
    known = dtype.name in (*NUMBERS, "bool") or (dtype.kind in "USM" and len(sizes) == 1 and dtype.itemsize > 0)
    if not known or dtype == np.dtype("M8"):
        advice = "save each of its fields as an array of its own" if dtype.names else "convert it"
        raise InputError(
            f"{where}: expected bool, integers, floats of at most 64 bits, or a string or time a row, found {dtype} {sizes}; "
            f"{advice}"
        )
    return ArrayFile(
        file=file, field=field, stored=dtype.str, shape=sizes[1:], count=sizes[0], offset=begin + stream.tell() - start,
        fortran=fortran and len(sizes) > 1, member=member,
    )  # fmt: skip
