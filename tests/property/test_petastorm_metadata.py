"""What we write for Petastorm reads back, and whatever a Unischema's pickle is turned into is read or refused, nothing else."""

from __future__ import annotations

import io
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from shardwright.errors import InputError, UnsafeMetadataError
from shardwright.format.common_metadata import read_common_metadata
from shardwright.format.petastorm import common_metadata
from shardwright.format.unischema import DTYPES as KNOWN
from shardwright.format.unischema import StoredCodec, StoredField, StoredUnischema, parse_unischema
from shardwright.format.unischema_pickle import dump_unischema
from shardwright.schema import DType, Field, Schema
from tests.petastorm.stored import METADATA, our_pickle, stored_pickle

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,9}", fullmatch=True)
PATHS = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8), min_size=1, max_size=3
)
PICKLES = {name: stored_pickle(name) for name in METADATA}
DTYPES = {"bool": "bool_", "string": "str_", "bytes": "bytes_", "timestamp": "datetime64"}
# Opcodes of every kind, so that what is put in is more than noise.
BYTES = st.one_of(
    st.integers(0, 255), st.sampled_from(list(b"(.0123FIJKLMNPQRSTUVXabcdeghijloprstuq}]\x80\x81\x85\x86\x87\x8a\x93\x94"))
)


@st.composite
def fields(draw: st.DrawFn) -> Field:
    dtype = draw(st.sampled_from(get_args(DType)))
    array = dtype not in DTYPES and draw(st.booleans())
    sizes = st.lists(st.one_of(st.none(), st.integers(1, 2**40)), min_size=1, max_size=3)
    picture = array and dtype == "uint8" and draw(st.booleans())
    return Field(
        name=draw(NAMES.filter(_is_name)),
        dtype=dtype,
        shape=tuple(draw(sizes)) if array else (),
        codec="image" if picture else None,
        nullable=draw(st.booleans()),
    )


def _is_name(name: str) -> bool:
    try:
        return bool(Field(name=name, dtype="bool"))
    except ValueError:
        return False


CODECS = st.one_of(
    st.none(),
    st.sampled_from([StoredCodec(kind="ndarray"), StoredCodec(kind="compressed_ndarray")]),
    st.builds(StoredCodec, kind=st.just("image"), image_format=st.sampled_from(["png", "jpeg"]), quality=st.integers(0, 100)),
    st.builds(StoredCodec, kind=st.just("scalar"), spark_type=st.sampled_from(["LongType", "StringType", "TimestampType"])),
    st.builds(
        StoredCodec, kind=st.just("scalar"), spark_type=st.just("DecimalType"), precision=st.integers(1, 38),
        scale=st.integers(0, 38),
    ),
)  # fmt: skip
STORED = st.builds(
    StoredField,
    name=st.text(st.characters(codec="utf-8"), max_size=20),
    dtype=st.sampled_from(sorted(set(KNOWN.values()))),
    shape=st.lists(st.none() | st.integers(0, 2**40), max_size=4).map(tuple),
    codec=CODECS,
    nullable=st.booleans(),
)


@given(st.lists(STORED, unique_by=lambda one: one.name, max_size=8).map(tuple))
@settings(deadline=None)
def test_any_schema_that_is_written_is_read(drawn: tuple[StoredField, ...]) -> None:
    schema = StoredUnischema(name="AnyName", fields=drawn)
    assert parse_unischema(dump_unischema(schema)) == schema


@given(st.lists(fields(), min_size=1, max_size=8, unique_by=lambda field: field.name.lower()))
@settings(max_examples=150, deadline=None)
def test_what_we_write_reads_back(drawn: list[Field]) -> None:
    found = parse_unischema(our_pickle(Schema(fields=tuple(drawn)), "Drawn"))
    assert found.name == "Drawn"
    assert [field.name for field in found.fields] == [field.name for field in drawn]
    for ours, theirs in zip(drawn, found.fields, strict=True):
        _compare(ours, theirs)


def _compare(ours: Field, theirs: StoredField) -> None:
    assert theirs.codec is not None
    assert theirs.nullable == ours.nullable
    kind = "image" if ours.is_image else "ndarray" if ours.shape else "scalar"
    assert theirs.codec.kind == kind
    if kind == "image" and ours.shape[2:] == (1,):
        assert theirs.shape == ours.shape[:2]
    else:
        assert theirs.shape == ours.shape
    hands_on = ours.dtype == "timestamp" and ours.nullable  # as pandas has it, see `format.petastorm`
    assert theirs.dtype == ("object_" if hands_on else DTYPES.get(ours.dtype, ours.dtype))


@given(st.dictionaries(PATHS.map("/".join).filter(lambda path: not {".", ".."} & set(path.split("/"))), st.integers(1, 99)))
@settings(max_examples=100, deadline=None)
def test_row_groups_read_back(counts: dict[str, int]) -> None:
    schema = Schema(fields=(Field(name="x", dtype="int32"),))
    data = common_metadata(schema, pa.schema([("x", pa.int32())]), counts)
    assert read_common_metadata(data).row_groups == counts


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """A real pickle with some bytes replaced, left out, put in, or taken from another one."""
    pickled = bytearray(PICKLES[draw(st.sampled_from(sorted(PICKLES)))])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(pickled)))
        size = draw(st.integers(0, 12))
        other = PICKLES[draw(st.sampled_from(sorted(PICKLES)))]
        start = draw(st.integers(0, len(other)))
        noise = st.binary(max_size=4) | st.lists(BYTES, max_size=8).map(bytes)
        pickled[at : at + size] = draw(st.one_of(noise, st.just(other[start : start + draw(st.integers(0, 200))])))
    return bytes(pickled)


@given(mutants())
@settings(max_examples=2000, deadline=None)
def test_a_mutated_pickle_is_read_or_refused(pickled: bytes) -> None:
    try:
        parse_unischema(pickled)
    except UnsafeMetadataError as error:
        str(error).encode()  # a message that can be printed


@given(st.lists(BYTES, max_size=60).map(bytes))
@settings(max_examples=1000, deadline=None)
def test_any_opcodes_are_read_or_refused(pickled: bytes) -> None:
    try:
        parse_unischema(pickled)
    except UnsafeMetadataError as error:
        str(error).encode()


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_mutated_file_is_read_or_refused(data: st.DataObject) -> None:
    whole = bytearray(METADATA[data.draw(st.sampled_from(("arrays", "legacy-0.4.0")))].read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read_common_metadata(bytes(whole))
        if found.unischema is not None:
            parse_unischema(found.unischema)
    except (InputError, UnsafeMetadataError) as error:
        str(error).encode()


def test_the_fuzzed_ones_are_real() -> None:
    for pickled in PICKLES.values():
        assert parse_unischema(pickled).fields
    assert pq.read_schema(io.BytesIO(METADATA["arrays"].read_bytes())).names
