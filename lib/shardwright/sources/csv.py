"""CSV and its relatives: rows of values between delimiters, parsed by Arrow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Self

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv
from pydantic import AfterValidator, model_validator

from shardwright.errors import InputError
from shardwright.sources.base import InputFile
from shardwright.sources.columns import Asked, Declaration, arrow_type, show_name
from shardwright.sources.csv_records import SplitRecords
from shardwright.sources.files import is_documentation, select_files
from shardwright.sources.line_reader import (
    LineReader,
    Refused,
    filled_files,
    good_lines,
    sample_lines,
    show_type,
    without_first,
)
from shardwright.sources.lines import BadLine, Lines, Splitter, TextOptions, check_text, is_utf8, open_text, show
from shardwright.sources.tables import TableSource, open_tables

_EXPECTED = "CSV files"
_BOOL = " (read.options.true_values, false_values)"
_CONVERSION = re.compile(r"CSV column #(?P<column>\d+): Row #(?P<row>\d+)")
_MANY = 16
"""Values of a row that are bad before the others are left out: it may be a header among rows, in thousands of columns."""
_DELIMITERS = (",", ";", "\t", "|")


def _check_sign(value: str) -> str:
    if len(value) != 1 or not value.isascii() or value.isalnum() or value in "\r\n\0":
        raise ValueError(f"expected one ASCII character that is no letter, digit or line end, found {value!r}")
    return value


Sign = Annotated[str, AfterValidator(_check_sign)]


class CsvOptions(TextOptions):
    """Keys of ``[read.options]`` of the format ``csv``."""

    delimiter: Sign = ","
    quote: Sign | None = '"'
    """A quote inside quotes is written twice, or after `escape`. null: no character quotes."""
    escape: Sign | None = None
    header: bool = True
    """Whether the first line of each file names its columns."""
    names: tuple[str, ...] | None = None
    """The names of the columns, in place of those that the first file's header has, or where there is no header."""
    null_values: tuple[str, ...] = ("",)
    """What stands for no value; in a column of strings only with `null_strings`, and never in quotes there."""
    null_strings: bool = False
    newlines_in_values: bool = False
    """Values in quotes may hold line ends. Such a file is not cut."""
    true_values: tuple[str, ...] = ("true", "True", "TRUE", "1")
    """What stands for true in a column of bool."""
    false_values: tuple[str, ...] = ("false", "False", "FALSE", "0")
    decimal_point: Sign = "."
    timestamp_formats: tuple[str, ...] = ()
    """How times are written, for strptime; ISO 8601 by default."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        special = [sign for sign in (self.delimiter, self.quote, self.escape) if sign]
        if len(set(special)) < len(special):
            raise ValueError(f"expected delimiter, quote and escape to differ, found {special}")
        if self.newlines_in_values and not self.quote:
            raise ValueError("newlines_in_values needs a quote")
        if not self.header and not self.names:
            raise ValueError("header = false needs the names of the columns: names = [...]")
        if self.names is not None and len(set(self.names)) < len(self.names):
            raise ValueError(f"expected names that differ, found {list(self.names)}")
        both = set(self.true_values) & set(self.false_values)
        if both:
            raise ValueError(f"expected true_values and false_values to differ, found {min(both)!r} in both")
        return self


@dataclass(frozen=True)
class CsvReader(LineReader):
    """Rows of CSV files, in the types that the first file that has rows, and the declarations, say."""

    options: CsvOptions
    names: Mapping[str, str]
    """What a column of a header is called."""
    types: Mapping[str, pa.DataType]

    def schema(self, file: InputFile) -> pa.Schema:
        """The columns that the header names. One that the first file does not have is a string."""
        header = self.header(file) if file.bytes else self.types
        return pa.schema([(name, self.types.get(name, pa.string())) for name in header])

    def units(self, file: InputFile) -> Sequence[int]:
        """One, where records have to be followed from the beginning."""
        units = super().units(file)
        return (sum(units),) if units and self.options.newlines_in_values else units

    def splitter(self) -> Splitter:
        """Lines, or records where these may have several."""
        options = self.options
        if not options.newlines_in_values:
            return super().splitter()
        assert options.quote is not None
        return SplitRecords(
            delimiter=options.delimiter, quote=options.quote, escape=options.escape, max_bytes=options.max_line_bytes
        )

    @property
    def has_header(self) -> bool:  # type: ignore[override]
        """As configured."""
        return self.options.header

    def parser(self, file: InputFile, columns: Sequence[str]) -> CsvRows:
        """For rows that have the columns of this file's header."""
        header = self.header(file)
        if columns:
            return CsvRows(self.options, header, columns, self.types)
        return CsvRows(self.options, header, header[:1], {header[0]: pa.binary()})  # Arrow takes no column for all of them

    def header(self, file: InputFile) -> tuple[str, ...]:
        """The columns of a file, as they are called here."""
        if not self.options.header:
            return self.options.names or ()
        first = self.first_line(file)
        _check_delimiter(file, first, self.options)
        return tuple(self.names.get(name, name) for name in first)

    def first_line(self, file: InputFile) -> tuple[str, ...]:
        """The values of the first line that is not empty. Raises InputError where there is none, or it is none."""
        with open_text(file, self.options.encoding) as stream:
            line = next(self.splitter()(stream, float("inf")), None)
        if line is None:
            raise InputError(f"{file.path}: expected a line that names the columns, found none")
        if isinstance(line, BadLine):
            raise InputError(f"{file.path}: expected a line that names the columns: {line.reason}")
        check_text(file, [line.part(0, 1)])
        text = next(iter(line))
        values = split_values(self.options, text)
        if values is None:
            found = "carriage returns in place of line feeds" if b"\r" in text else "a quote left open"
            raise InputError(f"{file.path}: expected a line that names the columns, found {found} in {show(text)}")
        return tuple(value.strip() for value in values)


@dataclass(frozen=True)
class CsvRows:
    """Parses lines that have the columns `header`, of which `columns` are wanted."""

    options: CsvOptions
    header: Sequence[str]
    columns: Sequence[str]
    types: Mapping[str, pa.DataType]

    def rows(self, lines: Lines) -> pa.RecordBatch | Refused:
        """One row for each line."""
        text = lines.joined()
        if re.search(rb"\r(?!\n)", text) and (len(lines) > 1 or not self._keeps_returns(text)):
            return Refused(tuple(number for number, line in enumerate(lines) if b"\r" in line))
        if not is_utf8(text) and (len(lines) > 1 or not self._is_one(text)):  # Arrow's handler of bad rows can't take it
            return Refused(tuple(number for number, line in enumerate(lines) if not is_utf8(line)))
        found = self._rows(text, len(lines), {name: self.types[name] for name in self.columns})
        quote = (self.options.quote or "").encode()
        if isinstance(found, Refused) and quote and quote in text:  # after an open one Arrow counts wrong
            odd = tuple(number for number, line in enumerate(lines) if line.count(quote) % 2)
            return Refused(odd) if odd else found
        return found

    def row(self, line: bytes) -> tuple[pa.RecordBatch, str | None]:
        """The values that are what they should be, and what is wrong with the first other."""
        if not self._keeps_returns(line) or not self._is_one(line):
            return self.nothing(), f"{self._wrong_shape(line)}: {show(line)}"
        types = {name: self.types[name] for name in self.columns}
        bad: list[str] = []
        while isinstance(rows := self._rows(line, 1, types), Refused):
            if rows.column is None:
                return self.nothing(), f"{self._wrong_shape(line)}: {show(line)}"
            bad.append(self.header[rows.column])
            types[bad[-1]] = pa.binary()
            if len(bad) > _MANY:
                types = dict.fromkeys(bad, pa.binary())
        if not bad:
            return rows, None
        name = min(bad, key=list(self.columns).index)
        expected = show_type(self.types[name]) + (_BOOL if self.types[name] == pa.bool_() else "")
        reason = f"column {name!r}: expected {expected}, found {show(rows[name][0].as_py())}"
        good = types.keys() - set(bad)
        arrays = [rows[one] if one in good else pa.nulls(1, self.types[one]) for one in self.columns]
        return pa.RecordBatch.from_arrays(arrays, names=list(self.columns)), reason

    def nothing(self) -> pa.RecordBatch:
        """One row of nulls."""
        return pa.RecordBatch.from_arrays([pa.nulls(1, self.types[n]) for n in self.columns], names=list(self.columns))

    def infer(self, lines: Lines) -> dict[str, pa.DataType]:
        """The types of the columns, as these lines have them; nulls alone are strings."""
        text = lines.joined()
        rows = self._rows(text, len(lines), None)
        if isinstance(rows, Refused):
            return {}
        types = {field.name: _field_type(field.type) for field in rows.schema}
        for name, kind in types.items():
            if kind == pa.float64() and (pc.max(pc.abs(rows[name])).as_py() or 0) >= 2**63:  # Arrow guesses no uint64
                whole = self._rows(text, len(lines), {name: pa.uint64()})
                types[name] = pa.uint64() if isinstance(whole, pa.RecordBatch) else kind
        return types

    def _rows(self, text: bytes, count: int, types: Mapping[str, pa.DataType] | None) -> pa.RecordBatch | Refused:
        """The rows of `text` in these columns and types, or in all columns and types as found, if there are `count`.

        A line that can't be one is put behind them: it is missed where a quote was left open.
        """
        wrong: list[int] = []
        options = self.options
        numbers = [str(number) for number in range(len(self.header))]  # names may be empty, or there twice
        positions = dict(zip(self.header, numbers, strict=True))
        text += f"\nx{options.delimiter}x".encode() if len(self.header) == 1 else b"\nx"
        try:
            table = csv.open_csv(  # read_csv starts a thread each time
                pa.BufferReader(text),
                csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=numbers),
                _parse_options(options, wrong),
                csv.ConvertOptions(
                    column_types={positions[name]: kind for name, kind in (types or {}).items()},
                    include_columns=None if types is None else [positions[name] for name in types],
                    null_values=list(options.null_values), strings_can_be_null=options.null_strings,
                    quoted_strings_can_be_null=False, decimal_point=options.decimal_point,
                    true_values=list(options.true_values), false_values=list(options.false_values),
                    timestamp_parsers=[*options.timestamp_formats] or None,
                ),
            ).read_all()  # fmt: skip
        except pa.ArrowInvalid as error:
            return _refused(str(error), wrong, count)
        if table.num_rows != count or len(wrong) != 1:
            return _refused("", wrong, count)
        names = self.header if types is None else list(types)
        return pa.RecordBatch.from_arrays([column.combine_chunks() for column in table.columns], names=list(names))

    def _keeps_returns(self, line: bytes) -> bool:
        """Whether the carriage returns of a line are all in quotes: outside, Arrow takes them for line ends."""
        if b"\r" not in line:
            return True
        values = split_values(self.options, line)
        return values is not None and sum(value.count("\r") for value in values) == line.count(b"\r")

    def _is_one(self, line: bytes) -> bool:
        """Whether a line that is no text has as many values as there are columns; of text, Arrow says it."""
        return is_utf8(line) or len(split_values(self.options, line) or ()) == len(self.header)

    def _wrong_shape(self, line: bytes) -> str:
        values = split_values(self.options, line.replace(b"\r", b" "))
        if values is None:
            more = "" if self.options.newlines_in_values else " (values hold line ends? read.options.newlines_in_values = true)"
            return f"expected quotes to be closed on their line{more}, found"
        if len(values) != len(self.header):
            return f"expected {len(self.header)} columns, found {len(values)}"
        return "expected one row, found a carriage return outside quotes"


def open_csv(files: Sequence[InputFile], asked: Asked, options: CsvOptions) -> TableSource:
    """CSV files with the same columns, whatever their names are and in whatever order.

    Raises InputError for a header that has another delimiter, or other columns than the first
    file's, and what `open_tables` raises.
    """
    usable = select_files(files, lambda file: not is_documentation(file), expected=_EXPECTED)
    filled = filled_files(usable)
    reader = _named(filled[0], options)
    inferred = next((found for file in filled if (found := _infer(reader, file))), {})
    declared = asked.by_column()
    types = {name: _type_of(declared.get(name, {}), inferred.get(name)) for name in reader.header(filled[0])}
    reader = CsvReader(options, reader.names, types)
    return open_tables(reader, files, asked, expected=_EXPECTED)


def column_names(file: InputFile, options: CsvOptions) -> tuple[str, ...]:
    """What the columns of a file are called. Raises InputError for another delimiter, and for names that do not fit."""
    return _named(file, options).header(file)


def _named(file: InputFile, options: CsvOptions) -> CsvReader:
    """A reader of files with the columns of this one, whose types are not known yet."""
    first = CsvReader(options, {}, {}).first_line(file)
    _check_delimiter(file, first, options)
    _check_names(file, first, options)
    return CsvReader(options, dict(zip(first, options.names or first, strict=True)) if options.header else {}, {})


def split_values(options: CsvOptions, line: bytes) -> tuple[str, ...] | None:
    """The values of a line; None where a quote is left open, or there are several rows."""
    line = line.decode(errors="replace").encode()  # what is no UTF-8 is a bad value, and does not matter here
    most = line.count(options.delimiter.encode()) + 1
    wrong: list[int] = []
    # twice: where a quote is open at the end, the first line does not end there
    try:
        table = csv.open_csv(
            pa.BufferReader(line + b"\n" + line),
            csv.ReadOptions(use_threads=False, block_size=2 * len(line) + 2, autogenerate_column_names=True),
            _parse_options(options, wrong),
            csv.ConvertOptions(column_types={f"f{column}": pa.binary() for column in range(most)}),
        ).read_all()
    except pa.ArrowInvalid:
        return None
    if table.num_rows != 2 or wrong:
        return None
    return tuple(column[0].as_py().decode(errors="backslashreplace") for column in table.columns)


def _infer(reader: CsvReader, file: InputFile) -> dict[str, pa.DataType]:
    """The types of the columns of a file; empty where it has no rows."""
    header = reader.header(file)
    parser = CsvRows(reader.options, header, header, dict.fromkeys(header, pa.binary()))
    blocks: Iterator[Lines | BadLine] = iter(sample_lines(reader, file))
    rows = without_first(blocks) if reader.has_header else blocks
    good = [part for lines in rows if isinstance(lines, Lines) for part in good_lines(parser, lines)]
    return parser.infer(Lines.of([line for part in good for line in part])) if good else {}


def _refused(message: str, wrong: Sequence[int], count: int) -> Refused:
    """What Arrow tells of `count` rows: the numbers, from 1 on, of those with a wrong number of values, or of one bad value."""
    lines = tuple(number - 1 for number in wrong if number <= count)
    if lines:
        return Refused(lines)  # before that the others are not counted right
    told = _CONVERSION.search(message)
    return Refused((int(told["row"]) - 1,), int(told["column"])) if told else Refused()


def _check_delimiter(file: InputFile, first: tuple[str, ...], options: CsvOptions) -> None:
    others = [sign for sign in _DELIMITERS if sign in first[0]]
    if len(first) == 1 and others and (options.names is None or len(options.names) > 1):
        raise InputError(
            f"{file.path}: expected columns separated by {options.delimiter!r}, found one column {show_name(first[0])}; set "
            f"read.options.delimiter = {max(others, key=first[0].count)!r}"
        )


def _check_names(file: InputFile, first: tuple[str, ...], options: CsvOptions) -> None:
    if options.names is not None and len(options.names) != len(first):
        raise InputError(
            f"{file.path}: expected {len(options.names)} columns (read.options.names), found {len(first)}: {first}"
        )
    if options.names is not None and options.header and len(set(first)) < len(first):
        raise InputError(f"{file.path}: expected a header of different names, to give them others, found {first}")


def _parse_options(options: CsvOptions, wrong: list[int]) -> csv.ParseOptions:
    """How Arrow parses; the numbers of rows, from 1 on, that have a wrong number of values come into `wrong`."""

    def skip(row: csv.InvalidRow) -> str:
        wrong.append(row.number)
        return "skip"

    return csv.ParseOptions(
        delimiter=options.delimiter, quote_char=options.quote or False, escape_char=options.escape or False,
        newlines_in_values=options.newlines_in_values, invalid_row_handler=skip,
    )  # fmt: skip


def _type_of(declared: Declaration, inferred: pa.DataType | None) -> pa.DataType:
    """As declared, but never a list."""
    return arrow_type({key: value for key, value in declared.items() if key != "shape"}, inferred)


def _field_type(kind: pa.DataType) -> pa.DataType:
    """What a column is read as that Arrow infers as `kind`."""
    if pa.types.is_date(kind):
        return pa.timestamp("us")
    if pa.types.is_timestamp(kind):
        return pa.timestamp("ns" if kind.unit == "ns" else "us", kind.tz)
    return kind if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) else pa.string()
