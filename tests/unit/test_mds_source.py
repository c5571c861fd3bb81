"""MDS shards as an input: what an index that nobody should trust can say. tests/interchange reads the library's own."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwright.errors import DecodeError, InputError
from shardwright.format.mds import Encoding, describe_columns, encode_samples, encode_shard
from shardwright.schema import Field, Schema
from shardwright.sources import open_source
from shardwright.sources.base import Source

COLUMNS = {"name": Encoding.parse("str"), "number": Encoding.parse("int")}
TEXTS = ("one", "zwei", "")


def sample(text: str, number: int) -> bytes:
    return struct.pack("<I", len(text)) + text.encode() + struct.pack("<q", number)


SHARD = encode_shard([sample(text, number) for number, text in enumerate(TEXTS)], COLUMNS)


def about(name: str, data: bytes) -> dict[str, Any]:
    return {"basename": name, "bytes": len(data), "hashes": {"sha256": hashlib.sha256(data).hexdigest()}}


def entry(data: bytes = SHARD, name: str = "shard.00000.mds", **more: Any) -> dict[str, Any]:
    described = {**describe_columns(COLUMNS), "compression": None, "hashes": ["sha256"], "size_limit": 2**26, "zip_data": None}
    return {**described, "samples": len(TEXTS), "raw_data": about(name, data), **more}


def write(folder: Path, *shards: dict[str, Any], data: bytes = SHARD) -> Path:
    """An index, and a shard of those bytes for each entry."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in shards:
        path = folder / (shard["zip_data"] or shard["raw_data"])["basename"]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    (folder / "index.json").write_text(json.dumps({"version": 2, "shards": shards}))
    return folder


def packed(compression: str, data: bytes) -> dict[str, Any]:
    return entry(compression=compression, zip_data=about("shard.00000.mds.x", data))


def read(source: Source, task_bytes: int = 2**26) -> pa.Table:
    return pa.Table.from_batches([batch for task in source.tasks(task_bytes) for batch in source.read(task)])


def test_indexes_in_folders_and_one_of_all(tmp_path: Path) -> None:
    """As `merge_index` leaves them: shards are listed twice, and read once."""
    for name in ("a", "b"):
        write(tmp_path / name, entry())
    write(tmp_path, entry(name="a/shard.00000.mds"), entry(name="b/shard.00000.mds"))
    (tmp_path / "a/shard.00009.mds").write_bytes(b"left behind")
    source = open_source("mds", tmp_path)
    assert [file.name for file in source.files] == [
        "a/index.json", "a/shard.00000.mds", "b/index.json", "b/shard.00000.mds", "index.json",
    ]  # fmt: skip
    assert read(source)["name"].to_pylist() == [text.encode() for text in TEXTS] * 2
    assert read(source, 1).equals(read(source))
    assert read(source)["_source"].to_pylist()[-1] == "b/shard.00000.mds#2"
    (tmp_path / "a/index.json").unlink()
    assert read(open_source("mds", tmp_path)).num_rows == 6


def test_a_shard_that_somebody_unpacked(tmp_path: Path) -> None:
    write(tmp_path, packed("gz", b""))
    (tmp_path / "shard.00000.mds.x").unlink()
    (tmp_path / "shard.00000.mds").write_bytes(SHARD)
    assert read(open_source("mds", tmp_path))["number"].to_pylist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["../x.mds", "/etc/passwd", "a/../../x", "a\\b", "", "./x", "a//b", "a\0b"])
def test_names_stay_in_the_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(json.dumps({"version": 2, "shards": [entry(name=name)]}))
    with pytest.raises(
        InputError, match=r"shards.0.raw_data.basename: .*expected the name of a file in the folder of the index"
    ):
        open_source("mds", tmp_path)


WRONG = {
    "version 1": (entry(version=1), r"shards.0.version: Input should be 2"),
    "another format": (entry(format="csv"), r"shards.0.format: Input should be 'mds'"),
    "an encoding": (entry(column_encodings=["str", "quux"]), r"expected an encoding of MDS, found 'quux'"),
    "an array without an end": (
        entry(column_encodings=["str", "ndarray:int8:99999,99999"]),
        r"expected an array of 1 to 2\*\*32",
    ),
    "a dtype": (entry(column_encodings=["str", "ndarray:object"]), r"expected an encoding of MDS, found 'ndarray:object'"),
    "a size": (entry(column_sizes=[None, 4]), r"column 'number': a value of encoding int has 8 bytes, not 4"),
    "a negative size": (entry(column_sizes=[-3, 8]), r"column 'name': a value of encoding str has any number of bytes, not -3"),
    "fewer columns": (entry(column_sizes=[8]), r"another number of column_names"),
    "a column twice": (entry(column_names=["a", "a"]), r"a column twice"),
    "a hash": (entry(raw_data={**about("x", b""), "hashes": {"shake_128": "00"}}), r"a hash of an algorithm that is not known"),
    "a compression": (packed("rar", b""), r"expected zip_data with a compression of br, bz2, gz, snappy, zstd, found 'rar'"),
    "samples without end": (entry(samples=2**40), r"shards.0.samples: Input should be less than or equal to 67108864"),
    "bytes": (entry(raw_data={**about("x", b""), "bytes": 2**33}), r"expected a shard of less than 4 GiB"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_index_that_can_not_be(name: str, tmp_path: Path) -> None:
    shard, problem = WRONG[name]
    (tmp_path / "index.json").write_text(json.dumps({"version": 2, "shards": [shard]}))
    with pytest.raises(InputError, match=rf"index.json: expected the index of an MDS dataset, version 2, .*{problem}"):
        open_source("mds", tmp_path)


def changed(at: int, value: int) -> bytes:
    return SHARD[:at] + struct.pack("<I", value) + SHARD[at + 4 :]


DAMAGED = {
    "cut": (SHARD[:-3], r"is cut short: expected 12 bytes more, found 9"),
    "longer": (SHARD + b"x", r"expected 1\d+ bytes, as the index says, found more"),
    "another number of samples": (changed(0, 2), r"expected 3 samples, as the index says, found 2"),
    "offsets into the head": (changed(4, 3), r"expected samples that follow one another from byte 20"),
    "offsets backwards": (changed(8, 2**31), r"expected samples that follow one another"),
    "a value without end": (changed(SHARD.index(b"zwei") - 4, 2**32 - 1), r"sample 1: expected 4294967307 bytes"),
    "another byte": (SHARD.replace(b"zwei", b"drei"), r"is damaged, or another file: the index says sha256 .*, found"),
}  # fmt: skip


@pytest.mark.parametrize("compression", [None, "gz", "bz2"])
@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_found(name: str, compression: str | None, tmp_path: Path) -> None:
    data, problem = DAMAGED[name]
    packs: dict[str | None, Callable[[bytes], bytes]] = {None: bytes, "gz": gzip.compress, "bz2": bz2.compress}
    pack = packs[compression]
    write(tmp_path, packed(compression, pack(data)) if compression else entry(), data=pack(data))
    if compression is None and len(data) != len(SHARD):
        problem = rf"expected {len(SHARD)} bytes, as .*index.json says, found {len(data)}"
    with pytest.raises(InputError, match=rf"shard.00000.mds.*: .*{problem}"):
        read(open_source("mds", tmp_path))


@pytest.mark.parametrize(
    ("compression", "data", "problem"),
    [
        ("gz", gzip.compress(SHARD)[:-6], "can't be read"), ("gz", b"no gzip", "can't be read"),
        ("zstd", b"no zstd at all", "can't be read"), ("br", b"\xff" * 40, "can't be read"),
        ("bz2", b"BZh9", "can't be read"),
        ("snappy", b"\xff\xff\xff\xff\x0f" + b"x" * 9, "in a block of Snappy, found 14 that claim"),
        ("snappy", bytes([len(SHARD) & 127 | 128, len(SHARD) >> 7]) + b"\0", "in a block of Snappy"),
    ],
)  # fmt: skip
def test_what_is_no_compressed_shard(compression: str, data: bytes, problem: str, tmp_path: Path) -> None:
    source = open_source("mds", write(tmp_path / "in", packed(compression, data), data=data))
    with pytest.raises(InputError, match=problem):
        read(source)


def test_errors(tmp_path: Path) -> None:
    (tmp_path / "shard.00000.mds").write_bytes(SHARD)
    with pytest.raises(InputError, match=r"expected the index.json of an MDS dataset, found only .*shard.00000.mds"):
        open_source("mds", tmp_path)
    (tmp_path / "index.json").write_text(json.dumps({"version": 2, "shards": [entry(), entry(name="b.mds")]}))
    with pytest.raises(InputError, match=r"index.json: lists b.mds, which is not among the files found; copy it again"):
        open_source("mds", tmp_path)
    (tmp_path / "index.json").write_text("[]")
    with pytest.raises(InputError, match=r"index.json: expected the index of an MDS dataset, version 2, found something else"):
        open_source("mds", tmp_path)
    none = encode_shard([], COLUMNS)
    with pytest.raises(InputError, match=r"expected samples, found none in the 1 shards of its index.json"):
        open_source("mds", write(tmp_path / "none", entry(none, samples=0), data=none))


@given(data=st.binary(max_size=40), name=st.sampled_from(["ndarray", "ndarray:int16", "ndarray:float32:2,3"]))
def test_whatever_bytes_are_an_array_or_refused(data: bytes, name: str) -> None:
    encoding = Encoding.parse(name)
    with suppress(DecodeError):
        array = encoding.decode_array(data)
        assert array.nbytes <= len(data)
        assert encoding.dtype in (None, array.dtype.name)


@pytest.mark.parametrize("shape", [(1,), (255, 2), (256,), (65536, 1), (2, 1, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "int64"])
def test_arrays_of_any_size(shape: tuple[int, ...], dtype: str) -> None:
    value = (np.arange(np.prod(shape)) % 251).astype(dtype).reshape(shape)
    batch = np.empty(1, object)
    batch[0] = value
    schema = Schema(fields=(Field(name="x", dtype=dtype, shape=(None,) * len(shape)),))
    (encoded,) = encode_samples(schema, {"x": batch})
    np.testing.assert_array_equal(Encoding.parse(f"ndarray:{dtype}").decode_array(encoded[4:]), value)


@given(at=st.integers(0, 200), by=st.integers(1, 255))
def test_a_changed_byte_is_found(at: int, by: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    data = bytearray(SHARD)
    data[at % len(data)] ^= by
    source = open_source("mds", write(tmp_path_factory.mktemp("mds"), entry(), data=bytes(data)))
    with pytest.raises(InputError):
        read(source)
