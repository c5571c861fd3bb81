"""Predicates beside plain Python: what is selected, that skipping row groups never changes it, and what is refused."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shardwright as sw
from shardwright.errors import CorruptError, PredicateError
from shardwright.reader.where import find
from shardwright.schema import Field, Schema
from tests.datasets import publish

SAMPLES = 120
SCHEMA = Schema(
    fields=(
        Field(name="small", dtype="uint8"),
        Field(name="big", dtype="uint64"),
        Field(name="maybe", dtype="int32", nullable=True),
        Field(name="score", dtype="float32"),
        Field(name="maybe_score", dtype="float64", nullable=True),
        Field(name="half", dtype="float16"),
        Field(name="text", dtype="string"),
        Field(name="maybe_text", dtype="string", nullable=True),
        Field(name="flag", dtype="bool"),
        Field(name="maybe_flag", dtype="bool", nullable=True),
        Field(name="when", dtype="timestamp"),
        Field(name="maybe_when", dtype="timestamp", nullable=True),
        Field(name="image", dtype="uint8", shape=(2, 2)),
        Field(name="blob", dtype="bytes"),
    )
)
LITERALS: dict[str, list[Any]] = {
    "small": [0, 3, 7, 300, -1],
    "big": [0, 5, 2**63, 2**64 - 1],
    "maybe": [-2, 0, 3, 2**40],
    "score": [0.1, 0.5, 2, 1e300],
    "maybe_score": [0.1, -1.0, 2],
    "half": [0.1, 2.5, 70000],
    "text": ["", "a", "é3", "b"],
    "maybe_text": ["", "a", "b"],
    "flag": [True, False],
    "maybe_flag": [True, False],
    "when": ["2026-01-01", "2026-01-03T12:00:00", "2026-01-02T01:00:00+01:00"],
    "maybe_when": ["2026-01-02"],
}


def make_data() -> dict[str, Any]:
    """Values that lie together, as sorted data does, so that row groups have narrow statistics; with NaN and null."""
    step = [row // 8 for row in range(SAMPLES)]
    nan = [math.nan if row % 5 == 0 else None for row in range(SAMPLES)]
    floats = [(s % 4) * 0.5 - 0.5 if n is None else n for s, n in zip(step, nan, strict=True)]
    floats[9:17] = [math.inf, -math.inf, 0.1, -0.0, 0.0, 0.1, 2.0, 2.0]
    start = datetime.fromisoformat("2026-01-01")
    when = [start.replace(day=1 + s % 4, hour=row % 24) for row, s in enumerate(step)]
    return {
        "small": [s % 9 for s in step],
        "big": [2**63 + s if s % 2 else s for s in step],
        "maybe": nulls([s % 6 - 3 for s in step]),
        "score": floats,
        "maybe_score": nulls(floats),
        "half": [float(np.float16(value)) for value in floats],
        "text": [("é" if s % 2 else "a") * (s % 3) + str(s % 4) for s in step],
        "maybe_text": nulls([chr(97 + s % 3) for s in step]),
        "flag": [s % 3 == 0 for s in step],
        "maybe_flag": nulls([s % 3 == 0 for s in step]),
        "when": when,
        "maybe_when": nulls(when),
        "image": np.zeros((SAMPLES, 2, 2), np.uint8),
        "blob": [b""] * SAMPLES,
    }


def nulls(values):
    """A third of them missing, and one whole row group."""
    return [None if row % 3 == 1 or 40 <= row < 44 else value for row, value in enumerate(values)]


DATA = make_data()


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    root = tmp_path_factory.mktemp("where") / "d"
    publish(
        root, {"train": DATA}, SCHEMA, shards=3, remainder="spread", part_samples=20, row_group_samples=4,
        compressed=["small"],
    )  # fmt: skip
    return sw.open_dataset(str(root))


@pytest.fixture(scope="module")
def scalars(train):
    return train.reading(*LITERALS).to_arrow().append_column("row", pa.array(range(SAMPLES)))


@dataclass(frozen=True)
class Node:
    """A predicate as text, and what it says of a row: True, False or None."""

    text: str
    of: Any


OPS = {
    "<": lambda x, y: x < y, "<=": lambda x, y: x <= y, ">": lambda x, y: x > y, ">=": lambda x, y: x >= y,
    "==": lambda x, y: x == y, "!=": lambda x, y: x != y,
}  # fmt: skip


def typed(name, value):
    """A value or literal in the field's type, as Python compares it."""
    field = SCHEMA[name]
    if value is None:
        return None
    if field.dtype == "timestamp" and isinstance(value, str):
        value = datetime.fromisoformat(value)
        return value.replace(tzinfo=None) - (value.utcoffset() or value - value)
    if field.dtype.startswith("float"):
        with np.errstate(over="ignore"):
            return float(np.dtype(field.dtype).type(value))
    return value


TYPED = {name: [typed(name, value) for value in DATA[name]] for name in LITERALS}


def comparison(name, op, value, swapped=False):
    swap = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
    shown = repr(value) if not isinstance(value, bool) else str(value).lower()
    text = f"{shown} {swap.get(op, op)} {name}" if swapped else f"{name} {op} {shown}"
    literal = typed(name, value)

    def of(row):
        found = TYPED[name][row]
        return None if found is None else OPS[op](found, literal)

    return Node(text, of)


def membership(name, values, negated):
    wanted = [typed(name, value) for value in values]

    def of(row):
        found = TYPED[name][row]
        return None if found is None else (found in wanted and found == found) != negated

    return Node(f"{name} {'not in' if negated else 'in'} {values!r}", of)


def missing(name, negated):
    return Node(f"{name} is {'not ' if negated else ''}null", lambda row: (DATA[name][row] is None) != negated)


def fields(left, op, right):
    def of(row):
        x, y = TYPED[left][row], TYPED[right][row]
        return None if x is None or y is None else OPS[op](x, y)

    return Node(f"{left} {op} {right}", of)


def both(nodes, word):
    decides = word == "or"

    def of(row):
        found = [node.of(row) for node in nodes]
        return decides if decides in found else None if None in found else not decides

    return Node("(" + f" {word} ".join(node.text for node in nodes) + ")", of)


def opposite(node):
    return Node(f"not ({node.text})", lambda row: None if (found := node.of(row)) is None else not found)


NAMES = st.sampled_from(sorted(LITERALS))
ORDERED = st.sampled_from([name for name in sorted(LITERALS) if SCHEMA[name].dtype != "bool"])
LEAVES = st.one_of(
    ORDERED.flatmap(
        lambda n: st.builds(comparison, st.just(n), st.sampled_from(list(OPS)), st.sampled_from(LITERALS[n]), st.booleans())
    ),
    st.builds(comparison, st.sampled_from(["flag", "maybe_flag"]), st.sampled_from(["==", "!="]), st.booleans()),
    ORDERED.flatmap(
        lambda n: st.builds(membership, st.just(n), st.lists(st.sampled_from(LITERALS[n]), min_size=1), st.booleans())
    ),
    st.builds(missing, NAMES, st.booleans()),
    st.builds(fields, st.sampled_from(["score", "maybe_score", "half"]), st.sampled_from(list(OPS)), st.just("maybe_score")),
    st.builds(fields, st.just("small"), st.sampled_from(list(OPS)), st.just("maybe")),
    st.sampled_from(["flag", "maybe_flag"]).map(lambda n: Node(n, lambda row: DATA[n][row])),
)
PREDICATES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(both, st.lists(inner, min_size=2, max_size=3), st.sampled_from(["and", "or"])), inner.map(opposite)
    ),
    max_leaves=5,
)


def brute(node):
    return [row for row in range(SAMPLES) if node.of(row) is True]


@given(PREDICATES)
@settings(max_examples=100)
def test_beside_plain_python(train, node):
    found = find(train.source, node.text, np.arange(SAMPLES))
    assert found.indexes.tolist() == brute(node)
    assert found.row_groups_read + found.row_groups_skipped == 30


@given(PREDICATES, PREDICATES, st.slices(SAMPLES), st.lists(st.integers(0, SAMPLES - 1), max_size=20))
@settings(max_examples=60)
def test_where_composes_with_where_and_select(train, first, second, part, picks):
    wanted = sorted({*brute(first)} & {*brute(second)})
    twice = train.where(first.text).where(second.text)
    once = train.where(both([first, second], "and").text)
    assert rows(twice) == rows(once) == wanted
    assert twice.selection == once.selection
    assert rows(train.where(first.text)[part]) == brute(first)[part]
    chosen = train.select(picks)
    assert rows(chosen.where(first.text)) == [pick for pick in picks if first.of(pick) is True]


def rows(dataset):
    return dataset.on_disk(np.arange(len(dataset))).tolist()


NUMBERS = st.sampled_from(["small", "maybe", "score", "maybe_score"])  # Arrow compares no half, nor uint64 with int64


def compare(name, op, value):
    return OPS[op](pc.field(name), value)


EXPRESSIONS = st.recursive(
    st.one_of(
        NUMBERS.flatmap(
            lambda n: st.builds(
                compare, st.just(n), st.sampled_from(list(OPS)), st.sampled_from([v for v in LITERALS[n] if v >= 0])
            )
        ),
        st.builds(
            compare, st.sampled_from(["text", "maybe_text"]), st.sampled_from(list(OPS)), st.sampled_from(["a", "b", "é3"])
        ),
        st.sampled_from(["maybe", "maybe_score", "maybe_text", "small"]).map(lambda n: pc.field(n).is_null()),
        st.sampled_from(["score", "maybe_score"]).map(lambda n: pc.is_nan(pc.field(n))),
        st.sampled_from(
            [pc.field("maybe").isin([1, 2]), pc.field("maybe_text").isin(["a"]), pc.field("flag"), pc.field("maybe_flag")]
        ),
    ),
    lambda inner: st.one_of(
        st.builds(lambda x, y: x & y, inner, inner), st.builds(lambda x, y: x | y, inner, inner), inner.map(lambda x: ~x)
    ),
    max_leaves=5,
)


@given(EXPRESSIONS)
@settings(max_examples=100)
def test_expressions_select_what_arrow_selects_without_skipping(train, scalars, expression):
    assert rows(train.where(expression)) == scalars.filter(expression)["row"].to_pylist()


@pytest.mark.parametrize(
    "predicate, read",
    [
        ("small == 3", 4),
        ("small > 200", 0),
        ("big >= 9223372036854775808", 14),
        ("text == 'a1'", 0),
        ("maybe is not null and maybe < -2", 6),
        ("score > 1.1", 3),
        ("not score < 1.1", 30),
        (pc.field("small") == 3, 4),
        (pc.field("score") > 1.1, 30),
    ],
)
def test_row_groups_are_skipped_by_their_statistics(train, predicate, read):
    found = find(train.source, predicate, np.arange(SAMPLES))
    assert (found.row_groups_read, found.row_groups_skipped) == (read, 30 - read)


def test_only_row_groups_with_samples_asked_about_are_looked_at(train, caplog):
    found = find(train.source, "flag", np.array([119, 5, 4]))
    assert (found.indexes.tolist(), found.row_groups_read + found.row_groups_skipped) == ([5, 4], 2)
    with caplog.at_level("INFO", "shardwright.reader.where"):
        train.where("small == 3")
    assert "where small == 3: 16 of 120 samples; 4 row groups read, 26 skipped by their statistics" in caplog.text


def test_the_length_the_order_and_the_state(train):
    chosen = train.where("small in [2, 3] and flag")
    assert len(chosen) == len(brute(both([membership("small", [2, 3], False), Node("flag", lambda r: DATA["flag"][r])], "and")))
    assert all(sample["flag"] and sample["small"] in (2, 3) for sample in chosen)
    loader = chosen.loader(batch_size=3, world=sw.World(), seed=4)
    drawn = [value for batch in loader for value in batch["small"]]
    assert sorted(drawn) == [sample["small"] for sample in chosen]
    with pytest.raises(sw.errors.StateError, match="selection"):
        train.where("small == 2").loader(batch_size=3, world=sw.World(), seed=4).load_state_dict(loader.state_dict())


def test_everything_and_nothing(train):
    assert train.where("small >= 0") is train
    assert len(train.where("small > 200")) == 0
    assert len(train.where("small > 200").where("flag")) == 0


def test_shortcut_and_columns_that_are_not_read(train):
    found = sw.open_dataset(train.source.url, columns=["text"], where="small == 3")
    assert [sample["text"] for sample in found] == [DATA["text"][row] for row in range(SAMPLES) if DATA["small"][row] == 3]


def test_remote(train):
    memory = fsspec.filesystem("memory")
    memory.put(train.source.url, "/where", recursive=True)
    text = "score < 0.3 and maybe_text != 'b' or when >= '2026-01-04'"
    assert rows(sw.open_dataset("memory://where").where(text)) == rows(train.where(text))
    memory.rm("/where", recursive=True)


def test_what_only_the_values_show(train):
    with pytest.raises(PredicateError, match=r"part-00000.parquet: \(big < 0\) can't be evaluated \(Integer value"):
        train.where(pc.field("big") < 0)


def test_a_damaged_part(train, tmp_path):
    publish(tmp_path / "d", {"train": {"text": [f"text number {row}" for row in range(64)]}}, TEXT, shards=1)
    part = next((tmp_path / "d").rglob("part-00000.parquet"))
    data = bytearray(part.read_bytes())
    data[60] ^= 1
    part.write_bytes(data)
    with pytest.raises(CorruptError, match=r"part-00000\.parquet: .* can't be evaluated .*; copy the file again"):
        sw.open_dataset(str(tmp_path / "d")).where("text > 'text'")
    part.unlink()
    with pytest.raises(CorruptError, match=r"part-00000\.parquet is missing"):
        sw.open_dataset(str(tmp_path / "d")).where("text > 'text'")


TEXT = Schema(fields=(Field(name="text", dtype="string"),))
