"""A dataset prepared on HDFS: byte for byte the one of a local disk, whatever the job has to do for it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from shardwright.config import Config
from shardwright.errors import StorageError
from shardwright.format.manifest import Manifest
from shardwright.reader.verify import verify
from shardwright.spark import pipeline, prepare, write_dataset
from shardwright.spark.index import Renumber
from shardwright.stages.publish import Published
from shardwright.storage import HdfsStorage, open_writable
from tests.cluster.hdfs import Hdfs
from tests.spark.mnist import config, digits, write_digits
from tests.spark.test_order import sensor_log

SENSORS: dict[str, Any] = {"standardise": {}, "split": {}, "shard": {"count": 3}}
STRATIFIED = {"fractions": {"train": 0.8, "validation": 0.2}, "stratify": "label", "seed": 2}
CASES: dict[str, dict[str, Any]] = {
    "equal samples": SENSORS,
    "stratified, carried": SENSORS | {"split": STRATIFIED, "shard": {"count": 7, "remainder": "carry"}},
    "in order, padded": SENSORS
    | {"shard": {"count": 7, "order": "keep", "order_by": ["group", "time"], "remainder": "pad", "row_group_bytes": 2000}},
    "standardised at write": SENSORS | {"standardise": {"features": {"value": "mean_std"}}, "shard": {"count": 4}},
    "rejected, several parts": SENSORS
    | {"clean": {"range": {"value": (-2.5, 2.5)}, "max_rejected": 0.5}, "shard": {"count": 2, "part_bytes": 4000}},
}


@pytest.fixture
def folder(hdfs: Hdfs, spark: SparkSession) -> str:
    """A URL of the test's own; Spark starts after HDFS, and so knows its configuration."""
    return hdfs.new_folder("prepare")


@pytest.fixture(scope="module")
def sensors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sensor_log(tmp_path_factory.mktemp("sensors") / "in", 3)


def job(source: Path, output: Path | str, *, task_bytes: int = 2**27, **tables: Any) -> Config:
    read = {"format": "parquet", "path": str(source), "task_bytes": task_bytes}
    return config(source, Path("unused"), **{"read": read} | tables | {"publish": {"path": str(output)}})


def sums(published: Published) -> dict[str, str]:
    """sha256 of every file of the version that has to be the same for the same samples."""
    version = open_writable(published.url).child(published.version)
    names = (name for name in version.files() if name != "_manifest.json" and not name.startswith("_quarantine"))
    return {name: hashlib.sha256(version.read(name)).hexdigest() for name in names}


def told(manifest: Manifest) -> tuple[Any, ...]:
    return manifest.content_id, manifest.lineage.counts, manifest.lineage.configuration_sha256, manifest.lineage.carried


def check_same(published: Published, local: Published) -> None:
    assert told(published.manifest) == told(local.manifest)
    assert sums(published) == sums(local)
    storage = open_writable(published.url)
    assert storage.names() == ["_LATEST", *sorted({"v000001", published.version})]  # neither lock nor staging
    quarantined = [name for name in storage.files(published.version) if name.startswith("_quarantine")]
    assert bool(quarantined) == bool(published.manifest.lineage.counts.quarantined)


@pytest.mark.parametrize("case", CASES)
def test_as_on_a_local_disk(folder: str, sensors: Path, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    numbered = watch_numbering(monkeypatch)
    local = prepare(job(sensors, tmp_path / "local", **CASES[case]), quiet=True)
    published = prepare(job(sensors, f"{folder}/x", **CASES[case]), quiet=True)
    check_same(published, local)
    assert published.url == f"{folder}/x"
    assert len(numbered) == 2  # some samples are equal


def watch_numbering(monkeypatch: pytest.MonkeyPatch) -> list[Renumber]:
    seen = []

    def watched(*args: Any, **kwargs: Any) -> Renumber:
        seen.append(Renumber(*args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(pipeline, "Renumber", watched)
    return seen


def test_however_the_input_is_cut(folder: str, sensors: Path, tmp_path: Path) -> None:
    case = CASES["stratified, carried"]
    local = prepare(job(sensors, tmp_path / "local", **case), quiet=True)
    check_same(prepare(job(sensors, f"{folder}/x", task_bytes=1, **case), quiet=True), local)


def test_samples_taken_from_an_input_of_this_machine(folder: str, tmp_path: Path) -> None:
    source = write_digits(tmp_path / "in", np.array_split(np.arange(500), 2), "ab")
    local = prepare(config(source, tmp_path / "local"), quiet=True)
    check_same(prepare(config(source, tmp_path, publish={"path": f"{folder}/x"}), quiet=True), local)


def test_a_frame(folder: str, spark: SparkSession, tmp_path: Path) -> None:
    images, labels = digits()
    rows = [(label, bytes(image.tobytes())) for label, image in zip(labels[:300].tolist(), images[:300], strict=True)]
    frame = spark.createDataFrame(rows, "label int, image binary").repartition(3)
    local = write_dataset(frame, str(tmp_path / "local"), shards=4, quiet=True)
    published = write_dataset(frame, f"{folder}/x", shards=4, quiet=True)
    check_same(published, local)
    assert not verify(published.url).problems


def test_again_and_a_new_version(folder: str, sensors: Path) -> None:
    first = prepare(job(sensors, f"{folder}/x", **SENSORS), quiet=True)
    before = sums(first)
    again = prepare(job(sensors, f"{folder}/x", **SENSORS), quiet=True)
    assert (again.version, again.note) == ("v000001", "nothing to do: same configuration, same inputs")
    second = prepare(job(sensors, f"{folder}/x", **SENSORS | {"shard": {"count": 5}}), new_version=True, quiet=True)
    assert (second.version, second.manifest.lineage.parent) == ("v000002", "v000001")
    assert sums(first) == before
    for version in (first.version, second.version):
        assert not verify(f"{folder}/x", version=version).problems


class _KilledError(Exception):
    """In place of a kill: what is staged stays as it is."""


def break_at_rename(number: int) -> Callable[[HdfsStorage, str, str], None]:
    rename, left = HdfsStorage.rename, [number]

    def breaking(self: HdfsStorage, old: str, new: str) -> None:
        if old.startswith("parts/"):
            left[0] -= 1
            if left[0] < 0:
                raise _KilledError
        rename(self, old, new)

    return breaking


@pytest.mark.parametrize("step", ["_collect", "_carry", "_write", "while files are moved"])
def test_a_broken_run_is_continued(
    folder: str, sensors: Path, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES["stratified, carried"]
    local = prepare(job(sensors, tmp_path / "local", **case), quiet=True)
    with monkeypatch.context() as broken:
        if step.startswith("_"):
            broken.setattr(pipeline._Job, step, lambda *_: (_ for _ in ()).throw(_KilledError))
        else:
            broken.setattr(HdfsStorage, "rename", break_at_rename(3))
        with pytest.raises(_KilledError):
            prepare(job(sensors, f"{folder}/x", **case), quiet=True)
    storage = open_writable(f"{folder}/x")
    assert storage.names() == ["_staging"]
    published = prepare(job(sensors, f"{folder}/x", **case), quiet=True)
    check_same(published, local)
    after = {
        "_collect": (),
        "_carry": ("read",),
        "_write": ("read", "carry"),
        "while files are moved": ("read", "carry", "write"),
    }
    done = {*after[step]}
    assert not done & set(published.manifest.provenance.seconds)


def test_a_folder_removed_under_the_job(folder: str, sensors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What passes left is gone, the lock is not: nothing is published, and the next run begins anew."""
    url = f"{folder}/x"

    def remove(*args: Any) -> Any:
        open_writable(url).child("_staging").delete(open_writable(url).names("_staging")[0] + "/parts")
        return publish(*args)

    publish = pipeline._Job._publish
    with monkeypatch.context() as removing:
        removing.setattr(pipeline._Job, "_publish", remove)
        with pytest.raises(StorageError, match=r"expected the files that this job wrote there, .* gone, like .*part-"):
            prepare(job(sensors, url, **SENSORS), quiet=True)
    assert open_writable(url).names() == []
    assert prepare(job(sensors, url, **SENSORS), quiet=True).version == "v000001"
