"""What `make_reader` and `make_batch_reader` take, checked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from shardwright.petastorm.ngram import NGram
from shardwright.petastorm.order import RowOrderKind, ShardPolicy
from shardwright.petastorm.predicates import PredicateBase
from shardwright.petastorm.transform import TransformSpec

PoolType = Literal["thread", "process", "dummy"]
Filter = tuple[str, str, Any]
Filters = Sequence[Filter] | Sequence[Sequence[Filter]]
_MORE = 2
"""Row groups that wait while as many as there are threads are being loaded."""


@dataclass(frozen=True, kw_only=True)
class ReaderOptions:
    """The parameters that have a meaning here; those of `make_reader` by the same names. Raises ValueError for bad ones."""

    schema_fields: Iterable[Any] | NGram | None
    reader_pool_type: str
    workers_count: int
    results_queue_size: int
    seed: int | None
    shuffle_rows: bool
    shuffle_row_groups: bool
    shuffle_row_drop_partitions: int
    predicate: PredicateBase | None
    num_epochs: int | None
    cur_shard: int | None
    shard_count: int | None
    shard_seed: int | None
    shard_policy: ShardPolicy
    transform_spec: TransformSpec | None
    filters: Filters | None
    memory_limit_bytes: int

    def __post_init__(self) -> None:
        if self.reader_pool_type not in get_args(PoolType):
            raise ValueError(
                f"Unknown reader_pool_type: {self.reader_pool_type}; expected one of {', '.join(get_args(PoolType))}"
            )
        if self.num_epochs is not None and not (_is_int(self.num_epochs) and self.num_epochs >= 1):
            raise ValueError(f"iterations must be positive integer or None: num_epochs is {self.num_epochs!r}")
        if self.predicate is not None and not isinstance(self.predicate, PredicateBase):
            raise ValueError("predicate parameter is expected to be derived from PredicateBase")
        for name in ("workers_count", "results_queue_size", "shuffle_row_drop_partitions", "memory_limit_bytes"):
            if not (_is_int(getattr(self, name)) and getattr(self, name) >= 1):
                raise ValueError(f"{name}: expected an integer of at least 1, found {getattr(self, name)!r}")
        if self.seed is not None and not (_is_int(self.seed) and self.seed >= 0):
            raise ValueError(f"seed: expected an integer of at least 0, or None, found {self.seed!r}")
        self._check_shards()

    def _check_shards(self) -> None:
        if self.shard_policy not in get_args(ShardPolicy):
            raise ValueError(f"shard_policy: expected 'row_groups' or 'samples', found {self.shard_policy!r}")
        if self.cur_shard is not None or self.shard_count is not None:
            if not (_is_int(self.cur_shard) and _is_int(self.shard_count) and self.shard_count):
                raise ValueError("partition and num_partitions must be ints and both specified to use partitioning")
            if not 0 <= (self.cur_shard or 0) < self.shard_count:
                raise ValueError(f"cur_shard: expected 0 to {self.shard_count - 1}, found {self.cur_shard}")
        if self.shard_policy == "samples" and self.shuffle_row_drop_partitions > 1:
            raise ValueError("shuffle_row_drop_partitions: with shard_policy='samples' a row group is read once; leave it at 1")
        if (
            isinstance(self.schema_fields, NGram)
            and not self.schema_fields.timestamp_overlap
            and self.shuffle_row_drop_partitions > 1
        ):
            raise NotImplementedError(
                "Using timestamp_overlap=False is not implemented with shuffle_options.shuffle_row_drop_partitions > 1"
            )

    def row_order(self, *, batched: bool) -> RowOrderKind:
        """Who draws the order of the rows of a row group.

        Where a row group is read in parts, Petastorm's batches draw an order for each part, so that rows are lost and others
        come twice; here each comes once.
        """
        if self.seed is None or self.shard_policy == "samples" or (batched and self.shuffle_row_drop_partitions > 1):
            return "keyed"
        return "batches" if batched else "rows"

    def threads(self, local: bool) -> int:
        """Threads that load row groups; 0: the one that asks for rows does.

        Of local files no more than there are processors.
        """
        if self.reader_pool_type == "dummy":
            return 0
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(self.workers_count, usable) if local else self.workers_count

    def ahead(self, local: bool) -> int:
        """Row groups that are being loaded, or wait, at most."""
        return min(self.results_queue_size, self.threads(local) + _MORE)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
