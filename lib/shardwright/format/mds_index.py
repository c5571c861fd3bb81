"""`index.json`, which lists the shards of an MDS dataset. It is data from outside: names stay in its folder, sizes are checked.

Format: https://github.com/mosaicml/streaming, streaming/base/format/base/writer.py and mds/reader.py; version 2.
"""

from __future__ import annotations

import hashlib
from typing import Literal, Self

import xxhash
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from shardwright.errors import InputError
from shardwright.format.mds import Encoding

COMPRESSIONS = ("br", "bz2", "gz", "snappy", "zstd")
HASHES = frozenset(hashlib.algorithms_guaranteed) - {"shake_128", "shake_256"} | xxhash.algorithms_available
_MAX_SAMPLES = 2**26
"""In a shard, whose offsets are held in memory."""


class ShardFile(BaseModel):
    """A file, as a whole."""

    model_config = ConfigDict(frozen=True)

    basename: str
    """Relative to the folder of the index: of a merged one, with the folder of the shard in front."""
    bytes: int = Field(ge=0)
    hashes: dict[str, str] = {}
    """By the names of their algorithms, in hexadecimal digits."""

    @field_validator("basename")
    @classmethod
    def _check_basename(cls, name: str) -> str:
        parts = name.split("/")
        if not name or "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in parts):
            raise ValueError(f"expected the name of a file in the folder of the index, found {name[:200]!r}")
        return name

    @field_validator("hashes")
    @classmethod
    def _check_hashes(cls, hashes: dict[str, str]) -> dict[str, str]:
        unknown = sorted(hashes.keys() - HASHES)
        if unknown:
            raise ValueError(f"a hash of an algorithm that is not known: {unknown[0][:80]!r}")
        return hashes


class Shard(BaseModel):
    """A shard: its columns, and the file that holds it, compressed or not."""

    model_config = ConfigDict(frozen=True)

    version: Literal[2]
    format: Literal["mds"]
    column_names: tuple[str, ...] = Field(min_length=1)
    column_encodings: tuple[str, ...]
    column_sizes: tuple[int | None, ...]
    compression: str | None = None
    hashes: tuple[str, ...] = ()
    raw_data: ShardFile
    samples: int = Field(ge=0, le=_MAX_SAMPLES)
    size_limit: int | str | None = None
    zip_data: ShardFile | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len({*self.column_names}) != len(self.column_names):
            raise ValueError(f"a column twice: {', '.join(self.column_names)}")
        if not len(self.column_names) == len(self.column_encodings) == len(self.column_sizes):
            raise ValueError("another number of column_names, column_encodings and column_sizes")
        for name, encoding, size in zip(self.column_names, self.columns.values(), self.column_sizes, strict=True):
            if size and size != encoding.size:
                raise ValueError(
                    f"column {name!r}: a value of encoding {encoding} has {encoding.size or 'any number of'} bytes, not {size}"
                )
        if (self.zip_data is None) != (self.compression is None) or (self.compression and self.codec not in COMPRESSIONS):
            raise ValueError(f"expected zip_data with a compression of {', '.join(COMPRESSIONS)}, found {self.compression!r}")
        if self.raw_data.bytes >= 2**32:
            raise ValueError(f"expected a shard of less than 4 GiB, found {self.raw_data.bytes} bytes")
        return self

    @property
    def codec(self) -> str | None:
        """The compression without its level."""
        return self.compression and self.compression.partition(":")[0]

    @property
    def columns(self) -> dict[str, Encoding]:
        """The encoding of each column."""
        return {name: Encoding.parse(text) for name, text in zip(self.column_names, self.column_encodings, strict=True)}

    @property
    def files(self) -> tuple[ShardFile, ...]:
        """The files that may hold it, the one as it was written first; another may lie there that somebody unpacked."""
        return (self.zip_data, self.raw_data) if self.zip_data else (self.raw_data,)


class Index(BaseModel):
    """All shards, in the order of their samples."""

    model_config = ConfigDict(frozen=True)

    version: Literal[2]
    shards: tuple[Shard, ...]


def parse_index(data: bytes, where: str) -> Index:
    """The index in a file of those bytes. Raises InputError naming `where` for anything else."""
    try:
        return Index.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise InputError(
            f"{where}: expected the index of an MDS dataset, version 2, found something else ({place}: {first['msg']}); "
            "other formats of MosaicML Streaming, and version 1, are not read"
        ) from error
