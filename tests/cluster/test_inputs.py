"""Raw data on HDFS: every format gives the samples that it gives of a local disk; what is said where it can't be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardwright.config import Config
from shardwright.errors import InputError, InputNotFoundError, StorageError
from shardwright.sources import open_source
from shardwright.sources.files import find_files
from shardwright.sources.inputs import check_unchanged
from shardwright.spark import prepare
from shardwright.storage import open_writable
from tests.cluster.hdfs import Hdfs
from tests.formats.inputs import Format
from tests.formats.remote import FILES, check_same, small_pieces, write_here
from tests.processes import free_ports

__all__ = ["small_pieces"]

MANY = 200


def upload(here: Path, url: str) -> None:
    """The files in a folder, to a new one."""
    storage = open_writable(url)
    for path in sorted(here.rglob("*")):
        if path.is_file():
            name = path.relative_to(here).as_posix()
            storage.make_directory(name.rpartition("/")[0])
            storage.write(name, path.read_bytes())


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("form", FILES, ids=lambda form: form.name)
def test_the_same_samples(form: Format, hdfs: Hdfs, tmp_path: Path) -> None:
    write_here(form, tmp_path / "in")
    upload(tmp_path / "in", there := hdfs.new_folder("in"))
    check_same(form, tmp_path / "in", there)
    if form.name in ("csv", "images", "npy", "parquet"):  # one of each way to read
        check_same(form, tmp_path / "in", there.replace(hdfs.url, hdfs.webhdfs))


@pytest.mark.usefixtures("spark")
def test_the_same_dataset(hdfs: Hdfs, tmp_path: Path) -> None:
    form = next(form for form in FILES if form.name == "images")
    write_here(form, tmp_path / "in")
    upload(tmp_path / "in", there := hdfs.new_folder("in"))
    made = []
    for number, path in enumerate((str(tmp_path / "in"), there, f"{there}/*/*.png")):
        read = {**form.read, "path": path}
        values = {"name": "t", "read": read, "clean": {"max_rejected": 0.1}, "shard": {"count": 2}}
        publish = {"path": str(tmp_path / f"out{number}")}
        made.append(prepare(Config.model_validate({**values, "publish": publish}), quiet=True).manifest)
    assert made[0].content_id == made[1].content_id == made[2].content_id
    assert made[1].lineage.inputs[0].path == f"{there}/class0/00.png"
    assert made[1].lineage.inputs == made[2].lineage.inputs


def test_finding_files(hdfs: Hdfs) -> None:
    storage = open_writable(there := hdfs.new_folder("in"))
    for folder in ("day=1", "day=2", "_temporary/0"):
        storage.make_directory(folder)
    for name in ("day=1/part-0.csv", "day=2/part-0.csv", "day=2/part-1.csv.gz", "day=2/_SUCCESS", "_temporary/0/part-9.csv"):
        storage.write(name, name.encode())
    names = [file.name for file in find_files(there)]
    assert names == ["day=1/part-0.csv", "day=2/part-0.csv", "day=2/part-1.csv.gz"]
    assert [file.name for file in find_files(f"{there}/*/part-*.csv")] == names[:2]
    both = find_files([f"{there}/day=2", f"{there}/day=1"])
    assert [file.path for file in both] == [f"{there}/{name}" for name in names]
    assert [file.name for file in find_files(f"{there}/day=2/part-0.csv/")] == ["part-0.csv"]
    with pytest.raises(InputNotFoundError, match=rf"no file or folder {there}/day=3; did you mean {there}/day=[12]\?"):
        find_files(f"{there}/day=3")
    with pytest.raises(
        InputNotFoundError, match=rf"no file or folder {there}/day=1/part-0.csv/x; .*{there}/day=1 holds part-0.csv"
    ):
        find_files(f"{there}/day=1/part-0.csv/x")
    with pytest.raises(
        InputNotFoundError, match=rf"the glob {there}/\*/\*.orc matches nothing; {there} holds _temporary, day=1"
    ):
        find_files(f"{there}/*/*.orc")
    (file,) = find_files(f"{there}/day=1/part-0.csv")
    storage.write("day=1/part-0.csv", b"other")
    with pytest.raises(InputError, match=rf"{there}/day=1/part-0.csv: was changed while it was read"):
        check_unchanged(file)


def test_what_can_not_be_listed_is_told(hdfs: Hdfs) -> None:
    hdfs.request("PUT", "/closed", "MKDIRS", permission="700")
    with pytest.raises(StorageError, match=r"no permission to list hdfs://.*/closed: user shardwright lacks") as error:
        find_files(f"{hdfs.url}/closed")
    assert "\tat " not in str(error.value)
    nobody = f"hdfs://127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(StorageError, match=rf"can't reach {nobody}: nothing that speaks HDFS answers there"):
        find_files(f"{nobody}/in")


def test_many_small_files(hdfs: Hdfs) -> None:
    """Fetched side by side, and in the order of their names all the same."""
    storage = open_writable(there := hdfs.new_folder("in"))
    storage.make_directory("")
    for number in range(MANY):
        storage.write(f"{number:04d}", b"%d" % number)
    source = open_source("files", there)
    assert len(source.tasks(2**26)) == 1
    rows = [row for task in source.tasks(2**26) for batch in source.read(task) for row in batch.to_pylist()]
    assert [(row["data"], row["_source"]) for row in rows] == [(b"%d" % n, f"{n:04d}") for n in range(MANY)]
