"""WebDataset tars as an input: what members become, and what can't be read. tests/interchange reads the library's own."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from shardwright.codecs import encode_npy
from shardwright.errors import ConfigError, InputError, SchemaError
from shardwright.format.features import FEATURES, Features
from shardwright.schema import Field
from shardwright.sources import open_source, webdataset
from shardwright.sources.base import Source
from shardwright.stages.clean import Clean

Members = Sequence[tuple[str, bytes]]


def write(path: Path, members: Members) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def read(source: Source, task_bytes: int = 2**26) -> pa.Table:
    return pa.Table.from_batches([batch for task in source.tasks(task_bytes) for batch in source.read(task)])


def test_samples_are_members_side_by_side(tmp_path: Path) -> None:
    write(
        tmp_path / "a.tar",
        [("x/1.txt", b"one"), ("x/1.CLS", b" 7\n"), ("y/1.txt", b"other"), ("y/1.cls", b"8"), ("x/1.cls", b"9")],
    )
    write(
        tmp_path / "b.tgz", [("__meta__/a.json", b"{}"), ("README", b"hi"), (".hidden", b"x"), ("2.cls", b"-1"), ("2.txt", b"")]
    )
    (tmp_path / "notes.md").write_text("no data")
    source = open_source("webdataset", tmp_path, rename={"key": "__key__"})
    table = read(source)
    assert table["key"].to_pylist() == ["x/1", "y/1", "x/1", "2"]
    assert table["cls"].to_pylist() == [7, 8, 9, -1]
    assert table["txt"].to_pylist() == [b"one", b"other", None, b""]
    assert table["_source"].to_pylist() == ["a.tar#x/1", "a.tar#y/1", "a.tar#x/1", "b.tgz#2"]
    assert read(source, 1).equals(table)
    assert [file.name for file in source.files] == ["a.tar", "b.tgz"]
    assert Clean(source.schema)(table.combine_chunks().to_batches()[0])[1].reasons == ["null in a field that is not nullable"]


def test_what_members_are_by_their_extensions(tmp_path: Path) -> None:
    values = {
        "jpg": b"\xff\xd8", "a.png": b"\x89PNG", "gif": b"GIF", "json": b"{}", "id": b"5", "bin": b"\0",
        "npy": encode_npy(np.zeros((2, 3), "<i2")), "txt.gz": b"\x1f",
    }  # fmt: skip
    write(tmp_path / "a.tar", [(f"0.{name}", content) for name, content in values.items()])
    source = open_source("webdataset", tmp_path, rename={"a": "a.png", "zipped": "txt.gz"})
    assert {field.name: (field.dtype, field.shape, field.is_image) for field in source.schema} == {
        "a": ("uint8", (None, None, 3), True), "bin": ("bytes", (), False), "gif": ("bytes", (), False),
        "id": ("int64", (), False), "jpg": ("uint8", (None, None, 3), True), "json": ("string", (), False),
        "npy": ("int16", (2, 3), False), "zipped": ("bytes", (), False),
    }  # fmt: skip
    with pytest.raises(
        SchemaError, match=r"columns 'a.png', 'txt.gz' can't be fields: .* read.rename = \{ a_png = \"a.png\", txt_gz"
    ):
        open_source("webdataset", tmp_path)


def test_declared_fields(tmp_path: Path) -> None:
    write(
        tmp_path / "a.tar",
        [("0.id", b"n0153"), ("0.txt", b"0.5"), ("0.cls", b"1000000"), ("0.bin", b"\1\0\2\0"), ("0.json", b"1")],
    )
    fields: dict[str, Any] = {
        "id": {"dtype": "string"}, "txt": {"dtype": "float32"}, "cls": {"dtype": "timestamp"},
        "bin": {"dtype": "uint16", "shape": [2]}, "json": {"dtype": "bool", "nullable": True},
    }  # fmt: skip
    source = open_source("webdataset", tmp_path, fields=fields)
    clean, rejects = Clean(source.schema)(read(source).combine_chunks().to_batches()[0])
    assert not rejects.reasons
    row = clean.to_pylist()[0]
    assert (row["id"], row["txt"], row["json"], row["bin"]) == ("n0153", 0.5, True, b"\1\0\2\0")
    assert clean["cls"].cast(pa.int64()).to_pylist() == [1_000_000]


def test_the_option_members(tmp_path: Path) -> None:
    write(
        tmp_path / "a.tar",
        [("0.jpg", b"j"), ("0.cls", b"0"), ("1.PNG", b"p"), ("1.cls", b"1"), ("1.more", b""), ("2.cls", b"2")],
    )
    options = {"members": {"image": "jpg;png", "label": "cls"}}
    table = read(open_source("webdataset", tmp_path, options=options))
    assert table["image"].to_pylist() == [b"j", b"p", None]
    assert table["_reject"].null_count == 3
    with pytest.raises(ConfigError, match=r"members: image: expected extensions such as 'jpg;png', found 'jpg;'"):
        open_source("webdataset", tmp_path, options={"members": {"image": "jpg;"}})


def test_bad_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shardwright.sources.webdataset_columns.LOOKED_AT", 1)
    monkeypatch.setattr(webdataset, "MAX_VALUE_BYTES", 20)
    members = [
        ("0.cls", b"0"), ("0.txt", b"good"), ("1.cls", b"one"), ("1.txt", b"x"), ("2.cls", b"2"), ("2.cls", b"2"),
        ("3.cls", b"3"), ("3.new", b"x"), ("4.cls", b"\xff"), ("5.txt", b"x" * 15), ("5.cls", b"00000000"), ("6.cls", b"6"),
    ]  # fmt: skip
    table = read(open_source("webdataset", write(tmp_path / "a.tar", members)))
    assert table["_reject"].to_pylist() == [
        None, "member 'cls': expected int64, found one", "two members with the extension 'cls'",
        "a member 'new', which the first samples do not have; name those to read by the option `members`",
        "member 'cls': expected int64, found bytes that are no text: b'\\xff'",
        "expected at most 20 bytes in all members together, found more", None,
    ]  # fmt: skip


def test_a_link_makes_a_sample_bad(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("0.txt", tarfile.REGTYPE), ("1.txt", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    table = read(open_source("webdataset", tmp_path))
    assert table["txt"].to_pylist() == [b"", None]
    assert table["_reject"].to_pylist()[1] == "member 'txt': a symbolic link, which is not followed; store the file itself"


@pytest.mark.parametrize("extension", ["pyd", "pickle", "pkl", "pth", "pt", "model.PTH"])
def test_pickles_are_never_read(extension: str, tmp_path: Path) -> None:
    write(tmp_path / "a.tar", [("0.cls", b"1"), (f"0.{extension}", b"cos\nsystem\n(S'false'\ntR.")])
    with pytest.raises(InputError, match=r"a.tar: found members that are pickles \(\*\..*, which can run any code"):
        open_source("webdataset", tmp_path)
    assert read(open_source("webdataset", tmp_path, columns=["cls"]))["cls"].to_pylist() == [1]
    rename = {"kept": extension.lower()}
    kept = open_source("webdataset", tmp_path, rename=rename, fields={"kept": {"dtype": "bytes"}})
    assert read(kept)["kept"].to_pylist() == [b"cos\nsystem\n(S'false'\ntR."]


def test_arrays_whose_sizes_vary_and_arrays_that_are_none(tmp_path: Path) -> None:
    cells = [encode_npy(np.ones((rows, 2), np.float32)) for rows in (1, 2, 3)]
    path = write(
        tmp_path / "a.tar", [(f"{row}.npy", cell) for row, cell in enumerate([*cells, b"none", encode_npy(np.ones(2))])]
    )
    source = open_source("webdataset", path)
    assert (source.schema["npy"].dtype, source.schema["npy"].shape) == ("float32", (None, 2))
    assert len(Clean(source.schema)(read(source).combine_chunks().to_batches()[0])[1].reasons) == 2
    objects = io.BytesIO()
    np.save(objects, np.array([{}], object))
    scalar = io.BytesIO()
    np.save(scalar, np.array(1))
    for content, problem in (
        (objects.getvalue(), "pickled Python objects"),
        (b"none", "magic"),
        (scalar.getvalue(), r"shape \(\)"),
    ):
        with pytest.raises(InputError, match=rf"expected arrays of numbers in \*.npy, found something else .*{problem}"):
            open_source("webdataset", write(tmp_path / "b.tar", [("0.npy", content)]))


def test_what_an_export_noted(tmp_path: Path) -> None:
    fields = (Field(name="Age", dtype="uint64", nullable=True), Field(name="when", dtype="timestamp"))
    (tmp_path / FEATURES).write_text(Features(fields=fields).model_dump_json())
    write(tmp_path / "train/a.tar", [("0.age.cls", b"18446744073709551615"), ("0.when.cls", b"-5"), ("1.when.cls", b"7")])
    source = open_source("webdataset", tmp_path)
    assert source.schema.fields == fields
    assert read(source)["Age"].to_pylist() == [2**64 - 1, None]
    assert read(source)["when"].cast(pa.int64()).to_pylist() == [-5, 7]


def test_errors(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"expected tar files \(.tar, .tar.gz, .tgz, …\), found only .*a.txt"):
        open_source("webdataset", tmp_path)
    with pytest.raises(
        InputError, match=r"b.tar: expected members with a key and an extension, such as '0001.jpg', found none"
    ):
        open_source("webdataset", write(tmp_path / "b.tar", [("README", b"")]))
    many = [(f"0.x{number}", b"") for number in range(1001)]
    with pytest.raises(InputError, match=r"c.tar: expected at most 1000 extensions of members in the first 100 samples"):
        open_source("webdataset", write(tmp_path / "c.tar", many))
