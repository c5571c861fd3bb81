"""`reshard`, `export`, `verify` and `diff` on HDFS: what they give is, to the byte, what they give on a local disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from typer.testing import CliRunner

import jobs.export
import jobs.reshard
import jobs.verify
from shardwright.cli import app as verbs
from shardwright.config import Config
from shardwright.errors import StorageError
from shardwright.format import layout
from shardwright.format.manifest import Manifest
from shardwright.reader.diff import diff
from shardwright.reader.verify import verify as verify_here
from shardwright.spark import prepare
from shardwright.spark.export import export
from shardwright.spark.reshard import ReshardOptions, open_reshard, reshard
from shardwright.spark.verify import verify
from shardwright.stages.standardise import collector
from shardwright.storage import WritableStorage, open_writable
from tests.cluster.hdfs import Hdfs
from tests.datasets import digits, publish

PART = "v000001/train/shard=00001/part-00000.parquet"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with pads, several parts a shard, and rejected samples."""
    root = tmp_path_factory.mktemp("jobs") / "d"
    publish(root, {"train": digits(402), "test": digits(81, 1)}, shards=4, remainder="pad", quarantined=2)
    return root


@pytest.fixture(scope="module")
def remote(hdfs: Hdfs, spark: SparkSession, local: Path) -> str:
    """The same dataset on HDFS, for tests that only read it."""
    return put(local, hdfs.new_folder())


@pytest.fixture
def damaged(hdfs: Hdfs, local: Path) -> WritableStorage:
    """The same once more, to be damaged."""
    return open_writable(put(local, hdfs.new_folder()))


def put(root: Path, url: str) -> str:
    storage = open_writable(url)
    storage.make_directory()
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_dir():
            storage.make_directory(name)
        else:
            storage.write(name, path.read_bytes())
    return url


def contents(url: str, name: str = "") -> dict[str, bytes]:
    storage = open_writable(url)
    root = storage.child(name) if name else storage
    return {file: root.read(file) for file in root.files() if file != layout.MANIFEST}


def manifest(url: str, version: str = "v000001") -> Manifest:
    return Manifest.parse(open_writable(url).read(f"{version}/{layout.MANIFEST}"), where=url)


def cut(sources: list[str], output: str, **options: object) -> Manifest:
    work = open_reshard(sources, ReshardOptions.model_validate({"shards": 7, "remainder": "spread", **options}))
    done = reshard(work, output, quiet=True)
    assert verify_here(output, collector=collector).problems == []
    assert sorted(open_writable(output).names()) == ["_LATEST", *(f"v{n:06d}" for n in range(1, int(done.version[1:]) + 1))]
    return done.manifest


@pytest.mark.parametrize("options", [{}, {"seed": 3, "where": "label < 50", "splits": ("test",)}])
def test_reshard_is_as_on_a_local_disk(
    hdfs: Hdfs, remote: str, local: Path, tmp_path: Path, options: dict[str, object]
) -> None:
    here, there = str(tmp_path / "here"), hdfs.new_folder()
    expected, found = cut([str(local)], here, **options), cut([remote], there, **options)
    assert found.content_id == expected.content_id
    assert contents(there, "v000001") == contents(here, "v000001")
    assert [entry.path for entry in found.lineage.inputs] == [f"{remote}/v000001"]


def test_a_source_gets_a_new_version(damaged: WritableStorage, local: Path, tmp_path: Path) -> None:
    job = CliRunner().invoke(
        jobs.reshard.app, [damaged.url, "--output", f"{damaged.url}/", "--shards", "2", "--remainder", "drop", "--quiet"]
    )
    assert job.exit_code == 0, job.output
    assert f"{damaged.url} v000002: a new version after v000001" in job.stdout
    expected = cut([str(local)], str(tmp_path / "d"), shards=2, remainder="drop")
    assert manifest(damaged.url, "v000002").content_id == expected.content_id


def test_a_local_and_a_remote_dataset_are_merged(hdfs: Hdfs, remote: str, local: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    publish(other, {"train": digits(77, 5)}, shards=4, remainder="pad")
    expected = cut([str(local), str(other)], str(tmp_path / "here"))
    there = hdfs.new_folder()
    assert cut([remote, str(other)], there).content_id == expected.content_id
    assert contents(there, "v000001") == contents(str(tmp_path / "here"), "v000001")


def test_samples_that_wait_are_taken_along(hdfs: Hdfs, remote: str, local: Path, tmp_path: Path) -> None:
    waiting = hdfs.new_folder()
    assert cut([remote], waiting, shards=7, remainder="carry").lineage.counts.carried == 402 % 7 + 81 % 7
    assert cut([waiting], hdfs.new_folder()).content_id == cut([str(local)], str(tmp_path / "d")).content_id


def test_export_is_as_on_a_local_disk(hdfs: Hdfs, remote: str, local: Path, tmp_path: Path) -> None:
    """The same bytes; read back they are the same samples; and nothing lies beside them."""
    directory = open_writable(hdfs.new_folder())
    out = f"{directory.url}/exported"
    export(str(local), str(tmp_path / "exported"), quiet=True)
    done = export(remote, out, quiet=True)
    assert (done.url, done.new) == (out, True)
    assert contents(out) == contents(str(tmp_path / "exported"))
    assert directory.names() == ["exported"]
    job = CliRunner().invoke(jobs.export.app, [remote, "--output", out, "--quiet"])
    assert (job.exit_code, "nothing to do" in job.stdout, f"{out}/train/*.tfrecord*" in job.stdout) == (0, True, True)
    with pytest.raises(StorageError, match=f"expected a directory that does not exist yet, found {out}: remove it, or"):
        export(remote, out, compression="none", quiet=True)
    config = {
        "name": "back", "read": {"format": "tfrecord", "path": f"{out}/train"}, "shard": {"count": 3, "remainder": "spread"},
        "publish": {"path": f"{directory.url}/back"},
    }  # fmt: skip
    back = prepare(Config.model_validate(config), quiet=True).manifest.content
    assert back.dataset_schema == manifest(remote).content.dataset_schema
    assert back.splits["train"].samples == 402
    assert verify_here(f"{directory.url}/back", collector=collector).problems == []


def test_a_killed_export_goes_on(hdfs: Hdfs, remote: str) -> None:
    directory = open_writable(hdfs.new_folder())
    about = export(remote, f"{directory.url}/whole", splits=["test"], quiet=True).about
    partial = directory.child(f"again.partial-{about.attempt}")
    for name in ("test", "_temporary"):
        partial.make_directory(name)
    finished = "test/shard-00002-of-00004.tfrecord.gz"
    partial.write(finished, directory.read(f"whole/{finished}"))
    partial.write("_temporary/0123", b"half")
    directory.child("again.partial-other").make_directory("train")
    written = {file.name: file.modified_ns for file in partial.listing()}[finished]
    export(remote, f"{directory.url}/again", splits=["test"], quiet=True)
    assert contents(f"{directory.url}/again") == contents(f"{directory.url}/whole")
    assert {file.name: file.modified_ns for file in directory.listing("again")}[finished] == written
    assert directory.names() == ["again", "whole"]


def test_export_from_hdfs_to_a_local_disk_and_back(hdfs: Hdfs, remote: str, local: Path, tmp_path: Path) -> None:
    export(remote, str(tmp_path / "here"), splits=["test"], compression="none", quiet=True)
    there = f"{hdfs.new_folder()}/there"
    export(str(local), there, splits=["test"], compression="none", quiet=True)
    assert contents(there) == contents(str(tmp_path / "here"))


def test_verify_finds_nothing_where_nothing_is_wrong(remote: str, local: Path) -> None:
    found = verify(remote, quiet=True)
    assert (found.problems, found.statistics, found.samples) == ([], True, 404 + 84)
    assert found == verify_here(remote, collector=collector)
    here = verify_here(str(local))
    assert (found.files, found.bytes) == (here.files, here.bytes)


def test_verify_finds_what_is_wrong(damaged: WritableStorage) -> None:
    """A flipped byte, a short file, a missing one, and files that nobody published; by the job and the verb alike."""
    flipped = bytearray(damaged.read(PART))
    flipped[300] ^= 1
    damaged.write(PART, bytes(flipped))
    side = "v000001/train/shard=00002/_petastorm"
    damaged.write(side, damaged.read(side)[:-7])
    damaged.delete("v000001/test/shard=00003/part-00000.parquet")
    damaged.write("v000001/train/shard=00001/.part-00000.parquet.0123", b"")
    damaged.make_directory("v000001/train/deep/er")
    damaged.write("v000001/train/deep/er/notes.txt", b"?")
    found = verify(damaged.url, quiet=True)
    assert not found.statistics
    assert found.problems == verify_here(damaged.url).problems
    said = "\n".join(found.problems)
    for expected in (
        "train/shard=00001/part-00000.parquet: expected sha256 ", "train/shard=00002/_petastorm: expected ",
        "test/shard=00003/part-00000.parquet: missing",
        "train/shard=00001/.part-00000.parquet.0123: nobody published this file",
        "train/deep/er/notes.txt: nobody published this file",
    ):  # fmt: skip
        assert expected in said
    assert len(found.problems) == 5
    for arguments, command in ((["verify", damaged.url], verbs), ([damaged.url, "--quiet"], jobs.verify.app)):
        result = CliRunner().invoke(command, arguments)
        assert (result.exit_code, f"{damaged.url} v000001: 5 problems; " in result.stdout) == (1, True)


def test_a_damaged_part_stops_reshard_and_export(hdfs: Hdfs, damaged: WritableStorage) -> None:
    damaged.write(PART, damaged.read(PART)[:-10])
    directory = open_writable(hdfs.new_folder())
    for job in (
        lambda: cut([damaged.url], f"{directory.url}/d"),
        lambda: export(damaged.url, f"{directory.url}/out", quiet=True),
    ):
        with pytest.raises(Exception, match=rf"{damaged.url}/{PART}: expected \d+ bytes, found \d+; copy the file again"):
            job()
    assert not any(name.startswith("v0") or name == "out" for name in [*directory.names(), *directory.names("d")])


def test_diff(hdfs: Hdfs, remote: str, local: Path) -> None:
    assert diff(remote, str(local)).same
    fewer = hdfs.new_folder()
    cut([remote], fewer, where="label < 300")
    samples = diff(remote, fewer, values=True).samples
    assert samples is not None
    assert (samples.before, samples.after, samples.removed, samples.changed) == (402 + 81, 300 + 81, 102, 0)
