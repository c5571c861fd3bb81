"""One small input of every format: rows that are numbers, one of them bad, written to files as the test likes.

A new format is a `Format` in `FORMATS`: what writes rows, and what a row is when it is read.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import struct
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fastavro
import imagecodecs
import numpy as np
import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from shardwright.format import mds
from shardwright.format.tfrecord import example_type, frame
from tests.petastorm.written import NDARRAY, npy, unischema, unischema_field, write_dataset
from tests.spark.mnist import write_idx

ROWS = 125  # of fewer, one bad line makes a text file no text at all
BAD = 13
NUMBERS = ("number", "value")

Write = Callable[[Path, Sequence[int]], None]
Sample = dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Format:
    """How rows of one format are written, and what they are."""

    name: str
    """As the table of the docs shows it."""
    read: dict[str, Any]
    """[read] without `path`."""
    write: Write
    """Writes rows to one file, or for each a file in that folder."""
    sample: Callable[[int], Sample]
    reason: str
    """Begins what the quarantine says about the bad row."""
    clean: dict[str, Any] = field(default_factory=dict)
    suffix: str = ""
    whole_files: bool = False
    """A file is a sample: then its name is its identity, and stays."""
    by_spark: bool = False


def number(row: int) -> Sample:
    return {"number": row, "value": row / 4}


def columns(rows: Sequence[int]) -> dict[str, list[Any]]:
    return {"number": list(rows), "value": [float("nan") if row == BAD else row / 4 for row in rows]}


def write_parquet(path: Path, rows: Sequence[int]) -> None:
    pq.write_table(pa.table(columns(rows)), path, row_group_size=40)


def write_petastorm(path: Path, rows: Sequence[int]) -> None:
    """The number in a column of a wider type, the value as an array of shape ()."""
    table = pa.table({"number": pa.array(rows, pa.int64()), "value": [npy(value) for value in columns(rows)["value"]]})
    fields = [unischema_field("number", "int32"), unischema_field("value", "float64", NDARRAY)]
    write_dataset(path.parent, unischema(*fields), {path.name: table}, row_group_size=40)


def write_orc(path: Path, rows: Sequence[int]) -> None:
    orc.write_table(pa.table(columns(rows)), path)


def write_avro(path: Path, rows: Sequence[int]) -> None:
    fields = [{"name": "number", "type": "long"}, {"name": "value", "type": "double"}]
    with path.open("wb") as stream:
        table = pa.table(columns(rows)).to_pylist()
        fastavro.writer(stream, {"type": "record", "name": "row", "fields": fields}, table, sync_interval=20)


def write_csv(path: Path, rows: Sequence[int]) -> None:
    with path.open("w", newline="") as stream:
        out = csv.writer(stream)
        out.writerow(NUMBERS)
        out.writerows([row, "oops" if row == BAD else row / 4] for row in rows)


def write_jsonl(path: Path, rows: Sequence[int]) -> None:
    lines = ['{"number": 13, ' if row == BAD else json.dumps(number(row)) for row in rows]
    path.write_text("\n".join(lines) + "\n")


def write_text(path: Path, rows: Sequence[int]) -> None:
    path.write_bytes(b"".join(b"\xff\xfe\n" if row == BAD else b"row %d\n" % row for row in rows))


def write_sequencefile(path: Path, rows: Sequence[int]) -> None:
    """Records without compression; tests/spark/test_sequencefile.py reads what Hadoop writes."""
    classes = (b"org.apache.hadoop.io.LongWritable", b"org.apache.hadoop.io.Text")
    head = b"SEQ\x06" + b"".join(bytes([len(name)]) + name for name in classes) + b"\0\0" + bytes(4)
    data = [head, marker := b"0123456789abcdef"]
    for row in rows:
        text = b"\xff" if row == BAD else b"row %d" % row
        data.append(struct.pack(">iiqB", 8 + 1 + len(text), 8, row, len(text)) + text)
        data.append(struct.pack(">i", -1) + marker)
    path.write_bytes(b"".join(data))


def write_tfrecord(path: Path, rows: Sequence[int]) -> None:
    data = b""
    for row in rows:
        example = example_type()()
        example.features.feature["number"].int64_list.value.append(row)
        example.features.feature["value"].float_list.value.extend([row / 4] * (2 if row == BAD else 1))
        data += frame(example.SerializeToString())
    path.write_bytes(data)


def write_webdataset(path: Path, rows: Sequence[int]) -> None:
    with tarfile.open(path, "w") as out:
        for row in rows:
            for name, content in (("cls", "oops" if row == BAD else str(row)), ("value.txt", str(row / 4))):
                info = tarfile.TarInfo(f"rows/{row:04d}.{name}")
                info.size = len(content)
                out.addfile(info, io.BytesIO(content.encode()))


def write_mds(folder: Path, rows: Sequence[int]) -> None:
    """Two shards; tests/interchange reads what MosaicML Streaming writes."""
    folder.mkdir()
    columns = {"number": mds.Encoding.parse("int"), "text": mds.Encoding.parse("str_float")}
    shards = []
    for place, part in enumerate((rows[: len(rows) // 2], rows[len(rows) // 2 :])):
        texts = {row: b"oops" if row == BAD else str(row / 4).encode() for row in part}
        samples = [struct.pack("<Iq", len(text), row) + text for row, text in texts.items()]
        data = mds.encode_shard(samples, columns)
        about = {"basename": f"shard.{place:05d}.mds", "bytes": len(data), "hashes": {"md5": hashlib.md5(data).hexdigest()}}
        (folder / f"shard.{place:05d}.mds").write_bytes(data)
        shards.append({**mds.describe_columns(columns), "samples": len(part), "raw_data": about, "zip_data": None})
    (folder / "index.json").write_text(json.dumps({"version": 2, "shards": shards}))


def write_npy(folder: Path, rows: Sequence[int]) -> None:
    folder.mkdir()
    for name, values in columns(rows).items():
        np.save(folder / f"{name}.npy", np.array(values))


def write_npz(path: Path, rows: Sequence[int]) -> None:
    values = columns(rows)
    np.savez(path, number=np.array(values["number"]), value=np.array(values["value"]))


def picture(row: int) -> np.ndarray:
    return np.full((2, 2, 3), row, np.uint8)


def write_files(folder: Path, rows: Sequence[int]) -> None:
    folder.mkdir()
    for row in rows:
        (folder / f"{row:02d}.bin").write_bytes(bytes([row]) * (3 if row == BAD else 4))


def write_images(root: Path, rows: Sequence[int]) -> None:
    for row in rows:
        path = root.parent / f"class{row % 2}/{row:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no picture" if row == BAD else imagecodecs.png_encode(picture(row)))


def write_labelled(root: Path, rows: Sequence[int]) -> None:
    write_images(root, rows)
    lines = [f"class{row % 2}/{row:02d}.png,{row / 4}" for row in rows]
    (root.parent / "labels.csv").write_text("\n".join(["path,value", *lines]) + "\n")


def write_idx_pair(prefix: Path, rows: Sequence[int]) -> None:
    write_idx(Path(f"{prefix}-images-idx3-ubyte"), np.array([np.full((2, 2), row) for row in rows], np.uint8))
    write_idx(Path(f"{prefix}-labels-idx1-ubyte"), np.array([250 if row == BAD else row for row in rows], np.uint8))


def write_probe(path: Path, rows: Sequence[int]) -> None:
    out = np.zeros(len(rows), [("when", "<i8"), ("ok", "u1"), ("values", "<f4", (3,))])
    out["when"], out["ok"], out["values"] = rows, [row != BAD for row in rows], np.array(rows)[:, None]
    path.write_bytes(b"PROBE1\x03" + out.tobytes())


def write_view(name: Path, rows: Sequence[int]) -> None:
    """Not a file but a view of that name, which a catalog's table is like."""
    session = SparkSession.getActiveSession()
    assert session is not None
    frame = session.createDataFrame(pa.table(columns(rows)))
    frame.repartition(2 if rows[0] else 1).createOrReplaceTempView(name.name)


NAN = "NaN or infinity"
FORMATS = (
    Format(name="avro", read={"format": "avro"}, write=write_avro, sample=number, reason=NAN),
    Format(
        name="csv", read={"format": "csv", "fields": {"value": {"dtype": "float64"}}}, write=write_csv,
        sample=number, reason="", suffix=".csv",
    ),
    Format(
        name="files", read={"format": "files", "fields": {"data": {"dtype": "uint8", "shape": [4]}}}, write=write_files,
        sample=lambda row: {"data": np.full(4, row, np.uint8), "path": f"rows/{row:02d}.bin"}, reason="expected 4 bytes",
        whole_files=True,
    ),
    Format(
        name="idx", read={"format": "idx"}, write=write_idx_pair, clean={"range": {"label": [0, 200]}},
        sample=lambda row: {"image": np.full((2, 2), row, np.uint8), "label": row}, reason="250 is outside [0, 200]",
    ),
    Format(
        name="images", read={"format": "images"}, write=write_images, reason="not a jpeg", whole_files=True,
        sample=lambda row: {"image": picture(row), "label": row % 2, "class_name": f"class{row % 2}"},
    ),
    Format(
        name="images, labels from a CSV", read={"format": "images", "options": {"labels": "labels.csv"}}, write=write_labelled,
        sample=lambda row: {"image": picture(row), "value": row / 4}, reason="not a jpeg", whole_files=True,
    ),
    Format(name="jsonl", read={"format": "jsonl"}, write=write_jsonl, sample=number, reason="", suffix=".jsonl"),
    Format(
        name="mds", read={"format": "mds", "rename": {"value": "text"}}, write=write_mds, sample=number,
        reason="column 'text': expected double, found oops",
    ),
    Format(name="npy", read={"format": "npy"}, write=write_npy, sample=number, reason=NAN),
    Format(name="npz", read={"format": "npz"}, write=write_npz, sample=number, reason=NAN, suffix=".npz"),
    Format(name="orc", read={"format": "orc"}, write=write_orc, sample=number, reason=NAN),
    Format(name="parquet", read={"format": "parquet"}, write=write_parquet, sample=number, reason=NAN),
    Format(name="petastorm", read={"format": "petastorm"}, write=write_petastorm, sample=number, reason=NAN),
    Format(
        name="sequencefile", read={"format": "sequencefile"}, write=write_sequencefile, reason="value: no Text",
        sample=lambda row: {"key": row, "value": f"row {row}"},
    ),
    Format(name="sql", read={"format": "sql"}, write=write_view, sample=number, reason=NAN, by_spark=True),
    Format(name="table", read={"format": "table"}, write=write_view, sample=number, reason=NAN, by_spark=True),
    Format(name="text", read={"format": "text"}, write=write_text, sample=lambda row: {"text": f"row {row}"}, reason=""),
    Format(
        name="tfrecord", read={"format": "tfrecord", "options": {"features": {"number": "int64", "value": "float"}}},
        write=write_tfrecord, sample=number, reason="feature 'value': expected 1 values, found 2",
    ),
    Format(
        name="webdataset",
        read={
            "format": "webdataset", "options": {"members": {"number": "cls", "value": "value.txt"}},
            "fields": {"value": {"dtype": "float64"}},
        },
        write=write_webdataset, sample=number, reason="member 'cls': expected int64, found oops", suffix=".tar",
    ),
    Format(
        name="your own reader", read={"format": "own_reader:ProbeReader", "options": {"channels": 3}}, write=write_probe,
        sample=lambda row: {"when": np.datetime64(row, "us"), "values": np.full(3, row, np.float32)},
        reason="the device says that it failed",
    ),
)  # fmt: skip
