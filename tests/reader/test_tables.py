"""Tables: many columns of numbers, taken for many batches at a time, row group by row group or each from its own place."""

from __future__ import annotations

import dataclasses

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import shardwright as sw
from shardwright.errors import CorruptError, DecodeError
from shardwright.format.versions import read_index
from shardwright.reader.catalog import read_catalog
from shardwright.reader.columns import open_columns
from shardwright.reader.grouped import ByRowGroup
from shardwright.schema import Field, Schema
from shardwright.storage import open_storage
from tests.datasets import publish

SAMPLES = 4000
NUMBERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")
SCHEMA = Schema(
    fields=(
        Field(name="index", dtype="int64"),
        *(Field(name=dtype, dtype=dtype) for dtype in NUMBERS),
        Field(name="flag", dtype="bool"),
        Field(name="pair", dtype="uint8", shape=(3,)),
        Field(name="cell", dtype="float32", shape=(2, 2), codec="npy"),
    )
)


def values_of(dtype):
    """All kinds of bits, also NaNs that carry some: quiet ones, since conversions quieten the others."""
    if dtype == "float16":  # stored as a wider one, which moves a NaN's bits
        return np.random.default_rng(0).standard_normal(SAMPLES).astype(dtype)
    values = np.random.default_rng(len(dtype)).integers(0, 256, SAMPLES * np.dtype(dtype).itemsize, np.uint8).view(dtype)
    with np.errstate(invalid="ignore"):
        return values + values.dtype.type(0)


rng = np.random.default_rng(0)
DATA = {
    "index": np.arange(SAMPLES), **{dtype: values_of(dtype) for dtype in NUMBERS},
    "flag": rng.integers(0, 2, SAMPLES).astype(bool), "pair": rng.integers(0, 256, (SAMPLES, 3), np.uint8),
    "cell": rng.standard_normal((SAMPLES, 2, 2), np.float32),
}  # fmt: skip


@pytest.fixture(scope="module", params=[500, 40], ids=["many in a row group", "few in a row group"])
def samples_in_a_row_group(request):
    return request.param


@pytest.fixture(scope="module", params=["plain", "compressed", "some compressed"])
def root(request, tmp_path_factory, samples_in_a_row_group):
    folder = tmp_path_factory.mktemp("table") / "d"
    compressed = {"plain": (), "compressed": SCHEMA.names, "some compressed": ("index", "uint16", "float64", "pair")}
    publish(
        folder, {"train": DATA}, SCHEMA, part_samples=600, row_group_samples=samples_in_a_row_group,
        block_samples=50, compressed=compressed[request.param],
    )  # fmt: skip
    return folder


@pytest.mark.parametrize("shuffle", ["none", "window", "global"])
@pytest.mark.parametrize("threads", [0, 2])
def test_every_kind_of_number_to_the_bit(root, shuffle, threads):
    dataset = sw.open_dataset(root)
    seen = []
    for batch in dataset.loader(batch_size=333, world=sw.World(), shuffle=shuffle, threads=threads, last="short"):
        index = batch["index"].copy()
        seen.append(index)
        for field in SCHEMA:
            found, expected = batch[field.name], np.ascontiguousarray(DATA[field.name][index])
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            assert found.tobytes() == expected.tobytes(), field.name
            found[...] = 0  # the trainer's own: no other batch changes
    assert np.array_equal(np.sort(np.concatenate(seen)), DATA["index"])


@pytest.mark.parametrize("threads", [0, 2])
def test_batches_of_any_size_on_any_storage_are_the_same(root, threads):
    memory = fsspec.filesystem("memory")
    memory.put(str(root), "/table", recursive=True)

    def sequence(url, size):
        loader = sw.open_dataset(url).loader(batch_size=size, world=sw.World(1, 2), seed=5, shuffle="window", threads=threads)
        batches = list(loader)
        assert [len(batch["index"]) for batch in batches[:-1]] == [size] * (len(batches) - 1)
        return {name: np.concatenate([batch[name] for batch in batches]).tobytes() for name in batches[0]}

    alone = sequence(str(root), 2000)
    assert list(alone) == list(SCHEMA.names)
    assert sequence(str(root), 7) == sequence("memory://table", 150) == alone
    memory.rm("/table", recursive=True)


def test_little_memory_means_fewer_at_a_time(root):
    dataset, world = sw.open_dataset(root), sw.World()
    much = [batch["index"].tolist() for batch in dataset.loader(batch_size=20, world=world)]
    assert much == [batch["index"].tolist() for batch in dataset.loader(batch_size=20, world=world, memory_limit_bytes=2**14)]


def test_values_are_only_sorted_out_once_for_all_columns(root, samples_in_a_row_group, monkeypatch):
    made = []
    plain = ByRowGroup.__init__

    def counting(grouped, indexes, row_groups, known):
        made.append(len(indexes))
        plain(grouped, indexes, row_groups, known)

    monkeypatch.setattr(ByRowGroup, "__init__", counting)
    list(sw.open_dataset(root).loader(batch_size=100, world=sw.World(), threads=0))
    assert set(made) == {SAMPLES}
    assert len(made) <= 2  # those that are compressed, and those that are not


def damage(root, column, group):
    """A byte of the pages of a column chunk turned."""
    part = min(root.rglob("part-00000.parquet"))
    found = pq.read_metadata(part).row_group(group)
    chunk = next(found.column(n) for n in range(found.num_columns) if found.column(n).path_in_schema == column)
    data = bytearray(part.read_bytes())
    data[(chunk.dictionary_page_offset or chunk.data_page_offset) + 40] ^= 1
    part.write_bytes(data)


@pytest.fixture
def damaged(tmp_path):
    """Samples 100 to 149 can't be read."""
    publish(tmp_path / "d", {"train": DATA}, SCHEMA, part_samples=1000, row_group_samples=50, compressed=SCHEMA.names)
    damage(tmp_path / "d", "float32", 2)
    return sw.open_dataset(tmp_path / "d")


@pytest.mark.parametrize("threads", [0, 2])
def test_a_damaged_row_group_spoils_the_batches_that_need_it_alone(damaged, threads):
    loader = iter(damaged.loader(batch_size=20, world=sw.World(), shuffle="none", threads=threads))
    taken = np.concatenate([next(loader)["index"] for _ in range(20)])  # shards take turns: the first 100 samples of each
    assert np.array_equal(taken, np.arange(100)[:, None].repeat(4, axis=1).ravel() + np.tile(np.arange(4) * 1000, 100))
    with pytest.raises(DecodeError, match=r"part-00000.parquet: sample 100 .*row group 2 of 'float32' can't be read"):
        next(loader)
    replaced = damaged.loader(batch_size=20, world=sw.World(), on_error="replace", threads=threads)
    seen = np.concatenate([batch["index"] for batch in replaced])
    assert len(seen) == SAMPLES
    assert not set(seen.tolist()) & set(range(100, 150))
    assert replaced.metrics().replaced == 50


def test_a_row_group_of_another_length_is_an_error(damaged):
    source = damaged.source
    groups = source.catalog.row_groups
    longer = dataclasses.replace(groups, samples=groups.samples + 1)
    columns = open_columns(dataclasses.replace(source.catalog, row_groups=longer), source.schema, ["index"], source.files())
    with pytest.raises(CorruptError, match=r"part-00000\.parquet: row group 0: expected 51 samples, found 50; copy the file"):
        columns.fetch(columns.locate(np.array([3])))


def test_extents_that_do_not_follow_the_row_groups(tmp_path):
    """As many as row groups, of the same samples, but the first row group has two, and the second one reaches into the next."""
    manifest = publish(tmp_path / "d", {"train": DATA}, SCHEMA, shards=1, part_samples=1000, row_group_samples=500)
    storage = open_storage(str(tmp_path / "d"))
    index = read_index(storage, "v000001", manifest)
    rows = index.to_pylist()
    (whole,) = [one for one in rows[0]["extents"] if one["field"] == "index"]
    (other,) = [one for one in rows[1]["extents"] if one["field"] == "index"]
    rows[0]["extents"].append(whole | {"first": 100, "count": 900, "offset": whole["offset"] + 100 * whole["stride"]})
    whole["count"] = 100
    rows[1]["extents"].remove(other)
    found = read_catalog(pa.Table.from_pylist(rows, index.schema), manifest, "train", None, where="index").extents["index"]
    assert len(found.first) == len(rows)
    assert found.find(np.array([50, 150, 600]), np.array([0, 0, 1])).tolist() == [0, 1, 1]
