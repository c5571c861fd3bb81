"""The parameters of `make_reader` and `make_batch_reader`: Petastorm's, by its names and with its defaults, and ours.

What each means here: docs/petastorm.md.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict, cast

from shardwright.errors import ConfigError
from shardwright.petastorm.ngram import NGram
from shardwright.petastorm.options import Filters, ReaderOptions
from shardwright.petastorm.order import ShardPolicy
from shardwright.petastorm.predicates import PredicateBase
from shardwright.petastorm.selectors import REFUSAL
from shardwright.petastorm.transform import TransformSpec


class ReaderArguments(TypedDict, total=False):
    """Keyword arguments of both; see `DEFAULTS`."""

    reader_pool_type: str
    workers_count: int
    pyarrow_serialize: bool
    results_queue_size: int
    seed: int | None
    shuffle_rows: bool
    shuffle_row_groups: bool
    shuffle_row_drop_partitions: int
    predicate: PredicateBase | None
    rowgroup_selector: Any
    num_epochs: int | None
    cur_shard: int | None
    shard_count: int | None
    shard_seed: int | None
    shard_policy: ShardPolicy
    cache_type: str | None
    cache_location: str | None
    cache_size_limit: int | None
    cache_row_size_estimate: int | None
    cache_extra_settings: Mapping[str, Any] | None
    hdfs_driver: str
    transform_spec: TransformSpec | None
    filters: Filters | None
    storage_options: Mapping[str, Any] | None
    zmq_copy_buffers: bool
    filesystem: Any
    convert_early_to_numpy: bool
    memory_limit_bytes: int


DEFAULTS: ReaderArguments = {
    "reader_pool_type": "thread", "workers_count": 10, "pyarrow_serialize": False, "results_queue_size": 50,
    "seed": None, "shuffle_rows": False, "shuffle_row_groups": True, "shuffle_row_drop_partitions": 1,
    "predicate": None, "rowgroup_selector": None, "num_epochs": 1,
    "cur_shard": None, "shard_count": None, "shard_seed": None, "shard_policy": "row_groups",
    "cache_type": "null", "cache_location": None, "cache_size_limit": None, "cache_row_size_estimate": None,
    "cache_extra_settings": None, "hdfs_driver": "libhdfs3", "transform_spec": None, "filters": None,
    "storage_options": None, "zmq_copy_buffers": True, "filesystem": None, "convert_early_to_numpy": False,
    "memory_limit_bytes": 2**30,
}  # fmt: skip

_NO_EFFECT = {
    "pyarrow_serialize": "rows are not serialised between processes",
    "hdfs_driver": "hdfs:// is read by hdfs-native, without a JVM",
    "zmq_copy_buffers": "there is no ZeroMQ",
    "shard_seed": "it is deprecated; seed does the same",
}
_CACHES = (None, "null", "local-disk")


def split_arguments(
    schema_fields: Iterable[Any] | NGram | None, given: ReaderArguments
) -> tuple[ReaderOptions, Any, Mapping[str, Any] | None]:
    """What a reader does, the file system, and the storage options.

    Warns, once, of all that no longer has an effect. Raises TypeError for an unknown name, ConfigError for what is refused, and
    ValueError for bad values.
    """
    if unknown := [name for name in given if name not in DEFAULTS]:
        near = difflib.get_close_matches(unknown[0], DEFAULTS, 1)
        raise TypeError(
            f"make_reader() got an unexpected keyword argument {unknown[0]!r}" + (f": do you mean {near[0]!r}?" if near else "")
        )
    arguments = cast(dict[str, Any], {**DEFAULTS, **given})
    if arguments["rowgroup_selector"] is not None:
        raise ConfigError([REFUSAL])
    if arguments["cache_type"] not in _CACHES:
        raise ValueError(f"Unknown cache_type: {arguments['cache_type']}; expected 'null' or 'local-disk'")
    _warn_of_no_effect(arguments)
    names = ReaderOptions.__dataclass_fields__
    options = ReaderOptions(schema_fields=schema_fields, **{name: arguments[name] for name in names if name in arguments})
    return options, arguments["filesystem"], arguments["storage_options"]


def _warn_of_no_effect(arguments: Mapping[str, Any]) -> None:
    defaults = cast(dict[str, Any], DEFAULTS)
    told = [f"{name} ({why})" for name, why in _NO_EFFECT.items() if arguments[name] != defaults[name]]
    if arguments["reader_pool_type"] == "process":
        told.append("reader_pool_type='process' (threads load row groups: decoding needs no processes)")
    if arguments["cache_type"] == "local-disk":
        told.append("cache_type='local-disk' (its files are pickles; open_dataset(url, cache=…) caches a migrated dataset)")
    if told:
        warnings.warn(f"accepted without effect: {'; '.join(told)}", stacklevel=4)
