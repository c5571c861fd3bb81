"""Keys depend on values alone, hashes are uniform, permutations are what they are called."""

from __future__ import annotations

from itertools import permutations
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwright.errors import InputError
from shardwright.format.layout import KEY
from shardwright.hashing import KEY_BYTES, Permutation, keyed_hash, mix64, path_keys, place_keys, sample_keys
from shardwright.hashing.sample_key import key_column
from shardwright.schema import Field, Schema
from shardwright.stages.read import CONTENT, AddKeys

_TYPES = {
    "number": (pa.int32(), st.integers(-5, 5) | st.none()),
    "float": (pa.float64(), st.floats(allow_nan=False) | st.none()),
    "flag": (pa.bool_(), st.booleans() | st.none()),
    "text": (pa.string(), st.text(max_size=4) | st.none()),
    "blob": (pa.binary(), st.binary(max_size=4) | st.none()),
    "list": (pa.list_(pa.int16()), st.lists(st.integers(-3, 3), max_size=3) | st.none()),
    "array": (pa.binary(3), st.binary(min_size=3, max_size=3)),
    "time": (pa.timestamp("us"), st.integers(-(10**6), 10**6) | st.none()),
}


@st.composite
def columns(draw: st.DrawFn) -> dict[str, pa.Array]:
    """1 to 3 columns of 1 to 12 rows, with nulls."""
    names = draw(st.lists(st.sampled_from(sorted(_TYPES)), min_size=1, max_size=3, unique=True))
    rows = draw(st.integers(1, 12))
    return {name: pa.array(draw(st.lists(_TYPES[name][1], min_size=rows, max_size=rows)), _TYPES[name][0]) for name in names}


def keys_of(arrays: dict[str, pa.Array]) -> list[bytes]:
    shapes: dict[str, Any] = {"array": ((3,), "uint8")}
    made = [key_column(array, *shapes.get(name, ())) for name, array in arrays.items()]
    return [key.tobytes() for key in sample_keys(made, len(next(iter(arrays.values()))))]


@given(columns(), st.data())
def test_keys_do_not_depend_on_how_batches_are_cut(arrays: dict[str, pa.Array], data: st.DataObject) -> None:
    rows = len(next(iter(arrays.values())))
    whole = keys_of(arrays)
    cut = data.draw(st.integers(0, rows))
    pieces = [{name: array.slice(*span) for name, array in arrays.items()} for span in ((0, cut), (cut, rows - cut))]
    assert [key for piece in pieces if len(next(iter(piece.values()))) for key in keys_of(piece)] == whole
    order = data.draw(st.permutations(range(rows)))
    assert keys_of({name: array.take(pa.array(order)) for name, array in arrays.items()}) == [whole[row] for row in order]


@given(columns())
def test_keys_do_not_depend_on_arrow_buffers(arrays: dict[str, pa.Array]) -> None:
    """An offset into a larger buffer, and rubbish below nulls, are not values."""
    padded = {name: pa.concat_arrays([array, array.slice(0, 1), array]) for name, array in arrays.items()}
    rows = len(next(iter(arrays.values())))
    assert keys_of({name: array.slice(rows + 1) for name, array in padded.items()}) == keys_of(arrays)


def test_what_lies_below_a_null_is_no_value() -> None:
    valid = pa.py_buffer(bytes([0b01]))
    one, other = (pa.Array.from_buffers(pa.int32(), 2, [valid, pa.py_buffer(np.array([7, x], "<i4"))]) for x in (0, 99))
    assert keys_of({"number": one}) == keys_of({"number": other})


def test_large_and_small_arrow_types_of_the_same_values_have_the_same_keys() -> None:
    texts, blobs, lists = ["a", None, "é"], [b"a", None, b""], [[1, 2], None, []]
    for values, small, large in (
        (texts, pa.string(), pa.large_string()),
        (blobs, pa.binary(), pa.large_binary()),
        (lists, pa.list_(pa.int16()), pa.large_list(pa.int16())),
    ):
        assert keys_of({"x": pa.array(values, small)}) == keys_of({"x": pa.array(values, large)})


def test_fields_do_not_run_into_each_other() -> None:
    one = keys_of({"a": pa.array(["ab", "a", "", None]), "b": pa.array(["c", "bc", "x", ""])})
    other = keys_of({"a": pa.array(["a", "ab", None, ""]), "b": pa.array(["bc", "c", "x", None])})
    assert one[0] == other[1]
    assert len({*one, *other}) == 6


@pytest.mark.parametrize("kind", [pa.list_(pa.list_(pa.int32())), pa.list_(pa.string()), pa.struct([("a", pa.int8())])])
def test_a_key_of_what_has_no_canonical_bytes_is_refused(kind: pa.DataType) -> None:
    """Never by the addresses of Python objects, which differ from run to run."""
    value: Any = [["x"]] if pa.types.is_list(kind) and pa.types.is_string(kind.value_type) else [[[1], [2]]]
    array = pa.array([{"a": 1}] if pa.types.is_struct(kind) else value, kind)
    with pytest.raises(TypeError, match="can't be part of a sample key"):
        key_column(array)
    stage = AddKeys(Schema(fields=(Field(name="x", dtype="int32", shape=(None, None)),)))
    with pytest.raises(InputError, match=r"field 'x': .* can't be part of a sample key; set read.key to other fields"):
        stage(pa.RecordBatch.from_pydict({"x": array}))


def test_add_keys() -> None:
    schema = Schema(fields=(Field(name="id", dtype="int64"), Field(name="text", dtype="string")))
    batch = pa.RecordBatch.from_pydict({"id": [1, 1], "text": ["a", "b"], "_source": ["x/1.jpg", "x/2.jpg"]})
    by_content, _ = AddKeys(schema)(batch)
    assert CONTENT not in by_content.schema.names
    assert by_content[KEY][0] != by_content[KEY][1]
    by_id, _ = AddKeys(schema, key=("id",))(batch)
    assert by_id[KEY][0] == by_id[KEY][1]
    assert by_id[CONTENT].to_pylist() == by_content[KEY].to_pylist()
    by_path, _ = AddKeys(schema, sample_per_file=True)(batch)
    assert by_path[KEY].to_pylist() == [key.tobytes() for key in path_keys(["x/1.jpg", "x/2.jpg"])]


@given(st.integers(0, 300), st.integers(0, 2**64 - 1))
def test_a_permutation_is_a_bijection_and_has_an_inverse(n: int, key: int) -> None:
    permutation = Permutation(n, key)
    found = permutation(np.arange(n))
    assert sorted(found.tolist()) == list(range(n))
    assert [permutation.inverse(element) for element in found.tolist()] == list(range(n))


@given(st.integers(1, 2**45), st.integers(0, 2**64 - 1), st.data())
def test_any_element_of_a_large_permutation(n: int, key: int, data: st.DataObject) -> None:
    n = min(n, 2**32)  # tables of sqrt(n)
    position = data.draw(st.integers(0, n - 1))
    permutation = Permutation(n, key)
    element = int(permutation(np.array([position]))[0])
    assert 0 <= element < n
    assert permutation.inverse(element) == position


def chi_square_is_unsuspicious(observed: npt.NDArray[Any], expected: float) -> bool:
    """Below mean + 5 standard deviations of its distribution; the seeds are fixed, so this never flickers."""
    freedom = observed.size - 1
    return bool(((observed - expected) ** 2 / expected).sum() < freedom + 5 * sqrt(2 * freedom))


@pytest.mark.parametrize("n", [2, 3, 4, 5, 7, 12])
def test_every_element_comes_at_every_position_equally_often(n: int) -> None:
    keys = 4000
    counts = np.zeros((n, n), int)
    for key in range(keys):
        counts[np.arange(n), Permutation(n, key * 0x9E3779B97F4A7C15)(np.arange(n))] += 1
    assert chi_square_is_unsuspicious(counts, keys / n)


@pytest.mark.parametrize("n", [3, 4])
def test_every_order_of_a_few_comes(n: int) -> None:
    every = dict.fromkeys(permutations(range(n)), 0)
    for key in range(100 * len(every)):
        every[tuple(Permutation(n, key)(np.arange(n)).tolist())] += 1
    assert min(every.values()) > 50
    assert max(every.values()) < 200


@pytest.mark.parametrize("purpose, seed", [("place", 0), ("split", 7)])
def test_keyed_hashes_are_uniform_in_both_ends(purpose: str, seed: int) -> None:
    """Of keys that differ in one low counter only, as bad as keys get."""
    keys = np.zeros((2**16, KEY_BYTES), np.uint8)
    keys[:, :4] = np.arange(2**16, dtype="<u4").view(np.uint8).reshape(-1, 4)
    for counters in (keys, keys[:, ::-1]):
        hashed = keyed_hash(seed, purpose, counters)
        assert len(np.unique(hashed)) == 2**16
        for bits in (hashed >> np.uint64(56), hashed & np.uint64(255)):
            assert chi_square_is_unsuspicious(np.bincount(bits.astype(int), minlength=256), 2**8)


def test_seed_purpose_key_and_occurrence_each_change_the_hash() -> None:
    keys, ones = path_keys(["a", "b"]), np.ones(2, np.uint32)
    found = [
        *keyed_hash(0, "place", keys), *keyed_hash(1, "place", keys), *keyed_hash(0, "split", keys),
        *keyed_hash(0, "place", keys, ones), *keyed_hash(0, "place", keys, ones * 2),
    ]  # fmt: skip
    assert len(set(found)) == 10


def test_mix_is_a_bijection_that_leaves_its_argument_alone() -> None:
    values = np.arange(2**16, dtype=np.uint64)
    assert len(np.unique(mix64(values))) == 2**16
    assert (values == np.arange(2**16)).all()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=8, unique=True))
def test_place_keys_sort_by_hash_then_key_then_occurrence(rows: list[tuple[int, int]]) -> None:
    keys = path_keys([str(name) for name, _ in rows])
    occurrence = np.array([number for _, number in rows], np.uint32)
    found = [row.tobytes() for row in place_keys(5, keys, occurrence)]
    hashes = keyed_hash(5, "place", keys, occurrence).tolist()
    order = sorted(range(len(rows)), key=lambda row: (hashes[row], keys[row].tobytes(), rows[row][1]))
    assert sorted(range(len(rows)), key=lambda row: found[row]) == order
    assert len(set(found)) == len(rows)
