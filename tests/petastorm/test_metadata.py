"""The metadata that we write makes stock Petastorm return the values that were written."""

from __future__ import annotations

import hashlib
import io
import json
import pickletools
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardwright.errors import SchemaError
from shardwright.format.common_metadata import ROW_GROUPS_KEY, UNISCHEMA_KEY
from shardwright.format.petastorm import common_metadata, unischema_of
from shardwright.format.unischema import parse_unischema
from shardwright.format.unischema_pickle import dump_unischema
from shardwright.schema import NUMBERS, Field, Schema
from tests.petastorm.conftest import Oracle
from tests.petastorm.every_kind import PER_SHARD, ROW_GROUP, ROWS, SHARDS, Case, arrow_schema, cases, schema, write_shard
from tests.petastorm.stored import our_pickle

Kind = Literal["reader", "batch"]
KINDS: tuple[Kind, ...] = ("reader", "batch")
ROW_GROUPS = PER_SHARD // ROW_GROUP
NUMPY_TYPES = ("bool_", "bytes_", "datetime64", "object_", "str_", *NUMBERS)
SPARK_TYPES = "Binary Boolean Byte Double Float Integer Long Short String Timestamp"
GLOBALS = {
    "collections OrderedDict",
    *(f"petastorm.codecs {name}" for name in ("CompressedImageCodec", "NdarrayCodec", "ScalarCodec")),
    *(f"petastorm.unischema {name}" for name in ("Unischema", "UnischemaField")),
    *(f"numpy {name}" for name in NUMPY_TYPES),
    *(f"pyspark.sql.types {name}Type" for name in SPARK_TYPES.split()),
}


@pytest.fixture(scope="module")
def every() -> list[Case]:
    return cases()


@pytest.fixture(scope="module")
def split(every: list[Case], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dataset") / "train"
    parts = [write_shard(root / f"shard={shard:05d}", shard, every) for shard in range(SHARDS)]
    row_groups = {part.relative_to(root).as_posix(): ROW_GROUPS for part in parts}
    (root / "_common_metadata").write_bytes(common_metadata(schema(every), arrow_schema(every), row_groups))
    for part in parts:
        alone = common_metadata(schema(every), arrow_schema(every), {part.name: ROW_GROUPS})
        (part.parent / "_petastorm").write_bytes(alone)
    return root


def test_what_is_written_is_what_is_read(every: list[Case]) -> None:
    stored = unischema_of(schema(every), "EveryKind")
    assert parse_unischema(dump_unischema(stored)) == stored


@pytest.mark.parametrize("kind", KINDS)
def test_stock_reads_a_split(split: Path, every: list[Case], petastorm_oracle: Oracle, kind: Kind) -> None:
    rows = petastorm_oracle(split, kind)
    assert len(rows) == ROWS
    _compare(rows, every, kind, first=0)


@pytest.mark.parametrize("kind", KINDS)
def test_stock_reads_a_shard_that_lies_alone(
    split: Path, every: list[Case], petastorm_oracle: Oracle, kind: Kind, tmp_path: Path
) -> None:
    shard = tmp_path / "shard"
    write_shard(shard, 1, every)
    (shard / "_common_metadata").write_bytes((split / "shard=00001" / "_petastorm").read_bytes())
    rows = petastorm_oracle(shard, kind)
    assert len(rows) == PER_SHARD
    _compare(rows, every, kind, first=PER_SHARD)


def test_stock_takes_row_groups_in_order_of_paths(split: Path, petastorm_oracle: Oracle) -> None:
    rows = petastorm_oracle(split, "reader", shard=(1, 2), id_field=None, values=["id", "flag"])
    assert [row["id"] for row in rows] == [3, 4, 5, 9, 10, 11]  # row groups 1 and 3 of 4
    assert set(rows[0]) == {"id", "flag"}


def test_a_field_that_lies_about_its_cells_fails(every: list[Case], petastorm_oracle: Oracle, tmp_path: Path) -> None:
    shard = tmp_path / "shard"
    write_shard(shard, 0, every)
    npy = schema(every)["raw"].model_copy(update={"codec": schema(every)["npy_null"].codec})
    wrong = Schema(fields=(schema(every)["id"], npy))
    (shard / "_common_metadata").write_bytes(common_metadata(wrong, arrow_schema(every), {"part-00000.parquet": 2}))
    with pytest.raises(AssertionError, match='Decoding field "raw" failed'):
        petastorm_oracle(shard, "reader")


def test_golden_pickle() -> None:
    fields = (Field(name="label", dtype="uint8"), Field(name="image", dtype="uint8", shape=(28, None), nullable=True))
    assert our_pickle(Schema(fields=fields), "Digits") == (
        b"\x80\x02cpetastorm.unischema\nUnischema\n)\x81}("
        b"X\x05\x00\x00\x00_nameX\x06\x00\x00\x00Digits"
        b"X\x07\x00\x00\x00_fieldsccollections\nOrderedDict\n)R("
        b"X\x05\x00\x00\x00labelcpetastorm.unischema\nUnischemaField\n(X\x05\x00\x00\x00labelcnumpy\nuint8\n)"
        b"cpetastorm.codecs\nScalarCodec\n)\x81}(X\x0b\x00\x00\x00_spark_typecpyspark.sql.types\nShortType\n)\x81ub"
        b"\x89t\x81r\x00\x00\x00\x00"
        b"X\x05\x00\x00\x00imagecpetastorm.unischema\nUnischemaField\n(X\x05\x00\x00\x00imagecnumpy\nuint8\n"
        b"(J\x1c\x00\x00\x00Ntcpetastorm.codecs\nNdarrayCodec\n)\x81\x88t\x81r\x01\x00\x00\x00u"
        b"X\x05\x00\x00\x00labelj\x00\x00\x00\x00X\x05\x00\x00\x00imagej\x01\x00\x00\x00ub."
    )


def test_golden_pickle_of_every_kind(every: list[Case]) -> None:
    digest = hashlib.sha256(our_pickle(schema(every), "EveryKind")).hexdigest()
    assert digest == "6eb5d7597f026bb76e6edf6ac81bdec570efa7df76d2f079f71a795f724e5b80"


def test_pickle_is_well_formed_and_names_nothing_else(every: list[Case]) -> None:
    data = our_pickle(schema(every), "EveryKind")
    pickletools.dis(data, out=io.StringIO())  # raises on a stack that does not add up
    opcodes = [(opcode.name, argument) for opcode, argument, _ in pickletools.genops(data)]
    assert {argument for name, argument in opcodes if name == "GLOBAL"} == GLOBALS
    reduced = [opcodes[i - 2] for i, (name, _) in enumerate(opcodes) if name == "REDUCE"]
    assert reduced == [("GLOBAL", "collections OrderedDict")]
    others = {"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEWOBJ_EX"}
    assert not others & {name for name, _ in opcodes}


def test_footer_holds_both_keys_and_no_rows(every: list[Case]) -> None:
    row_groups = {"shard=00001/part-00000.parquet": 3, "shard=00000/part-00000.parquet": 2}
    data = common_metadata(schema(every), arrow_schema(every), row_groups)
    footer = pq.read_metadata(io.BytesIO(data))
    assert footer.num_rows == footer.num_row_groups == 0
    assert set(footer.metadata) == {UNISCHEMA_KEY.encode(), ROW_GROUPS_KEY.encode()}
    assert footer.metadata[UNISCHEMA_KEY.encode()] == our_pickle(schema(every), "Shardwright")
    assert list(json.loads(footer.metadata[ROW_GROUPS_KEY.encode()]).items()) == sorted(row_groups.items())
    assert footer.schema.to_arrow_schema().names == arrow_schema(every).names


def test_same_bytes_whatever_the_order_of_parts(every: list[Case]) -> None:
    parts = {f"shard={shard:05d}/part-00000.parquet": 1 + shard for shard in range(5)}
    marked = arrow_schema(every).with_metadata({"host": "a"})
    one = common_metadata(schema(every), arrow_schema(every), parts)
    assert one == common_metadata(schema(every), marked, dict(reversed(parts.items())))


@pytest.mark.parametrize("path", ["/part.parquet", "../part.parquet", "a//part.parquet", "./part.parquet", "", "."])
def test_refuses_paths_that_stock_would_not_find(every: list[Case], path: str) -> None:
    with pytest.raises(ValueError, match="relative to the directory"):
        common_metadata(schema(every), arrow_schema(every), {path: 1})


def test_refuses_what_stock_fails_on(every: list[Case]) -> None:
    with pytest.raises(ValueError, match="at least one row group"):
        common_metadata(schema(every), arrow_schema(every), {"part-00000.parquet": 0})
    with pytest.raises(SchemaError, match="without a column in the part files: id"):
        common_metadata(schema(every), pa.schema(list(arrow_schema(every))[1:]), {"part-00000.parquet": 1})
    with pytest.raises(SchemaError, match="identifier"):
        our_pickle(schema(every), "not a name")


def _compare(rows: list[dict[str, Any]], every: list[Case], kind: Kind, first: int) -> None:
    assert set(rows[0]) == {case.field.name for case in every}  # neither `shard`, nor `_key`, nor `_pad`
    wrong = []
    for case in every:
        wanted = (case.reader if kind == "reader" else case.batch)[first : first + len(rows)]
        got = [row[case.field.name] for row in rows]
        # the two JPEG decoders may round differently
        same = [_same(a, b, slack=3 if case.field.is_image else 0) for a, b in zip(got, wanted, strict=True)]
        if not all(same):
            i = same.index(False)
            wrong.append(f"{case.field.name}, row {first + i}: got {got[i]!r}, wanted {wanted[i]!r}")
    assert not wrong, "\n".join(wrong)


def _same(got: Any, wanted: Any, slack: int) -> bool:
    if isinstance(wanted, np.datetime64):  # in whatever unit
        return isinstance(got, np.datetime64) and (got == wanted or bool(np.isnat(got) and np.isnat(wanted)))
    if not isinstance(wanted, np.generic | np.ndarray):
        return type(got) is type(wanted) and got == wanted
    if type(got) is not type(wanted) or got.dtype != wanted.dtype or got.shape != wanted.shape:
        return False
    if slack:
        return bool(np.abs(got.astype(int) - wanted.astype(int)).max() <= slack)
    return np.array_equal(got, wanted, equal_nan=wanted.dtype.kind == "f")
