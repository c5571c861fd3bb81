"""Where a reader is, and its state as JSON."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from shardwright.errors import StateError
from shardwright.petastorm.ngram import NGram
from shardwright.petastorm.options import ReaderOptions
from shardwright.petastorm.order import Order
from shardwright.petastorm.store import Store

_VERSION = 1
_KIND = "shardwright.petastorm.Reader"


class Position(NamedTuple):
    """What was handed out: `row` rows (or batches) of item number `item` of the epoch, and all before it."""

    resets: int
    """Calls of `reset` so far."""
    epoch: int
    item: int
    row: int
    generator: int | None
    """Of what draws the order of rows, its state before that item; None: it draws from the seed, or not yet."""


def draw_seed() -> int:
    """A seed for who gave none: the state carries it, so that such a reader resumes as well."""
    return secrets.randbits(32)


def with_seed(order: Order, seed: int) -> Order:
    """The same row groups in the order of another seed."""
    return replace(order, seed=seed)


def fingerprint(store: Store, options: ReaderOptions, *, batched: bool) -> str:
    """A hash of all that a position counts in: row groups, shard, order and what selects rows.

    Of predicates and transforms only their classes: functions are not compared.
    """
    fields = options.schema_fields
    told = {
        "pieces": [list(piece) for piece in store.pieces],
        "batched": batched,
        "windows": fields.length if isinstance(fields, NGram) else None,
        "shard": [options.cur_shard, options.shard_count, options.shard_seed, options.shard_policy],
        "shuffle": [options.shuffle_rows, options.shuffle_row_groups, options.shuffle_row_drop_partitions],
        "filters": repr(options.filters),
        "predicate": type(options.predicate).__name__,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


def to_state(at: Position, seed: int, found: str) -> dict[str, Any]:
    """The state of a reader."""
    return {
        "kind": _KIND, "format_version": _VERSION, "fingerprint": found, "seed": seed, "resets": at.resets, "epoch": at.epoch,
        "item": at.item, "row": at.row, "generator": None if at.generator is None else hex(at.generator),
    }  # fmt: skip


def from_state(state: Mapping[str, Any], seed: int | None, found: str) -> tuple[Position, int]:
    """The position, and the seed. Raises StateError for a state of something else than `seed` and the fingerprint `found`."""
    if state.get("kind") != _KIND or state.get("format_version") != _VERSION:
        raise StateError(
            f"expected a state of {_KIND} of version {_VERSION}, found one of {state.get('kind')!r}, "
            f"{state.get('format_version')!r}"
        )
    if state.get("fingerprint") != found:
        raise StateError(
            f"the state belongs to other row groups, another shard, order or selection (fingerprint "
            f"{state.get('fingerprint')!r}; this reader's is {found!r}); a dataset that `jobs/migrate.py` made resumes at any "
            "number of ranks"
        )
    numbers = {name: _whole(state, name) for name in ("seed", "resets", "epoch", "item", "row")}
    if seed is not None and seed != numbers["seed"]:
        raise StateError(f"the state is of seed {numbers['seed']}, this reader of seed {seed}")
    drawn = numbers.pop("seed")
    generator = state.get("generator")
    try:
        return Position(**numbers, generator=None if generator is None else int(str(generator), 16)), drawn
    except ValueError as error:
        raise StateError(f"generator: expected a hexadecimal number, found {generator!r}") from error


def _whole(state: Mapping[str, Any], name: str) -> int:
    value = state.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise StateError(f"{name}: expected an integer of at least 0, found {value!r}")
    return value
