"""What the drop-in has beyond stock Petastorm: state, equal shards, reset at any time, bounds, threads."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs
import pytest
from fsspec.implementations.local import LocalFileSystem

from shardwright.petastorm import NoDataAvailableError, make_batch_reader, make_reader
from shardwright.petastorm.errors import PetastormMetadataError
from shardwright.petastorm.etl.dataset_metadata import get_schema_from_dataset_url
from shardwright.petastorm.ngram import NGram
from shardwright.petastorm.predicates import in_lambda, in_set
from shardwright.petastorm.prefetch import Prefetch
from shardwright.petastorm.reading import Reader
from tests.petastorm.conftest import GROUPS

DATA = Path(__file__).with_name("data")
HELLO = f"file://{DATA / 'hello_world' / 'data'}"
SCALARS = f"file://{DATA / 'scalars' / 'data'}"
PLAIN = f"file://{DATA / 'plain' / 'data'}"
PARTITIONED = f"file://{DATA / 'partitioned' / 'data'}"
ROWS = 41


def ids(reader: Reader) -> list[int]:
    found = [row.id for row in reader]
    return [int(one) for row in found for one in np.atleast_1d(row)]


def read(make: Any, url: object, **options: Any) -> list[int]:
    with make(str(url), **options) as reader:
        return ids(reader)


OPTIONS: list[dict[str, Any]] = [
    {"shuffle_row_groups": False},
    {"seed": 5, "num_epochs": 3},
    {"seed": 5, "shuffle_rows": True, "num_epochs": 2},
    {"shuffle_rows": True, "num_epochs": 2},
    {"seed": 1, "cur_shard": 1, "shard_count": 3},
    {"seed": 1, "shuffle_row_drop_partitions": 3, "shuffle_rows": True},
    {"seed": 1, "cur_shard": 1, "shard_count": 3, "shard_policy": "samples", "num_epochs": 2, "shuffle_rows": True},
    {"seed": 9, "predicate": in_lambda(["id"], lambda number: number % 3 != 0), "num_epochs": 2},
]


@pytest.mark.parametrize("make", [make_reader, make_batch_reader])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: ",".join(map(str, options)))
@pytest.mark.parametrize("pool", ["dummy", "thread"])
@pytest.mark.filterwarnings("ignore:.*was written with codecs")
def test_it_resumes_anywhere(uneven: Path, make: Any, options: dict[str, Any], pool: str) -> None:
    """The rest, from any state, is what the reader itself would have handed out; the seed comes with the state."""
    with make(str(uneven), reader_pool_type=pool, **options) as whole:
        states, rows = [whole.state_dict()], []
        for row in whole:
            rows.append(np.atleast_1d(row.id).tolist())
            states.append(whole.state_dict())
    assert sum(map(len, rows)) > 10
    for place in {0, 1, len(rows) // 3, len(rows) // 2, len(rows) - 1, len(rows)}:
        with make(str(uneven), reader_pool_type=pool, **options) as rest:
            next(rest)
            rest.load_state_dict(json.loads(json.dumps(states[place])))
            assert [np.atleast_1d(row.id).tolist() for row in rest] == rows[place:]
            assert len(json.dumps(states[place])) < 1024


@pytest.mark.filterwarnings("ignore:accepted without effect")
def test_the_order_is_that_of_the_seed_alone(uneven: Path) -> None:
    options: dict[str, Any] = {"seed": 3, "shuffle_rows": True, "num_epochs": 2}
    found = {
        tuple(read(make_reader, uneven, reader_pool_type=pool, workers_count=workers, results_queue_size=queue, **options))
        for pool, workers, queue in (("dummy", 1, 1), ("thread", 1, 1), ("thread", 8, 50), ("process", 4, 2))
    }
    assert len(found) == 1


@pytest.mark.parametrize("make", [make_reader, make_batch_reader])
@pytest.mark.parametrize("shards", [1, 2, 3, 5, 16])
@pytest.mark.filterwarnings("ignore:.*was written with codecs")
def test_shards_of_one_size(uneven: Path, make: Any, shards: int) -> None:
    """Also more than there are row groups; each row at most once, and all but less than one for each shard."""
    left = []
    for seed in range(4):
        options = {"shard_policy": "samples", "shard_count": shards, "seed": seed, "shuffle_rows": True}
        found = [read(make, uneven, cur_shard=shard, **options) for shard in range(shards)]
        assert {len(rows) for rows in found} == {ROWS // shards}
        every = [row for rows in found for row in rows]
        assert len(set(every)) == len(every)
        left.append(frozenset(range(ROWS)) - set(every))
    assert {len(rows) for rows in left} == {ROWS % shards}
    if ROWS % shards:
        assert len(set(left)) > 1  # others in another order


def test_shards_of_one_size_of_what_a_predicate_takes(uneven: Path) -> None:
    options = {"shard_policy": "samples", "shard_count": 4, "predicate": in_lambda(["id"], lambda number: number % 2 == 0)}
    found = [read(make_reader, uneven, cur_shard=shard, seed=2, **options) for shard in range(4)]
    assert {len(rows) for rows in found} == {21 // 4}
    assert all(row % 2 == 0 for rows in found for row in rows)


def test_shards_of_one_size_of_windows(uneven: Path) -> None:
    ngram: Any = {-1: ["id"], 0: ["id", "x"]}
    every = []
    for shard in range(3):
        fields = NGram(ngram, 1, "id")
        with make_reader(str(uneven), fields, shard_policy="samples", cur_shard=shard, shard_count=3, seed=1) as reader:
            every.append([int(window[0].id) for window in reader])
    windows = sum(size - 1 for size in GROUPS)
    assert {len(found) for found in every} == {windows // 3}
    assert len({one for found in every for one in found}) == windows // 3 * 3


def test_epochs_of_shards_of_one_size_differ(uneven: Path) -> None:
    found = read(make_reader, uneven, shard_policy="samples", cur_shard=0, shard_count=4, seed=1, num_epochs=2)
    assert found[:10] != found[10:]


def test_too_few_rows_for_so_many_shards(uneven: Path) -> None:
    with pytest.raises(NoDataAvailableError, match="41 rows are not enough for 42 shards"):
        make_reader(str(uneven), shard_policy="samples", cur_shard=0, shard_count=42)


def test_reset_at_any_time(uneven: Path) -> None:
    with make_reader(str(uneven), seed=4, num_epochs=2) as reader:
        first = [int(next(reader).id) for _ in range(5)]
        reader.reset()
        again = ids(reader)
        assert reader.last_row_consumed
        reader.reset()
        assert sorted(ids(reader)) == sorted(again)
    assert sorted(again) == sorted([*range(ROWS)] * 2)
    assert first != again[:5]  # as with stock Petastorm a reset draws the order anew


def test_an_epoch_follows_the_other_without_end(uneven: Path) -> None:
    with make_reader(str(uneven), num_epochs=None, seed=0) as reader:
        found = [int(next(reader).id) for _ in range(3 * ROWS)]
    assert sorted(found) == sorted([*range(ROWS)] * 3)


def test_epochs_without_rows_end(uneven: Path) -> None:
    reader = make_reader(str(uneven), num_epochs=None, predicate=in_set({-1}, "id"))
    with reader, pytest.raises(NoDataAvailableError, match="handed out no rows"):
        next(reader)


def test_several_threads_take_from_one_reader(uneven: Path) -> None:
    found: list[int] = []
    with make_reader(str(uneven), num_epochs=4) as reader:
        threads = [threading.Thread(target=lambda: found.extend(int(row.id) for row in reader)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert sorted(found) == sorted([*range(ROWS)] * 4)


def test_no_threads_are_left(uneven: Path) -> None:
    before = threading.active_count()
    for _ in range(3):
        with make_reader(str(uneven), num_epochs=None) as reader:
            next(reader)
    assert threading.active_count() == before


def test_what_waits_is_bounded() -> None:
    """Neither more items than allowed are loaded ahead, nor more bytes, but always one."""
    loaded: list[int] = []
    held = threading.Semaphore(0)

    def load(item: int) -> int:
        loaded.append(item)
        held.release()
        return item

    sizes = [10, 10, 10, 100, 10, 10]
    ahead = Prefetch(load, iter(range(6)), threads=2, most=4, limit_bytes=35, nbytes=lambda item: sizes[item])
    taken = []
    for item, value in ahead:
        assert item == value
        taken.append(item)
        assert ahead.waiting <= 4
        assert sum(sizes[one] for one in range(item + 1, item + 1 + ahead.waiting)) <= 35 or ahead.waiting == 1
    assert taken == list(range(6))
    ahead.close()
    ahead.join()


def test_file_systems_that_the_caller_made(uneven: Path) -> None:
    every = list(range(ROWS))
    options: dict[str, Any] = {"shuffle_row_groups": False}
    for filesystem in (LocalFileSystem(), pyarrow.fs.LocalFileSystem()):
        assert read(make_reader, uneven, filesystem=filesystem, **options) == every
        assert read(make_reader, f"file://{uneven}", filesystem=filesystem, **options) == every
    assert read(make_reader, f"file://{uneven}", storage_options={"auto_mkdir": False}, **options) == every


def test_the_schema_of_a_dataset(uneven: Path) -> None:
    schema = get_schema_from_dataset_url(str(uneven))
    assert list(schema.fields) == ["id", "x"]
    assert schema.x.numpy_dtype is np.float32
    with pytest.raises(PetastormMetadataError, match="make_batch_reader"):
        get_schema_from_dataset_url(PLAIN)


def test_filters_that_select_nothing_are_told() -> None:
    with (
        pytest.warns(UserWarning, match="id are no hive partitions"),
        make_reader(PARTITIONED, filters=[("id", "=", 1)]) as reader,
    ):
        assert len(list(reader)) == 24


def test_arrays_are_writable_and_each_its_own(uneven: Path) -> None:
    with make_reader(str(uneven), shuffle_row_groups=False) as reader:
        rows = list(reader)
    rows[0].x[:] = -1
    assert rows[1].x.tolist() == [1, 1, 1]
    assert all(row.x.base is None or row.x.base.nbytes == row.x.nbytes for row in rows)


def test_integers_stay_integers_under_a_predicate() -> None:
    """Stock Petastorm makes floats of them there."""
    with make_batch_reader(PLAIN, predicate=in_lambda(["id"], lambda ids: ids % 2 == 0)) as reader:
        assert {batch.id.dtype for batch in reader} == {np.dtype(np.int64)}
