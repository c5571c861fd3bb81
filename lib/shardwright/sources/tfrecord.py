"""TFRecord files of `tf.train.Example`; a piece is a file."""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

import pyarrow as pa

from shardwright.errors import ConfigError, InputError
from shardwright.format.tfrecord import (
    Feature,
    Kind,
    decode_examples,
    example_type,
    read_frames,
    starts_frame,
)
from shardwright.schema import Field
from shardwright.sources.base import BATCH_BYTES, REJECT, InputFile, Reader
from shardwright.sources.exported import declaration, exported_fields
from shardwright.sources.inputs import damaged, open_input

_LOOKED_AT = 100
"""Records of the first file whose features become the columns."""
_GZIP = b"\x1f\x8b\x08"


class TfrecordReader(Reader):
    """Examples, plain or gzipped: their features are the columns.

    What they are says, in this order: the option `features` (`{image = "bytes", label = "int64", box = "float[4]", ids =
    "int64[]"}`), the file `_features.json` that an export writes beside its files, or the first records of the first file.
    """

    def __init__(self, *, features: Mapping[str, str] | None = None) -> None:
        problems, self._features = [], dict[str, Feature]()
        for name, text in (features or {}).items():
            try:
                self._features[name] = Feature.parse(text)
            except ValueError as error:
                problems.append(f"[read.options] features.{name}: {error}")
        if problems:
            raise ConfigError(problems)
        self._exported: tuple[Field, ...] | None = None
        self._guessed = False

    def schema(self, file: InputFile) -> pa.Schema:
        """The columns, which are looked for in the first file alone."""
        if not self._features:
            self._exported = exported_fields(file, instead="declare the option `features`")
            self._guessed = self._exported is None
            if self._exported:
                self._features = {field.name: Feature.of(field) for field in self._exported}
            else:
                self._features = _guess(file)
        return pa.schema([(name, feature.arrow_type) for name, feature in self._features.items()])

    def fields(self) -> Mapping[str, Mapping[str, Any]]:
        """What an export noted."""
        return {field.name: declaration(field) for field in self._exported or ()}

    def read(
        self,
        file: InputFile,
        units: range,  # noqa: ARG002 - a file is one piece
        columns: Sequence[str],
    ) -> Iterator[pa.RecordBatch]:
        """The records of a file. Raises InputError for a damaged one; a record that is no such example is a bad sample."""
        features = {name: self._features[name] for name in columns}
        known = frozenset(self._features) if self._guessed else None
        with _open(file) as stream:
            for records in _batches(read_frames(stream, file.path)):
                arrays, reasons = decode_examples(records, features, known=known)
                yield pa.RecordBatch.from_pydict({**arrays, REJECT: pa.array(reasons, pa.string())})


def _batches(records: Iterator[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _guess(file: InputFile) -> dict[str, Feature]:
    """One value everywhere is a scalar, another number a list of it, several numbers a list that varies."""
    kinds: dict[str, set[str]] = {}
    lengths: dict[str, set[int]] = {}
    with _open(file) as stream:
        for record in itertools.islice(read_frames(stream, file.path), _LOOKED_AT):
            for name, feature in _parse(record, file).features.feature.items():
                which = feature.WhichOneof("kind")
                if which:
                    kinds.setdefault(name, set()).add(which.removesuffix("_list"))
                    lengths.setdefault(name, set()).add(len(getattr(feature, which).value))
    mixed = sorted(name for name, found in kinds.items() if len(found) > 1)
    if mixed:
        raise InputError(
            f"{file.path}: expected one kind of values in feature {mixed[0]!r}, found {', '.join(sorted(kinds[mixed[0]]))}; "
            "declare the option `features`"
        )
    if not kinds:
        raise InputError(f"{file.path}: expected features in the first {_LOOKED_AT} records, found none; declare `features`")
    return {name: _feature(cast(Kind, kinds[name].pop()), lengths[name]) for name in sorted(kinds)}


def _feature(kind: Kind, lengths: set[int]) -> Feature:
    length = next(iter(lengths)) if len(lengths) == 1 else None
    return Feature.listed(kind, length or None, scalar=length == 1)


def _parse(record: bytes, file: InputFile) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return example_type().FromString(record)
    except DecodeError as error:
        raise InputError(
            f"{file.path}: expected records that are tf.train.Example, found one that is none ({error}); declare the option "
            "`features` to have such ones quarantined"
        ) from error


@contextmanager
def _open(file: InputFile) -> Iterator[BinaryIO]:
    try:
        with open_input(file) as raw:
            head = raw.read(12)
            raw.seek(0)  # a frame may begin with the magic bytes of gzip, but then its checksum is right
            gzipped = head.startswith(_GZIP) and not starts_frame(head)
            yield cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if gzipped else raw
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(file, "a TFRecord file", error) from error
