"""Every format reads from a storage that is no local disk, one in memory, what it reads from a local disk."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from shardwright.errors import StorageError
from shardwright.sources import open_source
from shardwright.sources.files import find_files
from shardwright.sources.inputs import split_url
from shardwright.storage.remote import RemoteStorage
from tests.formats.inputs import Format
from tests.formats.remote import FILES, check_same, small_pieces, write_here

__all__ = ["small_pieces"]


@pytest.fixture
def there() -> Iterator[str]:
    """An empty folder in memory."""
    memory = fsspec.filesystem("memory")
    memory.makedirs("/server/in")
    yield "memory://server/in"
    memory.rm("/server", recursive=True)


def upload(here: Path) -> None:
    fsspec.filesystem("memory").put(f"{here}/", "/server/in/", recursive=True)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("form", FILES, ids=lambda form: form.name)
def test_the_same_samples(form: Format, there: str, tmp_path: Path) -> None:
    write_here(form, tmp_path / "in")
    upload(tmp_path / "in")
    check_same(form, tmp_path / "in", there)


class Counted(io.BytesIO):
    """Remembers how much of it was read."""

    done = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        Counted.done += len(data)
        return data


@pytest.mark.parametrize("name", ["x.csv", "x.npy", "x.parquet"])
def test_a_task_reads_its_own_part_of_a_file(name: str, there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.random.default_rng(1).integers(10**8, 10**9, 100_000)
    (tmp_path / "x.csv").write_text("number\n" + "\n".join(map(str, numbers.tolist())))
    np.save(tmp_path / "x.npy", numbers)
    pq.write_table(pa.table({"number": numbers}), tmp_path / "x.parquet", row_group_size=10_000)
    upload(tmp_path)
    for module in ("lines", "line_reader"):
        monkeypatch.setattr(f"shardwright.sources.{module}.UNIT_BYTES", 100_000)
    monkeypatch.setattr("shardwright.sources.lines.CHUNK_BYTES", 10_000)

    def open_counted(storage: RemoteStorage, inside: str) -> BinaryIO:
        return Counted(storage.read(inside))

    monkeypatch.setattr(RemoteStorage, "open", open_counted)
    source = open_source(name.partition(".")[2], f"{there}/{name}")
    tasks = source.tasks(110_000)
    assert len(tasks) >= 7
    Counted.done = 0
    assert sum(batch.num_rows for batch in source.read(tasks[4])) > 9000
    assert 50_000 < Counted.done < 200_000 < source.files[0].bytes / 3


@pytest.mark.parametrize(
    ("url", "server", "name"),
    [
        ("hdfs://nn:8020/a//b///c/", "hdfs://nn:8020", "a/b/c"),
        ("webhdfs://nn:9870//a", "webhdfs://nn:9870", "a"),
        ("hdfs:///a", "hdfs://", "a"),
        ("s3://bucket/a//b", "s3://bucket", "a//b"),
    ],
)
def test_a_file_of_hdfs_has_one_name_however_many_slashes_are_written(url: str, server: str, name: str) -> None:
    assert split_url(url) == (server, name)


class Chunked(LocalFileSystem):  # type: ignore[misc]  # fsspec has no types
    """chunked://server/path: as over HTTP, where a server need not say how long a file is."""

    protocol = "chunked"

    @classmethod
    def _strip_protocol(cls, path: object) -> object:
        return "/" + str(path).removeprefix("chunked://server").strip("/")

    def info(self, path: object, **kwargs: object) -> dict[str, object]:
        found = super().info(path, **kwargs)
        return found | {"size": None if found["type"] == "file" else 0}


def test_a_server_that_does_not_say_how_long_a_file_is(tmp_path: Path) -> None:
    fsspec.register_implementation("chunked", Chunked, clobber=True)
    (tmp_path / "a.csv").write_text("number\n1\n")
    problem = f"chunked://server{tmp_path}/a.csv: the server does not say how many bytes it has; copy it"
    for url in (f"chunked://server{tmp_path}", f"chunked://server{tmp_path}/a.csv"):
        with pytest.raises(StorageError, match=problem):
            find_files(url)
    with pytest.raises(StorageError, match=problem):
        RemoteStorage(f"chunked://server{tmp_path}").size("a.csv")
