"""Files of lines that are rows: whole blocks are parsed at once, and single lines only where a block holds a bad one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa

from shardwright.schema import INTEGERS
from shardwright.sources.base import AT, REJECT, InputFile, Reader
from shardwright.sources.columns import Declaration, infer
from shardwright.sources.lines import (
    UNIT_BYTES,
    BadLine,
    Lines,
    SplitLines,
    Splitter,
    TextOptions,
    check_text,
    open_text,
    skip_to_line,
    units_of,
)

SAMPLE_BYTES = 4 * 2**20
"""How much of the first file that has rows says what types the columns have."""

_ARROW = {"float16": pa.float32(), "float32": pa.float32(), "float64": pa.float64(), "bool": pa.bool_(), "string": pa.string()}
_ARROW |= {"bytes": pa.binary(), "timestamp": pa.timestamp("us")}


class LineParser(Protocol):
    """Turns lines of one file into rows of chosen columns."""

    def rows(self, lines: Lines) -> pa.RecordBatch | None:
        """One row for each line, or None where a line is none."""

    def row(self, line: bytes) -> tuple[pa.RecordBatch, str]:
        """What can be told of a line that is no row, with nulls for the rest, and the reason why it is none."""

    def nothing(self) -> pa.RecordBatch:
        """One row of nulls."""


class LineReader(Reader):
    """Rows that are lines of text, in pieces of `UNIT_BYTES` where the file is plain."""

    options: TextOptions
    has_header: bool = False
    """Whether the first line of a file is no row."""

    def splitter(self) -> Splitter:
        """What finds the lines."""
        return SplitLines(self.options.max_line_bytes)

    def parser(self, file: InputFile, columns: Sequence[str]) -> LineParser:
        """What parses the lines of a file."""
        raise NotImplementedError

    def units(self, file: InputFile) -> Sequence[int]:
        """Stretches of a plain file: a line belongs to the one in which it begins."""
        return units_of(file, self.options.encoding)

    def read(self, file: InputFile, units: range, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The lines that begin in the stretches `units`; a line that is no row has its reason in the column `REJECT`."""
        if not units:
            return
        parser = self.parser(file, columns)
        last = units.stop >= len(self.units(file))
        with open_text(file, self.options.encoding) as stream:
            if units.start:
                skip_to_line(stream, units.start * UNIT_BYTES)
            blocks = self.splitter()(stream, float("inf") if last else units.stop * UNIT_BYTES)
            if self.has_header and not units.start:
                blocks = without_first(blocks)
            for lines in blocks:
                yield _rows(parser, lines)


def without_first(blocks: Iterator[Lines | BadLine]) -> Iterator[Lines | BadLine]:
    """All lines but the first."""
    first = next(blocks, None)
    if isinstance(first, Lines) and len(first) > 1:
        yield first.part(1, len(first))
    yield from blocks


def sample_lines(reader: LineReader, file: InputFile) -> list[Lines]:
    """The lines at the beginning of a file that are said to be enough to know it: some `SAMPLE_BYTES`.

    Raises InputError where they are not text in UTF-8, but for a few that may be bad.
    """
    out: list[Lines] = []
    size = 0
    with open_text(file, reader.options.encoding) as stream:
        for lines in reader.splitter()(stream, float("inf")):
            if isinstance(lines, Lines):
                out.append(lines)
                size += len(lines.joined())
            if size >= SAMPLE_BYTES:
                break
    check_text(file, out)
    return out


def join_lines(pieces: Sequence[Lines]) -> Lines:
    """The same lines, one after the other in a text of their own."""
    out: list[Lines] = []
    at = 0
    for lines in pieces:
        out.append(Lines(lines.joined() + b"\n", at, lines.starts - lines.starts[0] + at, lines.stops - lines.starts[0] + at))
        at += len(out[-1].text)
    starts, stops = ([getattr(lines, name) for lines in out] for name in ("starts", "stops"))
    return Lines(b"".join(lines.text for lines in out), 0, np.concatenate(starts), np.concatenate(stops))


def show_type(kind: pa.DataType) -> str:
    """The type of a column, for messages."""
    found = infer(kind) or {"dtype": str(kind)}
    return (
        f"a list of {found['dtype']}" if found.get("shape") else "text in UTF-8" if kind == pa.string() else str(found["dtype"])
    )


def _rows(parser: LineParser, lines: Lines | BadLine) -> pa.RecordBatch:
    """One row for each line, good or bad."""
    if isinstance(lines, BadLine):
        return _with_reason(parser.nothing(), lines.reason).append_column(AT, lines.places())
    return pa.concat_batches(list(_parse(parser, lines))).append_column(AT, lines.places())


def good_lines(parser: LineParser, lines: Lines) -> Iterator[Lines]:
    """Those of `lines` that are rows."""
    if parser.rows(lines) is not None:
        yield lines
    elif len(lines) > 1:
        yield from good_lines(parser, lines.part(0, len(lines) // 2))
        yield from good_lines(parser, lines.part(len(lines) // 2, len(lines)))


def good_columns(read: Callable[[Sequence[str]], pa.RecordBatch | None], names: Sequence[str]) -> dict[str, pa.Array]:
    """The values of those of the columns `names` that `read` can read; it gives None where it can't read all of them."""
    rows = read(names)
    if rows is not None:
        return dict(zip(names, rows.columns, strict=True))
    if len(names) == 1:
        return {}
    middle = len(names) // 2
    return {**good_columns(read, names[:middle]), **good_columns(read, names[middle:])}


def arrow_type(declared: Declaration, inferred: pa.DataType | None) -> pa.DataType:
    """The type to read a column in that is declared so; what does not say a dtype is as inferred, else a string."""
    dtype = declared.get("dtype")
    known = pa.string() if inferred is None else inferred
    if dtype not in (*_ARROW, *INTEGERS):
        return known  # what is no dtype is told of later, with all that is wrong
    if dtype == "timestamp" and pa.types.is_timestamp(known):
        return known  # it knows whether times have a zone
    kind = _ARROW.get(dtype) or pa.type_for_alias(dtype)
    array = declared.get("shape") or ("shape" not in declared and pa.types.is_list(known))
    return pa.list_(kind) if array else kind


def _parse(parser: LineParser, lines: Lines) -> Iterator[pa.RecordBatch]:
    rows = parser.rows(lines)
    if rows is not None:
        yield _with_reason(rows, None)
    elif len(lines) == 1:
        yield _with_reason(*parser.row(lines.joined()))
    else:
        yield from _parse(parser, lines.part(0, len(lines) // 2))
        yield from _parse(parser, lines.part(len(lines) // 2, len(lines)))


def _with_reason(rows: pa.RecordBatch, reason: str | None) -> pa.RecordBatch:
    return rows.append_column(REJECT, pa.repeat(pa.scalar(reason, pa.string()), rows.num_rows))
