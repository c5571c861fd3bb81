"""Schemas are read from pickles that are never run: those of every version, and none that says anything else."""

from __future__ import annotations

import io
import pickletools
import re
import struct
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shardwright.errors import CorruptError, UnsafeMetadataError
from shardwright.format import pickle_opcodes as op
from shardwright.format.unischema import (
    ROW_GROUPS_KEY,
    UNISCHEMA_KEY,
    StoredCodec,
    StoredField,
    StoredUnischema,
    parse_unischema,
    read_common_metadata,
)
from shardwright.format.unischema_pickle import dump_unischema
from shardwright.petastorm import make_reader

DATA = Path(__file__).with_name("data")
METADATA = sorted(DATA.rglob("_common_metadata"))
REAL = [pq.read_metadata(path).metadata[UNISCHEMA_KEY.encode()] for path in METADATA]
SCHEMA = StoredUnischema("Schema", (StoredField("x", "int64", (), StoredCodec(kind="scalar", spark_type="LongType"), False),))
SECONDS = 2


def call(module: str, name: str, protocol: int, argument: str = "1") -> bytes:
    """A pickle that calls a function with a text."""
    if protocol == 0:
        return f"c{module}\n{name}\n(S'{argument}'\ntR.".encode()
    if protocol < 4:
        return (op.program if protocol > 1 else (lambda value: value + b"."))(
            op.named(module, name) + op.sequence([op.text(argument)]) + b"R"
        )
    names = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name))
    body = names + b"\x93" + op.sequence([op.text(argument)]) + b"R."
    return b"\x80" + bytes([protocol]) + b"\x95" + struct.pack("<Q", len(body)) + body


def metadata(pickled: bytes, counts: bytes = b'{"a.parquet": 1}') -> bytes:
    schema = pa.schema([pa.field("x", pa.int64())], {UNISCHEMA_KEY.encode(): pickled, ROW_GROUPS_KEY.encode(): counts})
    out = io.BytesIO()
    pq.write_metadata(schema, out)
    return out.getvalue()


@pytest.mark.parametrize("path", METADATA, ids=[str(path.parent.relative_to(DATA)) for path in METADATA])
def test_all_versions_are_read(path: Path) -> None:
    found = read_common_metadata(path.read_bytes())
    assert found.unischema is not None
    assert found.row_groups
    columns = set(found.arrow_schema.names)
    partitions = {"partition_key", "split"}
    assert {field.name for field in found.unischema.fields} - partitions <= columns


def test_python_2_wrote_the_same_schema_as_python_3() -> None:
    """0.7.0 (protocol 0) is 0.7.6, but for the order of fields, which was alphabetical then."""
    old, new = (
        read_common_metadata((DATA / name / "_common_metadata").read_bytes()).unischema
        for name in ("upstream-metadata/0.7.0", "upstream-0.7.6")
    )
    assert old is not None
    assert new is not None
    assert {field.name for field in old.fields} <= {field.name for field in new.fields}
    image = {field.name: field for field in old.fields}["image_png"]
    assert image == StoredField(
        "image_png", "uint8", (32, 16, 3), StoredCodec(kind="image", image_format="png", quality=80), False
    )


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "module, name",
    [
        ("builtins", "eval"), ("__builtin__", "eval"), ("builtins", "exec"), ("builtins", "getattr"),
        ("builtins", "__import__"), ("builtins", "bytes"), ("os", "system"), ("posix", "system"),
        ("subprocess", "Popen"), ("numpy", "load"),
        ("numpy", "frombuffer"), ("numpy", "int64"), ("numpy.core.multiarray", "_reconstruct"), ("copyreg", "__newobj_ex__"),
        ("copy_reg", "_reconstructor"), ("collections", "OrderedDict"), ("pyspark.serializers", "_restore"),
        ("pyspark.cloudpickle", "loads"), ("petastorm.unischema", "Unischema"), ("petastorm.codecs", "ScalarCodec"),
        ("decimal", "Decimal"), ("decimal", "getcontext"), ("pyspark.sql.types", "LongType"), ("pyspark.sql.types", "_parse"),
    ],
)  # fmt: skip
def test_calls_are_refused_by_name(module: str, name: str, protocol: int) -> None:
    """Alone, and within what a schema is made of."""
    pickled = call(module, name, protocol)
    with pytest.raises(UnsafeMetadataError, match=re.escape(name)):
        parse_unischema(pickled)
    if 1 < protocol < 4:
        value = pickled[2:-1]
        for within in (
            schema_of(value),
            schema_of(field(dtype=value)),
            schema_of(field(codec=value)),
            schema_of(field(), value),
        ):
            with pytest.raises(UnsafeMetadataError, match=re.escape(name)):
                parse_unischema(within)


def swapped(pickled: bytes, old: str, new: str) -> bytes:
    changed = pickled.replace(old.encode(), new.encode())
    assert changed != pickled
    return changed


@pytest.mark.parametrize(
    "module, name", [("os", "system"), ("petastorm.unischema", "os.system"), ("petastorm.codecs", "np"), ("numpy", "memmap")]
)
def test_a_name_within_a_schema_is_refused(module: str, name: str) -> None:
    pickled = swapped(dump_unischema(SCHEMA), "cnumpy\nint64\n", f"c{module}\n{name}\n")
    with pytest.raises(UnsafeMetadataError, match=name.rpartition(".")[2]):
        parse_unischema(pickled)


def nested(levels: int) -> bytes:
    """2^levels leaves, by as many opcodes."""
    program = b"\x80\x02" + op.text("leaf") + b"q\x00"
    for level in range(levels):
        program += bytes([ord("h"), level]) * 2 + b"\x86" + bytes([ord("q"), level + 1])
    return program + b"."


HOSTILE = {
    "INST": b"(S'true'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'true'\no.",
    "EXT1": b"\x80\x02\x82\x01.",
    "EXT4": b"\x80\x02\x84\x01\x00\x00\x00.",
    "PERSID": b"Pid\n.",
    "BINPERSID": b"\x80\x02X\x01\x00\x00\x00xQ.",
    "NEWOBJ_EX": b"\x80\x04\x8c\x05numpy\x8c\x05int64\x93)}\x92.",
    "BYTEARRAY8": b"\x80\x05\x96\x01\x00\x00\x00\x00\x00\x00\x00a.",
    "READONLY_BUFFER": b"\x80\x05\x98.",
    "a dotted name": b"\x80\x04\x8c\x13petastorm.unischema\x8c\x12Unischema.__init__\x93.",
    "attributes of a class": op.program(op.named("petastorm.unischema", "Unischema") + op.mapping([]) + b"b"),
    "attributes of a number": op.program(op.integer(1) + op.mapping([]) + b"b"),
    "an OrderedDict of a class": op.program(
        op.named("collections", "OrderedDict") + op.sequence([op.named("petastorm.unischema", "Unischema")]) + b"R"
    ),
    "a call of a class": op.program(op.named("petastorm.unischema", "Unischema") + b")R"),
    "an instance of OrderedDict": op.program(op.named("collections", "OrderedDict") + b")\x81"),
    "_restore of another name": op.program(
        op.named("pyspark.serializers", "_restore")
        + op.sequence([op.text("system"), op.sequence([]), op.sequence([op.text("true")])])
        + b"R"
    ),
    "_reconstructor of an int": op.program(
        op.named("copy_reg", "_reconstructor")
        + op.sequence([op.named("numpy", "int64"), op.named("builtins", "int"), op.integer(1)])
        + b"R"
    ),
    "a pickle that is cut off": dump_unischema(SCHEMA)[:-20],
    "nothing": b"",
    "a number": op.program(op.integer(7)),
    "two values": b"\x80\x02K\x01K\x02.",
    "300,000 marks": b"\x80\x02" + b"(" * 300_000 + b".",
    "a huge frame": b"\x80\x04\x95" + struct.pack("<Q", 2**63 - 1) + b"N.",
    "a huge text": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.",
    "a huge number": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"1.",
    "a long text of a number": b"L" + b"9" * 100_000 + b"L\n.",
    "2^60 leaves": nested(60),
    "a memo that is not there": b"\x80\x02h\x07.",
    "an empty stack": b"\x80\x02R.",
    "a key without a value": b"\x80\x02}(K\x01u.",
    "a list that holds itself": b"\x80\x02]q\x00h\x00a.",
    "20 MB": b"\x80\x02" + b"N0" * 10_000_000 + b".",
}


@pytest.mark.parametrize("pickled", HOSTILE.values(), ids=HOSTILE)
def test_hostile_pickles_are_refused_quickly(pickled: bytes) -> None:
    began = time.process_time()
    with pytest.raises(UnsafeMetadataError):
        parse_unischema(pickled)
    assert time.process_time() - began < SECONDS


def field(**changed: bytes) -> bytes:
    parts = {
        "name": op.text("x"), "dtype": op.named("numpy", "int64"), "shape": op.sequence([]), "codec": op.NONE,
        "nullable": op.boolean(False),
    }  # fmt: skip
    return op.instance(op.named("petastorm.unischema", "UnischemaField"), op.sequence({**parts, **changed}.values()))


def schema_of(value: bytes, name: bytes | None = None, key: str = "x") -> bytes:
    fields = op.call(op.named("collections", "OrderedDict")) + op.set_items([(op.text(key), value)])
    state = op.mapping([(op.text("_name"), name or op.text("Schema")), (op.text("_fields"), fields)])
    return op.program(op.instance(op.named("petastorm.unischema", "Unischema"), state=state))


@pytest.mark.parametrize(
    "pickled, told",
    [
        (schema_of(op.integer(1)), "UnischemaField"),
        (schema_of(field(dtype=op.text("int64"))), "NumPy class"),
        (schema_of(field(shape=op.sequence([op.text("3")]))), "shape"),
        (schema_of(field(shape=op.sequence([op.integer(-1)]))), "shape"),
        (schema_of(field(shape=op.sequence([op.integer(2**70)]))), "shape"),
        (schema_of(field(shape=op.sequence([op.NONE] * 65))), "shape"),
        (schema_of(field(codec=op.text("NdarrayCodec"))), "codec"),
        (schema_of(field(codec=op.named("petastorm.codecs", "NdarrayCodec"))), "codec"),
        (schema_of(field(nullable=op.text("yes"))), "nullable"),
        (schema_of(field(name=op.integer(1))), "field name"),
        (schema_of(field(name=op.text("y"))), "another name"),
        (schema_of(field(), name=op.integer(1)), "name"),
        (schema_of(field(), key=""), "field name"),
        (op.program(op.instance(op.named("petastorm.unischema", "Unischema"))), "OrderedDict"),
        (
            schema_of(
                field(
                    codec=op.instance(
                        op.named("petastorm.codecs", "CompressedImageCodec"),
                        state=op.mapping([(op.text("_quality"), op.text("high"))]),
                    )
                )
            ),
            "_?quality",
        ),
    ],
)
def test_a_schema_that_can_not_be_is_refused(pickled: bytes, told: str) -> None:
    with pytest.raises(UnsafeMetadataError, match=told):
        parse_unischema(pickled)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(REAL), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6), st.integers(0, 3000))
@example(REAL[0], [], 0)
def test_changed_pickles_are_read_or_refused(pickled: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    changed = bytearray(pickled)
    for place, value in changes:
        changed[place % len(changed)] = value
    try:
        found = parse_unischema(bytes(changed[: len(changed) - cut % 7]))
    except UnsafeMetadataError:
        return
    assert isinstance(found, StoredUnischema)


_OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(_OPCODES), st.binary(max_size=9), st.just(b"cnumpy\nint64\n")), max_size=60))
def test_any_opcodes_are_read_or_refused(pieces: list[bytes]) -> None:
    with pytest.raises(UnsafeMetadataError):
        parse_unischema(b"".join(pieces) + b".")


stored_codecs = st.one_of(
    st.none(),
    st.sampled_from([StoredCodec(kind="ndarray"), StoredCodec(kind="compressed_ndarray")]),
    st.builds(StoredCodec, kind=st.just("image"), image_format=st.sampled_from(["png", "jpeg"]), quality=st.integers(0, 100)),
    st.builds(StoredCodec, kind=st.just("scalar"), spark_type=st.sampled_from(["LongType", "StringType", "TimestampType"])),
    st.builds(
        StoredCodec,
        kind=st.just("scalar"),
        spark_type=st.just("DecimalType"),
        precision=st.integers(1, 38),
        scale=st.integers(0, 38),
    ),
)
stored_fields = st.builds(
    StoredField,
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
    st.sampled_from(["int8", "float32", "str_", "bytes_", "bool_", "datetime64", "Decimal", "object_"]),
    st.lists(st.none() | st.integers(0, 2**40), max_size=4).map(tuple),
    stored_codecs,
    st.booleans(),
)


@given(st.lists(stored_fields, unique_by=lambda one: one.name, max_size=8).map(tuple))
def test_what_is_written_is_what_is_read(fields: tuple[StoredField, ...]) -> None:
    schema = StoredUnischema("AnyName", fields)
    assert parse_unischema(dump_unischema(schema)) == schema


@pytest.mark.parametrize(
    "counts",
    [
        b"", b"[]", b"7", b'{"/etc/passwd": 1}', b'{"../a": 1}', b'{"a": -1}', b'{"a": "1"}', b'{"a": true}', b'{"": 1}',
        b'{"a": 1e400}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_row_groups_that_can_not_be(counts: bytes) -> None:
    with pytest.raises(CorruptError, match="num_row_groups"):
        read_common_metadata(metadata(dump_unischema(SCHEMA), counts))


@pytest.mark.parametrize("data", [b"", b"PAR1", b"x" * 100, METADATA[0].read_bytes()[:-10]])
def test_metadata_that_is_no_parquet(data: bytes) -> None:
    with pytest.raises(CorruptError, match="expected a Parquet file"):
        read_common_metadata(data)


def test_a_reader_does_not_run_it(tmp_path: Path) -> None:
    """What stock Petastorm runs when it opens such a dataset is named, and nothing happens."""
    trace = tmp_path / "trace"
    pq.write_table(pa.table({"x": [1, 2, 3]}), tmp_path / "a.parquet")
    hostile = call("builtins", "eval", 2, f"open({str(trace)!r}, 'w').write('ran')")
    (tmp_path / "_common_metadata").write_bytes(metadata(hostile))
    with pytest.raises(UnsafeMetadataError, match=r"builtins\.eval"):
        make_reader(tmp_path.as_uri())
    assert not trace.exists()
