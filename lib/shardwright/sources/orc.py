"""ORC files; a piece is a stripe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
from pyarrow import orc

from shardwright.sources.base import AT, BATCH_BYTES, InputFile, Reader
from shardwright.sources.inputs import damaged, open_arrow


class OrcReader(Reader):
    """Rows of ORC files. The format has no checksums: only damage that breaks its structure is seen."""

    def schema(self, file: InputFile) -> pa.Schema:
        """What the footer says."""
        return _open(file).schema

    def units(self, file: InputFile) -> Sequence[int]:
        """An equal part of the file for each stripe: pyarrow does not say how large they are."""
        opened = _open(file)
        return (opened.content_length // opened.nstripes,) * opened.nstripes if opened.nrows else ()

    def read(self, file: InputFile, units: range, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows of stripes, each decoded as a whole. Raises InputError for a damaged file."""
        opened = _open(file)
        wanted = list(columns) or opened.schema.names[:1]  # with none, pyarrow gives no rows
        for number in units:
            try:
                stripe = opened.read_stripe(number, columns=wanted)
            except (pa.ArrowException, OSError) as error:
                raise damaged(file, "an ORC file", error) from error
            rows = max(1, BATCH_BYTES * stripe.num_rows // max(stripe.nbytes, 1))
            for start in range(0, stripe.num_rows, rows):
                batch = stripe.slice(start, rows)
                at = [f"#{number}:{row}" for row in range(start, start + batch.num_rows)]
                yield batch.append_column(AT, pa.array(at, pa.string()))


def _open(file: InputFile) -> orc.ORCFile:
    try:
        return orc.ORCFile(open_arrow(file, mapped=True))
    except (pa.ArrowException, OSError) as error:
        raise damaged(file, "an ORC file", error) from error
