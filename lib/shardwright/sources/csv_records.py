"""Records whose quoted values may hold line ends: where each begins and ends in a stream of CSV."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np

from shardwright.sources.lines import CHUNK_BYTES, BadLine, Lines, Stream, cut_out, show


@dataclass(frozen=True, kw_only=True)
class SplitRecords:
    """A record ends with the first line feed outside quotes. Empty lines are left out.

    A quote counts at the beginning of a value alone, as in Arrow's parser: ``5" disk`` is a value. One that is never closed, or
    not within `max_bytes`, makes its line a bad one, and reading goes on behind that.
    """

    delimiter: str
    quote: str
    escape: str | None
    max_bytes: int

    def __call__(self, stream: Stream, stop: float) -> Iterator[Lines | BadLine]:
        """All records: such a file can't be entered in the middle."""
        assert stop == float("inf")
        pattern = self._pattern()
        at, text = stream.offset, b""
        while data := stream.read(max(CHUNK_BYTES, len(text))):  # as much again: what is not closed is looked at anew
            text += data
            done = yield from self._records(pattern, text, at, ended=False)
            at, text = at + done, text[done:]
        yield from self._records(pattern, text, at, ended=True)

    def _records(
        self, pattern: re.Pattern[bytes], text: bytes, offset: int, *, ended: bool
    ) -> Generator[Lines | BadLine, None, int]:
        """The whole records of `text`; returns how many bytes they are."""
        borders: list[tuple[int, int]] = []
        place = 0
        while place < len(text):
            match = pattern.match(text, place)
            if match and (ended or match.end() < len(text) or text.endswith(b"\n")):
                stop = match.end(1) - text.endswith(b"\r", place, match.end(1))
                if stop > place:
                    borders.append((place, stop))
                place = match.end()
                continue
            if not ended and len(text) - place <= self.max_bytes:
                break
            yield from self._lines(text, offset, borders)
            borders = []
            end = text.find(b"\n", place) + 1 or len(text)
            yield BadLine(offset + place, self._unclosed(text[place:end].rstrip(b"\r\n")))
            place = end
        yield from self._lines(text, offset, borders)
        return place

    def _lines(self, text: bytes, offset: int, borders: list[tuple[int, int]]) -> Iterator[Lines | BadLine]:
        starts, stops = np.array(borders, np.int64).reshape(-1, 2).T
        yield from cut_out(Lines(text, offset, starts, stops), self.max_bytes)

    def _unclosed(self, line: bytes) -> str:
        return (
            f"expected a quote that is closed within {self.max_bytes} bytes (read.options.max_line_bytes), found {show(line)}"
        )

    def _pattern(self) -> re.Pattern[bytes]:
        quote, delimiter = re.escape(self.quote), re.escape(self.delimiter)
        escape = re.escape(self.escape) if self.escape else ""
        escaped = f"|{escape}." if escape else ""
        plain = f"(?:[^{delimiter}\\n{escape}]++{escaped})*+"
        quoted = f"{quote}(?:[^{quote}{escape}]++|{quote}{quote}{escaped})*+{quote}{plain}"
        value = f"(?:{quoted}|(?!{quote}){plain})"
        return re.compile(f"({value}(?:{delimiter}{value})*+)(?:\\n|\\Z)".encode(), re.DOTALL)
