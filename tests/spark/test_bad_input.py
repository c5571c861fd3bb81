"""Bad input, each with a clear error that is read here, and nothing lost."""

from __future__ import annotations

import gzip
import json
import os
import runpy
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from shardwright import errors
from shardwright.cli import run as run_command
from shardwright.schema import Field, Schema
from shardwright.spark import prepare, write_dataset
from shardwright.stages.clean import CleanOptions
from shardwright.stages.shard import ShardPlan, plan_shards
from shardwright.storage import LocalStorage, Lock
from tests.conftest import ROOT, SAMPLES
from tests.spark.mnist import MNIST, config, digits, tree, write_digits, write_idx

pytestmark = pytest.mark.usefixtures("spark")


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(errors.InputNotFoundError, match=r"nowhere"):
        prepare(config(tmp_path / "nowhere", tmp_path / "out"), quiet=True)
    assert not (tmp_path / "out").exists()


def test_empty_input(tmp_path: Path) -> None:
    source = write_digits(tmp_path / "in", [np.arange(0)], ["none"])
    with pytest.raises(errors.InputError, match=r"none-images-idx3-ubyte: expected samples, found a header that promises none"):
        prepare(config(source, tmp_path / "out"), quiet=True)


def _cut_gzip(folder: Path) -> None:
    path = folder / "images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-4000])


def _lie(folder: Path) -> None:
    path = folder / "images-idx3-ubyte.gz"
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[4:8] = (2001).to_bytes(4, "big")
    path.write_bytes(gzip.compress(bytes(data)))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut_gzip, r"images-idx3-ubyte\.gz.*Truncated compressed stream\)$"),
        (_lie, r"expected 2001 values as in .*images-idx3-ubyte\.gz, found 2000"),
    ],
)
def test_damaged_idx(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    source = tmp_path / "in"
    shutil.copytree(MNIST, source)
    damage(source)
    with pytest.raises(errors.InputError, match=message):
        prepare(config(source, tmp_path / "out"), quiet=True)


def test_an_input_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_digits(tmp_path / "in", [np.arange(500)], ["a"])
    monkeypatch.setattr("shardwright.spark.pipeline.plan_shards", _touching(source / "a-images-idx3-ubyte"))
    with pytest.raises(errors.InputError, match=r"a-images-idx3-ubyte: was changed while it was read; run the job again"):
        prepare(config(source, tmp_path / "out"), quiet=True)


def _touching(path: Path) -> Callable[..., ShardPlan]:
    def plan(*arguments: Any) -> ShardPlan:
        os.utime(path)
        return plan_shards(*arguments)

    return plan


def test_mixed_shapes_of_files(tmp_path: Path) -> None:
    source = write_digits(tmp_path / "in", [np.arange(100)], ["a"])
    write_idx(source / "b-images-idx3-ubyte", np.zeros((10, 27, 28), np.uint8))
    write_idx(source / "b-labels-idx1-ubyte", np.zeros(10, np.uint8))
    with pytest.raises(
        errors.InputError, match=r"b-images-\S+: expected uint8 \(28, 28\) as in \S+a-images-\S+, found uint8 \(27, 28\)"
    ):
        prepare(config(source, tmp_path / "out"), quiet=True)


def test_mixed_shapes_of_samples_are_quarantined(spark: SparkSession, tmp_path: Path) -> None:
    images, labels = digits()
    rows = [(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)]
    rows[17] = (bytes(27 * 28), 3)
    schema = Schema(fields=(Field(name="image", dtype="uint8", shape=(28, 28)), Field(name="label", dtype="uint8")))
    frame = spark.createDataFrame(rows, "image binary, label int")
    result = write_dataset(frame, str(tmp_path / "out"), shards=4, schema=schema, quiet=True)
    counts = result.manifest.lineage.counts
    assert (counts.read, counts.quarantined, counts.dropped, counts.published) == (2000, 1, 3, 1996)
    (row,) = pq.read_table(tmp_path / "out/v000001/_quarantine").to_pylist()
    assert (row["stage"], row["field"], row["sample_image"]) == ("clean", "image", bytes(27 * 28))
    assert "784" in row["reason"]
    assert "756" in row["reason"]


def test_a_text_file_named_jpg(tmp_path: Path) -> None:
    shutil.copytree(SAMPLES / "photos", tmp_path / "in")
    bad = next(path for path in (tmp_path / "in").iterdir() if path.is_dir()) / "bad.jpg"
    bad.write_text("hello, I am no picture")
    tables = {"read": {"format": "images", "path": str(tmp_path / "in")}, "split": {}, "standardise": {}, "shard": {"count": 2}}
    with pytest.raises(errors.TooManyRejectedError, match=r"1 of 8 samples were rejected.*bad\.jpg.*hello"):
        prepare(config("", tmp_path / "out", **tables), quiet=True)
    result = prepare(config("", tmp_path / "out", clean={"max_rejected": 0.2}, **tables), quiet=True)
    (row,) = pq.read_table(tmp_path / "out/v000001/_quarantine").to_pylist()
    assert row["source"].endswith("bad.jpg")
    assert row["sample_image"] == bad.read_bytes()  # nothing is lost
    assert result.manifest.lineage.counts.quarantined == 1


def test_a_split_with_fewer_samples_than_shards(tmp_path: Path) -> None:
    message = (
        r"expected at least as many samples as shards in every split, but 'validation' has 196 for 300; lower shard\.count"
    )
    with pytest.raises(errors.BalanceError, match=message):
        prepare(config(MNIST, tmp_path / "out", shard={"count": 300}), quiet=True)


def test_one_key_with_different_contents(spark: SparkSession, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2, 2, 3], "x": [0.1, 0.2, 0.25, 0.3]}), tmp_path / "in.parquet")
    read = {"format": "parquet", "path": str(tmp_path / "in.parquet"), "key": ["id"]}
    tables = {"split": {}, "standardise": {}, "shard": {"count": 2}}
    with pytest.raises(errors.KeyConflictError, match=r"different contents: .*in\.parquet.*duplicate_keys"):
        prepare(config("", tmp_path / "out", read=read, **tables), quiet=True)
    kept = prepare(config("", tmp_path / "out", read={**read, "duplicate_keys": "keep"}, **tables), quiet=True)
    assert kept.manifest.lineage.counts.published == 4


def test_another_configuration_on_the_same_dataset(tmp_path: Path) -> None:
    prepare(config(MNIST, tmp_path / "out"), quiet=True)
    before = tree(tmp_path / "out")
    with pytest.raises(errors.DatasetConflictError, match=r"another configuration.*--new-version"):
        prepare(config(MNIST, tmp_path / "out", shard={"count": 5}), quiet=True)
    assert tree(tmp_path / "out") == before
    again = prepare(config(MNIST, tmp_path / "out"), quiet=True)
    assert (again.new, again.version) == (False, "v000001")
    assert "nothing to do" in again.note


def test_other_inputs_give_a_new_version(tmp_path: Path) -> None:
    source = write_digits(tmp_path / "in", [np.arange(500)], ["a"])
    prepare(config(source, tmp_path / "out"), quiet=True)
    images, labels = digits()
    write_idx(source / "b-images-idx3-ubyte", images[500:600])
    write_idx(source / "b-labels-idx1-ubyte", labels[500:600])
    again = prepare(config(source, tmp_path / "out"), quiet=True)
    assert (again.new, again.version) == (True, "v000002")
    assert again.note == "a new version after v000001"


def test_a_second_prepare_while_one_runs(tmp_path: Path) -> None:
    with (
        Lock(LocalStorage(tmp_path / "out")),
        pytest.raises(errors.LockedError, match=r"another publish holds .*: process \d+"),
    ):
        prepare(config(MNIST, tmp_path / "out"), quiet=True)


def test_the_command_leaves_with_a_code_of_its_own_while_another_one_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = runpy.run_path(str(ROOT / "jobs/prepare.py"))["app"]
    words = [
        ROOT / "conf/datasets/mnist.toml",
        "--set",
        f"read.path={MNIST}",
        "--output",
        tmp_path / "out",
        "--quiet",
        "--json",
    ]
    with Lock(LocalStorage(tmp_path / "out")), pytest.raises(SystemExit) as ended:
        run_command(app, [str(word) for word in words], name="prepare.py")
    assert ended.value.code == 3
    said = capsys.readouterr()
    assert said.err.startswith("error: another publish holds")
    found = json.loads(said.out)
    assert (found["status"], found["exit_code"], found["error"]) == ("failed", 3, "LockedError")
    assert found["message"].startswith("another publish holds")


def test_whether_there_is_something_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_digits(tmp_path / "in", [np.arange(300)], ["a"])
    app = runpy.run_path(str(ROOT / "jobs/prepare.py"))["app"]
    words = [ROOT / "conf/datasets/mnist.toml", "--set", f"read.path={source}", "--output", tmp_path / "out"]

    def call(*more: str) -> tuple[Any, str]:
        with pytest.raises(SystemExit) as ended:
            run_command(app, [str(word) for word in (*words, *more)], name="prepare.py")
        return ended.value.code, capsys.readouterr().out

    assert call("--check") == (0, f"{tmp_path / 'out'}: new input, or another configuration\n")
    assert not (tmp_path / "out").exists()
    assert call("--quiet")[0] in (None, 0)
    assert json.loads(call("--check", "--json")[1]) == {"status": "unchanged", "exit_code": 4, "url": str(tmp_path / "out")}
    assert call("--check")[0] == 4
    images, labels = digits()
    write_idx(source / "b-images-idx3-ubyte", images[300:400])
    write_idx(source / "b-labels-idx1-ubyte", labels[300:400])
    assert json.loads(call("--check", "--json")[1])["status"] == "due"


def test_a_second_prepare_waits_and_finds_nothing_left_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shardwright.storage.lock.WAIT_SECONDS", 0.1)
    notes: list[str] = []
    threads = [
        threading.Thread(
            target=lambda: notes.append(prepare(config(MNIST, tmp_path / "out"), wait_seconds=120, quiet=True).note)
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(notes) == ["nothing to do: same configuration, same inputs", "the first version"]


def test_two_prepares_at_once_publish_one_version(tmp_path: Path) -> None:
    outcomes: list[str] = []

    def run() -> None:
        try:
            outcomes.append(prepare(config(MNIST, tmp_path / "out"), quiet=True).version)
        except errors.LockedError:
            outcomes.append("locked")

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["locked", "v000001"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["_LATEST", "v000001"]


def test_a_field_named_shard(tmp_path: Path) -> None:
    pq.write_table(pa.table({"shard": [1, 2], "x": [1, 2]}), tmp_path / "in.parquet")
    read = {"format": "parquet", "path": str(tmp_path / "in.parquet")}
    with pytest.raises(errors.SchemaError, match=r"'shard' can't be a field: .*read\.rename = { column_shard = \"shard\" }"):
        prepare(config("", tmp_path / "out", read=read, split={}, standardise={}), quiet=True)


def test_an_unknown_field_in_the_configuration(tmp_path: Path) -> None:
    tables = {"standardise": {"fields": ["imgae"]}, "compress": {"fields": {"lable": "zstd"}}}
    with pytest.raises(errors.ConfigError, match=r"(?s)2 problems.*no field 'imgae'; did you mean 'image'.*'lable'"):
        prepare(config(MNIST, tmp_path / "out", **tables), quiet=True)


def test_too_many_rejected_says_why(tmp_path: Path) -> None:
    clean = CleanOptions(range={"label": (0, 4)}).model_dump()
    with pytest.raises(errors.TooManyRejectedError, match=r"max_rejected allows 1\.00%: .*images-idx3-ubyte.gz#\d+.*label"):
        prepare(config(MNIST, tmp_path / "out", clean=clean), quiet=True)


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs Linux namespaces, for a small file system of its own")
def test_no_space_left(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    job = f"./spark-submit.sh --master 'local[2]' jobs/prepare.py conf/datasets/mnist.toml --output {small}/mnist"
    inside = f"mount -t tmpfs -o size=2m tmpfs {small} && {job}; code=$?; ls {small}/mnist; exit $code"
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", inside],
        cwd=ROOT, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    told = done.stdout + done.stderr
    assert done.returncode == 1, told
    assert "no space left while writing" in told
    assert "nothing was published; free space and run the same command again" in told
    assert "v000001" not in told
