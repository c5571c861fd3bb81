"""Every kind of field comes back as it went in, from local files and by ranges, one by one and in a loader."""

from __future__ import annotations

import fsspec
import numpy as np
import pytest

import shardwright as sw
from shardwright.errors import CorruptError, SchemaError
from shardwright.schema import NUMBERS, Field, Schema
from tests.datasets import publish

SAMPLES = 37
rng = np.random.default_rng(5)


def some(dtype):
    kind = np.dtype(dtype).kind
    return (rng.normal(0, 100, SAMPLES) if kind == "f" else rng.integers(0, 100, SAMPLES)).astype(dtype)


def every_kind():
    fields = [Field(name=f"n_{dtype}", dtype=dtype) for dtype in NUMBERS]
    data = {field.name: some(field.dtype) for field in fields}
    fields += [
        Field(name="array", dtype="float32", shape=(3, 2)),
        Field(name="flags", dtype="bool", shape=(4,)),
        Field(name="wide", dtype="uint8", shape=(200, 200)),
        Field(name="packed", dtype="int16", shape=(2,), codec="raw"),
        Field(name="ragged", dtype="int32", shape=(None, 2)),
        Field(name="flag", dtype="bool"),
        Field(name="text", dtype="string"),
        Field(name="blob", dtype="bytes"),
        Field(name="when", dtype="timestamp"),
        Field(name="zipped", dtype="float32", shape=(3, 2)),
        Field(name="zipped_number", dtype="int64"),
        Field(name="maybe_int", dtype="uint8", nullable=True),
        Field(name="maybe_float", dtype="float32", nullable=True),
        Field(name="maybe_flag", dtype="bool", nullable=True),
        Field(name="maybe_when", dtype="timestamp", nullable=True),
        Field(name="maybe_text", dtype="string", nullable=True),
        Field(name="maybe_array", dtype="float64", shape=(2,), nullable=True),
        Field(name="maybe_ragged", dtype="float64", shape=(None,), nullable=True),
    ]
    when = np.arange(SAMPLES).astype("M8[us]") + np.timedelta64(10**15, "us")
    data |= {
        "array": rng.normal(size=(SAMPLES, 3, 2)).astype("f4"),
        "flags": rng.integers(0, 2, (SAMPLES, 4)).astype(bool),
        "wide": rng.integers(0, 256, (SAMPLES, 200, 200), np.uint8),
        "packed": rng.integers(-9, 9, (SAMPLES, 2)).astype("i2"),
        "ragged": [rng.integers(0, 9, (row % 4, 2)).astype("i4") for row in range(SAMPLES)],
        "flag": [row % 3 == 0 for row in range(SAMPLES)],
        "text": [f"é{row}" * (row % 5) for row in range(SAMPLES)],
        "blob": [bytes([row]) * row for row in range(SAMPLES)],
        "when": when,
        "zipped": rng.normal(size=(SAMPLES, 3, 2)).astype("f4"),
        "zipped_number": np.arange(SAMPLES),
        "maybe_int": with_nulls(range(SAMPLES)),
        "maybe_float": with_nulls([float(row) for row in range(SAMPLES)]),
        "maybe_flag": with_nulls([row % 2 == 0 for row in range(SAMPLES)]),
        "maybe_when": with_nulls(list(when.astype(object))),
        "maybe_text": with_nulls([str(row) for row in range(SAMPLES)]),
        "maybe_array": with_nulls([np.array([row, 1.0]) for row in range(SAMPLES)]),
        "maybe_ragged": with_nulls([np.arange(row % 3, dtype="f8") for row in range(SAMPLES)]),
    }
    return Schema(fields=tuple(fields)), data


def with_nulls(values):
    return [None if row % 4 == 1 else value for row, value in enumerate(values)]


SCHEMA, DATA = every_kind()


@pytest.fixture(scope="module", params=["local", "remote"])
def url(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("kinds")
    publish(
        root / "d", {"train": DATA}, SCHEMA, shards=3, remainder="spread", part_samples=8, row_group_samples=3,
        compressed=["zipped", "zipped_number"],
    )  # fmt: skip
    if request.param == "local":
        yield str(root / "d")
        return
    memory = fsspec.filesystem("memory")
    memory.put(str(root / "d"), "/kinds", recursive=True)
    yield "memory://kinds"
    memory.rm("/kinds", recursive=True)


@pytest.mark.parametrize("name", SCHEMA.names)
def test_values(url, name):
    dataset = sw.open_dataset(url, columns=[name])
    field = SCHEMA[name]
    rows = rng.permutation(SAMPLES)
    batch = dataset.take(rows)
    assert all(array.flags.writeable for array in batch.values())
    values, expected = batch.pop(name), [DATA[name][row] for row in rows]
    missing = np.array([value is None for value in expected])
    if field.dtype in ("string", "bytes"):
        assert values.dtype == object
        assert values.tolist() == expected
    elif None in field.shape:
        assert values.dtype == object
        for value, wanted in zip(values, expected, strict=True):
            assert (value is None) == (wanted is None)
            assert value is None or (value.dtype == field.numpy_dtype and np.array_equal(value, wanted))
    else:
        assert values.dtype == field.numpy_dtype
        assert values.shape == (SAMPLES, *field.shape)
        wanted = np.array([value for value in expected if value is not None]).astype(field.numpy_dtype)
        assert np.array_equal(values[~missing], wanted)
        if field.nullable:
            assert np.array_equal(batch.pop(f"{name}_mask"), missing)
            empty = values[missing]
            assert (
                np.isnan(empty).all()
                if name == "maybe_float"
                else np.isnat(empty).all()
                if name == "maybe_when"
                else not empty.any()
            )
    assert not batch


def test_null_is_none_in_a_sample(url):
    sample = sw.open_dataset(url)[1]
    assert {name for name, value in sample.items() if value is None} == {n for n in SCHEMA.names if n.startswith("maybe")}
    assert list(sample) == list(SCHEMA.names)


def test_a_loader_reads_all_kinds(url):
    dataset = sw.open_dataset(url)
    batches = list(dataset.loader(batch_size=10, world=sw.World(), shuffle="global"))
    rows = np.concatenate([batch["zipped_number"] for batch in batches])
    assert sorted(rows) == list(range(SAMPLES))
    assert np.array_equal(np.concatenate([batch["wide"] for batch in batches]), DATA["wide"][rows])
    assert np.concatenate([batch["text"] for batch in batches]).tolist() == [DATA["text"][row] for row in rows]


def test_a_mask_that_would_hide_a_field(tmp_path):
    schema = Schema(fields=(Field(name="age", dtype="int8", nullable=True), Field(name="age_mask", dtype="int8")))
    publish(tmp_path / "d", {"train": {"age": [1] * 4, "age_mask": [2] * 4}}, schema)
    with pytest.raises(SchemaError, match="its mask would be called 'age_mask', which is a field too"):
        sw.open_dataset(str(tmp_path / "d"))
    assert sw.open_dataset(str(tmp_path / "d"), columns=["age_mask"])[0] == {"age_mask": 2}


@pytest.mark.parametrize("shape", [(6, 5), (None, None)])
def test_pictures(tmp_path, shape):
    imagecodecs = pytest.importorskip("imagecodecs")
    pictures = [rng.integers(0, 256, (6, 5) if None not in shape else (row + 1, 5), np.uint8) for row in range(20)]
    schema = Schema(fields=(Field(name="image", dtype="uint8", shape=shape, codec="image"),))
    publish(tmp_path / "d", {"train": {"image": [imagecodecs.png_encode(p) for p in pictures]}}, schema, part_samples=3)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "d"), "/pictures", recursive=True)
    for url in (str(tmp_path / "d"), "memory://pictures"):
        values = sw.open_dataset(url).take([7, 3, 19, 3])["image"]
        assert values.dtype == (np.uint8 if None not in shape else object)
        assert all(np.array_equal(value, pictures[row]) for value, row in zip(values, [7, 3, 19, 3], strict=True))
    memory.rm("/pictures", recursive=True)
    side = min((tmp_path / "d").rglob("_part-00001.image.npy"))
    side.write_bytes(side.read_bytes()[:-8])
    with pytest.raises(CorruptError, match=r"_part-00001.image.npy: expected int64 \(2, 2\) as numpy.save writes it"):
        sw.open_dataset(str(tmp_path / "d"))[3]


def test_a_flipped_byte_in_a_compressed_page(tmp_path):
    schema = Schema(fields=(Field(name="text", dtype="string"),))
    publish(tmp_path / "d", {"train": {"text": [f"text number {row}" for row in range(64)]}}, schema, shards=1)
    part = next((tmp_path / "d").rglob("part-00000.parquet"))
    data = bytearray(part.read_bytes())
    data[60] ^= 1
    part.write_bytes(data)
    with pytest.raises(CorruptError, match=r"part-00000\.parquet: row group 0 of 'text' can't be read .* copy the file again"):
        sw.open_dataset(str(tmp_path / "d"))[0]


def test_remote_neighbours_come_in_one_request(tmp_path, monkeypatch):
    from shardwright.storage.remote import RemoteStorage

    publish(tmp_path / "d", {"train": DATA}, SCHEMA, shards=1, part_samples=40, row_group_samples=40)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "d"), "/ranges", recursive=True)
    asked: list[int] = []
    plain = RemoteStorage.ranges

    def counting(storage, name, spans):
        asked.append(len(spans))
        return plain(storage, name, spans)

    monkeypatch.setattr(RemoteStorage, "ranges", counting)
    wide = sw.open_dataset("memory://ranges", columns=["wide"])
    assert np.array_equal(wide.take([4, 2, 3])["wide"], DATA["wide"][[4, 2, 3]])
    assert np.array_equal(wide.take([9, 2])["wide"], DATA["wide"][[9, 2]])
    assert asked == [1, 1]  # what lies between is read along: less than another request costs
    memory.rm("/ranges", recursive=True)
