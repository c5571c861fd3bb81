"""JSON Lines: an object a line, parsed by Arrow; a list of numbers is an array."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import json as arrow_json

from shardwright.errors import InputError
from shardwright.sources.base import InputFile
from shardwright.sources.columns import Asked, arrow_type
from shardwright.sources.files import is_documentation, select_files
from shardwright.sources.line_reader import LineReader, Refused, filled_files, sample_lines, show_type
from shardwright.sources.lines import BadLine, Lines, SplitLines, Stream, TextOptions, show
from shardwright.sources.tables import TableSource, open_tables

_EXPECTED = "JSON Lines files"
_SPACE = np.isin(np.arange(256), list(b" \t\r"))
_ROW = re.compile(r"in row (\d+)")
_NOTHING = "_nothing"
_LIST = "list of "
_NUMBERS = ("double", "uint64", "int64")
"""From the widest on."""


@dataclass(frozen=True)
class JsonlReader(LineReader):
    """Objects of the same keys, in the types that the beginning of the first file, and the declarations, say."""

    options: TextOptions
    types: Mapping[str, pa.DataType]
    strict: bool
    """Whether a key that is not in `types` makes a row bad."""

    def schema(self, file: InputFile) -> pa.Schema:  # noqa: ARG002 - the base class's
        """The same for every file: objects say their keys one by one."""
        return pa.schema(list(self.types.items()))

    def splitter(self) -> SplitObjects:
        """Lines that are not blank."""
        return SplitObjects(SplitLines(self.options.max_line_bytes))

    def parser(self, file: InputFile, columns: Sequence[str]) -> JsonRows:  # noqa: ARG002 - the base class's
        """The same for every file."""
        return JsonRows({name: self.types[name] for name in columns} or {_NOTHING: pa.null()}, self.strict)


@dataclass(frozen=True)
class SplitObjects:
    """The lines that `lines` finds, but for those of spaces alone."""

    lines: SplitLines

    def __call__(self, stream: Stream, stop: float) -> Iterator[Lines | BadLine]:
        """The lines that begin before the byte `stop`."""
        for found in self.lines(stream, stop):
            if isinstance(found, Lines):
                filled = ~_SPACE[_first(np.frombuffer(found.text, np.uint8), found)]
                found = Lines(found.text, found.offset, found.starts[filled], found.stops[filled])  # noqa: PLW2901
                if not len(found):
                    continue
            yield found


@dataclass(frozen=True)
class JsonRows:
    """Parses lines into columns of `types`; a key that is missing is a null."""

    types: Mapping[str, pa.DataType]
    strict: bool

    def rows(self, lines: Lines) -> pa.RecordBatch | Refused:
        """One row for each line."""
        data = np.frombuffer(lines.text, np.uint8)
        whole = (_first(data, lines) == ord("{")) & (_last(data, lines) == ord("}"))
        if not whole.all():  # two bad lines could look like two rows
            return Refused(tuple(np.flatnonzero(~whole).tolist()))
        return _read(self.types, lines.joined(), len(lines), strict=self.strict)

    def row(self, line: bytes) -> tuple[pa.RecordBatch, str | None]:
        """The values that are what they should be, and what is wrong with the first other."""
        rows = self.rows(Lines.of([line]))
        if isinstance(rows, pa.RecordBatch):
            return rows, None
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            return self.nothing(), f"expected a JSON object, found {show(line)} ({error})"
        if not isinstance(value, dict):
            return self.nothing(), f"expected a JSON object, found {show(line)}"
        reasons = [
            f"unknown key {key!r}: declare it in read.fields, or name the fields to read in read.columns"
            for key in value
            if self.strict and key not in self.types
        ]

        def read(names: Sequence[str]) -> pa.RecordBatch | Refused:
            text = json.dumps({name: value.get(name) for name in names}).encode()
            return _read({name: self.types[name] for name in names}, text, 1, strict=True)

        good = _good_columns(read, list(self.types))
        for name in (name for name in self.types if name not in good):
            found = show(json.dumps(value[name]).encode())
            reasons.append(f"column {name!r}: expected {show_type(self.types[name])}, found {found}")
        arrays = [good[name] if name in good else pa.nulls(1, kind) for name, kind in self.types.items()]
        reason = reasons[0] if reasons else f"expected a JSON object with each key once, found {show(line)}"
        return pa.RecordBatch.from_arrays(arrays, names=list(self.types)), reason

    def nothing(self) -> pa.RecordBatch:
        """One row of nulls."""
        return pa.RecordBatch.from_arrays([pa.nulls(1, kind) for kind in self.types.values()], names=list(self.types))


def open_jsonl(files: Sequence[InputFile], asked: Asked, options: TextOptions) -> TableSource:
    """Files of one JSON object a line; a line that is empty is none.

    A key that the beginning of the first file does not have has to be declared. Raises what `open_tables`
    raises.
    """
    usable = select_files(files, lambda file: not is_documentation(file), expected=_EXPECTED)
    reader = JsonlReader(options, {}, strict=asked.columns is None)
    filled = filled_files(usable)
    inferred = next((found for file in filled if (found := _infer(reader, file))), {})
    declared = asked.by_column()
    names = dict.fromkeys([*inferred, *declared])
    if not names:
        raise InputError(f"{filled[0].path}: expected a JSON object a line, found none; is it one document or a list?")
    types = {name: arrow_type(declared.get(name, {}), inferred.get(name)) for name in names}
    reader = JsonlReader(options, types, strict=asked.columns is None)
    return open_tables(reader, files, asked, expected=_EXPECTED)


def _read(types: Mapping[str, pa.DataType], text: bytes, count: int, *, strict: bool) -> pa.RecordBatch | Refused:
    """The objects of `text` as rows, if there are `count`, all of them with values of these types."""
    try:
        table = arrow_json.read_json(
            pa.BufferReader(text),
            arrow_json.ReadOptions(use_threads=False, block_size=len(text) + 1),
            arrow_json.ParseOptions(
                explicit_schema=pa.schema(list(types.items())), unexpected_field_behavior="error" if strict else "ignore"
            ),
        )
    except UnicodeDecodeError:  # its message quotes the text
        return Refused()
    except pa.ArrowInvalid as error:
        told = _ROW.search(str(error))
        return Refused((int(told[1]),)) if told else Refused()
    if table.num_rows != count:
        return Refused()
    return pa.RecordBatch.from_arrays([column.combine_chunks() for column in table.columns], names=list(types))


def _good_columns(read: Callable[[Sequence[str]], pa.RecordBatch | Refused], names: Sequence[str]) -> dict[str, pa.Array]:
    """The values of those of the columns `names` that `read` can read together, or it refuses."""
    rows = read(names)
    if isinstance(rows, pa.RecordBatch):
        return dict(zip(names, rows.columns, strict=True))
    if len(names) == 1:
        return {}
    middle = len(names) // 2
    return {**_good_columns(read, names[:middle]), **_good_columns(read, names[middle:])}


def _first(data: np.ndarray, lines: Lines) -> np.ndarray:
    places = lines.starts.copy()
    while (blank := (places < lines.stops - 1) & _SPACE[data[places]]).any():
        places += blank
    return data[places]


def _last(data: np.ndarray, lines: Lines) -> np.ndarray:
    places = lines.stops - 1
    while (blank := (places > lines.starts) & _SPACE[data[places]]).any():
        places -= blank
    return data[places]


def _infer(reader: JsonlReader, file: InputFile) -> dict[str, pa.DataType]:
    """For each key the type of most of its values, of the first where several are as frequent."""
    found: dict[str, Counter[str]] = {}
    for lines in sample_lines(reader, file):
        for value in _objects(lines):
            for key, item in value.items():
                kinds = found.setdefault(key, Counter())
                if item is not None:
                    kinds[_kind(item)] += 1
    return {key: _arrow(_joined(kinds) if kinds else "string") for key, kinds in found.items()}


def _objects(lines: Lines) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value


def _kind(value: object) -> str:
    match value:
        case bool():
            return "bool"
        case int():
            return "int64" if -(2**63) <= value < 2**63 else "uint64" if 0 <= value < 2**64 else "double"
        case float():
            return "double"
        case str():
            return "string"
        case list():
            kinds = Counter(_kind(item) for item in value if item is not None)
            return _LIST + (_joined(kinds) if kinds else "")
        case _:
            return "object"


def _joined(kinds: Counter[str]) -> str:
    """The kind of most values; numbers, and lists, of several kinds are counted together and have the widest of them."""
    groups: Counter[str] = Counter()
    for kind, count in kinds.items():
        groups["number" if kind in _NUMBERS else _LIST if kind.startswith(_LIST) else kind] += count
    group = groups.most_common(1)[0][0]
    if group == "number":
        return next(kind for kind in _NUMBERS if kind in kinds)
    if group == _LIST:
        inner = Counter({kind.removeprefix(_LIST): n for kind, n in kinds.items() if kind.startswith(_LIST) and kind != _LIST})
        return _LIST + (_joined(inner) if inner else "double")
    return group


def _arrow(kind: str) -> pa.DataType:
    if kind.startswith(_LIST):
        return pa.list_(_arrow(kind.removeprefix(_LIST)))
    return pa.struct([]) if kind == "object" else pa.type_for_alias(kind)
