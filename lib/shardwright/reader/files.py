"""The files of a version, opened when first needed, once per process."""

from __future__ import annotations

import functools
import io
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from shardwright.errors import CorruptError, StorageError
from shardwright.format.layout import MANIFEST
from shardwright.reader.catalog import Parts
from shardwright.reader.filling import Filling
from shardwright.storage import Storage, open_storage
from shardwright.storage.part_cache import CachePlace
from shardwright.storage.readahead import HeldRanges, Traffic


class VersionFiles:
    """Reads parts and side files of one version of the dataset at `url`; what is not there from `origin`, where one is given.

    A part on this node is mapped into memory; the map costs no file descriptor, and stays as long as this object, in forked
    children too. File-system clients are not fork-safe: each process opens its own. Remote parts are fetched into the `cache`
    once they are read from; `content_id` is that of the version. `served` are the parts that will be read, all for None.
    """

    def __init__(
        self, url: str, version: str, parts: Parts, *, origin: str | None = None, cache: CachePlace | None = None,
        content_id: str = "", served: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        self.url, self.version, self.parts = url, version, parts
        self._origin, self._cache, self._content_id, self._served = origin, cache, content_id, served
        self._maps: dict[int, pa.Buffer] = {}
        self._addresses = np.full(len(parts.name), -1, np.int64)
        self._clients: dict[str, Storage] = {}
        self._filling: Filling | None = None
        self._process, self._lock = os.getpid(), threading.Lock()

    @property
    def storage(self) -> Storage:
        """This process's own client of the place at `url`."""
        return self._client(self.url)

    @property
    def gap_bytes(self) -> int:
        """What `Storage.gap_bytes` says of the place where remote parts lie."""
        return self._remote.gap_bytes

    @functools.cached_property
    def local(self) -> bool:
        """Whether all parts that will be read can be mapped into memory. It stays as it was when first asked for."""
        if self._origin is None and self._cache is None:
            return self.storage.local_path() is not None
        return self.on_node(range(len(self.parts.name)) if self._served is None else self._served)

    def on_node(self, parts: Sequence[int]) -> bool:
        """Whether all of `parts` and what belongs to them lie on this node; they are mapped, and stay so."""
        files = (file for part in parts for file in self.parts.files(part))
        return all(self._on_node(file.name) is not None for file in files) and all(map(self._mapped, parts))

    def path(self, name: str) -> str:
        """Where a file lies, for messages."""
        there = self._origin is None or self._own_path(name) is not None
        return f"{self.storage.url if there else self._remote.url}/{self.version}/{name}"

    def map(self, part: int) -> pa.Buffer:
        """The bytes of a part on this node. Raises CorruptError when it is missing, or not as long as it was published."""
        mapped = self._maps.get(part)
        if mapped is None:
            name = self.parts.name[part]
            path = self._on_node(name)
            with self.clear_errors(name):
                if path is None:
                    raise FileNotFoundError(name)
                with pa.memory_map(str(path)) as file:
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
        if (mapped := self._mapped(part)) is not None:
            piece: bytes = mapped.slice(start, stop - start).to_pybytes()
            return piece
        name = self.parts.name[part]
        with self.clear_errors(name):
            (data,) = self._remote.ranges(f"{self.version}/{name}", [(start, stop)])
        return data

    def hold(self, limit: int, traffic: Traffic | None = None, wanted: Callable[[], bool] | None = None) -> HeldRanges:
        """Byte ranges of remote parts, at most `limit` bytes of them at a time, or one batch; counted in `traffic`."""
        return HeldRanges(self.fetch, gap=self.gap_bytes, limit=limit, traffic=traffic, wanted=wanted)

    def side_file(self, name: str) -> bytes | pa.Buffer:
        """The bytes of a side file, mapped where local. Raises CorruptError when it is missing."""
        with self.clear_errors(name):
            if (path := self._on_node(name)) is None:
                return self._remote.read(f"{self.version}/{name}")
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
            if (mapped := self._mapped(part)) is not None:
                return pa.BufferReader(mapped)
            with self.clear_errors(name):
                self._check_size(name, self._remote.size(f"{self.version}/{name}"), self.parts.bytes[part])
        return pa.PythonFile(_RangeFile(self, part, held), mode="r")

    @property
    def _remote(self) -> Storage:
        """Where what is not on this node is read."""
        return self._client(self.url if self._origin is None else self._origin)

    def _client(self, url: str) -> Storage:
        if self._process != os.getpid():
            self._process, self._lock, self._clients, self._filling = os.getpid(), threading.Lock(), {}, None
        if (client := self._clients.get(url)) is None:
            client = self._clients[url] = open_storage(url, lasting=True)
        return client

    def _own_path(self, name: str) -> Path | None:
        """Where a file lies below a local `url`: where it should lie, if there is no other place to have it from."""
        path = self.storage.local_path(f"{self.version}/{name}")
        return path if self._origin is None or path is None or path.exists() else None

    def _on_node(self, name: str) -> Path | None:
        """Where a file lies on this node, or None."""
        path = self._own_path(name)
        if path is None:
            path = self._remote.local_path(f"{self.version}/{name}")
        return self._filled(self._cache).find(name) if path is None and self._cache is not None else path

    def _mapped(self, part: int) -> pa.Buffer | None:
        """The bytes of a part, if it lies on this node; else it is fetched into the cache, where there is one."""
        if (mapped := self._maps.get(part)) is None:
            if self._on_node(self.parts.name[part]) is not None:
                return self.map(part)
            if self._cache is not None:
                self._filled(self._cache).want(part)
        return mapped

    def _filled(self, place: CachePlace) -> Filling:
        storage, version = self._remote, self.version  # first: after a fork nothing of the parent's is used
        with self._lock:
            if self._filling is None:

                def read(name: str, start: int, stop: int) -> bytes:
                    return storage.ranges(f"{version}/{name}", [(start, stop)])[0]

                self._filling = Filling(place, self._content_id, self.parts, read, f"{storage.url}/{version}")
                weakref.finalize(self, self._filling.close)  # its thread holds on to the filling, and not to this
            return self._filling

    def _advice(self, missing: str) -> str:
        """What to do about a file that is missing."""
        storage = self._remote if self._own_path(missing) is None else self.storage
        try:
            storage.size(f"{self.version}/{MANIFEST}")
        except FileNotFoundError:
            return (
                f"{self.version} was deleted while it was open (shardwright expire?): open the dataset again for its latest "
                "version and begin without the state of this one; keep versions that are read"
            )
        except OSError:
            pass  # not known, then
        return (
            "copy it there again (a node that holds only its own shards reads them with node_local=True, others from origin=)"
        )

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
            raise CorruptError(f"{self.path(name)} is missing; {self._advice(name)}") from error
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
