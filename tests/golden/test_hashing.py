"""What decides where a sample goes must be the same for ever: by numbers in hashing.json, and by plain Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from shardwright.format.canonical import canonical_json, canonical_sha256
from shardwright.hashing import Permutation, keyed_hash, path_keys, place_keys, sample_keys
from shardwright.hashing.sample_key import KeyColumn, key_column
from shardwright.schema import Field, Schema
from shardwright.stages.split import Split, SplitOptions
from tests.golden import documented

VECTORS: dict[str, list[dict[str, Any]]] = json.loads((Path(__file__).parent / "hashing.json").read_text(encoding="utf-8"))
_ARROW = {"string": pa.string(), "bytes": pa.binary(), "timestamp": pa.timestamp("us"), "float16": pa.float16()}


def cases(name: str) -> pytest.MarkDecorator:
    entries = VECTORS[name]
    return pytest.mark.parametrize(
        "case", entries, ids=[str(entry.get("name", number)) for number, entry in enumerate(entries)]
    )


@cases("sample_keys")
def test_sample_keys(case: dict[str, Any]) -> None:
    rows = len(case["keys"])
    found = sample_keys([_column(column) for column in case["columns"]], rows)
    assert [key.tobytes().hex() for key in found] == case["keys"]
    for row, key in enumerate(case["keys"]):
        fields = (documented.canonical_bytes(c["dtype"], c["shape"], _values(c)[row]) for c in case["columns"])
        assert documented.sample_key(*fields).hex() == key


@cases("path_keys")
def test_path_keys(case: dict[str, Any]) -> None:
    assert path_keys([case["path"]])[0].tobytes().hex() == case["key"]
    assert documented.sample_key(documented.canonical_bytes("path", (), case["path"])).hex() == case["key"]


def test_keyed_hash() -> None:
    for case in VECTORS["keyed_hash"]:
        key = bytes.fromhex(case["key"])
        found = keyed_hash(case["seed"], case["purpose"], _matrix(key), np.array([case["occurrence"]], np.uint32))
        assert f"{found[0]:016x}" == case["hash"]
        assert f"{documented.keyed_hash(case['seed'], case['purpose'], key, case['occurrence']):016x}" == case["hash"]
        if not case["occurrence"]:
            assert keyed_hash(case["seed"], case["purpose"], _matrix(key)) == found


def test_place_keys() -> None:
    for case in VECTORS["place_keys"]:
        key = bytes.fromhex(case["key"])
        found = place_keys(case["seed"], _matrix(key), np.array([case["occurrence"]], np.uint32))
        assert found[0].tobytes().hex() == case["place_key"]
        assert documented.place_key(case["seed"], key, case["occurrence"]).hex() == case["place_key"]


@cases("permutations")
def test_permutations(case: dict[str, Any]) -> None:
    found = Permutation(case["n"], case["key"])(np.arange(case["n"]))
    assert found.tolist() == case["sequence"]
    assert documented.permutation(case["n"], case["key"]) == case["sequence"]


@cases("split_thresholds")
def test_split_thresholds(case: dict[str, Any]) -> None:
    """The keys whose hashes lie next to a threshold can't be made to order; random ones have to fall as the numbers say."""
    assert documented.thresholds(case["fractions"]) == case["thresholds"]
    keys = np.random.default_rng(5).integers(0, 256, (2000, 16), np.uint8)
    split = Split(Schema(fields=(Field(name="x", dtype="int8"),)), SplitOptions(fractions=case["fractions"], seed=3))
    column = pa.Array.from_buffers(pa.binary(16), len(keys), [None, pa.py_buffer(keys)])
    kept, _ = split(pa.RecordBatch.from_pydict({"_key": column}))
    assert kept["_split"].to_pylist() == [documented.split_of(case["fractions"], 3, key.tobytes()) for key in keys]
    assert split._thresholds.tolist() == case["thresholds"]


def test_a_hash_that_is_the_threshold_belongs_to_the_next_split() -> None:
    split = Split(Schema(fields=(Field(name="x", dtype="int8"),)), SplitOptions(fractions={"a": 0.5, "b": 0.5}, seed=3))
    key = path_keys(["x"])
    threshold = keyed_hash(3, "split", key)
    column = pa.array([key.tobytes()], pa.binary(16))
    for thresholds, name in ((threshold, "b"), (threshold + np.uint64(1), "a")):
        split._thresholds = thresholds
        kept, _ = split(pa.RecordBatch.from_pydict({"_key": column}))
        assert kept["_split"].to_pylist() == [name]


@pytest.mark.parametrize(
    "value, text",
    [
        ({"b": 1, "a": [True, None, "x"]}, '{"a":[true,null,"x"],"b":1}'),
        ([0.0, -0.0, 1.0, 0.1, 1e16, 1e-7, 123456789.125], "[0.0,0.0,1.0,0.1,1e+16,1e-07,123456789.125]"),
        ([float("nan"), float("inf"), -float("inf")], "[null,null,null]"),
        ([2**53 + 1, -(2**63), 2**64 - 1], "[9007199254740993,-9223372036854775808,18446744073709551615]"),
        ({"é": "中\n\"\\", "z": "\U0001f600", "A": "\u0001"}, '{"A":"\\u0001","z":"\U0001f600","é":"中\\n\\"\\\\"}'),
        ({"\uffff": 1, "\U00010000": 2}, '{"\uffff":1,"\U00010000":2}'),  # by code point: UTF-16 would turn them round
        ({2: "two", 10: "ten"}, '{"10":"ten","2":"two"}'),
        ((1, (2, ())), "[1,[2,[]]]"),
        ({}, "{}"),
    ],
)  # fmt: skip
def test_canonical_json(value: object, text: str) -> None:
    assert canonical_json(value) == text.encode()


def test_canonical_sha256() -> None:
    digest = "43258cff783fe7036d8a43033f830adfc60ec037382473548ac742b888292777"
    assert canonical_sha256({"b": 2, "a": 1}) == digest == canonical_sha256({"a": 1, "b": 2})


def _column(column: dict[str, Any]) -> KeyColumn:
    values, dtype, shape = _values(column), column["dtype"], column["shape"]
    arrow = _ARROW.get(dtype) or pa.type_for_alias(dtype)
    if column["kind"] == "array":
        cells = [None if value is None else np.array(value, dtype).tobytes() for value in values]
        width = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return key_column(pa.array(cells, pa.binary(width)), tuple(shape), dtype)
    if column["kind"] == "nested":
        rows = [None if value is None else np.reshape(value, shape).tolist() for value in values]
        return key_column(pa.array(rows, pa.list_(pa.list_(arrow, shape[1]))))
    if column["kind"] == "list":
        return key_column(pa.array(values, pa.list_(arrow)))
    if dtype == "float16":
        values = [None if value is None else np.float16(value) for value in values]
    return key_column(pa.array(values, arrow))


def _values(column: dict[str, Any]) -> list[Any]:
    if column["dtype"] == "bytes":
        return [None if value is None else bytes.fromhex(value) for value in column["values"]]
    return list(column["values"])


def _matrix(key: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(key, np.uint8).reshape(1, 16)
