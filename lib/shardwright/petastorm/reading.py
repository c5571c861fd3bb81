"""`Reader`: the rows, or batches, of a dataset that stock Petastorm wrote, or of any folder of Parquet files.

Order, shards and values are those of petastorm 0.13.1 (docs/petastorm.md has what differs). Beyond it: `state_dict`, `reset` at
any time, shards of one size (`shard_policy="samples"`), and a bound on what is loaded ahead.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

import pyarrow as pa

from shardwright.errors import ConfigError
from shardwright.petastorm import position
from shardwright.petastorm.arrow_types import fields_of_arrow
from shardwright.petastorm.errors import NoDataAvailableError
from shardwright.petastorm.filters import matching_files
from shardwright.petastorm.loading import BatchLoader, Loader, RowLoader
from shardwright.petastorm.ngram import NGram
from shardwright.petastorm.options import ReaderOptions
from shardwright.petastorm.order import I64, Item, Order, RowGroupOrder, RowOrder, SampleOrder, of_shard
from shardwright.petastorm.position import Position
from shardwright.petastorm.predicates import PredicateBase
from shardwright.petastorm.prefetch import Prefetch
from shardwright.petastorm.store import Store
from shardwright.petastorm.stored import from_stored
from shardwright.petastorm.transform import transform_schema
from shardwright.petastorm.unischema import Unischema, UnischemaField

_Ordered = tuple[Item, I64 | None, Position]
"""An item, the order of its rows, and where it begins."""


class Reader:
    """An iterator of rows (namedtuples, or with an NGram dicts of them), or of batches; and a context manager.

    Made by `make_reader` and `make_batch_reader`. `schema` is that of what is handed out; `last_row_consumed` is True once
    all epochs are; after `stop`, or the context's end, asking for more raises RuntimeError.
    """

    def __init__(self, store: Store, options: ReaderOptions, *, batched: bool) -> None:
        self.batched_output = self.is_batched_reader = batched
        self.num_epochs = options.num_epochs
        self.ngram: NGram | None = None
        self.last_row_consumed = False
        self.stopped = False
        self._store, self._options = store, options
        self._lock = threading.Lock()
        stored = stored_schema(store)
        read = self._wanted(stored)
        self.schema = transform_schema(read, options.transform_spec) if options.transform_spec else read
        pieces, predicate = self._pieces(stored)
        self._loader = self._make_loader(read, predicate)
        self._seed = options.seed if options.seed is not None else position.draw_seed()
        self._order = self._make_order(pieces)
        self._fingerprint = position.fingerprint(store, options, batched=batched)
        self._columns = list(read.fields)
        self._largest = 0
        self._begin(Position(resets=0, epoch=0, item=0, row=0, generator=None))

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        with self._lock:
            if self.stopped:
                raise RuntimeError(
                    "Trying to read a sample after a reader created by make_reader/make_batch_reader has stopped. This may "
                    "happen if the make_reader/make_batch_reader context manager has exited but you try to fetch a sample "
                    "from it anyway"
                )
            while self._row >= len(self._rows):
                self._next_rows()
            row = self._rows[self._row]
            self._rows[self._row] = None  # so that it lives no longer than who took it wants
            self._row += 1
            return row

    def next(self) -> Any:
        """The next row or batch."""
        return next(self)

    def reset(self) -> None:
        """Begin again with the first of `num_epochs` epochs, at any time. After `stop` it has no effect."""
        with self._lock:
            if not self.stopped:
                self._ahead.close()
                self._begin(Position(resets=self._at.resets + 1, epoch=0, item=0, row=0, generator=None))

    def state_dict(self) -> dict[str, Any]:
        """Where the reader is, as JSON: the seed, and what was handed out. Below 1 KiB."""
        with self._lock:
            at = self._at._replace(row=self._row) if self._rows else self._at
            return position.to_state(at, self._seed, self._fingerprint)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the reader that `state` is of was: the next row is the one after its last.

        Raises StateError for a state of another dataset, shard, order or selection of rows, which says what differs.
        """
        with self._lock:
            at, self._seed = position.from_state(state, self._options.seed, self._fingerprint)
            self._order = position.with_seed(self._order, self._seed)
            self._ahead.close()
            self._begin(at)

    def stop(self) -> None:
        """End it: nothing more is loaded."""
        self.stopped = True
        self._ahead.close()

    def join(self) -> None:
        """Wait until its threads have ended."""
        self._ahead.join()

    @property
    def diagnostics(self) -> dict[str, Any]:
        """How many row groups are loaded ahead now, in `output_queue_size`."""
        return {"output_queue_size": self._ahead.waiting}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.join()

    def _wanted(self, stored: Unischema) -> Unischema:
        """The schema of the fields that are read."""
        fields = self._options.schema_fields
        if isinstance(fields, NGram):
            if self.batched_output:
                raise ConfigError(
                    ["schema_fields: make_batch_reader hands out columns, of which there are no windows; use make_reader"]
                )
            self.ngram = fields
            fields.resolve_regex_field_names(stored)
            fields = fields.get_field_names_at_all_timesteps()
        if isinstance(fields, str) or not (fields is None or isinstance(fields, Iterable)):
            raise ValueError(
                f"Fields must be either None, an iterable collection of Unischema fields or an NGram object; found {fields!r}"
            )
        wanted = list(fields or ())
        read = stored.create_schema_view(wanted) if wanted else stored
        if not read.fields:
            raise RuntimeError(f"No fields matching the criteria '{fields}' were found in the dataset {self._store.url}.")
        return read

    def _pieces(self, stored: Unischema) -> tuple[list[int], PredicateBase | None]:
        """The row groups that filters, and a predicate on the partition column, leave; and a predicate that is left to rows."""
        store, predicate = self._store, self._options.predicate
        files = matching_files(store, self._options.filters) if self._options.filters else set(store.names)
        if predicate is not None and store.partition_names and set(predicate.get_fields()) == set(store.partition_names[:1]):
            field = stored.fields[store.partition_names[0]]
            files &= {name for name in files if predicate.do_include(_partition_row(store, name, field))}
            predicate = None
        return [number for number, piece in enumerate(store.pieces) if piece.file in files], predicate

    def _make_loader(self, read: Unischema, predicate: PredicateBase | None) -> Loader:
        shared: dict[str, Any] = {
            "store": self._store, "schema": read, "predicate": predicate, "transform": self._options.transform_spec,
            "handed": self.schema,
        }  # fmt: skip
        return BatchLoader(**shared) if self.batched_output else RowLoader(**shared, ngram=self.ngram)

    def _make_order(self, pieces: list[int]) -> Order:
        options = self._options
        shard, shards = options.cur_shard, options.shard_count
        if options.shard_policy == "samples":
            counts = tuple(map(self._loader.count, pieces))
            order = SampleOrder(
                pieces=tuple(pieces), rows=counts, shard=shard or 0, shards=shards or 1,
                shuffle=options.shuffle_row_groups, seed=self._seed,
            )  # fmt: skip
            if not order.samples:
                raise NoDataAvailableError(
                    f"{self._store.url}: {sum(counts)} rows are not enough for {shards} shards of one size"
                )
            return order
        if shards is not None and shard is not None:
            if len(self._store.pieces) < shards:
                raise NoDataAvailableError(
                    "Number of row-groups in the dataset must be greater or equal to the number of requested shards. "
                    f"Otherwise, some of the shards will end up being empty: {len(self._store.pieces)} row groups, {shards} "
                    "shards; "
                    'shard_policy="samples" cuts row groups'
                )
            pieces = list(of_shard(pieces, shard, shards, options.shard_seed or options.seed))
        if not pieces:
            warnings.warn(
                "No matching data is available for loading after rowgroup selector were applied and the data was sharded.",
                stacklevel=4,
            )
        return RowGroupOrder(
            pieces=tuple(pieces), parts=options.shuffle_row_drop_partitions, shuffle=options.shuffle_row_groups, seed=self._seed
        )

    def _begin(self, at: Position) -> None:
        """Go on at a position."""
        options = self._options
        self._at, self._row, self._skip = at, 0, at.row
        self._rows: list[Any] = []
        self.last_row_consumed = False
        self._ahead: Prefetch[_Ordered, Any] = Prefetch(
            lambda ordered: self._loader.load(ordered[0], ordered[1]), self._items(at),
            threads=options.threads(self._store.files.local), most=options.ahead(self._store.files.local),
            limit_bytes=options.memory_limit_bytes, nbytes=self._bytes_of,
        )  # fmt: skip

    def _items(self, at: Position) -> Iterator[_Ordered]:
        """All items from a position on, each with its own."""
        rows = RowOrder(self._seed, self._options.row_order(batched=self.batched_output), at.generator)
        epoch, first = at.epoch, at.item
        while self.num_epochs is None or epoch < self.num_epochs:
            items = self._order.epoch(at.resets, epoch)
            if not items:
                return
            for number, item in enumerate(items[first:], first):
                place = Position(at.resets, epoch, number, 0, rows.generator)
                yield item, self._row_order(rows, item, at.resets, epoch), place
            epoch, first = epoch + 1, 0

    def _row_order(self, rows: RowOrder, item: Item, resets: int, epoch: int) -> I64 | None:
        if not self._options.shuffle_rows:
            return None
        count = self._store.rows_of([self._store.pieces[item.piece]])[0]
        return rows.draw(count, resets, epoch, item.piece)

    def _next_rows(self) -> None:
        """Take the next row group."""
        try:
            (_, _, at), loaded = next(self._ahead)
        except StopIteration:
            self.last_row_consumed = True
            self._at, self._rows, self._row = self._end(), [], 0
            raise
        if at.epoch > self._at.epoch and self.num_epochs is None and not self._handed_out:
            raise NoDataAvailableError(f"{self._store.url}: a whole epoch handed out no rows: the predicate takes none")
        self._handed_out = (at.epoch == self._at.epoch and self._handed_out) or bool(loaded)
        self._at, self._rows, self._row = at, list(loaded), self._skip
        self._skip = 0

    _handed_out = True
    """Whether this epoch had a row so far."""

    def _end(self) -> Position:
        return Position(self._at.resets, self.num_epochs or 0, 0, 0, self._at.generator)

    def _bytes_of(self, ordered: _Ordered) -> int:
        """About the bytes of what an item becomes: by the footer where that was read, else as much as the largest so far."""
        piece = self._store.pieces[ordered[0].piece]
        if self._store.knows(piece.file):
            self._largest = max(self._largest, self._store.bytes_of(piece, self._columns))
        return self._largest // ordered[0].parts


def stored_schema(store: Store) -> Unischema:
    """The schema that Petastorm stored with the dataset, or what the Parquet files themselves say."""
    if store.unischema is not None:
        return from_stored(store.unischema)
    partitions = {name: pa.int64() if store.partition_type(name) is int else pa.string() for name in store.partition_names}
    found = fields_of_arrow(store.arrow_schema, partitions, omit_unsupported=True)
    return Unischema("inferred_schema", [UnischemaField(*field) for field in found])


def _partition_row(store: Store, name: str, field: UnischemaField) -> dict[str, Any]:
    return {field.name: field.numpy_dtype(store.partitions(name)[field.name])}
