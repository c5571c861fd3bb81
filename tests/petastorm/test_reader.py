"""What the drop-in has beyond stock Petastorm: state, equal shards, reset at any time, bounds, errors that say what to do."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from shardwright.errors import ConfigError, CorruptError, DatasetNotFoundError, InputError, StateError, StorageError
from shardwright.petastorm import NoDataAvailableError, TransformSpec, make_batch_reader, make_reader
from shardwright.petastorm.codecs import NdarrayCodec
from shardwright.petastorm.errors import DecodeFieldError, PetastormMetadataError
from shardwright.petastorm.etl.dataset_metadata import get_schema_from_dataset_url, write_metadata
from shardwright.petastorm.files import open_files
from shardwright.petastorm.ngram import NGram
from shardwright.petastorm.predicates import in_lambda, in_set
from shardwright.petastorm.prefetch import Prefetch
from shardwright.petastorm.reading import Reader
from shardwright.petastorm.selectors import SingleIndexSelector
from shardwright.petastorm.unischema import Unischema, UnischemaField

DATA = Path(__file__).with_name("data")
HELLO = f"file://{DATA / 'hello_world'}"
SCALARS = f"file://{DATA / 'scalars'}"
PLAIN = f"file://{DATA / 'plain'}"
PARTITIONED = f"file://{DATA / 'partitioned'}"
ROWS = 41
GROUPS = (7, 1, 9, 4, 12, 8)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Row groups of several sizes in two files, with the metadata of a Unischema."""
    folder = tmp_path_factory.mktemp("uneven")
    ends = np.cumsum(GROUPS)
    for file, groups in enumerate((range(3), range(3, 6))):
        schema = pa.schema([pa.field("id", pa.int64(), False), pa.field("x", pa.binary(), False)])
        with pq.ParquetWriter(folder / f"part-{file}.parquet", schema, store_schema=False) as writer:
            for group in groups:
                ids = np.arange(ends[group] - GROUPS[group], ends[group])
                field = UnischemaField("x", np.float32, (3,), NdarrayCodec(), False)
                cells = [bytes(NdarrayCodec().encode(field, np.full(3, number, np.float32))) for number in ids]
                writer.write_table(pa.table({"id": pa.array(ids, pa.int64()), "x": cells}, schema=schema))
    unischema = Unischema(
        "Uneven", [UnischemaField("id", np.int64, ()), UnischemaField("x", np.float32, (3,), NdarrayCodec(), False)]
    )
    write_metadata(open_files(str(folder)), unischema)
    return folder


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


def test_a_state_of_something_else_is_refused(uneven: Path) -> None:
    with make_reader(str(uneven), seed=1) as reader:
        state = reader.state_dict()
    for url, options in (
        (HELLO, {"seed": 1}),
        (str(uneven), {"seed": 2}),
        (str(uneven), {"seed": 1, "cur_shard": 0, "shard_count": 2}),
        (str(uneven), {"seed": 1, "shuffle_rows": True}),
        (str(uneven), {"seed": 1, "shard_policy": "samples"}),
    ):
        with make_reader(url, **options) as other, pytest.raises(StateError):
            other.load_state_dict(state)
    with make_reader(str(uneven), seed=1) as reader:
        for change in ({"item": -1}, {"row": "x"}, {"kind": "?"}, {"format_version": 2}, {"generator": "zz"}, {"epoch": None}):
            with pytest.raises(StateError):
                reader.load_state_dict({**state, **change})


def test_a_reader_that_has_stopped(uneven: Path) -> None:
    with make_reader(str(uneven)) as reader:
        next(reader)
    with pytest.raises(RuntimeError, match="Trying to read a sample"):
        next(reader)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"reader_pool_type": "fast"}, ValueError, "reader_pool_type: fast"),
    ({"num_epochs": 0}, ValueError, "positive integer"),
    ({"num_epochs": "abc"}, ValueError, "positive integer"),
    ({"cur_shard": 1}, ValueError, "both specified"),
    ({"cur_shard": 2, "shard_count": 2}, ValueError, "cur_shard: expected 0 to 1"),
    ({"cur_shard": 0, "shard_count": 100}, NoDataAvailableError, "shard_policy"),
    ({"shard_policy": "rows"}, ValueError, "'row_groups' or 'samples'"),
    ({"workers_count": 0}, ValueError, "workers_count"),
    ({"seed": -1}, ValueError, "seed"),
    ({"predicate": lambda row: True}, ValueError, "PredicateBase"),
    ({"cache_type": "redis"}, ValueError, "cache_type: redis"),
    ({"shard_polcy": "samples"}, TypeError, "do you mean 'shard_policy'"),
    ({"schema_fields": "id"}, ValueError, "found 'id'"),
    ({"schema_fields": ["nothing"]}, RuntimeError, "No fields matching"),
    ({"schema_fields": [UnischemaField("y", np.int64, ())]}, ValueError, "does not belong"),
    ({"filters": [("split", "~", "a")]}, ValueError, "one of = =="),
    ({"shard_policy": "samples", "shuffle_row_drop_partitions": 2}, ValueError, "shuffle_row_drop_partitions"),
    ({"filesystem": object()}, StorageError, "expected one of fsspec's or pyarrow.fs's"),
    ({"rowgroup_selector": object()}, ConfigError, "predicate=in_set"),
]


@pytest.mark.parametrize("options, error, told", BAD, ids=[str(options) for options, _, _ in BAD])
def test_bad_arguments(uneven: Path, options: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        make_reader(str(uneven), **options)


def test_windows_of_batches_are_refused() -> None:
    with pytest.raises(ConfigError, match="use make_reader"):
        make_batch_reader(PLAIN, NGram({0: ["id"]}, 1, "id"))  # type: ignore[arg-type]


def test_selectors_are_refused() -> None:
    with pytest.raises(ConfigError, match="pickles"):
        SingleIndexSelector("id", [1])


def test_what_has_no_effect_is_told_once(uneven: Path) -> None:
    with pytest.warns(UserWarning, match="accepted without effect") as told:
        make_reader(str(uneven), hdfs_driver="libhdfs", pyarrow_serialize=True, reader_pool_type="process").stop()
    assert len(told) == 1
    assert all(name in str(told[0].message) for name in ("hdfs_driver", "pyarrow_serialize", "reader_pool_type"))


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        make_reader(str(tmp_path / "absent"))
    with pytest.raises(DatasetNotFoundError, match="no files"):
        make_reader(str(tmp_path))
    (tmp_path / "_SUCCESS").touch()
    with pytest.raises(DatasetNotFoundError, match="no Parquet files"):
        make_reader(str(tmp_path))
    with pytest.raises(ValueError, match="must be a string"):
        make_reader(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="non-empty"):
        make_reader([])


def copied(source: Path, target: Path) -> Path:
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_a_damaged_part(uneven: Path, tmp_path: Path) -> None:
    folder = copied(uneven, tmp_path / "damaged")
    part = folder / "part-1.parquet"
    part.write_bytes(part.read_bytes()[:-20])
    with make_reader(str(folder), shuffle_row_groups=False) as reader, pytest.raises(InputError, match=r"part-1\.parquet"):
        list(reader)


def test_a_part_that_the_metadata_does_not_know(uneven: Path, tmp_path: Path) -> None:
    folder = copied(uneven, tmp_path / "more")
    (folder / "part-2.parquet").write_bytes((folder / "part-0.parquet").read_bytes())
    with pytest.raises(PetastormMetadataError, match=r"part-2\.parquet.*materialize_dataset"):
        make_reader(str(folder))
    (folder / "part-2.parquet").rename(folder / "_part-2.parquet")
    (folder / "part-1.parquet").unlink()
    with pytest.warns(UserWarning, match=r"1 files of _common_metadata are not there, for example 'part-1\.parquet'"):
        assert read(make_reader, folder, shuffle_row_groups=False) == list(range(17))


def test_metadata_of_more_row_groups_than_there_are(uneven: Path, tmp_path: Path) -> None:
    folder = copied(uneven, tmp_path / "fewer")
    pq.write_table(pq.read_table(folder / "part-0.parquet"), folder / "part-0.parquet")
    with make_reader(str(folder)) as reader, pytest.raises(PetastormMetadataError, match="has 1 row groups"):
        list(reader)


def test_the_other_reader_is_named(uneven: Path) -> None:
    with pytest.warns(UserWarning, match="use make_reader"):
        make_batch_reader(str(uneven)).stop()
    with pytest.warns(UserWarning, match="make_batch_reader is faster"):
        make_reader(PLAIN).stop()


def test_damaged_metadata(uneven: Path, tmp_path: Path) -> None:
    folder = copied(uneven, tmp_path / "bad")
    (folder / "_common_metadata").write_bytes(b"PAR1")
    with pytest.raises(CorruptError, match="_common_metadata"):
        make_reader(str(folder))


def test_a_value_that_can_not_be_decoded(uneven: Path, tmp_path: Path) -> None:
    folder = copied(uneven, tmp_path / "cells")
    table = pq.read_table(folder / "part-0.parquet")
    pq.write_table(table.set_column(1, "x", pa.array([b"no array"] * len(table))), folder / "part-0.parquet", row_group_size=6)
    with make_reader(str(folder), ["id", "x"]) as reader, pytest.raises(DecodeFieldError, match='field "x" failed: not numpy'):
        list(reader)


def test_pickled_objects_are_refused(uneven: Path, tmp_path: Path) -> None:
    import io

    cell = io.BytesIO()
    np.save(cell, np.array([{}], object), allow_pickle=True)
    folder = copied(uneven, tmp_path / "objects")
    table = pq.read_table(folder / "part-0.parquet")
    pq.write_table(
        table.set_column(1, "x", pa.array([cell.getvalue()] * len(table))), folder / "part-0.parquet", row_group_size=6
    )
    with make_reader(str(folder)) as reader, pytest.raises(DecodeFieldError, match="pickle, which is not executed"):
        list(reader)


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


def test_a_transform_that_breaks_its_promise() -> None:
    reader = make_batch_reader(PLAIN, transform_spec=TransformSpec(lambda frame: frame[["id"]]))
    with reader, pytest.raises(ValueError, match="do not match required schema columns"):
        next(reader)


def test_a_predicate_that_is_not_for_columns() -> None:
    reader = make_batch_reader(PLAIN, predicate=in_lambda(["id"], lambda ids: True))
    with reader, pytest.raises(ValueError, match="whole columns"):
        next(reader)


def test_integers_stay_integers_under_a_predicate() -> None:
    """Stock Petastorm makes floats of them there."""
    with make_batch_reader(PLAIN, predicate=in_lambda(["id"], lambda ids: ids % 2 == 0)) as reader:
        assert {batch.id.dtype for batch in reader} == {np.dtype(np.int64)}
