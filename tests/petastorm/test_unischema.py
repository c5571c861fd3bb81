"""Unischemas that stock Petastorm pickled are read as it reads them, from Python 2's on; so are ours."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shardwright.format import pickle_opcodes as op
from shardwright.format.unischema import StoredCodec, StoredField, parse_unischema
from shardwright.schema import Field, Schema
from tests.petastorm.stored import DATA, DATASETS, LEGACY, our_pickle, stored, stored_pickle


@pytest.mark.parametrize("name", DATASETS)
def test_fields_are_as_stock_petastorm_shows_them(name: str) -> None:
    found = parse_unischema(stored_pickle(name))
    assert {field.name: _shown(field) for field in found.fields} == json.loads((DATA / name / "schema.json").read_text())
    assert set(stored(name).columns.names) <= {field.name for field in found.fields}


@pytest.mark.parametrize("version", LEGACY)
def test_the_oldest_ones_have_the_fields_of_later_ones(version: str) -> None:
    """Petastorm's test schema only grew, but that `matrix_string` had one dimension in 0.5.1 and before."""
    later = {field.name: field for field in parse_unischema(stored_pickle("upstream-0.7.6")).fields}
    found = parse_unischema(stored_pickle(f"legacy-{version}"))
    assert found.name == "TestSchema"
    assert len(found.fields) == (13 if version < "0.5" else 15)
    differ = [field.name for field in found.fields if field != later[field.name]]
    assert differ == (["matrix_string"] if version < "0.6" else [])


def test_the_order_and_the_parameters_of_codecs_are_kept() -> None:
    scalars = parse_unischema(stored_pickle("scalars"))
    assert scalars.name == "ScalarsSchema"
    assert [field.name for field in scalars.fields][:5] == ["id", "b", "i8", "u8", "i16"]
    fields = {field.name: field.codec for field in scalars.fields}
    assert fields["dec"] == StoredCodec(kind="scalar", spark_type="DecimalType", precision=20, scale=6)
    images = {field.name: field.codec for field in parse_unischema(stored_pickle("arrays")).fields}
    assert images["jpg"] == StoredCodec(kind="image", image_format="jpeg", quality=90)


def test_names_before_petastorm_was_published() -> None:
    """As `petastorm.etl.legacy` renames them."""
    pickled = stored_pickle("legacy-0.4.0")
    for package in (b"av.experimental.deepdrive.dataset_toolkit", b"av.ml.dataset_toolkit"):
        old = pickled.replace(b"cpetastorm.", b"c" + package + b".")
        assert package in old
        assert parse_unischema(old) == parse_unischema(pickled)


@pytest.mark.parametrize(
    ("module", "name", "dtype"),
    [
        ("numpy", "unicode_", "str_"),
        ("numpy", "string_", "bytes_"),
        ("numpy", "bool", "bool_"),
        ("__builtin__", "unicode", "str_"),
        ("builtins", "int", "int64"),
        ("decimal", "Decimal", "Decimal"),
    ],
)
def test_dtypes_have_one_spelling(module: str, name: str, dtype: str) -> None:
    schema = Schema(fields=(Field(name="label", dtype="uint8"),))
    pickled = our_pickle(schema, "S").replace(op.named("numpy", "uint8"), op.named(module, name))
    assert [field.dtype for field in parse_unischema(pickled).fields] == [dtype]


def test_any_name_is_taken_for_what_it_is() -> None:
    name = "../a b\n\x00\u00e9'; drop"
    pickled = our_pickle(Schema(fields=(Field(name="label", dtype="uint8"),)), "S")
    renamed = pickled.replace(op.text("label"), op.text(name))
    assert [field.name for field in parse_unischema(renamed).fields] == [name]


def test_row_groups() -> None:
    assert stored("partitioned").row_groups == {
        f"split={split}/part-00000-f06bf6ed-3ccb-44aa-8cb9-b0802b96174d.c000.snappy.parquet": 1
        for split in ("test", "train", "v a%3Dl")
    }


def _shown(field: StoredField) -> dict[str, Any]:
    codec, shown = field.codec, None
    names = {"scalar": "ScalarCodec", "ndarray": "NdarrayCodec", "compressed_ndarray": "CompressedNdarrayCodec"}
    match codec:
        case StoredCodec(kind="image"):
            shown = f"CompressedImageCodec('{codec.image_format}', {codec.quality})"
        case StoredCodec():
            shown = f"{names[codec.kind]}({f'{codec.spark_type}()' if codec.spark_type else ''})"
    return {"codec": shown, "nullable": field.nullable, "numpy_dtype": field.dtype, "shape": list(field.shape)}
