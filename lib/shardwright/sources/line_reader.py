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
    """Numbers of lines, from 0 on in order, that are none, as far as it can count: after an open quote it counts wrong."""
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
    for part, _, bad in _settled(parser, lines):
        single = [line for number, line in enumerate(part) if number not in bad]
        if single:
            yield Lines.of(single)


def _parse(parser: LineParser, lines: Lines) -> Iterator[pa.RecordBatch]:
    for _, rows, bad in _settled(parser, lines):
        good, start = _with_reason(rows, None), 0
        for before, number in enumerate(sorted(bad)):
            yield good.slice(start, number - before - start)
            yield _with_reason(*bad[number])
            start = number - before
        yield good.slice(start)


def _settled(parser: LineParser, lines: Lines) -> Iterator[tuple[Lines, pa.RecordBatch, dict[int, tuple[pa.RecordBatch, str]]]]:
    """The lines, part after part, with the rows of all but the bad ones, and those by their numbers in the part.

    A line that the parser refuses is looked at by itself, and the others are tried again; where the parser does not say which
    line it refuses, or is wrong, the part is halved.
    """
    rows, bad = parser.rows(lines), dict[int, tuple[pa.RecordBatch, str]]()
    if isinstance(rows, Refused) and len(lines) <= _PIECE:
        rows, bad = _without_bad(parser, list(lines), rows)
    if isinstance(rows, pa.RecordBatch):
        yield lines, rows, bad
    else:
        size = _PIECE if len(lines) > _PIECE else -(-len(lines) // 2)
        for start in range(0, len(lines), size):
            yield from _settled(parser, lines.part(start, min(start + size, len(lines))))


def _without_bad(
    parser: LineParser, lines: Sequence[bytes], refused: Refused
) -> tuple[pa.RecordBatch | Refused, dict[int, tuple[pa.RecordBatch, str]]]:
    """The rows of a few lines without those that are bad, and these."""
    good, bad = list(range(len(lines))), dict[int, tuple[pa.RecordBatch, str]]()
    rows: pa.RecordBatch | Refused = refused
    while isinstance(rows, Refused):
        told = rows.lines if len(lines) > 1 else (0,)
        if not told or told[-1] >= len(good):
            return rows, {}
        for number in reversed(told):
            row, reason = parser.row(lines[good[number]])
            if reason is None:
                return (row, {}) if len(lines) == 1 else (rows, {})
            bad[good.pop(number)] = row, reason
        rows = parser.rows(Lines.of([lines[number] for number in good])) if good else parser.nothing().slice(1)
    return rows, bad


def _with_reason(rows: pa.RecordBatch, reason: str | None) -> pa.RecordBatch:
    return rows.append_column(REJECT, pa.repeat(pa.scalar(reason, pa.string()), rows.num_rows))
