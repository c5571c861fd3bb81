"""Text: a line is a sample, or a file is."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwright.errors import ConfigError, InputError
from shardwright.sources import open_source
from shardwright.stages.clean import Clean
from shardwright.stages.read import AddKeys
from tests.unit.lines import read, reasons, rows


def test_a_line_is_a_sample_and_an_empty_one_too(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\ntwo \r three\n  four")
    source = open_source("text", path)
    assert [(f.name, f.dtype) for f in source.schema] == [("text", "string")]
    assert not source.sample_per_file
    assert [(row["text"], row["_source"]) for row in read(source).to_pylist()] == [
        ("one", "x.txt@3"), ("", "x.txt@8"), ("two \r three", "x.txt@9"), ("  four", "x.txt@21"),
    ]  # fmt: skip


def test_what_is_no_text_is_told_or_rejected(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"good\n" * 200 + b"b\xffd\n")
    source = open_source("text", path)
    clean, rejects = Clean(source.schema)(AddKeys(source.schema)(read(source).combine_chunks().to_batches()[0])[0])
    assert (clean.num_rows, rejects.rows, rejects.reasons) == (200, [200], ["a string that is not UTF-8: b'b\\xffd'"])
    path.write_bytes("für\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"x\.txt: expected text in UTF-8, found b'f\\xfcr'; set read.options.encoding"):
        open_source("text", path)
    assert [row["text"] for row in rows("text", path, encoding="latin-1")] == ["für"]
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0")
    with pytest.raises(InputError, match=r"found zero bytes; is it UTF-16"):
        open_source("text", path)
    with pytest.raises(ConfigError, match=r"\[read.options\] of format 'text': sample: Input should be 'line' or 'file'"):
        open_source("text", path, options={"sample": "word"})


def test_a_file_is_a_sample(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.txt").write_text("one\ntwo\n", encoding="utf-8")
    (tmp_path / "a/2.txt.gz").write_bytes(gzip.compress(b"drei\n"))
    (tmp_path / "a/3.txt").write_bytes("vier\n".encode("utf-16"))
    (tmp_path / "a/4.txt").write_bytes(b"")
    (tmp_path / "a/5.txt.gz").write_bytes(gzip.compress(b"five" * 100)[:-9])
    source = open_source("text", tmp_path, options={"sample": "file"})
    assert source.sample_per_file
    table = read(source)
    assert table["text"].to_pylist() == ["one\ntwo\n", "drei\n", None, "", None]
    found = reasons(table)
    assert found["a/3.txt"] == "expected text in utf-8, found a byte order mark of utf-16; set read.options.encoding = 'utf-16'"
    assert found["a/5.txt.gz"].startswith("expected a whole compressed file, found damage")
    assert rows("text", tmp_path / "a/3.txt", sample="file", encoding="utf-16")[0]["text"] == "vier\n"


def test_a_line_that_is_too_long_is_one_rejected_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"a\n" + b"b" * 1001 + b"\n" + b"c" * 1000 + b"\r\n" + b"d" * 5000 + b"\nlast")
    for chunk in (10, 999, 2**20):
        monkeypatch.setattr("shardwright.sources.lines.CHUNK_BYTES", chunk)
        table = read(open_source("text", path, options={"max_line_bytes": 1000}))
        assert table["text"].to_pylist() == ["a", None, "c" * 1000, None, "last"]
        assert list(reasons(table)) == ["x.txt@2", f"x.txt@{2 + 1002 + 1002}"]


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r"), max_size=6), min_size=1, max_size=30),
    st.integers(1, 60), st.integers(1, 40), st.sampled_from(["\n", "\r\n"]), st.booleans(),
)  # fmt: skip
def test_any_cut_reads_the_lines(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], unit: int, chunk: int, end: str, ended: bool
) -> None:
    text = end.join(lines) + (end if ended else "")
    path = tmp_path_factory.mktemp("text") / "x.txt"
    path.write_bytes(text.encode())
    expected = text.replace("\r\n", "\n").split("\n")
    expected = expected[:-1] if not expected[-1] else expected  # what follows the last line end is no line
    if not text:
        return
    with pytest.MonkeyPatch.context() as patch:
        for module in ("lines", "line_reader"):
            patch.setattr(f"shardwright.sources.{module}.UNIT_BYTES", unit)
        patch.setattr("shardwright.sources.lines.CHUNK_BYTES", chunk)
        source = open_source("text", path)
        found = read(source, unit)
    assert found["text"].to_pylist() == expected
    for row in found.to_pylist():
        place = int(row["_source"].partition("@")[2])
        assert text.encode()[place:].startswith(row["text"].encode())
