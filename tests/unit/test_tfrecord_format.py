"""TFRecord framing and examples: TensorFlow reads what is written, and everything comes back equal."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwright.errors import InputError
from shardwright.format.features import Features
from shardwright.format.tfrecord import Feature, decode_examples, encode_examples, example_type, frame, read_frames
from shardwright.schema import Field, Schema
from shardwright.stages.clean import Clean, CleanOptions

FIELDS = (
    Field(name="f32", dtype="float32"), Field(name="f64", dtype="float64"), Field(name="f16", dtype="float16"),
    Field(name="i8", dtype="int8"), Field(name="u64", dtype="uint64"), Field(name="flag", dtype="bool"),
    Field(name="text", dtype="string"), Field(name="data", dtype="bytes"), Field(name="at", dtype="timestamp"),
    Field(name="vector", dtype="int16", shape=(2, 3)), Field(name="image", dtype="uint8", shape=(2, 2)),
    Field(name="doubles", dtype="float64", shape=(2,)),
    Field(name="photo", dtype="uint8", shape=(None, None, 3), codec="image"),
    Field(name="ragged", dtype="float32", shape=(None, 2)), Field(name="bytes_ragged", dtype="float64", shape=(None, 2)),
    Field(name="any", dtype="int32", shape=(2, None)),
    Field(name="maybe", dtype="int32", nullable=True), Field(name="maybe_text", dtype="string", nullable=True),
    Field(name="maybe_vector", dtype="float32", shape=(2,), nullable=True),
)  # fmt: skip
SCHEMA = Schema(fields=FIELDS)
PNG = b"\x89PNG\r\n\x1a\n and more"


def objects(*values: Any) -> np.ndarray:
    out = np.empty(len(values), object)
    out[:] = values
    return out


def batch() -> dict[str, np.ndarray]:
    return {
        "f32": np.array([0.1, -0.0], np.float32), "f64": np.array([0.1, 1e300]), "f16": np.array([0.5, 65504], np.float16),
        "i8": np.array([-128, 127], np.int8), "u64": np.array([2**64 - 1, 0], np.uint64), "flag": np.array([True, False]),
        "text": objects("ä", ""), "data": objects(b"\xff", b""),
        "at": np.array(["1969-12-31T23:59:59.999999", "2024-02-29T12:00"], "datetime64[us]"),
        "vector": np.arange(12, dtype=np.int16).reshape(2, 2, 3) - 6, "image": np.arange(8, dtype=np.uint8).reshape(2, 2, 2),
        "doubles": np.array([[0.1, 0.2], [0.3, 0.4]]), "photo": objects(PNG, PNG + b"!"),
        "ragged": objects(np.ones((3, 2), np.float32), np.zeros((0, 2), np.float32)),
        "bytes_ragged": objects(np.zeros((0, 2)), np.full((2, 2), 0.1)),
        "any": objects(np.ones((2, 5), np.int32), np.zeros((2, 0), np.int32)),
        "maybe": np.array([7, 0], np.int32), "maybe_mask": np.array([False, True]), "maybe_text": objects(None, "x"),
        "maybe_vector": np.array([[1, 2], [0, 0]], np.float32), "maybe_vector_mask": np.array([False, True]),
    }  # fmt: skip


def as_stored(field: Field, value: Any, *, missing: bool) -> Any:
    """What `Clean` makes of a value: bytes of fixed arrays, cells of others."""
    if value is None or missing:
        return None
    if field.is_image or not field.shape:
        return value.item() if isinstance(value, np.generic) else value
    if field.fixed and not field.nullable:
        return value.tobytes()
    buffer = io.BytesIO()
    np.save(buffer, value)
    return buffer.getvalue()


def test_every_kind_of_field_comes_back_equal() -> None:
    values = batch()
    features = {field.name: Feature.of(field) for field in SCHEMA}
    columns, reasons = decode_examples(list(encode_examples(SCHEMA, values)), features)
    assert reasons == [None, None]
    source = {"_source": pa.array(["a", "b"])}
    out, rejects = Clean(SCHEMA, CleanOptions(decode=False))(pa.RecordBatch.from_pydict({**columns, **source}))
    assert rejects.reasons == []
    for field in SCHEMA:
        mask = values.get(f"{field.name}_mask", np.zeros(2, bool))
        expected = [as_stored(field, values[field.name][row], missing=bool(mask[row])) for row in range(2)]
        assert out[field.name].to_pylist() == expected, field.name


def test_features_json_round_trip() -> None:
    features = Features(fields=FIELDS)
    text = features.model_dump_json()
    assert Features.model_validate_json(text) == features
    assert json.loads(text)["format_version"] == 1


def test_the_same_values_are_the_same_bytes() -> None:
    assert list(encode_examples(SCHEMA, batch())) == list(encode_examples(SCHEMA, batch()))


ORACLE = """
import sys, json
import tensorflow as tf
records = [r.numpy() for r in tf.data.TFRecordDataset(sys.argv[1])]
examples = [tf.train.Example.FromString(r) for r in records]
assert [e.SerializeToString(deterministic=True) for e in examples] == records
parsed = tf.io.parse_example(records, {"i8": tf.io.FixedLenFeature([], tf.int64),
    "vector": tf.io.FixedLenFeature([2, 3], tf.int64),
    "f32": tf.io.FixedLenFeature([], tf.float32), "image": tf.io.FixedLenFeature([], tf.string)})
image = tf.io.decode_raw(parsed["image"], tf.uint8)
print(json.dumps({**{k: parsed[k].numpy().tolist() for k in ("i8", "vector", "f32")}, "image": image.numpy().tolist()}))
"""


def test_tensorflow_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "x.tfrecord"
    values = batch()
    path.write_bytes(b"".join(map(frame, encode_examples(SCHEMA, values))))
    done = subprocess.run([sys.executable, "-c", ORACLE, str(path)], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == {
        "i8": values["i8"].tolist(), "vector": values["vector"].tolist(), "f32": values["f32"].tolist(),
        "image": values["image"].reshape(2, 4).tolist(),
    }  # fmt: skip


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_frames_come_back(records: list[bytes]) -> None:
    assert list(read_frames(io.BytesIO(b"".join(map(frame, records))), "x")) == records


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=3), st.data())
def test_any_flipped_or_missing_byte_is_told(records: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(map(frame, records))
    at = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(InputError, match=r"^x: (record \d+ is (damaged|cut short)|expected a TFRecord file)"):
        list(read_frames(io.BytesIO(flipped), "x"))
    borders = [sum(len(frame(record)) for record in records[:count]) for count in range(len(records) + 1)]
    if at not in borders:
        with pytest.raises(InputError, match=r"^x: record \d+ is cut short: expected"):
            list(read_frames(io.BytesIO(whole[:at]), "x"))


def example(**features: Any) -> bytes:
    message = example_type()()
    for name, (kind, values) in features.items():
        target = getattr(message.features.feature[name], f"{kind}_list")
        target.SetInParent()
        target.value.extend(values)
    return message.SerializeToString()


def test_bad_examples_have_their_reasons() -> None:
    wanted = {"x": Feature.parse("int64"), "v": Feature.parse("float[2]"), "w": Feature.of(FIELDS[1])}
    good = {"x": ("int64", [1]), "v": ("float", [1, 2]), "w": ("bytes", [bytes(8)])}
    records = [
        example(**good), b"\xff\xff", example(**{**good, "x": ("float", [1])}), example(**{**good, "x": ("int64", [1, 2])}),
        example(**{**good, "v": ("float", [1])}), example(**{**good, "w": ("bytes", [b"123"])}),
        example(**good, new=("int64", [1])), example(x=("int64", [5])),
    ]  # fmt: skip
    columns, reasons = decode_examples(records, wanted, known=frozenset(wanted))
    assert reasons[1] is not None
    assert reasons[1].startswith("a record of 2 bytes that is no tf.train.Example")
    assert reasons[:1] + reasons[2:] == [
        None, "feature 'x': expected int64 values, found float", "feature 'x': expected 1 values, found 2",
        "feature 'v': expected 2 values, found 1", "feature 'w': expected elements of 8 bytes, found 3 bytes",
        "a feature 'new' that the first records do not have; declare it by the option `features`", None,
    ]  # fmt: skip
    assert columns["x"].to_pylist() == [1, None, None, None, 1, 1, 1, 5]
    assert columns["v"].to_pylist()[-1] is None


def test_declared_features() -> None:
    assert Feature.parse("int64[]").arrow_type == pa.list_(pa.int64())
    assert Feature.parse("bytes").arrow_type == pa.binary()
    for text in ("int32", "float[0]", "float[-1]", "int64]"):
        with pytest.raises(ValueError, match="expected 'bytes', 'float' or 'int64', or with the number of values"):
            Feature.parse(text)
