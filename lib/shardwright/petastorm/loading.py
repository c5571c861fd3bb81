"""What one row group becomes: the rows of `make_reader`, or the batch of `make_batch_reader`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardwright.petastorm.batches import partition_column, to_arrays
from shardwright.petastorm.columns import decode_column, repeat_partition
from shardwright.petastorm.frames import checked_frame, from_frame, mask_of, to_frame
from shardwright.petastorm.ngram import NGram
from shardwright.petastorm.order import I64, Item, rows_of_part
from shardwright.petastorm.predicates import PredicateBase
from shardwright.petastorm.store import Store
from shardwright.petastorm.transform import TransformSpec
from shardwright.petastorm.unischema import Unischema, row_class

Mask = npt.NDArray[np.bool_]


class Loader(Protocol):
    """Loads row groups; called from several threads at once."""

    def load(self, item: Item, order: I64 | None) -> Sequence[Any]:
        """What is handed out of a row group, one after the other, with its rows in `order`."""

    def count(self, piece: int) -> int:
        """How many rows, or windows, of a row group are handed out; reads no more than it has to."""


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """Reads row groups of a store."""

    store: Store
    schema: Unischema
    """Of the stored fields that are wanted."""
    predicate: PredicateBase | None
    transform: TransformSpec | None
    handed: Unischema
    """Of what is handed out."""

    def read(self, item: Item, names: Sequence[str], order: I64 | None, beyond: int = 0) -> pa.Table:
        """Columns of the rows of an item, partitions among them."""
        piece = self.store.pieces[item.piece]
        partitions = self.store.partitions(piece.file)
        table = self.store.read(piece, [name for name in names if name not in partitions])
        rows = table.num_rows or self.store.rows_of([piece])[0]
        for name in names:
            if name in partitions:
                table = table.append_column(name, partition_column(partitions[name], rows))
        table = table.select(list(names))
        if order is not None:
            table = table.take(pa.array(order))
        part = rows_of_part(rows, item, beyond) if item.parts > 1 else slice(0, rows)
        return table.slice(part.start, part.stop - part.start)

    def predicate_fields(self) -> list[str]:
        """Those that the predicate looks at, in the schema's order.

        Raises ValueError for none, and for others than are read.
        """
        assert self.predicate is not None
        wanted = set(self.predicate.get_fields())
        if not wanted:
            raise ValueError("At least one field name must be returned by predicate's get_field() method")
        if unknown := wanted - set(self.schema.fields):
            raise ValueError(
                f"At least some column names requested by the predicate ({', '.join(sorted(map(str, unknown)))}) are not valid "
                f"schema names: ({', '.join(self.schema.fields)})"
            )
        return [name for name in self.schema.fields if name in wanted]

    def others(self, names: Sequence[str]) -> list[str]:
        """The wanted fields without some."""
        return [name for name in self.schema.fields if name not in names]


@dataclass(frozen=True, kw_only=True)
class RowLoader(_Columns):
    """Rows: decoded values, as namedtuples; or windows of them, where `ngram` says so."""

    ngram: NGram | None = None

    def load(self, item: Item, order: I64 | None) -> list[Any]:
        """The rows, or windows, of a row group."""
        values = self._decoded(item, order)
        cut = slice(item.start, item.stop)
        if self.ngram is None and self.transform is None:
            return list(
                map(row_class(self.handed)._make, list(zip(*(values[name] for name in self.handed.fields), strict=True))[cut])
            )
        rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        if self.transform is not None:
            rows = self._transformed(rows, self.transform)
        if self.ngram is not None:
            return self.ngram.form_ngram(rows, self.handed)[cut]
        cls = row_class(self.handed)
        return [cls(**row) for row in rows[cut]]

    def count(self, piece: int) -> int:
        """By the footer, the predicate's columns, or the timestamps."""
        item = Item(piece)
        if self.predicate is not None:
            mask = self._mask(item, None, 0)[1]
            if self.ngram is None:
                return int(mask.sum())
        if self.ngram is None:
            return self.store.rows_of([self.store.pieces[piece]])[0]
        if self.predicate is not None or self.transform is not None:  # which may change timestamps, or rows
            return len(self.load(item, None))
        name = self.ngram.timestamp_name
        table = self.read(item, [name], None)
        return len(self.ngram.starts(self._decode(table, name)))

    def _decoded(self, item: Item, order: I64 | None) -> dict[str, list[Any]]:
        """The values of each field, of the rows that the predicate takes."""
        beyond = self.ngram.length - 1 if self.ngram else 0
        names = list(self.schema.fields)
        if self.predicate is None:
            table = self.read(item, names, order, beyond)
            return {name: self._decode(table, name) for name in names}
        looked_at, mask = self._mask(item, order, beyond)
        values = {name: [value for value, there in zip(found, mask, strict=True) if there] for name, found in looked_at.items()}
        rest = self.others(list(values))
        if rest and mask.any():
            table = self.read(item, rest, order, beyond).filter(pa.array(mask))
            values |= {name: self._decode(table, name) for name in rest}
        else:
            values |= {name: [] for name in rest}
        return {name: values[name] for name in names}

    def _mask(self, item: Item, order: I64 | None, beyond: int) -> tuple[dict[str, list[Any]], Mask]:
        assert self.predicate is not None
        names = self.predicate_fields()
        table = self.read(item, names, order, beyond)
        values = {name: self._decode(table, name) for name in names}
        rows = zip(*values.values(), strict=True)
        return values, np.array([bool(self.predicate.do_include(dict(zip(names, row, strict=True)))) for row in rows], np.bool_)

    def _decode(self, table: pa.Table, name: str) -> list[Any]:
        field = self.schema.fields[name]
        if name in self.store.partition_names and table.num_rows:
            return repeat_partition(table.column(name)[0].as_py(), field, table.num_rows)
        return decode_column(table.column(name), field)

    def _transformed(self, rows: list[dict[str, Any]], transform: TransformSpec) -> list[dict[str, Any]]:
        if transform.func is not None:
            rows = [transform.func(row) for row in rows]
        wanted = None if transform.selected_fields is None else set(self.handed.fields)
        for row in rows:
            for name in transform.removed_fields:
                row.pop(name, None)
            if wanted is not None:
                for name in row.keys() - wanted:
                    del row[name]
        return rows


@dataclass(frozen=True, kw_only=True)
class BatchLoader(_Columns):
    """One batch a row group: a namedtuple of arrays, of native columns."""

    def load(self, item: Item, order: I64 | None) -> list[Any]:
        """The batch of a row group, or nothing where the predicate takes no row of it."""
        table = self._matching(item, order)
        if table is None:
            return []
        if self.predicate is not None or item.stop is not None:
            table = table.slice(item.start, None if item.stop is None else item.stop - item.start)
        if self.transform is not None:
            frame = to_frame(table)
            if self.transform.func is not None:
                frame = self.transform.func(frame)
            table = from_frame(checked_frame(frame, self.transform, self.handed), self.handed)
        arrays = to_arrays(table, self.handed)
        return [row_class(self.handed)(**arrays)]

    def count(self, piece: int) -> int:
        """By the footer, or the predicate's columns."""
        if self.predicate is None:
            return self.store.rows_of([self.store.pieces[piece]])[0]
        return int(self._mask(Item(piece), None)[1].sum())

    def _matching(self, item: Item, order: I64 | None) -> pa.Table | None:
        names = list(self.schema.fields)
        if self.predicate is None:
            return self.read(item, names, order)
        table, mask = self._mask(item, order)
        if not mask.any():
            return None
        taken = pa.array(mask)
        table = table.filter(taken)
        if rest := self.others(table.column_names):
            others = self.read(item, rest, order).filter(taken)
            for name in rest:
                table = table.append_column(name, others.column(name))
        return table.select(names)

    def _mask(self, item: Item, order: I64 | None) -> tuple[pa.Table, Mask]:
        assert self.predicate is not None
        table = self.read(item, self.predicate_fields(), order)
        return table, mask_of(self.predicate, to_frame(table))
