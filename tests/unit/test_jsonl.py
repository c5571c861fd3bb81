"""JSON Lines: types, bad lines, and that no cut of a file changes what is read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwright.errors import ConfigError, InputError, SchemaError
from shardwright.sources import open_source
from shardwright.stages.clean import Clean
from shardwright.stages.read import AddKeys
from tests.unit.lines import read, reasons, rows


def write(path: Path, *values: Any) -> Path:
    """Values as JSON; bytes as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join((v if isinstance(v, bytes) else json.dumps(v).encode()) + b"\n" for v in values))
    return path


def test_types(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.jsonl",
        {"i": 1, "f": 1, "b": True, "s": "a", "v": [1, 2], "w": [1, 0.5], "big": 2**63, "t": "2024-01-01T00:00:00", "n": None},
        {"i": -1, "f": 0.5, "b": None, "s": "ä", "v": [], "w": [3], "big": 1, "later": 5},
    )
    source = open_source("jsonl", path, fields={"t": {"dtype": "timestamp"}, "v": {"dtype": "uint8"}})
    assert {f.name: (f.dtype, f.shape) for f in source.schema} == {
        "i": ("int64", ()), "f": ("float64", ()), "b": ("bool", ()), "s": ("string", ()), "v": ("uint8", (None,)),
        "w": ("float64", (None,)), "big": ("uint64", ()), "t": ("timestamp", ()), "n": ("string", ()), "later": ("int64", ()),
    }  # fmt: skip
    first, second = read(source).to_pylist()
    assert (first["big"], first["v"], first["t"].year, first["later"]) == (2**63, [1, 2], 2024, None)
    assert (second["f"], second["s"], second["v"]) == (0.5, "ä", [])
    assert int(second["_source"].removeprefix("x.jsonl@")) == path.read_bytes().index(b'{"i": -1')


def test_lists_of_numbers_are_arrays(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", {"v": [1, 2.5]}, {"v": [3]}, {"v": [1, None]}, {"v": [4, 5]})
    source = open_source("jsonl", path, fields={"v": {"dtype": "float32", "shape": [2]}})
    clean, rejects = Clean(source.schema)(AddKeys(source.schema)(read(source).slice(0, 2).combine_chunks().to_batches()[0])[0])
    assert (clean.num_rows, rejects.reasons) == (1, ["expected shape (2,), found (1,)"])
    _, rejects = Clean(source.schema)(read(source).combine_chunks().to_batches()[0])
    assert "a null inside the array" in rejects.reasons


def test_a_bad_line_is_one_rejected_row(tmp_path: Path) -> None:
    good = [{"x": number, "s": "a"} for number in range(200)]
    bad = [
        {"x": "q", "s": "b"}, b"not json", [1], {"x": 1, "s": "a", "zz": 1}, b'{"x":1,"x":2,"s":"a"}', {"x": 1.5, "s": "c"},
        b'{"x":', b'1,"s":"a"}', b'{"x":1,"s":"a"}{"x":2,"s":"a"}', {"x": 2**70, "s": "d"}, {"x": {"y": 1}, "s": "e"},
    ]  # fmt: skip
    # more than 4 MiB of good ones, so that the types are known before
    filler = b"".join(json.dumps({"x": n, "s": "-" * 1000}).encode() + b"\n" for n in range(6500))
    path = write(tmp_path / "x.jsonl", filler.rstrip(), *good, *bad, b"  ", b' \t{"x":7,"s":"a"} \r')
    table = read(open_source("jsonl", path))
    found = list(reasons(table).values())
    assert found == [
        "column 'x': expected int64, found '\"q\"'",
        "expected a JSON object, found 'not json' (Expecting value: line 1 column 1 (char 0))",
        "expected a JSON object, found '[1]'",
        "unknown key 'zz': declare it in read.fields, or name the fields to read in read.columns",
        'expected a JSON object with each key once, found \'{"x":1,"x":2,"s":"a"}\'',
        "column 'x': expected int64, found '1.5'",
        "expected a JSON object, found '{\"x\":' (Expecting value: line 1 column 6 (char 5))",
        'expected a JSON object, found \'1,"s":"a"}\' (Extra data: line 1 column 2 (char 1))',
        'expected a JSON object, found \'{"x":1,"s":"a"}{"x":2,"s":"a"}\' (Extra data: line 1 column 16 (char 15))',
        f"column 'x': expected int64, found '{2**70}'",
        "column 'x': expected int64, found '{\"y\": 1}'",
    ]
    assert table.num_rows == 6500 + 200 + 11 + 1
    assert table["x"][-1].as_py() == 7
    assert [row["s"] for row in table.to_pylist() if row["_reject"]][:2] == ["b", None]


def test_nested_values_are_refused_as_those_of_parquet_are(tmp_path: Path) -> None:
    for value in ({"a": 1}, ["a"], [[1, 2]], [{"a": 1}]):
        path = write(tmp_path / "x.jsonl", {"x": value, "y": 1}, {"y": 2})
        with pytest.raises(
            SchemaError, match=r"x\.jsonl: column 'x' has a type that no field can have \(.*\); leave it out by read.columns"
        ):
            open_source("jsonl", path)
        assert read(open_source("jsonl", path, columns=["y"]))["y"].to_pylist() == [1, 2]


def test_declared_keys_need_not_be_at_the_beginning(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", {"x": 1}, {"x": 2, "y": 3})
    source = open_source("jsonl", path, fields={"z": {"dtype": "int8", "nullable": True}})
    assert source.schema.names == ("x", "y", "z")
    assert read(source)["z"].to_pylist() == [None, None]
    write(tmp_path / "y.jsonl", {"x": 3, "later": 1})
    assert next(iter(reasons(read(open_source("jsonl", tmp_path))).values())).startswith("unknown key 'later': declare it")
    assert read(open_source("jsonl", tmp_path, columns=["x"]))["x"].to_pylist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[\n1,\n2]", r"expected a JSON object a line, found none; is it one document or a list\?"),
        (b"", r"expected samples, found 1 empty file"),
        ('{"a": 1}\n'.encode("utf-16"), r"byte order mark of utf-16; set read.options.encoding = 'utf-16'"),
        ('{"a": "ä"}\n'.encode("latin-1"), r"expected text in UTF-8, found b'.*'; set read.options.encoding"),
        (gzip.compress(b'{"a": 1}\n' * 100)[:-9], r"expected a whole compressed file, found damage"),
    ],
)
def test_what_is_no_such_file_is_told(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message):
        read(open_source("jsonl", path))
    with pytest.raises(ConfigError, match=r"no option 'encodign'; did you mean 'encoding'"):
        open_source("jsonl", path, options={"encodign": "utf-16"})


def test_a_line_of_megabytes_works_or_is_one_rejected_row(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", {"s": "a"}, {"s": "b" * 10**7}, {"s": "c"})
    assert [len(row["s"]) for row in rows("jsonl", path)] == [1, 10**7, 1]
    table = read(open_source("jsonl", path, options={"max_line_bytes": 10**6}))
    assert table["s"].to_pylist() == ["a", None, "c"]
    assert next(iter(reasons(table).values())).startswith("expected a line of at most 1000000 bytes")


TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
VALUES = st.fixed_dictionaries(
    {
        "s": st.none() | TEXTS,
        "i": st.none() | st.integers(-(2**63), 2**63 - 1),
        "f": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "b": st.none() | st.booleans(),
        "v": st.none() | st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4),
    }
)
DECLARED = {"s": "string", "i": "int64", "f": "float64", "b": "bool", "v": "int32"}


@given(
    st.lists(VALUES, min_size=1, max_size=20),
    st.integers(1, 200),
    st.sampled_from(["\n", "\r\n", "\n\n", " \n"]),
    st.booleans(),
)
def test_what_python_writes_comes_back(
    tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, Any]], unit: int, end: str, ascii_only: bool
) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "x.jsonl"
    text = end.join(json.dumps({k: v for k, v in value.items() if v is not None}, ensure_ascii=ascii_only) for value in values)
    path.write_bytes(text.encode())
    fields: dict[str, Any] = {name: {"dtype": dtype} for name, dtype in DECLARED.items()}
    fields["v"]["shape"] = [None]
    with pytest.MonkeyPatch.context() as patch:
        for module in ("lines", "line_reader"):
            patch.setattr(f"shardwright.sources.{module}.UNIT_BYTES", unit)
        patch.setattr("shardwright.sources.lines.CHUNK_BYTES", 50)
        found = read(open_source("jsonl", path, fields=fields), unit).to_pylist()
    assert [{name: row[name] for name in DECLARED} for row in found] == values
    assert not any(row["_reject"] for row in found)
