"""NumPy files: every dtype and order, in place where it can be, and what is refused."""

from __future__ import annotations

import copy
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shardwright.errors import ConfigError, InputError, SchemaError
from shardwright.sources import open_source
from shardwright.sources.base import Source
from shardwright.stages.clean import Clean

RNG = np.random.default_rng(3)


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, allow_pickle=array.dtype.hasobject)
    return path


def read(source: Source, task_bytes: int = 2**26) -> pa.Table:
    return pa.Table.from_batches([batch for task in source.tasks(task_bytes) for batch in source.read(task)])


def values(table: pa.Table, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(b"".join(table[name].to_pylist()), dtype).reshape(-1, *shape)


def pair(folder: Path, count: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(seed).integers(0, 2**16, (count, 3, 2), np.uint16)
    labels = np.arange(count, dtype=np.int64) + 100 * seed
    save(folder / "images.npy", images)
    save(folder / "labels.npy", labels)
    return images, labels


def test_the_files_of_a_folder_are_the_fields_of_the_same_rows(tmp_path: Path) -> None:
    (images, labels), (more, others) = pair(tmp_path / "a"), pair(tmp_path / "b", 7, seed=1)
    source = open_source("npy", tmp_path)
    assert [(f.name, f.dtype, f.shape) for f in source.schema] == [("images", "uint16", (3, 2)), ("labels", "int64", ())]
    assert source.addressable
    assert not source.sample_per_file
    whole = read(source)
    np.testing.assert_array_equal(values(whole, "images", "<u2", (3, 2)), np.concatenate([images, more]))
    assert whole["labels"].to_pylist() == [*labels, *others]
    assert whole["_source"][-1].as_py() == "b/images.npy#6"
    for task_bytes in (1, 70, 10**6):
        assert read(copy.deepcopy(source), task_bytes).to_pydict() == whole.to_pydict()
    clean, rejects = Clean(source.schema)(whole.combine_chunks().to_batches()[0])
    assert (clean.num_rows, rejects.rows) == (27, [])


def test_rows_are_read_and_taken_in_place(tmp_path: Path) -> None:
    images, labels = pair(tmp_path)
    source = open_source("npy", tmp_path)
    before = pa.total_allocated_bytes()
    unit = source.unit(0)
    assert pa.total_allocated_bytes() - before < 1000
    np.testing.assert_array_equal(values(unit, "images", "<u2", (3, 2)), images)
    assert unit["labels"].to_pylist() == labels.tolist()
    whole = read(source)
    assert (whole["_unit"].to_pylist(), whole["_row"].to_pylist()) == ([0] * 20, list(range(20)))
    assert not open_source("npy", tmp_path, fields={"labels": {"dtype": "int32"}}).addressable
    pair(tmp_path, seed=2)
    for again in (lambda: source.unit(0), lambda: read(source)):
        with pytest.raises(InputError, match=r"(images|labels)\.npy: was changed while it was read; run the job again"):
            again()


@given(
    hnp.arrays(
        dtype=st.one_of(
            hnp.boolean_dtypes(), hnp.integer_dtypes(endianness="?"), hnp.unsigned_integer_dtypes(endianness="?"),
            hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
        ),
        shape=hnp.array_shapes(min_dims=1, max_dims=3, max_side=5),
    ),
    st.booleans(), st.sampled_from(["npy", "npz", "compressed"]), st.integers(1, 100),
)  # fmt: skip
def test_every_dtype_and_order_comes_back(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, fortran: bool, kind: str, task_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("npy")
    array = np.asfortranarray(array) if fortran else array
    if kind == "npy":
        np.save(folder / "x.npy", array)
    else:
        (np.savez if kind == "npz" else np.savez_compressed)(folder / "x.npz", x=array)
    source = open_source(kind if kind == "npy" else "npz", folder)
    table = read(source, task_bytes)
    little = array.astype(array.dtype.newbyteorder("<"))
    if array.ndim > 1:
        assert b"".join(table["x"].to_pylist()) == little.tobytes()
        assert source.schema["x"].shape == array.shape[1:]
    else:
        np.testing.assert_array_equal(table["x"].to_numpy(), little)
    assert source.schema["x"].dtype == array.dtype.name
    if source.addressable:
        assert source.unit(0)["x"].to_pylist() == table["x"].to_pylist() or array.dtype.kind == "f"


def test_strings_and_times(tmp_path: Path) -> None:
    save(tmp_path / "name.npy", np.array(["ä", "bcd", ""], ">U3"))
    save(tmp_path / "raw.npy", np.array([b"x", b"yz", b""]))
    save(tmp_path / "time.npy", np.array(["2024-01-01", "NaT", "1969-12-31"], "M8[D]"))
    source = open_source("npy", tmp_path, fields={"time": {"nullable": True}})
    assert {f.name: f.dtype for f in source.schema} == {"name": "string", "raw": "bytes", "time": "timestamp"}
    rows = read(source).to_pydict()
    assert (rows["name"], rows["raw"]) == (["ä", "bcd", ""], [b"x", b"yz", b""])
    assert [str(time) for time in rows["time"]] == ["2024-01-01 00:00:00", "None", "1969-12-31 00:00:00"]


def test_several_npz_are_further_rows(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(6).reshape(3, 2), y=np.arange(3))
    np.savez_compressed(tmp_path / "b.npz", y=np.arange(2), x=np.zeros((2, 2), np.int64))
    source = open_source("npz", tmp_path)
    table = read(source, 1)
    assert [len(source.files), source.addressable, len(source.tasks(1))] == [2, False, 4]
    assert table["y"].to_pylist() == [0, 1, 2, 0, 1]
    assert table["_source"].to_pylist() == ["a.npz#0", "a.npz#1", "a.npz#2", "b.npz#0", "b.npz#1"]


def test_a_file_is_a_sample(tmp_path: Path) -> None:
    arrays = [RNG.random((rows, 3)) for rows in (2, 5)]
    for number, array in enumerate(arrays):
        save(tmp_path / f"d/{number}.npy", array)
    save(tmp_path / "e.npy", np.zeros((2, 4)))
    source = open_source("npy", tmp_path, options={"sample": "file"}, fields={"array": {"shape": [None, 3]}})
    assert source.sample_per_file
    assert open_source("npy", tmp_path, options={"sample": "file"}).schema["array"].shape == (None, None)
    table = read(source)
    assert table["_source"].to_pylist() == ["d/0.npy", "d/1.npy", "e.npy"]
    clean, rejects = Clean(source.schema)(table.combine_chunks().to_batches()[0])
    assert (clean.num_rows, rejects.rows) == (2, [2])
    assert "(2, 4)" in rejects.reasons[0]
    save(tmp_path / "a.npy", np.array([{}, 1], object))
    (tmp_path / "b.npy").write_bytes(b"")
    assert open_source("npy", tmp_path, options={"sample": "file"}).schema["array"].shape == (None, None)  # two bad samples
    with pytest.raises(InputError, match=r"a\.npy: expected numbers, strings or times, found pickled"):
        open_source("npy", [tmp_path / "a.npy", tmp_path / "b.npy"], options={"sample": "file"})
    with pytest.raises(ConfigError, match=r"\[read.options\] of format 'npy': sample: Input should be 'row' or 'file'"):
        open_source("npy", tmp_path, options={"sample": "rows"})


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([{}, 1], object), r"x\.npy: expected numbers, strings or times, found pickled Python objects"),
        (np.zeros(3, [("a", "i4"), ("b", "f4")]), r"found \[\('a', '<i4'\), \('b', '<f4'\)\] \(3,\); save each of its fields"),
        (np.zeros(2, complex), r"expected bool, integers, .* found complex128 \(2,\); convert it"),
        (np.zeros((2, 2), "U3"), r"a string or time a row, found <U3 \(2, 2\)"),
        (np.array(1.0), r"expected rows along the first axis, found shape \(\)"),
        (np.zeros((2, 0)), r"expected rows along the first axis, found shape \(2, 0\)"),
        (np.zeros((0, 2)), r"expected samples, found a header that promises none"),
    ],
)  # fmt: skip
def test_what_no_field_can_be_is_refused(tmp_path: Path, array: Any, message: str) -> None:
    path = save(tmp_path / "x.npy", array)
    with pytest.raises(InputError, match=message):
        open_source("npy", path)


def test_damage_and_disagreement_are_told(tmp_path: Path) -> None:
    path = save(tmp_path / "a" / "x.npy", np.arange(100))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"expected 800 bytes of values \(the header says 100 of int64 \(\)\), found 796"):
        open_source("npy", path)
    path.write_bytes(b"no array")
    with pytest.raises(InputError, match=r"x\.npy: expected a NumPy array, found none"):
        open_source("npy", path)
    pair(tmp_path / "b")
    save(tmp_path / "b/labels.npy", np.arange(19))
    with pytest.raises(
        InputError, match=r"labels\.npy: expected 20 values as in .*images\.npy, found 19 \('images' and 'labels'"
    ):
        open_source("npy", tmp_path / "b")
    save(tmp_path / "c/x-1.npy", np.arange(3))
    with pytest.raises(SchemaError, match=r"column 'x-1' can't be a field"):
        open_source("npy", tmp_path / "c")
    broken = tmp_path / "x.npz"
    np.savez_compressed(broken, x=np.arange(1000))
    data = bytearray(broken.read_bytes())
    data[300] ^= 0xFF
    broken.write_bytes(data)
    with pytest.raises(InputError, match=r"found damage after|can't be read"):
        read(open_source("npz", broken))
    broken.write_bytes(bytes(data[:-30]))
    with pytest.raises(
        InputError, match=r"x\.npz: expected a NumPy \.npz file, found one that can't be read \(File is not a zip"
    ):
        open_source("npz", broken)
    with zipfile.ZipFile(broken, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(InputError, match=r"expected arrays \(members named \*\.npy\), found \['readme\.txt'\]"):
        open_source("npz", broken)
