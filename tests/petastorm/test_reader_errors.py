"""Errors of the drop-in say what was expected, what was found, where, and what to do."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from shardwright.errors import (
    ConfigError,
    DatasetNotFoundError,
    InputError,
    StateError,
    StorageError,
    UnsafeMetadataError,
)
from shardwright.format import pickle_opcodes as op
from shardwright.format.common_metadata import UNISCHEMA_KEY
from shardwright.petastorm import NoDataAvailableError, TransformSpec, make_batch_reader, make_reader
from shardwright.petastorm.errors import DecodeFieldError, PetastormMetadataError
from shardwright.petastorm.ngram import NGram
from shardwright.petastorm.predicates import in_lambda
from shardwright.petastorm.selectors import SingleIndexSelector
from shardwright.petastorm.unischema import UnischemaField

DATA = Path(__file__).with_name("data")
HELLO = f"file://{DATA / 'hello_world' / 'data'}"
PLAIN = f"file://{DATA / 'plain' / 'data'}"


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
        reader = make_reader(str(folder), shuffle_row_groups=False)
    with reader:
        assert [row.id for row in reader] == list(range(17))


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
    with pytest.raises(InputError, match="_common_metadata"):
        make_reader(str(folder))


def test_a_hostile_schema_is_not_run(uneven: Path, tmp_path: Path) -> None:
    """What stock Petastorm runs when it opens such a dataset is named, and nothing happens."""
    trace = tmp_path / "trace"
    hostile = op.program(
        op.named("builtins", "eval") + op.sequence([op.text(f"open({str(trace)!r}, 'w').write('ran')")]) + b"R"
    )
    folder = copied(uneven, tmp_path / "data")
    footer = pq.read_metadata(folder / "_common_metadata")
    pq.write_metadata(
        footer.schema.to_arrow_schema().with_metadata({**footer.metadata, UNISCHEMA_KEY.encode(): hostile}),
        folder / "_common_metadata",
    )
    with pytest.raises(UnsafeMetadataError, match=r"builtins\.eval"):
        make_reader(folder.as_uri())
    assert not trace.exists()


def test_a_value_that_can_not_be_decoded(uneven: Path, tmp_path: Path) -> None:
    folder = copied(uneven, tmp_path / "cells")
    table = pq.read_table(folder / "part-0.parquet")
    pq.write_table(table.set_column(1, "x", pa.array([b"no array"] * len(table))), folder / "part-0.parquet", row_group_size=6)
    with make_reader(str(folder), ["id", "x"]) as reader, pytest.raises(DecodeFieldError, match='field "x" failed: not numpy'):
        list(reader)


def test_pickled_objects_are_refused(uneven: Path, tmp_path: Path) -> None:
    cell = io.BytesIO()
    np.lib.format.write_array_header_1_0(cell, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    cell.write(b"cos\nsystem\n(S'true'\ntR.")
    folder = copied(uneven, tmp_path / "objects")
    table = pq.read_table(folder / "part-0.parquet")
    pq.write_table(
        table.set_column(1, "x", pa.array([cell.getvalue()] * len(table))), folder / "part-0.parquet", row_group_size=6
    )
    with make_reader(str(folder)) as reader, pytest.raises(DecodeFieldError, match="pickle, which is not executed"):
        list(reader)


def test_a_transform_that_breaks_its_promise() -> None:
    reader = make_batch_reader(PLAIN, transform_spec=TransformSpec(lambda frame: frame[["id"]]))
    with reader, pytest.raises(ValueError, match="do not match required schema columns"):
        next(reader)


def test_a_predicate_that_is_not_for_columns() -> None:
    reader = make_batch_reader(PLAIN, predicate=in_lambda(["id"], lambda ids: True))
    with reader, pytest.raises(ValueError, match="whole columns"):
        next(reader)
