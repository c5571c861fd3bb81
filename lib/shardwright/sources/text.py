"""Plain text: a line is a sample, or a file is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from shardwright.errors import InputError
from shardwright.sources.base import REJECT, InputFile, Source
from shardwright.sources.columns import Asked
from shardwright.sources.files import is_documentation, select_files
from shardwright.sources.line_reader import LineReader, filled_files, sample_lines
from shardwright.sources.lines import Lines, SplitLines, TextOptions, read_text
from shardwright.sources.tables import open_tables
from shardwright.sources.whole_files import open_whole

_EXPECTED = "text files"
_SCHEMA = pa.schema([("text", pa.string())])


class PlainTextOptions(TextOptions):
    """Keys of ``[read.options]`` of the format ``text``."""

    sample: Literal["line", "file"] = "line"


@dataclass(frozen=True)
class TextReader(LineReader):
    """Every line is a row, without its end; an empty one too."""

    options: TextOptions

    def schema(self, file: InputFile) -> pa.Schema:  # noqa: ARG002 - the base class's
        """`text`."""
        return _SCHEMA

    def splitter(self) -> SplitLines:
        """Empty lines count."""
        return SplitLines(self.options.max_line_bytes, empty=True)

    def parser(self, file: InputFile, columns: Sequence[str]) -> TextRows:  # noqa: ARG002 - the base class's
        """Nothing can be wrong with a line."""
        return TextRows()


@dataclass(frozen=True)
class TextRows:
    """Lines as strings; whether they are UTF-8 is checked where samples are cleaned."""

    def rows(self, lines: Lines) -> pa.RecordBatch:
        """One row for each line."""
        values = pc.split_pattern(pa.array([lines.joined()], pa.binary()), b"\n").flatten()
        if b"\r" in lines.text:
            values = pc.replace_substring_regex(values, r"\r$", "")
        return pa.RecordBatch.from_arrays([values.view(pa.string())], names=["text"])

    def row(self, line: bytes) -> tuple[pa.RecordBatch, str | None]:
        """Never asked for: every line is a row."""
        raise NotImplementedError

    def nothing(self) -> pa.RecordBatch:
        """One null."""
        return pa.RecordBatch.from_arrays([pa.nulls(1, pa.string())], names=["text"])


@dataclass(frozen=True)
class WholeText:
    """A file's text, decompressed, as UTF-8."""

    encoding: str

    def __call__(self, files: Sequence[InputFile], contents: pa.Array) -> Mapping[str, pa.Array]:
        """`text`; a file that is damaged, or in another encoding, is rejected."""
        texts: list[bytes | None] = []
        reasons: list[str | None] = []
        for file, content in zip(files, contents, strict=True):
            try:
                texts.append(read_text(file, content.as_buffer(), self.encoding))
                reasons.append(None)
            except InputError as error:
                texts.append(None)
                reasons.append(str(error).removeprefix(f"{file.path}: "))
        return {"text": pa.array(texts, pa.binary()).view(pa.string()), REJECT: pa.array(reasons, pa.string())}


def open_text_files(files: Sequence[InputFile], asked: Asked, options: PlainTextOptions) -> Source:
    """Text files, of one field `text`. Raises InputError for files that are no text."""
    usable = select_files(files, lambda file: not is_documentation(file), expected=_EXPECTED)
    if options.sample == "file":
        return open_whole(usable, WholeText(options.encoding), {"text": {"dtype": "string"}}, asked)
    reader = TextReader(options)
    sample_lines(reader, filled_files(usable)[0])  # raises for what is no text
    return open_tables(reader, files, asked, expected=_EXPECTED)
