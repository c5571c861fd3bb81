"""Predicates as text: ``label < 10 and source != 'x' and score is not null and label in [1, 2]``.

Parsed as a Python expression, of which a few forms are allowed and nothing is ever evaluated. A literal takes the type of the
field that it is compared with. A comparison with null is neither true nor false, so such a sample is not selected, by a
predicate or by its opposite; NaN compares as IEEE 754 says: only ``!=`` is true, and so is the opposite of the others.

Row groups are skipped by a predicate of its own, where a comparison that NaN fulfils is true: statistics leave NaN out, and by
those of a row group that holds nothing but 1 and NaN Arrow would skip it when asked for ``not x <= 1``.
"""

from __future__ import annotations

import ast
import functools
import operator
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwright.errors import PredicateError
from shardwright.format.layout import column
from shardwright.schema import FLOATS, INTEGERS, Field, Schema, suggest

Literal = int | float | str | bool
_FORMS = "comparisons (<, <=, >, >=, ==, !=, in [...], is null, is not null) joined by and, or, not"
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_SWAPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}
_SHOWN = 1000
"""Characters of a predicate in an error message."""
_NAMES = 1000
"""Arrow walks an expression by recursion: one with ten thousand terms ends the process, and a thousand take seconds."""
_CONSTANTS: dict[str, bool | None] = {"null": None, "true": True, "false": False}


def parse_predicate(text: str, schema: Schema, *, by_statistics: bool = False) -> pc.Expression:
    """The predicate `text` over the scalar fields of `schema`, as stored, for Arrow tables and datasets.

    With `by_statistics` the one to skip row groups by, with ``fragment.subset``: true of more, where statistics don't know.

    Raises PredicateError, with the place in the text, for anything but the forms above, and for fields and literals that don't
    fit together.
    """
    text = text.strip()
    try:
        tree = ast.parse(text, mode="eval")
        names = sum(isinstance(node, ast.Name) for node in ast.walk(tree))
        if names <= _NAMES:
            return _Parser(text, schema, by_statistics).expression(tree.body, negated=False)
    except PredicateError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        place = f" at character {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        why = error.msg if isinstance(error, SyntaxError) else error
        raise PredicateError(
            f"the predicate {text!r:.{_SHOWN}} can't be read{place} ({why}); expected {_FORMS}, such as label < 3"
        ) from error
    raise PredicateError(
        f"the predicate {text!r:.{_SHOWN}} names fields {names:,} times: expected at most {_NAMES:,}; for many values of one "
        "field say label in [1, 2, …], for many samples Dataset.select"
    )


def scalar_fields(schema: Schema) -> tuple[Field, ...]:
    """The fields that predicates may ask for: numbers, bool, string, timestamp."""
    return tuple(field for field in schema if not field.shape and field.dtype != "bytes")


def show_fields(schema: Schema) -> str:
    """The end of an error message: what can be asked for."""
    return "fields to ask for: " + (", ".join(f"{field.name} ({field.dtype})" for field in scalar_fields(schema)) or "none")


class _Parser:
    def __init__(self, text: str, schema: Schema, by_statistics: bool) -> None:
        self._text, self._schema, self._by_statistics = text, schema, by_statistics

    def expression(self, node: ast.expr, *, negated: bool) -> pc.Expression:
        """What selects the samples for which `node` is true; negated: false."""
        if isinstance(node, ast.BoolOp):
            join = operator.and_ if isinstance(node.op, ast.And) != negated else operator.or_
            return functools.reduce(join, [self.expression(value, negated=negated) for value in node.values])
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return self.expression(node.operand, negated=not negated)
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            steps = zip(sides[:-1], node.ops, sides[1:], strict=True)
            parts = [self._comparison(left, op, right, negated=negated) for left, op, right in steps]
            return functools.reduce(operator.or_ if negated else operator.and_, parts)
        if isinstance(node, ast.Name) and node.id not in _CONSTANTS and self._field(node).dtype == "bool":
            found = pc.field(node.id)
            return ~found if negated else found
        raise self._error(node, f"expected {_FORMS}")

    def _comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr, *, negated: bool) -> pc.Expression:
        if isinstance(op, ast.Is | ast.IsNot):
            if not _is_null(right):
                raise self._error(right, "expected null after 'is'")
            found = pc.field(self._field(left).name)
            return found.is_null() if isinstance(op, ast.Is) != negated else found.is_valid()
        if isinstance(op, ast.In | ast.NotIn):
            return self._membership(left, right, negated=negated != isinstance(op, ast.NotIn))
        kind = type(op)
        if not _is_field(left):
            left, right, kind = right, left, _SWAPPED.get(kind, kind)
        field = self._field(left)
        if field.dtype == "bool" and kind not in (ast.Eq, ast.NotEq):
            raise self._error(left, f"field {field.name!r} is bool: expected ==, != or the field alone")
        value: pc.Expression | pa.Scalar
        if _is_field(right):
            other = self._field(right)
            if _kind(field) != _kind(other):
                problem = f"{field.name!r} is {field.dtype}, {other.name!r} is {other.dtype}: expected fields of one kind"
                raise self._error(right, problem)
            value = pc.field(other.name)
        else:
            value = self._scalar(field, right)
        found = _COMPARE[kind](pc.field(field.name), value)
        return self._unless_nan(field, ~found if negated else found, fulfils=(kind is ast.NotEq) != negated)

    def _unless_nan(self, field: Field, found: pc.Expression, *, fulfils: bool) -> pc.Expression:
        """`found`, unless statistics can't tell, since a NaN in `field` may fulfil it."""
        return pc.scalar(True) if self._by_statistics and fulfils and field.dtype in FLOATS else found

    def _membership(self, left: ast.expr, right: ast.expr, *, negated: bool) -> pc.Expression:
        field = self._field(left)
        if not isinstance(right, ast.List | ast.Tuple | ast.Set) or not right.elts:
            raise self._error(right, "expected a list of values after 'in', such as [1, 2]")
        scalars = [self._scalar(field, node) for node in right.elts]
        stored = column(field).arrow_type
        values = pa.array([scalar.as_py() for scalar in scalars if scalar.type == stored], stored)
        found = pc.field(field.name)
        if not negated:
            return found.isin(values)
        outside = found.is_valid() & ~found.isin(values)  # Arrow says of null that it is in no list
        return self._unless_nan(field, outside, fulfils=True)

    def _field(self, node: ast.expr) -> Field:
        if not isinstance(node, ast.Name) or node.id in _CONSTANTS:
            raise self._error(node, f"expected the name of a field; {show_fields(self._schema)}")
        if node.id not in self._schema:
            known = [field.name for field in scalar_fields(self._schema)]
            raise self._error(node, f"no field {node.id!r:.100}; {suggest(node.id, known)}")
        field = self._schema[node.id]
        if field not in scalar_fields(self._schema):
            what = "a picture" if field.is_image else "an array" if field.shape else field.dtype
            raise self._error(node, f"field {node.id!r} is {what}, and can't be compared; {show_fields(self._schema)}")
        return field

    def _scalar(self, field: Field, node: ast.expr) -> pa.Scalar:
        """The literal `node` in the type that `field` has on disk."""
        value = self._literal(node)
        try:
            found = _stored(field, value)
        except (ValueError, OverflowError):  # text that is no time or no Unicode, a number beyond all floats
            found = None
        if found is None:
            problem = f"field {field.name!r} is {field.dtype}, found {value!r:.100}: expected {_expected(field)}"
            raise self._error(node, problem)
        return found

    def _literal(self, node: ast.expr) -> Literal:
        if _is_null(node):
            raise self._error(node, "nothing compares with null: expected 'is null' or 'is not null'")
        sign, inner = 1, node
        while isinstance(inner, ast.UnaryOp) and isinstance(inner.op, ast.USub | ast.UAdd):
            sign, inner = -sign if isinstance(inner.op, ast.USub) else sign, inner.operand
        value = _CONSTANTS.get(inner.id) if isinstance(inner, ast.Name) else getattr(inner, "value", None)
        if isinstance(value, bool | str) and inner is node:
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return sign * value
        raise self._error(node, "expected a number, text in quotes, true or false")

    def _error(self, node: ast.expr, problem: str) -> PredicateError:
        line = self._text.splitlines()[node.lineno - 1].encode()
        before = sum(len(each) + 1 for each in self._text.splitlines()[: node.lineno - 1])
        place = before + len(line[: node.col_offset].decode()) + 1  # ast counts bytes
        return PredicateError(f"the predicate {self._text!r:.{_SHOWN}}, at character {place}: {problem}")


def _stored(field: Field, value: Literal) -> pa.Scalar | None:
    """`value` in the type that `field` has on disk, or where that can't hold it a wider one; None: of another kind.

    Raises ValueError or OverflowError for what no such type holds.
    """
    stored = column(field).arrow_type
    match value:
        case bool() | str() if field.dtype == ("bool" if isinstance(value, bool) else "string"):
            return pa.scalar(value)
        case str() if field.dtype == "timestamp":
            when = datetime.fromisoformat(value)
            return pa.scalar(when.astimezone(UTC).replace(tzinfo=None) if when.tzinfo else when, stored)
        case bool() | str():
            return None
        case int() | float() if field.dtype in FLOATS:
            with np.errstate(over="ignore"):
                return pa.scalar(np.dtype(field.dtype).type(value).item(), stored)
        case int() | float() if field.dtype in INTEGERS and value == int(value):
            low, high = _range(field)
            if low <= value <= high:
                holds = np.iinfo(stored.to_pandas_dtype())
                return pa.scalar(int(value), stored if holds.min <= value <= holds.max else pa.int64())
    return None


def _range(field: Field) -> tuple[int, int]:
    """The whole numbers that a field of integers can be compared with."""
    return (0, 2**64 - 1) if field.dtype == "uint64" else (-(2**63), 2**63 - 1)


def _expected(field: Field) -> str:
    """The literals that a field can be compared with, for messages."""
    if field.dtype in INTEGERS:
        return "a whole number, {} to {}".format(*_range(field))
    known = {
        "bool": "true or false",
        "string": "text in quotes",
        "timestamp": "a time in quotes, such as '2026-01-31T12:00:00'",
    }
    return known.get(field.dtype, "a number")


def _is_null(node: ast.expr) -> bool:
    return (isinstance(node, ast.Constant) and node.value is None) or (isinstance(node, ast.Name) and node.id == "null")


def _is_field(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id not in _CONSTANTS


def _kind(field: Field) -> str:
    """Fields of one kind compare without loss."""
    if field.dtype in INTEGERS and field.dtype != "uint64":
        return "integer"
    return "float" if field.dtype in FLOATS else field.dtype
