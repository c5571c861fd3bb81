"""CSV: options, types, what a bad row says, and that no cut of a file changes what is read."""

from __future__ import annotations

import csv
import datetime
import gzip
import lzma
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwright.errors import ConfigError, InputError, SchemaError
from shardwright.sources import open_source
from shardwright.stages.clean import Clean
from shardwright.stages.read import AddKeys
from tests.unit.lines import read, reasons, rows

UTC = datetime.UTC


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_types_are_inferred_and_declared(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.csv",
        "i,f,b,s,t,day,zone,code,none\n1,0.5,true,x,2024-01-01 10:00:00,2024-01-01,2024-01-01T00:00:00+02:00,007,\n"
        "-2,1e3,false,,2024-01-01 10:00:00.25,1970-01-01,2024-01-01T00:00:00Z,12,\n",
    )
    source = open_source("csv", path, fields={"code": {"dtype": "string"}, "f": {"dtype": "float32"}})
    assert {field.name: field.dtype for field in source.schema} == {
        "i": "int64", "f": "float32", "b": "bool", "s": "string", "t": "timestamp", "day": "timestamp", "zone": "timestamp",
        "code": "string", "none": "string",
    }  # fmt: skip
    first, second = read(source).to_pylist()
    assert (first["code"], second["s"], second["f"], second["i"]) == ("007", "", 1000.0, -2)
    assert first["zone"] == datetime.datetime(2023, 12, 31, 22, tzinfo=UTC)
    assert second["day"] == datetime.datetime.fromisoformat("1970-01-01")
    clean, rejects = Clean(source.schema)(AddKeys(source.schema)(read(source).combine_chunks().to_batches()[0])[0])
    assert (clean.num_rows, rejects.rows) == (2, [])
    with pytest.raises(SchemaError, match=r"field 'i' is declared int64 \(2,\), which a column of int64 can't hold|list"):
        open_source("csv", path, fields={"i": {"shape": [2]}})


def test_a_bad_row_is_one_rejected_row(tmp_path: Path) -> None:
    good = "".join(f"{number},name {number},0.5\n" for number in range(300))
    bad = 'abc,q,2\n4,un"closed "q,3\n5,"open,3\n6,a\n7,a,b,c\n\n\r\n8,' + "\xff".encode("latin-1").decode("latin-1") + ",1\n"
    data = b"a,b,c\n" + good.encode() + bad.encode("latin-1") + b'9,c\rd,1\n\r9,c,1\n10,"x""y, z",2\r\n11,last,1'
    source = open_source("csv", write(tmp_path / "x.csv", data), fields={"a": {"dtype": "int64"}, "c": {"dtype": "float64"}})
    table = read(source)
    start = len(b"a,b,c\n" + good.encode())
    found = reasons(table)
    hint = "(values hold line ends? read.options.newlines_in_values = true), found"
    assert sorted(found.values()) == sorted(
        [
            "column 'a': expected int64, found 'abc'",
            f"expected quotes to be closed on their line {hint}: '5,\"open,3'",
            "expected 3 columns, found 2: '6,a'",
            "expected 3 columns, found 4: '7,a,b,c'",
            "column 'b': expected text in UTF-8, found '\\\\xff'",
            "expected one row, found a carriage return outside quotes: '9,c\\rd,1'",
            "expected one row, found a carriage return outside quotes: '\\r9,c,1'",
        ]
    )
    assert found[f"x.csv@{start}"] == "column 'a': expected int64, found 'abc'"
    last = {row["_source"]: row for row in table.to_pylist()}
    assert last[f"x.csv@{start}"] == {
        "a": None,
        "b": "q",
        "c": 2.0,
        "_source": f"x.csv@{start}",
        "_reject": found[f"x.csv@{start}"],
    }
    assert [row["b"] for row in table.to_pylist()[-2:]] == ['x"y, z', "last"]
    assert table.num_rows == 310
    kept, rejects = AddKeys(source.schema)(table.combine_chunks().to_batches()[0])
    assert (kept.num_rows, len(rejects.rows)) == (303, 7)


def test_booleans_are_spelled_as_the_options_say(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "a,b\nyes,1\nno,0\nYES,TRUE\n")
    table = read(open_source("csv", path, fields={"a": {"dtype": "bool"}, "b": {"dtype": "bool"}}))
    assert table["b"].to_pylist() == [True, False, True]
    assert set(reasons(table).values()) == {
        f"column 'a': expected bool (read.options.true_values, false_values), found '{value}'" for value in ("yes", "no", "YES")
    }
    source = open_source("csv", path, columns=["a"], options={"true_values": ["yes"], "false_values": ["no"]})
    assert source.schema["a"].dtype == "string"  # not all of them are
    path.write_text("a\nyes\nno\n")
    source = open_source("csv", path, options={"true_values": ["yes"], "false_values": ["no"]})
    assert read(source)["a"].to_pylist() == [True, False]


def test_whole_numbers_of_64_bits_keep_their_digits(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "id,f,neg\n18446744073709551615,1e19,-1\n1,2,18446744073709551615\n")
    source = open_source("csv", path)
    assert [field.dtype for field in source.schema] == ["uint64", "float64", "float64"]
    assert read(source)["id"].to_pylist() == [2**64 - 1, 1]


def test_times_with_and_without_a_zone(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "t\n2024-01-02T03:04:05+02:00\n2024-01-02T03:04:05\n")
    source = open_source("csv", path, fields={"t": {"dtype": "timestamp"}})
    told = "column 't': expected timestamp without a time zone, found '2024-01-02T03:04:05+02:00'"
    assert list(reasons(read(source)).values()) == [told]


def test_a_zero_byte_makes_one_line_bad_at_most(tmp_path: Path) -> None:
    lines = [b"%d,x" % number for number in range(300)]
    lines[7], lines[9] = b"7\0,x", b"9,x\0y"
    table = read(open_source("csv", write(tmp_path / "x.csv", b"a,b\n" + b"\n".join(lines)), fields={"a": {"dtype": "int64"}}))
    assert list(reasons(table).values()) == ["column 'a': expected int64, found '7\\x00'"]
    assert table["b"].to_pylist()[9] == "x\0y"


def test_a_bad_row_that_is_no_text_leaves_the_log_alone(tmp_path: Path) -> None:
    lines = [b"1,x,y"] * 700 + [b"3,\xe9", b"2,\xe9,z"] + [b"2,x,z"] * 700  # a warning would fail the test
    table = read(open_source("csv", write(tmp_path / "x.csv", b"a,b,c\n" + b"\n".join(lines))))
    assert list(reasons(table).values()) == [
        "expected 3 columns, found 2: '3,\\\\xe9'", "column 'b': expected text in UTF-8, found '\\\\xe9'",
    ]  # fmt: skip
    unread = open_source("csv", tmp_path / "x.csv", columns=["a"])
    assert list(reasons(read(unread)).values()) == ["expected 3 columns, found 2: '3,\\\\xe9'"]


def test_another_delimiter_further_on_is_told(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", "a,b\n1,2\n")
    write(tmp_path / "2.csv", "a;b\n1;2\n")
    with pytest.raises(InputError, match=r"2\.csv: expected columns separated by ',', found one column 'a;b'; set read\.opt"):
        open_source("csv", tmp_path)


@given(bad=st.sets(st.integers(0, 1400), max_size=60), data=st.data())
def test_bad_rows_are_found_wherever_they_are(
    bad: set[int], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kinds = ["x,1,a", "1,2", '1,"open,a', "1,2,3,4", "9\r,1,a", "1,1e,b", "1,2,\xff", '"1\r",2,b']
    lines = [f"{number},{number / 4},b".encode() for number in range(1401)]
    for number in bad:
        lines[number] = data.draw(st.sampled_from(kinds)).encode("latin-1")
    path = write(tmp_path_factory.mktemp("bad") / "x.csv", b"a,f,s\n" + b"\n".join(lines))
    fields = {"a": {"dtype": "int64"}, "f": {"dtype": "float64"}, "s": {"dtype": "string"}}
    table = read(open_source("csv", path, fields=fields))
    assert [row for row, reason in enumerate(table["_reject"].to_pylist()) if reason] == sorted(bad)
    assert all(table["a"][row].as_py() == row for row in range(1401) if row not in bad)


def test_options(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "A b;c\n'x;y';1,5\n\\'z;NA\n")
    table = rows("csv", path, delimiter=";", quote="'", escape="\\", names=["a", "c"], decimal_point=",", null_values=["NA"])
    assert [(row["a"], row["c"]) for row in table] == [("x;y", 1.5), ("'z", None)]
    path = write(tmp_path / "y.csv", '1,,""\n')
    row = rows("csv", path, header=False, names=["a", "b", "c"], null_strings=True)[0]
    assert (row["a"], row["b"], row["c"], row["_source"]) == (1, None, "", "y.csv@0")
    path = write(tmp_path / "z.csv", "t\n03/02/2024\n")
    assert rows("csv", path, timestamp_formats=["%d/%m/%Y"])[0]["t"] == datetime.datetime.fromisoformat("2024-02-03")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimeter": ";"}, r"\[read.options\] of format 'csv': no option 'delimeter'; did you mean 'delimiter'"),
        ({"delimiter": "ab"}, r"delimiter: .*expected one ASCII character that is no letter, digit or line end, found 'ab'"),
        ({"quote": ","}, r"expected delimiter, quote and escape to differ, found \[',', ','\]"),
        ({"header": False}, r"header = false needs the names of the columns"),
        ({"names": ["a", "a"]}, r"expected names that differ"),
        ({"encoding": "utf-9"}, r"no encoding 'utf-9'; for instance utf-8, utf-16"),
        ({"encoding": "base64"}, r"no encoding 'base64'"),
        ({"quote": None, "newlines_in_values": True}, r"newlines_in_values needs a quote"),
        ({"true_values": ["y"], "false_values": ["y"]}, r"csv': expected true_values and false_values to differ, found 'y'"),
        ({"max_line_bytes": 0}, r"max_line_bytes: Input should be greater than or equal to 1"),
    ],
)
def test_bad_options_are_told(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_source("csv", write(tmp_path / "x.csv", "a,b\n1,2\n"), options=options)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a;b;c\n1;2;3\n", r"expected columns separated by ',', found one column 'a;b;c'; set read.options.delimiter = ';'"),
        (b"a\tb\n1\t2\n", r"set read.options.delimiter = '\\t'"),
        ("a,b\n1,2\n".encode("utf-16"), r"found a byte order mark of utf-16; set read.options.encoding = 'utf-16'"),
        ("a,b\n1,2\n".encode("utf-32"), r"found a byte order mark of utf-32; set read.options.encoding = 'utf-32'"),
        ("a,b\n1,2\n".encode("utf-16-le"), r"expected text in UTF-8, found zero bytes; is it UTF-16 or UTF-32"),
        ("a,b\n1,ä\n".encode("latin-1"), r"found b'1,\\xe4'; set read.options.encoding, for instance to 'latin-1'"),
        (b'a,"b\n1,2\n', r"expected a line that names the columns, found a quote left open in 'a,\"b'"),
        (b"\n\n", r"expected a line that names the columns, found none"),
        (b"", r"expected samples, found 1 empty file"),
        (b"a,b\r1,2\r", r"found carriage returns in place of line feeds in 'a,b\\r1,2"),
        (b"PK\3\4 and so on", r"expected text, plain or compressed by gzip, .*, found a zip archive; unpack it"),
        (b"a,a\n1,2\n", r"column 'a' is there twice"),
        (
            b"a,x y\n1,2\n",
            r"column 'x y' can't be a field: .*read\.rename = { x_y = \"x y\" }, or leave it out by read.columns",
        ),
    ],
)
def test_what_is_no_such_file_is_told(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises((InputError, SchemaError), match=message):
        open_source("csv", write(tmp_path / "x.csv", data))


def test_encodings_and_marks(tmp_path: Path) -> None:
    text = "name,x\nÄrger,1\n北京,2\n"
    for encoding in ("utf-8-sig", "utf-16", "utf-16-be", "utf-32", "gb18030"):
        path = write(tmp_path / f"{encoding}.csv", text.replace("Ä", "A").encode(encoding))
        table = rows("csv", path, encoding=encoding)
        assert [(row["name"], row["x"]) for row in table] == [("Arger", 1), ("北京", 2)]
    marked = rows("csv", write(tmp_path / "bom.csv", text.encode("utf-8-sig")))
    assert [row["_source"] for row in marked] == ["bom.csv@10", "bom.csv@19"]
    path = write(tmp_path / "wrong.csv", b"a,b\n" + b"1,x\n" * 10**6 + b"\x81\n")
    with pytest.raises(
        InputError, match=r"wrong\.csv: expected text in cp1252, found bytes that are none .*set read.options.enc"
    ):
        rows("csv", path, encoding="cp1252")


def test_files_have_to_agree_on_their_columns_in_any_order(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "x,y\n1,2\n")
    write(tmp_path / "b.csv", "y,x\n4,3\n")
    write(tmp_path / "c.csv", "")
    write(tmp_path / "README.md", "about")
    table = read(open_source("csv", tmp_path))
    assert [(row["x"], row["y"]) for row in table.to_pylist()] == [(1, 2), (3, 4)]
    write(tmp_path / "d.csv", "x,z\n1,2\n")
    with pytest.raises(
        InputError, match=r"d\.csv: expected the columns of .*a\.csv, found others \('y': int64 there, none here; 'z'"
    ):
        open_source("csv", tmp_path)
    assert read(open_source("csv", tmp_path, columns=["x"]))["x"].to_pylist() == [1, 3, 1]


def test_partitions_are_columns(tmp_path: Path) -> None:
    write(tmp_path / "day=1/a.csv", "x\n5\n")
    write(tmp_path / "day=2/a.csv", "x\nbad\n")
    rows_ = read(open_source("csv", tmp_path, columns=["day"])).to_pylist()
    assert [(row["day"], row["_reject"]) for row in rows_] == [(1, None), (2, None)]


def test_types_come_from_the_first_file_with_rows_and_hold_everywhere(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "x\n")
    write(tmp_path / "b.csv", "x\n1\n")
    write(tmp_path / "c.csv", "x\n1.5\nq\n3\n")
    table = read(open_source("csv", tmp_path))
    assert table["x"].to_pylist() == [1, None, None, 3]
    assert list(reasons(table).values()) == ["column 'x': expected int64, found '1.5'", "column 'x': expected int64, found 'q'"]


TABLE = "a,b\n" + "".join(f'{n},"v {n} {"é" * (n % 7)}"\r\n' if n % 3 else f"{n},plain\n\n" for n in range(400))


@pytest.mark.parametrize("unit", [1, 7, 100, 1000, 2**24])
def test_any_unit_and_chunk_read_the_same(tmp_path: Path, unit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = (TABLE + "bad,row,here\n" + TABLE.partition("\n")[2]).encode().rstrip(b"\r\n")
    path = write(tmp_path / "x.csv", data)
    whole = read(open_source("csv", path))
    assert whole.num_rows == 801
    assert len(reasons(whole)) == 1
    for row in whole.to_pylist():
        place = int(row["_source"].partition("@")[2])
        assert row["_reject"] or data[place:].startswith(str(row["a"]).encode())
    monkeypatch.setattr("shardwright.sources.lines.UNIT_BYTES", unit)
    monkeypatch.setattr("shardwright.sources.line_reader.UNIT_BYTES", unit)
    monkeypatch.setattr("shardwright.sources.lines.CHUNK_BYTES", 333)
    source = open_source("csv", path)
    assert len(source.tasks(max(unit, len(data) // 20))) == min(20, -(-len(data) // unit)) or unit in (1, 7, 100, 1000)
    assert read(source, len(data) // 20).to_pydict() == whole.to_pydict()


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst", ".lz4", ".xz", ""])
def test_compressed_files_are_known_by_their_first_bytes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.csv{suffix}"
    if suffix == ".xz":
        write(path, lzma.compress(TABLE.encode()))
    else:
        codec = {".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}.get(suffix, "gzip")
        with pa.output_stream(str(path), codec) as out:
            out.write(TABLE.encode())
    data = path.read_bytes()
    source = open_source("csv", path)
    assert len(source.tasks(1)) == 1
    assert read(source)["a"].to_pylist() == list(range(400))
    write(path, data[:-12])
    with pytest.raises(InputError, match=r"x\.csv.*: expected a whole compressed file, found damage"):
        read(open_source("csv", path))
    if suffix:
        write(path, TABLE)
        with pytest.raises(
            InputError, match=r"expected a file compressed with \w+, as its name says, found one that begins with"
        ):
            open_source("csv", path)


def test_gzip_of_several_members(tmp_path: Path) -> None:
    path = write(tmp_path / "x.gz", gzip.compress(b"a\n1\n") + gzip.compress(b"2\n3"))
    assert [row["a"] for row in rows("csv", path)] == [1, 2, 3]


def test_a_line_that_is_too_long_is_one_rejected_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.csv", "a,b\n1,x\n2," + "y" * 5000 + "\n3,z\n4," + "w" * 5000)
    for chunk in (100, 2**20):
        monkeypatch.setattr("shardwright.sources.lines.CHUNK_BYTES", chunk)
        table = read(open_source("csv", path, options={"max_line_bytes": 1000}))
        assert table["a"].to_pylist() == [1, None, 3, None]
        assert list(reasons(table)) == ["x.csv@8", "x.csv@5015"]
        assert reasons(table)["x.csv@8"].startswith(
            "expected a line of at most 1000 bytes (read.options.max_line_bytes), found a longer one: '2,yyy"
        )
    assert len(rows("csv", path)[1]["b"]) == 5000


def test_an_open_quote_in_a_file_of_long_records(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", 'a,b\n1,"two\nlines"\n2,5" disk\n3,"op\n4,z\n')
    table = read(open_source("csv", path, options={"newlines_in_values": True}))
    assert [(row["a"], row["b"]) for row in table.to_pylist()] == [(1, "two\nlines"), (2, '5" disk'), (None, None), (4, "z")]
    assert list(reasons(table).values()) == [
        "expected a quote that is closed within 67108864 bytes (read.options.max_line_bytes), found '3,\"op'"
    ]


def test_a_file_that_changes_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "a\n1\n")
    for change in (lambda: write(path, "a\n1\n2\n"), path.unlink):
        source = open_source("csv", path)
        change()
        with pytest.raises(InputError, match=r"x\.csv: (was changed while it was read|can't be read .*it was removed after)"):
            read(source)


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8) | st.sampled_from(
    ['"', "\n", "\r\n", ",", "x\ry"]
)


@given(
    st.lists(
        st.tuples(TEXTS, st.none() | st.integers(-(2**63), 2**63 - 1), st.none() | FLOATS),
        min_size=1, max_size=20,
    ),
    st.integers(1, 200), st.sampled_from(["\n", "\r\n"]), st.booleans(),
)  # fmt: skip
def test_what_python_writes_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    table: list[tuple[str, int | None, float | None]],
    unit: int,
    end: str,
    lines: bool,
) -> None:
    if end == "\n":  # Python leaves a carriage return unquoted then
        table = [(text.replace("\r", " "), i, f) for text, i, f in table]
    if not lines:  # a line is a row: values with line ends are for the other mode
        table = [(text.replace("\n", " ").replace("\r", " "), i, f) for text, i, f in table]
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator=end)
        writer.writerow(["s", "i", "f"])
        writer.writerows([(s, i, None if f is None else repr(f)) for s, i, f in table])
    declared = {"s": {"dtype": "string"}, "i": {"dtype": "int64"}, "f": {"dtype": "float64"}}
    with pytest.MonkeyPatch.context() as patch:
        for module in ("lines", "line_reader"):
            patch.setattr(f"shardwright.sources.{module}.UNIT_BYTES", unit)
        patch.setattr("shardwright.sources.lines.CHUNK_BYTES", 50)
        patch.setattr("shardwright.sources.csv_records.CHUNK_BYTES", 50)
        found = read(open_source("csv", path, fields=declared, options={"newlines_in_values": lines}), unit).to_pylist()
    assert [(row["s"], row["i"], row["f"]) for row in found] == table
    assert not any(row["_reject"] for row in found)
