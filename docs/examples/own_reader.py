"""A reader of one's own: files of a measuring device, `*.probe`, each a header and records of one width.

    header: b"PROBE1", then the number of channels as one byte
    record: when (int64, microseconds since 1970), ok (one byte), a float32 for each channel; little-endian

In the configuration, with this file on the Python path (`--py-files docs/examples/own_reader.py`):

    [read]
    format = "own_reader:ProbeReader"
    path = "measurements/"
    options = { channels = 3 }
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from shardwright.errors import InputError
from shardwright.sources import AT, REJECT, InputFile, Reader, open_input

MAGIC = b"PROBE1"
HEADER = len(MAGIC) + 1
ROWS_OF_A_PIECE = 10_000


class ProbeReader(Reader):
    """Rows of probe files."""

    def __init__(self, *, channels: int) -> None:  # the keys of [read.options]
        self.channels = channels
        self.record = np.dtype([("when", "<i8"), ("ok", "u1"), ("values", "<f4", (channels,))])

    def schema(self, file: InputFile) -> pa.Schema:
        """The columns; and the place to refuse what is no such file."""
        with open_input(file) as stream:  # wherever it lies: on a local disk, on HDFS
            header = stream.read(HEADER)
        if header != MAGIC + bytes([self.channels]):
            raise InputError(f"{file.path}: expected a header of {self.channels} channels, found {header!r}")
        if (file.bytes - HEADER) % self.record.itemsize:
            raise InputError(f"{file.path}: expected records of {self.record.itemsize} bytes, found part of one at the end")
        return pa.schema([("when", pa.timestamp("us")), ("values", pa.list_(pa.float32(), self.channels))])

    def units(self, file: InputFile) -> Sequence[int]:
        """The bytes of each piece that can be read by itself, so that a large file is several tasks."""
        rows = (file.bytes - HEADER) // self.record.itemsize
        return [min(ROWS_OF_A_PIECE, rows - start) * self.record.itemsize for start in range(0, rows, ROWS_OF_A_PIECE)]

    def read(self, file: InputFile, units: range, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """A batch for each piece, of the columns that are asked for."""
        with open_input(file) as stream:
            stream.seek(HEADER + units.start * ROWS_OF_A_PIECE * self.record.itemsize)
            for piece in units:
                first = piece * ROWS_OF_A_PIECE
                rows = np.frombuffer(stream.read(ROWS_OF_A_PIECE * self.record.itemsize), self.record)
                arrays = {
                    "when": pa.array(rows["when"].view("datetime64[us]")),
                    "values": pa.FixedSizeListArray.from_arrays(rows["values"].ravel(), self.channels),
                }
                yield pa.RecordBatch.from_pydict(
                    {
                        **{name: arrays[name] for name in columns},
                        AT: [f"#{first + row}" for row in range(len(rows))],  # where a row is, for people
                        REJECT: [None if ok else "the device says that it failed" for ok in rows["ok"]],  # to quarantine, why
                    },
                    pa.schema([(name, arrays[name].type) for name in columns] + [(AT, pa.string()), (REJECT, pa.string())]),
                )
