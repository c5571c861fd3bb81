"""IDX: real digits, every type, row ranges, and headers that lie."""

from __future__ import annotations

import copy
import gzip
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shardwright.errors import InputError, SchemaError
from shardwright.sources import open_source
from shardwright.sources.base import Source
from shardwright.stages.clean import Clean

MNIST = Path(__file__).parents[2] / "data/samples/mnist"
CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


def header(code: int, *sizes: int) -> bytes:
    return struct.pack(f">BBBB{len(sizes)}I", 0, 0, code, len(sizes), *sizes)


def write(path: Path, values: np.ndarray, *, cut: int = 0, more: bytes = b"") -> Path:
    data = header(CODES[values.dtype.name], *values.shape) + values.astype(values.dtype.newbyteorder(">")).tobytes()
    data = (data[:-cut] if cut else data) + more
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def batches(source: Source, task_bytes: int = 2**26) -> pa.Table:
    return pa.Table.from_batches([batch for task in source.tasks(task_bytes) for batch in source.read(task)])


def arrays(table: pa.Table, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(b"".join(table[name].to_pylist()), dtype).reshape(-1, *shape)


def digits(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 3), np.uint8)


def test_real_digits_are_read_as_they_are() -> None:
    source = open_source("idx", MNIST)
    assert [(f.name, f.dtype, f.shape) for f in source.schema] == [("image", "uint8", (28, 28)), ("label", "uint8", ())]
    assert not source.sample_per_file
    table = batches(source)
    oracle = gzip.decompress((MNIST / "images-idx3-ubyte.gz").read_bytes())[16:]
    assert b"".join(table["image"].to_pylist()) == oracle
    assert table["label"].to_pylist() == list(gzip.decompress((MNIST / "labels-idx1-ubyte.gz").read_bytes())[8:])
    assert table["_source"][17].as_py() == "images-idx3-ubyte.gz#17"
    assert Clean(source.schema)(table.combine_chunks().to_batches()[0])[0].num_rows == 2000


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dtype", list(CODES))
def test_every_type_becomes_little_endian(tmp_path: Path, dtype: str, suffix: str) -> None:
    values = (np.random.default_rng(3).random((5, 2, 3)) * 100 - 50).astype(dtype)
    numbers = np.arange(5).astype(dtype)
    write(tmp_path / f"x-images-idx3-x{suffix}", values)
    write(tmp_path / f"x-labels-idx1-x{suffix}", numbers)
    source = open_source("idx", tmp_path)
    table = batches(source)
    np.testing.assert_array_equal(arrays(table, "image", f"{np.dtype(dtype).newbyteorder('<').str}", (2, 3)), values)
    assert table["label"].to_pylist() == numbers.tolist()
    assert table.schema.field("image").type == pa.binary(values[0].nbytes)
    assert source.schema["image"].dtype == dtype


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("train-images-idx3-ubyte", "image"),
        ("train-labels.idx1-ubyte", "label"),
        ("t10k_images-idx3-ubyte", "image"),
        ("part0-masks-idx3-ubyte", "masks"),
        ("speech-idx2-float", "speech"),
        ("images.idx", "image"),
        ("train-images-idx3-ubyte.idx", "image"),
    ],
)
def test_the_word_in_the_name_is_the_field(tmp_path: Path, name: str, field: str) -> None:
    write(tmp_path / name, digits(0, 2))
    assert open_source("idx", tmp_path).schema.names == (field,)


def test_plain_files_are_cut_into_row_ranges_without_a_copy(tmp_path: Path) -> None:
    images, labels = digits(1, 100), np.arange(100, dtype=np.int32)
    write(tmp_path / "images-idx3-ubyte", images)
    write(tmp_path / "labels-idx1-int", labels)
    source = open_source("idx", tmp_path)
    whole = batches(source)
    for task_bytes in (1, 100, 16 * 7, 10**6):
        tasks = source.tasks(task_bytes)
        assert sum(task.bytes for task in tasks) == 100 * 16
        assert len(tasks) == -(-100 // max(1, task_bytes // 16))
        cut = batches(source, task_bytes)
        assert cut.to_pydict() == whole.to_pydict()
    before = pa.total_allocated_bytes()
    batch = next(source.read(source.tasks(10**6)[0]))
    assert batch["image"].buffers()[1].size == 1200
    assert pa.total_allocated_bytes() - before < 10_000  # the source column and the labels, which are swapped


def test_gzip_is_read_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shardwright.sources.arrays.BATCH_BYTES", 1000)
    write(tmp_path / "images-idx3-ubyte.gz", digits(1, 100))
    source = open_source("idx", tmp_path)
    (task,) = source.tasks(1)
    lengths = [len(batch) for batch in source.read(task)]
    assert sum(lengths) == 100
    assert len(lengths) > 5
    np.testing.assert_array_equal(arrays(batches(source), "image", "u1", (4, 3)), digits(1, 100))
    assert batches(source)["_source"].to_pylist() == [f"images-idx3-ubyte.gz#{row}" for row in range(100)]


def test_sets_follow_each_other_in_the_order_of_names(tmp_path: Path) -> None:
    for part in (2, 0, 1):
        suffix = ".gz" if part == 1 else ""
        write(tmp_path / f"part{part}-images-idx3-ubyte{suffix}", digits(part, 3))
        write(tmp_path / f"part{part}-labels-idx1-ubyte{suffix}", np.full(3, part, np.uint8))
    source = copy.deepcopy(open_source("idx", tmp_path))
    table = batches(source)
    assert table["label"].to_pylist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    np.testing.assert_array_equal(arrays(table, "image", "u1", (4, 3)), np.concatenate([digits(p, 3) for p in range(3)]))


def test_fields_are_declared_and_chosen(tmp_path: Path) -> None:
    write(tmp_path / "images-idx3-ubyte", digits(0, 3))
    write(tmp_path / "labels-idx1-ubyte", np.arange(3, dtype=np.uint8))
    source = open_source("idx", tmp_path, fields={"image": {"shape": [4, 3, 1]}, "label": {"dtype": "int64"}})
    batch, rejects = Clean(source.schema)(next(source.read(source.tasks(100)[0])))
    assert not rejects.rows
    assert batch["label"].type == pa.int64()
    assert open_source("idx", tmp_path, columns=["label"]).schema.names == ("label",)
    with pytest.raises(SchemaError, match=r"field 'lable' is declared, but there is no such column; did you mean 'label'"):
        open_source("idx", tmp_path, fields={"lable": {}})
    with pytest.raises(SchemaError, match=r"declared float32 \(4, 3\), the file holds uint8 \(4, 3\)"):
        open_source("idx", tmp_path, fields={"image": {"dtype": "float32"}})
    with pytest.raises(SchemaError, match=r"no column 'imag'; did you mean 'image'"):
        open_source("idx", tmp_path, columns=["imag"])
    with pytest.raises(SchemaError, match=r"a field that can't be: image.shpae: Extra inputs"):
        open_source("idx", tmp_path, fields={"image": {"shpae": [4, 3]}})


def test_a_field_named_shard_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "shard-idx3-ubyte", digits(0, 3))
    with pytest.raises(
        SchemaError, match=r"column 'shard' can't be a field: .*neither 'shard' nor a Python .*leave it out by read.columns"
    ):
        open_source("idx", tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"expected an IDX header .*found b''"),
        (b"\0\0\x08", r"expected an IDX header .*found b'\\x00\\x00\\x08'"),
        (b"hello, world", r"expected an IDX header \(two zero bytes, a type: 0x08 uint8.*found b'hell'"),
        (header(7, 2, 2) + bytes(4), r"expected an IDX header .*found b'\\x00\\x00\\x07\\x02'"),
        (header(8), r"with 1 sizes above 0, found \(\)"),
        (header(8, 2, 3)[:-2], r"with 2 sizes above 0, found \(2,\)"),
        (header(8, 2, 0), r"with 2 sizes above 0, found \(2, 0\)"),
        (header(8, 2, 3) + bytes(5), r"expected 6 bytes of values \(the header says 2 of uint8 \(3,\)\), found 5"),
        (header(8, 2, 3) + bytes(7), r"expected 6 bytes of values .*found 7"),
        (header(8, 2**32 - 1, 3) + bytes(7), r"expected 12884901885 bytes of values .*found 7"),
        (header(8, 1, 2**31), "expected samples below 2 GiB"),
        (header(8, 0, 3), "expected samples, found a header that promises none"),
        (b"\x1f\x8bnot gzip at all", "expected an IDX file, found one that can't be read"),
    ],
)
def test_a_bad_header_is_told_at_open(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "images-idx3-ubyte").write_bytes(data)
    with pytest.raises(InputError, match=message) as error:
        open_source("idx", tmp_path)
    assert str(tmp_path / "images-idx3-ubyte") in str(error.value)


def test_a_gzip_that_lies_is_told_when_it_is_read(tmp_path: Path) -> None:
    values = digits(0, 20_000)  # more than zlib takes in at once, so that the header alone looks good
    path = tmp_path / "images-idx3-ubyte.gz"
    good = write(path, values).read_bytes()
    cases = {
        "expected 240000 bytes of values .*found 239990": write(path, values, cut=10).read_bytes(),
        "expected 240000 bytes of values .*found more": write(path, values, more=b"!").read_bytes(),
        "expected 240000 bytes of values .*found damage after": good[:-30],
        r"found damage after 0 \(.*incorrect data check": good[:-8] + b"abcd" + good[-4:],
    }
    for message, data in cases.items():
        path.write_bytes(data)
        source = open_source("idx", path)
        with pytest.raises(InputError, match=message):
            batches(source)


def test_a_plain_file_cut_short_after_it_was_opened_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "images-idx3-ubyte", digits(0, 50))
    source = open_source("idx", path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"images-idx3-ubyte: was changed while it was read; run the job again"):
        batches(source)


def test_sets_that_do_not_fit_together_are_told(tmp_path: Path) -> None:
    images = write(tmp_path / "a-images-idx3-ubyte", digits(0, 3))
    labels = write(tmp_path / "a-labels-idx1-ubyte", np.zeros(4, np.uint8))
    with pytest.raises(InputError, match=f"{labels}: expected 3 values as in {images}, found 4"):
        open_source("idx", tmp_path)
    write(labels, np.zeros(3, np.uint8))
    more = write(tmp_path / "b-images-idx3-ubyte", digits(0, 3))
    with pytest.raises(InputError, match=rf"{more}: expected the fields of {images} \(image, label\), found image"):
        open_source("idx", tmp_path)
    write(tmp_path / "b-labels-idx1-ubyte", np.zeros(3, np.uint8))
    write(more, np.zeros((3, 4, 4), np.uint8))
    with pytest.raises(InputError, match=rf"{more}: expected uint8 \(4, 3\) as in {images}, found uint8 \(4, 4\)"):
        open_source("idx", tmp_path)
    write(more, digits(0, 3))
    twice = write(tmp_path / "b-images-idx3-ubyte.gz", digits(0, 3))
    with pytest.raises(InputError, match=f"{more} and {twice} both hold field 'image' of one set; leave one out"):
        open_source("idx", tmp_path)


def test_a_folder_without_idx_files_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    with pytest.raises(InputError, match=r"expected files named <prefix>images-idx3-ubyte.*found only .*a.csv"):
        open_source("idx", tmp_path)
