"""Files of lines that are rows: whole blocks are parsed at once, and those lines by themselves that turn out to be none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from shardwright.errors import InputError
from shardwright.sources.base import AT, REJECT, InputFile, Reader
from shardwright.sources.columns import infer
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

_PIECE = 512
"""Lines that are parsed together where one of a block is bad: few enough to do so once more for each that is bad."""
SAMPLE_BYTES = 4 * 2**20
"""How much of the first file that has rows says what types the columns have."""


@dataclass(frozen=True)
class Refused:
    """Why lines are not all rows, as far as a parser tells: it stops at the first that it can't take."""

    lines: tuple[int, ...] = ()
    """Their numbers, from 0 on, of which it is as good as sure."""
    column: int | None = None
    """The column of the value that is none of its type."""


class LineParser(Protocol):
    """Turns lines of one file into rows of chosen columns."""

    def rows(self, lines: Lines) -> pa.RecordBatch | Refused:
        """One row for each line, where all of them are rows."""

    def row(self, line: bytes) -> tuple[pa.RecordBatch, str | None]:
        """One row: what can be told of a line, with nulls for the rest, and the reason why it is no row, or None."""

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


def filled_files(files: Sequence[InputFile]) -> list[InputFile]:
    """Those that are not empty. Raises InputError where all are."""
    filled = [file for file in files if file.bytes]
    if not filled:
        raise InputError(f"{files[0].path}: expected samples, found {len(files)} empty file{'s' * (len(files) > 1)}")
    return filled


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


def show_type(kind: pa.DataType) -> str:
    """The type of a column, for messages."""
    if kind == pa.string():
        return "text in UTF-8"
    if pa.types.is_timestamp(kind):
        return f"timestamp with{'' if kind.tz else 'out'} a time zone"
    found = infer(kind)
    if isinstance(found, str):
        return found
    return f"a list of {found['dtype']}" if found.get("shape") else str(found["dtype"])


def _rows(parser: LineParser, lines: Lines | BadLine) -> pa.RecordBatch:
    """One row for each line, good or bad."""
    if isinstance(lines, BadLine):
        return _with_reason(parser.nothing(), lines.reason).append_column(AT, lines.places())
    return pa.concat_batches(list(_parse(parser, lines))).append_column(AT, lines.places())


def good_lines(parser: LineParser, lines: Lines) -> Iterator[Lines]:
    """Those of `lines` that are rows."""
    if isinstance(parser.rows(lines), pa.RecordBatch):
        yield lines
    elif len(lines) > 1:
        middle = len(lines) // 2
        yield from good_lines(parser, lines.part(0, middle))
        yield from good_lines(parser, lines.part(middle, len(lines)))


def _parse(parser: LineParser, lines: Lines) -> Iterator[pa.RecordBatch]:
    rows = parser.rows(lines)
    if isinstance(rows, pa.RecordBatch):
        yield _with_reason(rows, None)
    elif len(lines) == 1:
        yield _with_reason(*parser.row(lines.joined()))
    elif len(lines) <= _PIECE and (parsed := _without_bad(parser, lines, rows)):
        yield from parsed
    else:
        size = _PIECE if len(lines) > _PIECE else -(-len(lines) // 2)
        for start in range(0, len(lines), size):
            yield from _parse(parser, lines.part(start, min(start + size, len(lines))))


def _without_bad(parser: LineParser, lines: Lines, refused: Refused) -> list[pa.RecordBatch] | None:
    """The rows of a few lines: the lines that the parser refuses one by one, all others together.

    None where it does not say which lines these are, or is wrong: an open quote makes it count otherwise.
    """
    single = list(lines)
    places = list(range(len(lines)))  # of those that are not known to be bad
    bad: dict[int, pa.RecordBatch] = {}
    rows: pa.RecordBatch | Refused = refused
    while isinstance(rows, Refused):
        if not rows.lines or rows.lines[-1] >= len(places):
            return None
        for number in reversed(rows.lines):
            place = places.pop(number)
            row, reason = parser.row(single[place])
            if reason is None:
                return None
            bad[place] = _with_reason(row, reason)
        if not places:
            return [bad[place] for place in sorted(bad)]
        rows = parser.rows(Lines.of([single[place] for place in places]))
    good, out, start = _with_reason(rows, None), list[pa.RecordBatch](), 0
    for number, place in enumerate(sorted(bad)):
        out += [good.slice(start, place - number - start), bad[place]]
        start = place - number
    return [*out, good.slice(start)]


def _with_reason(rows: pa.RecordBatch, reason: str | None) -> pa.RecordBatch:
    return rows.append_column(REJECT, pa.repeat(pa.scalar(reason, pa.string()), rows.num_rows))
