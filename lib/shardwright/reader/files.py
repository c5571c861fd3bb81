"""The files of a version, opened when first needed, once per process."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from shardwright.errors import CorruptError, StorageError
from shardwright.reader.catalog import Parts
from shardwright.storage import Storage, open_storage
from shardwright.storage.readahead import HeldRanges, Traffic


class VersionFiles:
    """Reads parts and side files of one version of the dataset at `url`.

    A local part is mapped into memory; the map costs no file descriptor, and stays as long as this object, in forked children
    too. File-system clients are not fork-safe: each process opens its own.
    """

    def __init__(self, url: str, version: str, parts: Parts) -> None:
        self.url, self.version, self.parts = url, version, parts
        self._maps: dict[int, pa.Buffer] = {}
        self._addresses = np.full(len(parts.name), -1, np.int64)
        self._client: tuple[int, Storage] | None = None

    @property
    def storage(self) -> Storage:
        """This process's own client."""
        if self._client is None or self._client[0] != os.getpid():
            self._client = os.getpid(), open_storage(self.url, lasting=True)
        return self._client[1]

    @property
    def local(self) -> bool:
        """Whether parts can be mapped into memory."""
        return self.storage.local_path() is not None

    def path(self, name: str) -> str:
        """Where a file lies, for messages."""
        return f"{self.storage.url}/{self.version}/{name}"

    def map(self, part: int) -> pa.Buffer:
        """The bytes of a local part. Raises CorruptError when it is missing, or not as long as it was published."""
        mapped = self._maps.get(part)
        if mapped is None:
            name = self.parts.name[part]
            path = self.storage.local_path(f"{self.version}/{name}")
            with self.clear_errors(name), pa.memory_map(str(path)) as file:
                mapped = file.read_buffer()  # holds the mapping, not the descriptor: no limit on open files
            self._check_size(name, mapped.size, self.parts.bytes[part])
            mapped = self._maps.setdefault(part, mapped)  # that of another thread, which may have told its address already
            self._addresses[part] = mapped.address
        return mapped

    def addresses(self, parts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Where the first byte of each local part lies in memory; valid as long as this object. Raises as `map` does."""
        found = self._addresses[parts]
        if len(found) and found.min() < 0:
            for part in np.unique(parts[found < 0]).tolist():
                self.map(part)
            found = self._addresses[parts]
        return found

    def fetch(self, part: int, start: int, stop: int) -> bytes:
        """The bytes [start, stop) of a part, in one request. Raises CorruptError when it is missing or ends before that."""
        name = self.parts.name[part]
        with self.clear_errors(name):
            (data,) = self.storage.ranges(f"{self.version}/{name}", [(start, stop)])
        return data

    def hold(self, limit: int, traffic: Traffic | None = None) -> HeldRanges:
        """Byte ranges of remote parts, at most `limit` bytes of them at a time, or one batch; counted in `traffic`."""
        return HeldRanges(self.fetch, gap=self.storage.gap_bytes, limit=limit, traffic=traffic)

    def side_file(self, name: str) -> bytes | pa.Buffer:
        """The bytes of a side file, mapped where local. Raises CorruptError when it is missing."""
        with self.clear_errors(name):
            if (path := self.storage.local_path(f"{self.version}/{name}")) is None:
                return self.storage.read(f"{self.version}/{name}")
            with pa.memory_map(str(path)) as file:
                return file.read_buffer()

    def parquet(self, part: int, metadata: pq.FileMetaData | None = None, held: HeldRanges | None = None) -> pq.ParquetFile:
        """A part as Parquet, page checksums verified; its footer is read unless `metadata` is given. Raises CorruptError."""
        try:
            return pq.ParquetFile(self.source(part, held), metadata=metadata, page_checksum_verification=True)
        except pa.ArrowException as error:
            raise CorruptError(f"{self.path(self.parts.name[part])}: not a Parquet file ({error}); copy it again") from error

    def source(self, part: int, held: HeldRanges | None = None) -> pa.NativeFile:
        """A part as pyarrow reads files; a remote one by ranges, of which some may be `held`.

        Raises CorruptError when it is missing, or of another size (not asked again where ranges of it are held).
        """
        name = self.parts.name[part]
        if self.local:
            return pa.BufferReader(self.map(part))
        if held is None:
            with self.clear_errors(name):
                self._check_size(name, self.storage.size(f"{self.version}/{name}"), self.parts.bytes[part])
        return pa.PythonFile(_RangeFile(self, part, held), mode="r")

    def _check_size(self, name: str, found: int, expected: int) -> None:
        if found != expected:
            raise CorruptError(
                f"{self.path(name)}: expected {expected} bytes, found {found}; copy the file again "
                f"(shardwright verify {self.url} lists all that is wrong)"
            )

    @contextmanager
    def clear_errors(self, name: str) -> Iterator[None]:
        """Turn what the file system raises about file `name` into CorruptError (missing) or StorageError."""
        try:
            yield
        except FileNotFoundError as error:
            raise CorruptError(
                f"{self.path(name)} is missing; copy it there again (a node that holds only its own shards reads them with "
                "node_local=True)"
            ) from error
        except (StorageError, CorruptError):
            raise
        except OSError as error:
            raise StorageError(f"can't read {self.path(name)}: {error}") from error


class _RangeFile(io.RawIOBase):
    """A remote part as a file object, so that pyarrow fetches the footer and the column chunks it needs, nothing else."""

    def __init__(self, files: VersionFiles, part: int, held: HeldRanges | None) -> None:
        self._read = files.fetch if held is None else held.read
        self._part, self._size, self._position = part, files.parts.bytes[part], 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def read(self, size: int = -1) -> bytes:
        stop = self._size if size < 0 else min(self._position + size, self._size)
        if stop <= self._position:
            return b""
        data = self._read(self._part, self._position, stop)
        self._position = stop
        return data
