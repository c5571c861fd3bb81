"""Metadata that would run code, lead out of the dataset or take for ever is refused, by name and at once.

The pickles of `WHOLE` are what CPython's own pickler makes of an object whose `__reduce__` names a function.
"""

from __future__ import annotations

import io
import json
import struct
import time
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardwright.errors import InputError, UnsafeMetadataError
from shardwright.format import pickle_opcodes as op
from shardwright.format.common_metadata import ROW_GROUPS_KEY, read_common_metadata
from shardwright.format.pickle_nodes import MAX_BYTES
from shardwright.format.unischema import MAX_FIELDS, parse_unischema
from shardwright.schema import Field, Schema
from tests.petastorm.stored import METADATA, our_pickle, stored, stored_pickle

_SECONDS = 30
"""No bound that a slow machine comes near to; without the bounds in the code some of these pickles take hours."""

SYSTEM = (
    b"cposix\nsystem\np0\n(Vtrue\np1\ntp2\nRp3\n.",
    b"cposix\nsystem\nq\x00(X\x04\x00\x00\x00trueq\x01tq\x02Rq\x03.",
    b"\x80\x02cposix\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03.",
    b"\x80\x03cposix\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03.",
    b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94.",
    b"\x80\x05\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94.",
)
"""os.system("true"), by protocol."""
WHOLE = {
    **{f"system-{protocol}": (pickled, "posix.system") for protocol, pickled in enumerate(SYSTEM)},
    "eval-0": (b"c__builtin__\neval\np0\n(V1\np1\ntp2\nRp3\n.", "__builtin__.eval"),
    "eval-2": (b"\x80\x02c__builtin__\neval\nq\x00X\x01\x00\x00\x001q\x01\x85q\x02Rq\x03.", "__builtin__.eval"),
    "eval-4": (
        b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins\x94\x8c\x04eval\x94\x93\x94\x8c\x011\x94\x85\x94R\x94.",
        "builtins.eval",
    ),
    "popen": (
        b"\x80\x04\x95&\x00\x00\x00\x00\x00\x00\x00\x8c\nsubprocess\x94\x8c\x05Popen\x94\x93\x94]\x94\x8c\x04true\x94a\x85\x94R\x94.",
        "subprocess.Popen",
    ),
    "nested": (
        (
            b"\x80\x04\x95?\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins\x94\x8c\x07getattr\x94\x93\x94h\x00\x8c\n__import__\x94\x93\x94"
            b"\x8c\x02os\x94\x85\x94R\x94\x8c\x06system\x94\x86\x94R\x94."
        ),
        "builtins.getattr",
    ),
    "partial": (
        (
            b"\x80\x04\x957\x00\x00\x00\x00\x00\x00\x00\x8c\tfunctools\x94\x8c\x07partial\x94\x93\x94\x8c\x05posix\x94\x8c\x06system\x94\x93"
            b"\x94\x8c\x04true\x94\x86\x94R\x94."
        ),
        "functools.partial",
    ),
}
_OBJECT, _TUPLE = op.named("builtins", "object"), op.named("builtins", "tuple")
_UINT8 = op.named("numpy", "uint8")
_reconstruct = op.named("copyreg", "_reconstructor")
PIECES = {
    "copyreg of a function": (_reconstruct + op.sequence([op.named("os", "system"), _OBJECT, op.NONE]) + b"R", "os.system"),
    "copyreg of a dtype": (_reconstruct + op.sequence([_UINT8, _OBJECT, op.NONE]) + b"R", "instance of numpy.uint8"),
    "copyreg of another base": (_reconstruct + op.sequence([_UINT8, _UINT8, op.NONE]) + b"R", "copyreg._reconstructor"),
    "copyreg of values": (_reconstruct + op.sequence([_UINT8, _TUPLE, op.sequence([])]) + b"R", "instance of numpy.uint8"),
    "copyreg extension": (op.named("copyreg", "add_extension"), "copyreg.add_extension"),
    "restore of another class": (
        op.named("pyspark.serializers", "_restore") + op.sequence([op.text("os"), op.sequence([]), op.sequence([])]) + b"R",
        "pyspark.serializers._restore",
    ),
    "another part of numpy": (op.named("numpy", "load"), "numpy.load"),
    "another part of pyspark": (op.named("pyspark.serializers", "CloudPickleSerializer"), "CloudPickleSerializer"),
    "another part of petastorm": (op.named("petastorm.transform", "TransformSpec"), "petastorm.transform.TransformSpec"),
    "someone's own codec": (op.named("team.codecs", "VideoCodec"), "team.codecs.VideoCodec"),
    "call of a dtype": (_UINT8 + op.sequence([op.integer(1)]) + b"R", "calls numpy.uint8"),
    "call of Decimal": (op.named("decimal", "Decimal") + op.sequence([op.text("1")]) + b"R", "calls decimal.Decimal"),
    "instance of a dtype": (op.instance(_UINT8), "instance of numpy.uint8"),
    "state of a class": (_UINT8 + op.mapping([(op.text("a"), op.NONE)]) + b"b", "expected a Instance"),
    "INST": (b"(ios\nsystem\n", "INST 'os system'"),
    "OBJ": (b"(" + _UINT8 + b"o", "OBJ"),
    "EXT1": (b"\x82\x01", "EXT1 1"),
    "EXT2": (b"\x83\x01\x00", "EXT2 1"),
    "EXT4": (b"\x84\x01\x00\x00\x00", "EXT4 1"),
    "PERSID": (b"Phdfs\n", "PERSID 'hdfs'"),
    "BINPERSID": (op.NONE + b"Q", "BINPERSID"),
    "NEWOBJ_EX": (_UINT8 + b")}\x92", "NEWOBJ_EX"),
    "BYTEARRAY8": (b"\x96\x01" + b"\x00" * 7 + b"a", "BYTEARRAY8"),
    "NEXT_BUFFER": (b"\x97", "NEXT_BUFFER"),
    "DUP": (op.NONE + b"2", "DUP"),
    "dotted STACK_GLOBAL": (op.text("petastorm") + op.text("unischema.Unischema") + b"\x93", "petastorm.unischema.Unischema"),
    "dotted GLOBAL": (op.named("numpy", "uint8.__class__"), "numpy.uint8.__class__"),
    "STACK_GLOBAL of numbers": (op.integer(1) + op.integer(2) + b"\x93", "expected a str"),
    "a key that is no text": (op.mapping([(op.integer(1), op.NONE)]), "expected a str"),
    "an unhashable key": (op.mapping([(op.mapping([]), op.NONE)]), "expected a str"),
    "a huge memo number": (op.NONE + op.remember(2**32 - 1), "memo"),
    "what nobody remembered": (op.recall(77), "LONG_BINGET of what is not there"),
    "a huge frame": (b"\x95" + struct.pack("<Q", 2**62), "frames"),
    "an escape that is none": (b"S'\\c'\n", "damaged"),
    "a text that is cut": (b"X" + struct.pack("<I", 2**31) + b"a", "damaged"),
    "a number of a million digits": (b"L" + b"1" * 10**6 + b"L\n", "damaged"),
    "marks without end": (b"(" * 300_000, "inside each other"),
    "opcodes without end": (op.NONE * 10**6, "opcodes"),
}


def _refused(pickled: bytes) -> str:
    start = time.monotonic()
    with pytest.raises(UnsafeMetadataError) as refused:
        parse_unischema(pickled)
    assert time.monotonic() - start < _SECONDS
    assert len(str(refused.value)) < 2000
    return str(refused.value)


@pytest.mark.parametrize("name", WHOLE)
def test_pickles_that_run_something(name: str) -> None:
    pickled, what = WHOLE[name]
    message = _refused(pickled)
    assert f"the pickle names {what!r}" in message
    assert "Nothing in it was run" in message


@pytest.mark.parametrize("name", PIECES)
def test_pieces_that_have_no_place_in_it(name: str) -> None:
    piece, what = PIECES[name]
    assert what in _refused(op.program(piece))


@pytest.mark.parametrize("name", PIECES)
def test_the_same_pieces_where_a_real_schema_has_a_codec(name: str) -> None:
    pickled = our_pickle(Schema(fields=(Field(name="x", dtype="uint8", shape=(2,)),)), "S")
    codec = op.instance(op.named("petastorm.codecs", "NdarrayCodec"))
    assert codec in pickled
    _refused(pickled.replace(codec, PIECES[name][0]))


@pytest.mark.parametrize("wanted", [b"numpy\nuint8\n", b"petastorm.codecs\nNdarrayCodec\n"])
def test_a_global_swapped_inside_a_field(wanted: bytes) -> None:
    pickled = our_pickle(Schema(fields=(Field(name="x", dtype="uint8", shape=(2,)),)), "S")
    assert "'builtins.eval'" in _refused(pickled.replace(b"c" + wanted, b"cbuiltins\neval\n"))
    assert "field 'x'" in _refused(pickled.replace(b"c" + wanted, b"cpyspark.sql.types\nLongType\n"))


def test_values_that_hold_each_other_2_to_the_60_times() -> None:
    doubled = op.sequence([]) + b"".join(op.remember(i) + op.recall(i) + b"\x86" for i in range(60))
    pickled = our_pickle(Schema(fields=(Field(name="x", dtype="uint8", shape=(2,)),)), "S")
    assert "expected a dict" in _refused(op.program(op.instance(op.named("petastorm.unischema", "Unischema"), state=doubled)))
    for place in (op.text("S"), op.integer(2), _UINT8, op.instance(op.named("petastorm.codecs", "NdarrayCodec"))):
        assert place in pickled
        _refused(pickled.replace(place, doubled))


def test_a_list_that_holds_itself() -> None:
    pickled = our_pickle(Schema(fields=(Field(name="x", dtype="uint8", shape=(2,)),)), "S")
    _refused(pickled.replace(op.integer(2), b"]" + op.remember(5) + op.recall(5) + b"a"))


def test_one_long_list_made_a_dict_again_and_again() -> None:
    pair = b"](" + op.text("a") + op.NONE + b"e" + op.remember(0)
    pairs = b"](" + pair + op.recall(0) * 200_000 + b"e" + op.remember(1)
    again = (op.named("collections", "OrderedDict") + op.recall(1) + b"\x85R") * 50_000
    _refused(op.program(pairs + again))


def test_a_pickle_out_of_proportion() -> None:
    fields = Schema.model_construct(fields=tuple(Field(name=f"f{i}", dtype="uint8") for i in range(MAX_FIELDS + 1)))
    assert f"{MAX_FIELDS} at most" in _refused(our_pickle(fields, "S"))
    assert len(parse_unischema(our_pickle(Schema.model_construct(fields=fields.fields[:MAX_FIELDS]), "S")).fields) == MAX_FIELDS
    assert f"at most {MAX_BYTES} bytes" in _refused(bytes(MAX_BYTES + 1))
    long = Schema(fields=(Field(name="a" * 1025, dtype="uint8"),))
    assert "1024 characters" in _refused(our_pickle(long, "S"))


@pytest.mark.parametrize("name", ["marks without end", "a huge frame", "a text that is cut", "a huge memo number"])
def test_no_memory_is_taken_for_what_is_announced(name: str) -> None:
    pickled = op.program(PIECES[name][0])
    tracemalloc.start()
    try:
        _refused(pickled)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["arrays", "legacy-0.4.0"])
def test_a_pickle_that_ends_early(name: str) -> None:
    pickled = stored_pickle(name)
    for size in range(len(pickled)):
        with pytest.raises(UnsafeMetadataError):
            parse_unischema(pickled[:size])


@pytest.mark.parametrize("path", ["/etc/passwd", "../x.parquet", "a/../../x.parquet", "a\0b", "", ".", "a//b"])
def test_paths_that_lead_out(path: str) -> None:
    with pytest.raises(UnsafeMetadataError, match="expected plain paths below the dataset"):
        read_common_metadata(_with_row_groups(json.dumps({"part-0.parquet": 1, path: 1}).encode()))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{",
        b"[" * 100_000,
        b"\xff",
        b'{"a": -1}',
        b'{"a": true}',
        b'{"a": "1"}',
        b'{"a": 1e3}',
        b'{"a": 99999999999}',
    ],
)
def test_row_groups_that_are_none(text: bytes) -> None:
    with pytest.raises(InputError, match=f"key {ROW_GROUPS_KEY}: expected a JSON object"):
        read_common_metadata(_with_row_groups(text))


def test_a_damaged_file_and_one_without_keys() -> None:
    whole = METADATA["arrays"].read_bytes()
    for damaged in (b"", b"PAR1", whole[:-9], whole[100:], b"PAR1" + bytes(1000) + whole[-8:]):
        with pytest.raises(InputError, match="x/_common_metadata: expected a Parquet file"):
            read_common_metadata(damaged, "x/_common_metadata")
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), sink)
    found = read_common_metadata(sink.getvalue())
    assert (found.unischema, found.row_groups, found.columns) == (None, None, pa.schema([("a", pa.int64())]))


def _with_row_groups(text: bytes) -> bytes:
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, stored("arrays").columns, store_schema=False) as writer:
        writer.add_key_value_metadata({ROW_GROUPS_KEY.encode(): text})
    return sink.getvalue()
