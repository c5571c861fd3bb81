"""A dataset is a Sequence: of samples, slices and selections, here and in another process."""

from __future__ import annotations

import dataclasses
import multiprocessing
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import shardwright as sw
from shardwright.errors import ConfigError, CorruptError, SchemaError
from tests.datasets import digits, keys_of, publish, shard_rows

DATA = digits(203)


@pytest.fixture(scope="module")
def train(small):
    return sw.open_dataset(str(small), split="train")


def test_one_sample(train):
    sample = train[17]
    assert np.array_equal(sample["image"], DATA["image"][17])
    assert sample["label"] == 17
    assert isinstance(sample["label"], np.int64)
    assert train[-1]["label"] == 199


def test_take_is_one_gather_in_the_order_asked_for(train):
    rows = [5, 3, 199, 3, -200]
    batch = train.take(rows)
    assert batch["label"].tolist() == [5, 3, 199, 3, 0]
    assert np.array_equal(batch["image"], DATA["image"][[5, 3, 199, 3, 0]])
    assert batch["image"].dtype == np.uint8
    assert batch["image"].flags.writeable
    assert train.take([])["image"].shape == (0, 8, 8)


def test_iteration_gives_every_sample(train):
    assert [sample["label"] for sample in train] == list(range(200))


@pytest.mark.parametrize("index", [200, -201])
def test_outside(train, index):
    with pytest.raises(IndexError, match=f"sample {index} of 200"):
        train[index]
    with pytest.raises(IndexError, match=f"sample {index} of 200"):
        train.take([0, index])
    with pytest.raises(IndexError, match="expected a sequence of whole numbers"):
        train.take([0.5])
    with pytest.raises(TypeError, match="'float' object cannot be interpreted as an integer"):
        train[1.5]


@given(st.slices(200), st.slices(50), st.lists(st.integers(0, 2**31), max_size=8))
def test_selections_of_selections_are_those_of_a_list(train, outer, inner, picks):
    expected, found = list(range(200))[outer], train[outer]
    picks = [pick % len(expected) for pick in picks] if expected else []
    for chosen, wanted in (
        (found, expected),
        (found[inner], expected[inner]),
        (found.select(picks), [expected[pick] for pick in picks]),
        (found.select(picks)[inner], [expected[pick] for pick in picks][inner]),
    ):
        assert len(chosen) == len(wanted)
        assert chosen.take(range(len(chosen)))["label"].tolist() == wanted


def test_equal_selections_have_equal_hashes(train):
    assert train.selection is None
    assert train[:].selection is None
    assert train[10:20].selection == train.select(list(range(10, 20))).selection == train[5:][5:15].selection
    assert train[10:20].selection != train[10:21].selection
    assert train[5:6].selection == train[5:6:7].selection == train.select([5]).selection
    assert train.select([3, 1, 2]).selection != train.select([1, 2, 3]).selection


def test_some_shards_are_a_smaller_dataset(small):
    some = sw.open_dataset(str(small), split="train", shards=[3, 1])
    held = shard_rows(203, 4, "drop")
    assert some.take(range(len(some)))["label"].tolist() == held[1] + held[3]
    assert some.selection is not None
    assert sw.open_dataset(str(small), split="train", shards=[0, 1, 2, 3]).selection is None


def test_keys_come_only_when_asked_for(small):
    found = sw.open_dataset(str(small), split="train", columns=["_key", "label"]).take([4, 2])
    assert list(found) == ["_key", "label"]
    assert np.array_equal(found["_key"], keys_of("train", [4, 2]))


@pytest.mark.parametrize("columns", [["_key"], ["_pad"], ["_key", "_pad"]])
def test_hidden_columns_alone(tmp_path, columns):
    publish(tmp_path / "d", {"train": digits(10)}, remainder="pad")
    dataset = sw.open_dataset(tmp_path / "d", columns=columns)
    assert dataset.schema.names == ()
    assert [list(sample) for sample in dataset] == [columns] * 12
    assert list(dataset[3]) == list(dataset.take([1])) == columns
    assert dataset.to_arrow().column_names == dataset[:0].to_arrow().column_names == columns
    loader = dataset.loader(batch_size=5, world=sw.World())
    assert [table.num_rows for table in loader.as_arrow()] == [5, 5, 2]
    assert list(loader.inverse(dataset.take([0]))) == columns


def test_a_text_is_no_sequence_of_names(train):
    with pytest.raises(SchemaError, match=r"columns: expected a sequence of names such as \['label'\], found 'label'"):
        sw.open_dataset(train.source.url, split="train", columns="label")
    for take in (lambda: train.inverse({}, normalise="image"),
                 lambda: train.loader(batch_size=4, world=sw.World(), normalise="image")):  # fmt: skip
        with pytest.raises(SchemaError, match=r"normalise: expected True or a sequence of names such as \['image'\], found"):
            take()


@pytest.mark.parametrize("size", [0, -1])
def test_tables_of_no_rows_are_refused(train, size):
    with pytest.raises(ConfigError, match=f"batch_size: expected at least 1, found {size}"):
        next(train.iter_arrow(size))


def test_padded_and_spread_versions(tmp_path):
    publish(tmp_path / "pad", {"train": digits(10)}, remainder="pad")
    padded = sw.open_dataset(str(tmp_path / "pad"), columns=["label", "_pad"])
    assert len(padded) == 12
    assert padded.take(range(12))["label"].tolist() == [*range(10), 0, 1]
    assert padded.take(range(12))["_pad"].tolist() == [False] * 10 + [True] * 2
    publish(tmp_path / "spread", {"train": digits(10)}, remainder="spread")
    spread = sw.open_dataset(str(tmp_path / "spread"))
    assert sorted(b for batch in spread.loader(batch_size=3, world=sw.World()) for b in batch["label"]) == list(range(10))


def labels(dataset, rows):
    return dataset.take(rows)["label"].tolist()


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_another_process_opens_its_own_files(train, method):
    labels(train, [0])  # maps are open here
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        assert pool.submit(labels, train[10:], [0, 5]).result() == [10, 15]


def test_a_missing_and_a_short_part(tmp_path):
    publish(tmp_path / "d", {"train": digits(64)}, part_samples=16)
    parts = sorted((tmp_path / "d/v000001/train").glob("*/part-*.parquet"))
    parts[0].unlink()
    parts[1].write_bytes(parts[1].read_bytes()[:-1])
    parts[2].write_bytes(b"")
    train = sw.open_dataset(str(tmp_path / "d"))
    with pytest.raises(CorruptError, match=r"shard=00000/part-00000.parquet is missing; copy it there again"):
        train[0]
    with pytest.raises(
        CorruptError, match=r"shard=00001/part-00000.parquet: expected \d+ bytes, found \d+; copy the file again"
    ):
        train[16]
    with pytest.raises(CorruptError, match=r"shard=00002/part-00000.parquet: expected \d+ bytes, found 0; copy"):
        train[32]
    assert train[48]["label"] == 48


def test_threads_that_open_a_part_at_once_get_one_map_of_it(small):
    """Else addresses that one of them knows would lie in a map that the other's had replaced, and that is gone."""
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            for _ in range(30):
                files = sw.open_dataset(str(small), split="train").source.columns.files
                together = threading.Barrier(4)

                def map_it(_, files=files, together=together):
                    together.wait(10)
                    return files.map(0)

                assert len({id(buffer) for buffer in pool.map(map_it, range(4))}) == 1
    finally:
        sys.setswitchinterval(switch)


def test_threads_that_read_compressed_columns_do_not_disturb_each_other(tmp_path):
    publish(tmp_path / "d", {"train": digits(400)}, compressed=["label"], shards=1, part_samples=400)
    train = sw.open_dataset(str(tmp_path / "d"), columns=["label"])
    train = sw.Dataset(dataclasses.replace(train.source, cache_bytes=1))  # each row group is read again and again
    rows = np.arange(len(train))

    def read(seed):
        order = np.random.default_rng(seed)
        return all(np.array_equal(train.take(some)["label"], some) for some in (order.permutation(rows) for _ in range(20)))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(4)))
