"""Pictures in folders: kept to the byte, the folder as the class."""

from __future__ import annotations

import copy
from pathlib import Path

import pyarrow as pa
import pytest

from shardwright.errors import InputError, SchemaError
from shardwright.hashing.sample_key import path_keys
from shardwright.sources import open_source
from shardwright.stages.clean import Clean, CleanOptions

PHOTOS = Path(__file__).parents[2] / "data/samples/photos"


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"bytes of {name}".encode())
    return root


def read(source: object, task_bytes: int = 2**26) -> pa.Table:
    return pa.Table.from_batches([b for task in source.tasks(task_bytes) for b in source.read(task)])  # type: ignore[attr-defined]


def test_real_photographs_keep_their_bytes_and_get_their_folder_as_class() -> None:
    source = open_source("images", PHOTOS)
    assert source.sample_per_file
    assert [(f.name, f.dtype, f.shape) for f in source.schema] == [
        ("image", "uint8", (None, None, 3)), ("label", "int32", ()), ("class_name", "string", ()),
    ]  # fmt: skip
    table = read(source)
    assert table.num_rows == len(source.files) == 7
    for row in table.to_pylist():
        assert row["image"] == (PHOTOS / row["_source"]).read_bytes()
        assert row["class_name"] == row["_source"].split("/")[0]
        assert row["label"] == ["nature", "space", "town"].index(row["class_name"])
    clean, rejects = Clean(source.schema)(table.combine_chunks().to_batches()[0])
    assert clean.num_rows == 7
    assert rejects.rows == []
    assert len(path_keys(clean["_source"].to_pylist())) == 7


def test_a_text_file_named_jpg_is_rejected_with_what_it_begins_with(tmp_path: Path) -> None:
    source = open_source("images", tree(tmp_path, "a/x.jpg"))
    batch = next(source.read(source.tasks(100)[0]))
    for decode in (True, False):
        clean, rejects = Clean(source.schema, CleanOptions(decode=decode))(batch)
        assert clean.num_rows == 0
        assert (rejects.rows, rejects.fields) == ([0], ["image"])
        assert rejects.reasons == ["not a jpeg, png, webp, jpegxl picture (it begins with b'bytes of')"]


def test_classes_are_the_first_folders_by_name(tmp_path: Path) -> None:
    source = open_source("images", tree(tmp_path, "dog/1.JPG", "cat/deep/2.png", "cat/3.webp", "ant/4.jpeg"))
    rows = [(r["_source"], r["label"], r["class_name"]) for r in read(source).to_pylist()]
    assert rows == [("ant/4.jpeg", 0, "ant"), ("cat/3.webp", 1, "cat"), ("cat/deep/2.png", 1, "cat"), ("dog/1.JPG", 2, "dog")]


def test_a_flat_folder_and_a_glob_of_one_have_no_labels(tmp_path: Path) -> None:
    tree(tmp_path, "dog/1.jpg", "dog/2.jpg")
    assert open_source("images", tmp_path / "dog").schema.names == ("image",)
    assert open_source("images", str(tmp_path / "dog/*.jpg")).schema.names == ("image",)
    assert open_source("images", str(tmp_path / "*/*.jpg")).schema.names == ("image", "label", "class_name")


def test_tasks_pack_files_by_bytes_and_any_cut_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source("images", tree(tmp_path, *(f"c{i % 3}/{i:02d}.png" for i in range(20))))
    whole = read(source).to_pylist()
    monkeypatch.setattr("shardwright.sources.whole_files.BATCH_BYTES", 50)
    assert [len(batch) for batch in source.read(source.tasks(10**6)[0])][:2] == [2, 2]
    for task_bytes in (1, 40, 100, 10**6):
        tasks = source.tasks(task_bytes)
        assert [file for task in tasks for file in task.files] == list(source.files)
        assert all(task.bytes <= task_bytes or len(task.files) == 1 for task in tasks)
        travelled = copy.deepcopy(source)
        assert [row for task in tasks for batch in travelled.read(task) for row in batch.to_pylist()] == whole


def test_fields_and_columns(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.png")
    source = open_source("images", tmp_path, fields={"image": {"shape": [8, 8]}}, columns=["label", "image"])
    assert source.schema.names == ("label", "image")
    assert source.schema["image"].shape == (8, 8)
    assert read(source).column_names == ["label", "image", "_source"]
    with pytest.raises(SchemaError, match=r"field 'imgae' is declared.*did you mean 'image'"):
        open_source("images", tmp_path, fields={"imgae": {}})


def test_skipped_files_are_named_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree(tmp_path, "a/1.png", "a/labels.csv", "a/x.gif", "README.md")
    assert len(open_source("images", tmp_path).files) == 1
    assert [r.message for r in caplog.records] == [
        "expected pictures (.jpg, .jpeg, .png, .webp): skipped 2 of 4 files: a/labels.csv, a/x.gif"
    ]


def test_what_can_not_be_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected pictures \(.jpg, .jpeg, .png, .webp\), found only .*x.gif"):
        open_source("images", tree(tmp_path / "none", "a/x.gif"))
    with pytest.raises(InputError, match=r"loose.jpg: expected every picture in a class folder such as 'a', found one beside"):
        open_source("images", tree(tmp_path / "mixed", "a/1.jpg", "loose.jpg"))
    tree(tmp_path / "roots", "one/a/1.jpg", "two/a/1.jpg")
    with pytest.raises(InputError, match=r"have the same name 'a/1.jpg' relative to their roots"):
        open_source("images", [tmp_path / "roots/one", tmp_path / "roots/two"])
    gone = open_source("images", tree(tmp_path / "gone", "a/1.jpg"))
    (tmp_path / "gone/a/1.jpg").unlink()
    with pytest.raises(InputError, match=r"1.jpg: can't be read \(No such file"):
        read(gone)
