"""Finding input files: what is found, what each is called, and what is said where nothing is."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from shardwright.errors import ConfigError, InputError, InputNotFoundError
from shardwright.sources import open_source
from shardwright.sources.files import check_unique_names, find_files, select_files


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    names = ["a/1.jpg", "a/deep/2.jpg", "b/3.png", "top.txt", "_SUCCESS", ".hidden", "_tmp/4.jpg", "a/.crc"]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def names(*paths: object) -> list[str]:
    return [file.name for file in find_files([str(path) for path in paths])]


def test_a_folder_is_searched_through_sorted_and_without_hidden_names(tree: Path) -> None:
    files = find_files(tree)
    assert [file.name for file in files] == ["a/1.jpg", "a/deep/2.jpg", "b/3.png", "top.txt"]
    assert files[0].path == str(tree / "a/1.jpg")
    assert files[0].bytes == 7
    assert files[0].modified_ns == os.stat(files[0].path).st_mtime_ns


def test_names_are_relative_to_the_root_of_the_path(tree: Path) -> None:
    assert names(tree / "a") == ["1.jpg", "deep/2.jpg"]
    assert names(tree / "a/1.jpg") == ["1.jpg"]
    assert names(tree / "*/*.jpg") == ["a/1.jpg"]
    assert names(tree / "a/**/*.jpg") == ["1.jpg", "deep/2.jpg"]
    assert names(tree / "[ab]") == ["a/1.jpg", "a/deep/2.jpg", "b/3.png"]
    assert names(tree / "?/3.png") == ["b/3.png"]
    assert names(tree / "**") == names(tree)
    assert names(f"file://{tree}/*/*.png") == ["b/3.png"]


def test_a_list_is_one_input_and_a_file_found_twice_is_there_once(tree: Path) -> None:
    assert names(tree / "a", tree / "b") == ["1.jpg", "3.png", "deep/2.jpg"]
    assert names(tree / "*/1.jpg", tree / "a*/1.jpg") == ["a/1.jpg"]
    assert names(tree / "b", tree / "a" / ".." / "b") == ["3.png"]


def test_a_file_under_two_names_is_an_error(tree: Path) -> None:
    with pytest.raises(InputError, match=r"found twice, as '1.jpg' and as 'a/1.jpg'; name folders that do not overlap"):
        find_files([tree / "a", tree])


def test_one_name_under_two_roots_is_an_error_where_it_identifies_samples(tree: Path) -> None:
    (tree / "b/1.jpg").write_bytes(b"other")
    files = find_files([tree / "a", tree / "b"])
    with pytest.raises(InputError, match=r"a/1.jpg and .*b/1.jpg have the same name '1.jpg' relative to their roots"):
        check_unique_names(files)


def test_a_name_with_wildcard_characters_that_exists_is_that_file(tree: Path) -> None:
    (tree / "x[1].jpg").write_bytes(b"")
    assert names(tree / "x[1].jpg") == ["x[1].jpg"]


def test_linked_folders_are_followed_and_a_circle_is_an_error(tree: Path) -> None:
    (tree / "c").symlink_to(tree / "b")
    assert "c/3.png" in names(tree)
    (tree / "b/up").symlink_to(tree)
    with pytest.raises(InputError, match=r"leads back to a folder above it"):
        find_files(tree)


def test_a_pipe_is_an_error(tree: Path) -> None:
    os.mkfifo(tree / "pipe")  # reading it would wait for ever
    with pytest.raises(InputError, match=r"pipe: expected a file, found a pipe, socket or device; remove it"):
        find_files(tree)


def test_a_link_to_nothing_is_an_error(tree: Path) -> None:
    (tree / "gone.jpg").symlink_to(tree / "nowhere")
    with pytest.raises(InputError, match=r"gone.jpg: can't be read \(No such file"):
        find_files(tree)


def test_a_missing_path_is_told_with_what_lies_nearby(tree: Path) -> None:
    with pytest.raises(InputNotFoundError, match=rf"no file or folder {tree}/top.text; did you mean {tree}/top.txt\?") as error:
        find_files(tree / "top.text")
    assert isinstance(error.value, FileNotFoundError)
    with pytest.raises(InputNotFoundError, match=rf"no file or folder {tree}/q/r/s; {tree} holds .hidden, .* and 1 more"):
        find_files(tree / "q/r/s")


def test_a_glob_without_a_match_is_told(tree: Path) -> None:
    with pytest.raises(InputNotFoundError, match=rf"the glob {tree}/\*.gz matches nothing; {tree} holds"):
        find_files(tree / "*.gz")
    with pytest.raises(InputNotFoundError, match=rf"the glob {tree}/tpo/\*.gz matches nothing: no folder {tree}/tpo"):
        find_files(tree / "tpo/*.gz")


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputNotFoundError, match=rf"no files to read in the folder {tmp_path}.*holds nothing"):
        find_files(tmp_path)
    (tmp_path / "_SUCCESS").touch()
    with pytest.raises(InputNotFoundError, match=r"begin with '.' or '_' are skipped\); .* holds _SUCCESS"):
        find_files(tmp_path)


def test_empty_paths_are_refused() -> None:
    with pytest.raises(InputError, match=r"found an empty path"):
        find_files("")
    with pytest.raises(InputError, match=r"found an empty list"):
        find_files([])


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(InputError, match=r"expected a file name in UTF-8; rename the file"):
        find_files(tmp_path)


def test_unusable_files_are_named_in_one_warning_but_for_documentation(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tree / "README.md").touch()
    files = find_files(tree)
    with caplog.at_level(logging.WARNING):
        kept = select_files(files, lambda file: file.name.endswith("jpg"), expected="jpg files")
    assert [file.name for file in kept] == ["a/1.jpg", "a/deep/2.jpg"]
    assert [record.message for record in caplog.records] == ["expected jpg files: skipped 2 of 5 files: b/3.png, top.txt"]
    with pytest.raises(InputError, match=r"expected webp files, found only .*a/1.jpg"):
        select_files(files, lambda file: False, expected="webp files")


def test_an_unknown_format_is_told_with_the_nearest(tree: Path) -> None:
    with pytest.raises(ConfigError, match=r"no input format 'image'; did you mean 'images'\? known: .*, parquet"):
        open_source("image", tree)
