"""Formats in which a file is a sample, and pictures with a table of labels."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shardwright.errors import ConfigError, InputError, SchemaError
from shardwright.hashing.sample_key import path_keys
from shardwright.sources import open_source
from shardwright.stages.read import AddKeys
from tests.unit.lines import read, reasons


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"bytes of {name}".encode())
    return root


def test_any_file_is_a_sample(tmp_path: Path) -> None:
    source = open_source("files", tree(tmp_path, "b/x.bin", "a.tar.gz", "README.md", ".hidden"))
    assert source.sample_per_file
    assert [(f.name, f.dtype) for f in source.schema] == [("data", "bytes"), ("path", "string")]
    table = read(source)
    assert table.to_pylist() == [
        {"data": f"bytes of {name}".encode(), "path": name, "_source": name} for name in ("README.md", "a.tar.gz", "b/x.bin")
    ]
    keyed, _ = AddKeys(source.schema, sample_per_file=True)(table.combine_chunks().to_batches()[0])
    assert b"".join(keyed["_key"].to_pylist()) == path_keys(table["path"].to_pylist()).tobytes()
    assert read(open_source("files", tmp_path, columns=["path"])).column_names == ["path", "_source"]


def test_opening_a_file_costs_as_much_as_reading_some(tmp_path: Path) -> None:
    source = open_source("files", tree(tmp_path, *(f"{number:04d}" for number in range(100))))
    assert [len(task.files) for task in source.tasks(20 * 2**16)] == [19] * 5 + [5]
    assert [file for task in source.tasks(1) for file in task.files] == list(source.files)
    assert {len(task.files) for task in source.tasks(1)} == {1}


def test_a_file_that_changed_since_it_was_found_is_told(tmp_path: Path) -> None:
    path = tree(tmp_path, "x") / "x"
    for change, message in (
        (
            lambda: path.write_bytes(b"longer than it was found"),
            r"/x: was changed while it was read; run the job again when the",
        ),
        (lambda: os.utime(path, ns=(0, 0)), r"/x: was changed while it was read"),
        (path.unlink, r"/x: can't be read \(No such file or directory\): it was removed after the job listed its input"),
    ):
        source = open_source("files", tmp_path)
        change()
        with pytest.raises(InputError, match=message):
            read(source)


def test_a_file_above_what_a_column_holds_is_one_rejected_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shardwright.sources.whole_files.MAX_VALUE_BYTES", 10)
    table = read(open_source("files", tree(tmp_path, "x", "yy")))
    assert reasons(table) == {"yy": "expected a file of at most 10 bytes, found 11"}
    assert table["path"].to_pylist() == ["x", "yy"]


LABELS = "path,label,name\na/1.jpg,1,one\n2.png,2,two\n"


def labelled(root: Path, text: str = LABELS, name: str = "labels.csv") -> Path:
    tree(root, "a/1.jpg", "2.png")
    (root / name).write_text(text, encoding="utf-8")
    return root


def test_labels_come_from_a_table(tmp_path: Path) -> None:
    source = open_source("images", labelled(tmp_path), options={"labels": "labels.csv"})
    assert [(f.name, f.dtype) for f in source.schema] == [("image", "uint8"), ("label", "int64"), ("name", "string")]
    assert {file.name for file in source.files} == {"a/1.jpg", "2.png", "labels.csv"}  # another table makes another run
    for task_bytes in (1, 10**6):
        rows = read(source, task_bytes).to_pylist()
        assert [(row["_source"], row["label"], row["name"], row["_reject"]) for row in rows] == [
            ("2.png", 2, "two", None), ("a/1.jpg", 1, "one", None),
        ]  # fmt: skip
    assert rows[0]["image"] == b"bytes of 2.png"
    chosen = open_source(
        "images", tmp_path, options={"labels": str(tmp_path / "labels.csv")}, columns=["label", "image"],
        fields={"label": {"dtype": "int8"}},
    )  # fmt: skip
    assert [(f.name, f.dtype) for f in chosen.schema] == [("label", "int8"), ("image", "uint8")]


def test_what_does_not_match_is_rejected_and_never_lost(tmp_path: Path) -> None:
    text = LABELS + "none.jpg,3,x\n2.png,2,again\n./a/1.jpg\n,5,y\n3.png,not a number,z\n"
    text = text.replace("path,label", "file,label")
    tree(labelled(tmp_path, text, "table.txt"), "3.png", "4.png")
    source = open_source("images", tmp_path, options={"labels": "table.txt"}, fields={"label": {"dtype": "int32"}})
    for task_bytes in (1, 10**6):
        table = read(source, task_bytes)
        assert [row["_source"] for row in table.to_pylist() if not row["_reject"]] == ["a/1.jpg"]
        offsets = {line: f"table.txt@{text.index(line)}" for line in ("none.jpg", "./a/1.jpg", ",5,y", "3.png,not")}
        assert reasons(table) == {
            "2.png": "expected one row for it in table.txt, found 2: "
            f"table.txt@{text.index('2.png')}, table.txt@{text.index('2.png,2,again')}",
            "3.png": "expected a row for it in table.txt, found none",
            "4.png": "expected a row for it in table.txt, found none",
            offsets["none.jpg"]: "expected the path of a picture in 'file', found no such: 'none.jpg'",
            offsets["./a/1.jpg"]: "expected 3 columns, found 1: './a/1.jpg'",
            offsets[",5,y"]: "expected the path of a picture in 'file', found no such: ''",
            offsets["3.png,not"]: "column 'label': expected int32, found 'not a number'",
        }
    _, rejects = AddKeys(source.schema, sample_per_file=True)(table.combine_chunks().to_batches()[0])
    assert len(rejects.rows) == 7


def test_a_labels_file_that_is_none_is_told(tmp_path: Path) -> None:
    labelled(tmp_path)
    with pytest.raises(
        InputError, match=r"read.options.labels: expected one file 'label.csv', absolute or in the root of the in"
    ):
        open_source("images", tmp_path, options={"labels": "label.csv"})
    (tmp_path / "none.csv").write_text("path,label\n")
    with pytest.raises(InputError, match=r"none\.csv: expected a row for each picture, found none"):
        open_source("images", tmp_path, options={"labels": "none.csv"})
    with pytest.raises(InputError, match=r"labels\.csv: expected a column 'pth' with the paths .*did you mean 'path'"):
        open_source("images", tmp_path, options={"labels": "labels.csv", "path_column": "pth"})
    with pytest.raises(ConfigError, match=r"labels_options.delimiter: .*expected one ASCII character"):
        open_source("images", tmp_path, options={"labels": "labels.csv", "labels_options": {"delimiter": "::"}})
    labelled(tmp_path, "id,label\n1,2\n")
    with pytest.raises(InputError, match=r"expected a column 'path' or 'file' or 'filename' or 'image' with the paths"):
        open_source("images", tmp_path, options={"labels": "labels.csv"})
    labelled(tmp_path, "path,label\nx/1.jpg,2\n")
    with pytest.raises(InputError, match=r"found none in 1 rows: 'x/1.jpg'; pictures are named as '2.png'"):
        open_source("images", tmp_path, options={"labels": "labels.csv"})
    labelled(tmp_path, "path,image\n2.png,2\n")
    with pytest.raises(InputError, match=r"expected another name than 'image' for a column"):
        open_source("images", tmp_path, options={"labels": "labels.csv"})
    with pytest.raises(SchemaError, match=r"no column 'lable'"):
        open_source("images", labelled(tmp_path), options={"labels": "labels.csv"}, columns=["image", "lable"])
