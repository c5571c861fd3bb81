"""The samples in a shard of an MDS dataset, unpacked and checked against what the index says of it."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import xxhash

from shardwright.errors import InputError
from shardwright.format.mds_index import Shard, ShardFile
from shardwright.format.pieces import read_exactly
from shardwright.sources.base import MAX_VALUE_BYTES, InputFile
from shardwright.sources.hadoop_codecs import snappy_size
from shardwright.sources.inputs import damaged, open_input

_SNAPPY_RATIO = 32
"""Three bytes of Snappy stand for 64 at most."""
_BUFFER = 2**20
_DAMAGE = (OSError, EOFError, zlib.error, pa.ArrowException)


def read_shard(file: InputFile, shard: Shard, stored: ShardFile) -> Iterator[list[bytes]]:
    """The values of each sample in a file, which holds the shard as `stored`, in the order of its columns.

    Raises InputError where it is damaged, or not what the index says: hashes are known when the last sample was read.
    """
    try:
        with open_input(file) as raw:
            first = _Checked(raw, stored, file.path)
            checked = [first]
            stream = cast(BinaryIO, io.BufferedReader(first, _BUFFER))
            if stored is shard.zip_data:
                unpacked = _Checked(_unpack(stream, shard), shard.raw_data, f"{file.path}, unpacked")
                checked.append(unpacked)
                yield from _samples(cast(BinaryIO, io.BufferedReader(unpacked, _BUFFER)), shard, file.path)
                while stream.read(_BUFFER):  # what no decompressor asked for belongs to the hash, too
                    pass
            else:
                yield from _samples(stream, shard, file.path)
            for one in checked:
                one.check()
    except _DAMAGE as error:
        raise damaged(file, "a shard of an MDS dataset", error) from error


class _Checked(io.RawIOBase):
    """A stream that hashes what is read of it."""

    def __init__(self, stream: Any, about: ShardFile, where: str) -> None:
        self._stream, self._about, self._where = stream, about, where
        self._hashes = {name: _hash(name) for name in about.hashes}

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` as far as there is something."""
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        for one in self._hashes.values():
            one.update(data)
        return len(data)

    def check(self) -> None:
        """Raise InputError unless all hashes are what the index says."""
        for name, one in self._hashes.items():
            if one.hexdigest() != self._about.hashes[name].lower():
                raise InputError(
                    f"{self._where}: is damaged, or another file: the index says {name} {self._about.hashes[name][:80]}, found "
                    f"{one.hexdigest()}; copy it again"
                )


def _hash(name: str) -> Any:
    return hashlib.new(name, usedforsecurity=False) if name in hashlib.algorithms_guaranteed else getattr(xxhash, name)()


def _unpack(stream: BinaryIO, shard: Shard) -> Any:
    if shard.codec == "gz":
        return gzip.GzipFile(fileobj=stream)
    if shard.codec == "bz2":
        return bz2.BZ2File(stream)
    if shard.codec == "snappy":
        return io.BytesIO(_unpack_snappy(stream.read(), shard.raw_data.bytes))
    return pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), {"br": "brotli", "zstd": "zstd"}[str(shard.codec)])


def _unpack_snappy(data: bytes, size: int) -> bytes:
    """One block of Snappy, whose size stands in front: believed only where it can be."""
    if snappy_size(data) != size or size > _SNAPPY_RATIO * len(data):
        raise OSError(f"expected {size} bytes in a block of Snappy, found {len(data)} that claim {snappy_size(data)}")
    unpacked: bytes = pa.Codec("snappy").decompress(data, size, asbytes=True)
    return unpacked


def _samples(stream: BinaryIO, shard: Shard, where: str) -> Iterator[list[bytes]]:
    sizes = _sample_sizes(stream, shard, where)
    for number, size in enumerate(sizes):
        if size > MAX_VALUE_BYTES:
            raise InputError(f"{where}: sample {number}: expected at most {MAX_VALUE_BYTES} bytes, found {size}")
        yield _split(_take(stream, size, where), shard.column_sizes, f"{where}: sample {number}")
    if stream.read(1):
        raise InputError(f"{where}: expected {shard.raw_data.bytes} bytes, as the index says, found more")


def _sample_sizes(stream: BinaryIO, shard: Shard, where: str) -> list[int]:
    """The bytes of each sample, as the head says; the stream is put behind it."""
    (count,) = struct.unpack("<I", _take(stream, 4, where))
    if count != shard.samples:
        raise InputError(f"{where}: expected {shard.samples} samples, as the index says, found {count}")
    offsets = np.frombuffer(_take(stream, 4 * (count + 1), where), "<u4").astype(np.int64)
    head = 4 * (count + 2)
    if offsets[0] < head or (np.diff(offsets) < 0).any() or offsets[-1] != shard.raw_data.bytes:
        raise InputError(
            f"{where}: expected samples that follow one another from byte {head} or later to byte {shard.raw_data.bytes}, "
            f"found other places ({offsets[0]} to {offsets[-1]})"
        )
    rest = int(offsets[0]) - head
    while rest:
        rest -= len(_take(stream, min(rest, _BUFFER), where))
    sizes: list[int] = np.diff(offsets).tolist()
    return sizes


def _split(sample: bytes, column_sizes: Sequence[int | None], where: str) -> list[bytes]:
    varying = sum(not size for size in column_sizes)
    at = 4 * varying
    if len(sample) < at:
        raise InputError(f"{where}: expected the sizes of {varying} values in front, found {len(sample)} bytes")
    sizes = iter(struct.unpack_from(f"<{varying}I", sample))
    values = []
    for fixed in column_sizes:
        size = fixed or next(sizes)
        values.append(sample[at : at + size])
        at += size
    if at != len(sample):
        raise InputError(f"{where}: expected {at} bytes, as the sizes of its values say, found {len(sample)}")
    return values


def _take(stream: BinaryIO, size: int, where: str) -> bytes:
    data = read_exactly(stream, size)
    if len(data) < size:
        raise InputError(f"{where}: is cut short: expected {size} bytes more, found {len(data)}; copy it again")
    return data
