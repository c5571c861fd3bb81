"""Finding and opening input files that lie on no local disk, but in memory: what is found, and what is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from shardwright.errors import InputError, InputNotFoundError, StorageError
from shardwright.sources import open_input, open_source
from shardwright.sources.files import check_unique_names, find_files
from shardwright.sources.inputs import check_unchanged, read_input, read_inputs, watched

ROOT = "memory://server/in"


@pytest.fixture(autouse=True)
def memory() -> Iterator[Any]:
    """A tree like that of the tests of local files."""
    found = fsspec.filesystem("memory")
    names = ["a/1.jpg", "a/deep/2.jpg", "b/3.png", "top.txt", "_SUCCESS", ".hidden", "_tmp/4.jpg", "a/.crc"]
    for name in names:
        found.pipe(f"/server/in/{name}", name.encode())
    yield found
    found.rm("/server", recursive=True)


def names(*paths: str) -> list[str]:
    return [file.name for file in find_files(paths)]


def test_a_folder_is_searched_through_sorted_and_without_hidden_names(memory: Any) -> None:
    files = find_files(ROOT + "/")
    assert [file.name for file in files] == ["a/1.jpg", "a/deep/2.jpg", "b/3.png", "top.txt"]
    assert (files[0].path, files[0].bytes, files[0].remote) == (f"{ROOT}/a/1.jpg", 7, True)
    assert abs(files[0].modified_ns / 1e9 - memory.modified("/server/in/a/1.jpg").timestamp()) < 1


def test_names_are_relative_to_the_root_of_the_path_as_those_of_local_files_are() -> None:
    assert names(f"{ROOT}/a") == ["1.jpg", "deep/2.jpg"]
    assert names(f"{ROOT}/a/1.jpg") == ["1.jpg"]
    assert names(f"{ROOT}/*/*.jpg") == ["a/1.jpg"]
    assert names(f"{ROOT}/a/**/*.jpg") == ["1.jpg", "deep/2.jpg"]
    assert names(f"{ROOT}/[ab]") == ["a/1.jpg", "a/deep/2.jpg", "b/3.png"]
    assert names(f"{ROOT}/?/3.png") == ["b/3.png"]
    assert names(f"{ROOT}/*/deep/*") == ["a/deep/2.jpg"]
    assert names(f"{ROOT}/**") == names(ROOT)


def test_here_and_there_are_one_input(tmp_path: Path) -> None:
    (tmp_path / "0.txt").write_bytes(b"here")
    files = find_files([str(tmp_path), f"{ROOT}/top.txt", f"{ROOT}/*.txt"])
    assert [(file.name, file.remote) for file in files] == [("0.txt", False), ("top.txt", True)]
    assert read_inputs(files) == [b"here", b"top.txt"]
    (tmp_path / "top.txt").touch()
    with pytest.raises(InputError, match=rf"top.txt and {ROOT}/top.txt have the same name 'top.txt' relative to their roots"):
        check_unique_names(find_files([str(tmp_path), ROOT]))


def test_a_name_with_wildcard_characters_that_exists_is_that_file(memory: Any) -> None:
    memory.pipe("/server/in/x[1].jpg", b"")
    assert names(f"{ROOT}/x[1].jpg") == ["x[1].jpg"]


def test_a_missing_path_is_told_with_what_lies_nearby() -> None:
    with pytest.raises(InputNotFoundError, match=rf"no file or folder {ROOT}/top.text; did you mean {ROOT}/top.txt\?"):
        find_files(f"{ROOT}/top.text")
    with pytest.raises(InputNotFoundError, match=rf"no file or folder {ROOT}/q/r/s; {ROOT} holds .hidden, .* and 1 more"):
        find_files(f"{ROOT}/q/r/s")


def test_a_glob_without_a_match_is_told() -> None:
    with pytest.raises(InputNotFoundError, match=rf"the glob {ROOT}/\*.gz matches nothing; {ROOT} holds"):
        find_files(f"{ROOT}/*.gz")
    with pytest.raises(InputNotFoundError, match=rf"the glob {ROOT}/tpo/\*.gz matches nothing: no folder {ROOT}/tpo; "):
        find_files(f"{ROOT}/tpo/*.gz")


def test_a_folder_without_data_is_told(memory: Any) -> None:
    memory.pipe("/server/in/hidden/_SUCCESS", b"")
    with pytest.raises(InputNotFoundError, match=rf"no files to read in the folder {ROOT}/hidden \(names that begin"):
        find_files(f"{ROOT}/hidden")


def test_what_no_storage_opens_is_told() -> None:
    with pytest.raises(StorageError, match=r"can't open 'nowhere://server'.*nowhere"):
        find_files("nowhere://server/in")
    with pytest.raises(StorageError, match=r"a URL with '//' after its scheme, found 'hdfs:/data/x': write hdfs:///…"):
        find_files(Path("hdfs://data/x"))


def test_a_file_that_changes_is_told(memory: Any) -> None:
    (file,) = find_files(f"{ROOT}/top.txt")
    check_unchanged(file)
    with pytest.raises(InputError, match=rf"{ROOT}/top.txt: was changed while it was read"), watched(file):
        memory.pipe("/server/in/top.txt", b"top.txt")  # the same bytes, at another time
    with pytest.raises(InputError, match=r"was changed while it was read; run the job again when the input is complete"):
        read_input(file)
    (file,) = find_files(f"{ROOT}/top.txt")
    memory.pipe("/server/in/top.txt", b"short")
    with pytest.raises(InputError, match=r"was changed while it was read"):
        read_input(file)
    memory.rm("/server/in/top.txt")
    for read in (read_input, check_unchanged, open_input):
        with pytest.raises(InputError, match=r"can't be read \(.*\): it was removed after the job listed its input"):
            read(file)


def test_labels_lie_beside_pictures(memory: Any) -> None:
    memory.pipe("/server/in/labels.csv", f"path,kind\na/1.jpg,1\n{ROOT}/a/deep/2.jpg,2\nb/3.png,3\n".encode())
    for labels in ("labels.csv", f"{ROOT}/labels.csv"):
        source = open_source("images", ROOT, options={"labels": labels})
        batches = [batch for task in source.tasks(1) for batch in source.read(task)]
        assert [kind for batch in batches for kind in batch["kind"].to_pylist()] == [1, 2, 3]
    with pytest.raises(InputError, match=rf"expected one file 'label.csv', .* found none \(root: {ROOT}/\)"):
        open_source("images", ROOT, options={"labels": "label.csv"})
