"""A publish without Spark: all at once or not at all, again without harm, and nothing left lying about."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from shardwright.errors import CorruptError, DatasetConflictError, LockedError, StorageError
from shardwright.format.layout import LATEST, LOCK, MANIFEST, STAGING
from shardwright.format.manifest import (
    Content,
    Counts,
    FileDigest,
    Lineage,
    Manifest,
    Plan,
    Provenance,
    Shard,
    Split,
    Statistics,
)
from shardwright.format.versions import published_versions, read_latest
from shardwright.schema import Field, Schema
from shardwright.stages.publish import Publication, Published, check_configuration, newest_version
from shardwright.storage import LocalStorage, WritableStorage


def manifest_of(samples: int, configuration: str = "c" * 64) -> Manifest:
    file = FileDigest(name="train/x", bytes=1, sha256="0" * 64)
    totals = Split(samples=samples, padded=0, shards=(Shard(samples=samples, parts=1, bytes=1),), common_metadata=file)
    return Manifest.seal(
        Content(
            dataset_schema=Schema(fields=(Field(name="x", dtype="int8"),)), splits={"train": totals}, index=file,
            statistics=Statistics(split="train", fields={}), transforms=(),
            plan=Plan(shards={"train": 1}, remainder="drop", seed=0, block_samples=1, window_blocks=1),
        ),
        Lineage(
            inputs=(), parent=None,
            counts=Counts(read=samples, padded=0, published=samples, quarantined=0, dropped=0),
            configuration_sha256=configuration, inputs_sha256=None, pipeline_version=1,
        ),
        Provenance(created="now", user="me", host="here", software={}, configuration={}, seconds={}),
    )  # fmt: skip


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "dataset")


def files_of(storage: LocalStorage) -> set[str]:
    return {path.relative_to(storage.path).as_posix() for path in storage.path.rglob("*") if path.is_file()}


def stage(publication: Publication, *names: str) -> None:
    publication.attempt.make_directory("parts")
    for name in names:
        publication.attempt.write(f"parts/{name}", name.encode())


def publish(storage: WritableStorage, manifest: Manifest, attempt: str = "one") -> Published:
    with Publication(storage, attempt) as publication:
        stage(publication, "a", "stray")
        return publication.publish({"train/shard=00000/p": "parts/a", "index": b"i"}, manifest, "said")


def test_publish(storage: LocalStorage) -> None:
    manifest = manifest_of(3)
    published = publish(storage, manifest)
    assert (published.version, published.new, published.note) == ("v000001", True, "said")
    assert files_of(storage) == {LATEST, f"v000001/{MANIFEST}", "v000001/index", "v000001/train/shard=00000/p"}
    assert storage.names() == [LATEST, "v000001"]  # neither lock nor staging
    assert storage.read("v000001/train/shard=00000/p") == b"a"
    assert json.loads(storage.read(LATEST)) == {"content_id": manifest.content_id, "version": "v000001"}


def test_versions_count_up_past_what_is_there(storage: LocalStorage) -> None:
    publish(storage, manifest_of(3))
    storage.make_directory("v000007")  # without a manifest: no version, but its number is taken
    assert publish(storage, manifest_of(4)).version == "v000008"
    assert published_versions(storage) == ["v000001", "v000008"]
    assert read_latest(storage) == "v000008"
    assert storage.read("v000001/index") == b"i"


def test_newest(storage: LocalStorage) -> None:
    with Publication(storage, "x") as publication:
        assert newest_version(publication.storage) is None
    publish(storage, manifest_of(3))
    publish(storage, manifest_of(4))
    with Publication(storage, "x") as publication:
        newest = newest_version(publication.storage)
    assert newest is not None
    assert (newest.version, newest.new, newest.manifest) == ("v000002", False, manifest_of(4))


def test_a_newest_version_that_was_edited_is_not_built_upon(storage: LocalStorage) -> None:
    publish(storage, manifest_of(3))
    text = storage.read(f"v000001/{MANIFEST}").replace(b'"user":"me"', b'"user":"you"')
    storage.write(f"v000001/{MANIFEST}", text)
    with Publication(storage, "x") as publication, pytest.raises(CorruptError, match="changed after publishing"):
        newest_version(publication.storage)


@pytest.mark.parametrize("latest", [None, "v000001"])
def test_adopt_writes_what_is_behind_and_clears_up(storage: LocalStorage, latest: str | None) -> None:
    first = publish(storage, manifest_of(3))
    second = publish(storage, manifest_of(4))
    if latest is None:
        storage.delete(LATEST)
    else:
        storage.write(LATEST, json.dumps({"version": latest, "content_id": first.manifest.content_id}).encode())
    with Publication(storage, "two") as publication:
        stage(publication, "left over")
        newest = newest_version(publication.storage)
        assert newest is not None
        adopted = publication.adopt(newest, "nothing to do")
    assert (adopted.version, adopted.note, adopted.new) == ("v000002", "nothing to do", False)
    assert read_latest(storage) == "v000002"
    assert json.loads(storage.read(LATEST))["content_id"] == second.manifest.content_id
    assert STAGING not in storage.names()


def test_a_finished_step_is_not_done_again(storage: LocalStorage) -> None:
    calls: list[str] = []

    def work(result: Any) -> Any:
        calls.append("done")
        return result

    storage.make_directory(f"{STAGING}/same")
    for _ in range(2):  # the second one is the run after a kill
        with Publication(storage, "same") as publication:
            assert publication.once("read", lambda: work({"a": [1, None, "é"]})) == {"a": [1, None, "é"]}
            assert publication.once("number", lambda: work(None)) is None
    assert calls == ["done", "done"]
    with Publication(storage, "other") as publication:
        stage(publication)
        publication.once("read", lambda: work(1))
    assert len(calls) == 3


def test_a_step_that_fails_leaves_no_result(storage: LocalStorage) -> None:
    with Publication(storage, "same") as publication:
        stage(publication)
        with pytest.raises(ZeroDivisionError):
            publication.once("read", lambda: 1 // 0)
        assert publication.once("read", lambda: 5) == 5


def test_going_on_where_a_run_was_killed_while_files_moved(storage: LocalStorage) -> None:
    files: dict[str, str | bytes] = {f"train/{name}": f"parts/{name}" for name in "abc"}
    with Publication(storage, "same") as publication:
        stage(publication, "a", "b", "c")
        publication.attempt.make_directory("version/train")
        publication.attempt.rename("parts/a", "version/train/a")
        publication.attempt.write("version/train/half", b"")
        publication.attempt.write(f"version/{MANIFEST}", b"of another try")
    with Publication(storage, "same") as publication:
        publication.publish(files, manifest_of(3), "")
    assert files_of(storage) == {LATEST, f"v000001/{MANIFEST}", "v000001/train/a", "v000001/train/b", "v000001/train/c"}
    assert storage.read("v000001/train/a") == b"a"


def test_a_staged_file_that_is_gone_publishes_nothing(storage: LocalStorage) -> None:
    with Publication(storage, "x") as publication:
        publication.attempt.make_directory()
        publication.once("write", lambda: ["parts/a"])
        with pytest.raises(
            StorageError, match=r"_staging/x: expected the files .* gone, like train/a: .*Nothing was published"
        ):
            publication.publish({"train/a": "parts/a"}, manifest_of(3), "")
        publication.attempt.make_directory()
        assert publication.once("write", lambda: "anew") == "anew"  # what a finished pass left is worth nothing now
    assert published_versions(storage) == []
    assert LATEST not in storage.names()


def test_a_lost_lock_publishes_nothing(storage: LocalStorage) -> None:
    with Publication(storage, "x") as publication:
        stage(publication, "a")
        storage.write(LOCK, b'{"pid": 1, "host": "elsewhere"}')
        with pytest.raises(LockedError, match=r"lost the lock of .*process 1 on elsewhere.*nothing was published"):
            publication.publish({"train/a": "parts/a"}, manifest_of(3), "")
    assert published_versions(storage) == []
    assert storage.read(LOCK) == b'{"pid": 1, "host": "elsewhere"}'


def test_two_at_once(storage: LocalStorage) -> None:
    with Publication(storage, "one"), pytest.raises(LockedError, match="another publish holds"):
        Publication(storage, "two").__enter__()


def test_names_that_lead_out_of_the_version(storage: LocalStorage) -> None:
    with Publication(storage, "x") as publication, pytest.raises(StorageError, match=r"without '..'"):
        publication.publish({"../../../a": b"x"}, manifest_of(3), "")


def test_old_attempts_of_others_are_swept(storage: LocalStorage) -> None:
    ages = {"old": 25, "mine": 25, "young": 23, ".old.aside": 25}
    for name, hours in ages.items():
        storage.make_directory(f"{STAGING}/{name}/data")
        then = time.time() - hours * 3600
        os.utime(storage.local_path(f"{STAGING}/{name}"), (then, then))
    with Publication(storage, "mine"):
        assert storage.names(STAGING) == ["mine", "young"]


def test_an_expired_version_is_swept_as_expire_would_have_removed_it(tmp_path: Path) -> None:
    """The one killed before it brought it to the trash; a renamed directory is as old as what was renamed."""

    class WithTrash(LocalStorage):
        def discard(self, name: str) -> None:
            self.rename(name, "trash")

    storage = WithTrash(tmp_path / "dataset")
    storage.make_directory(f"{STAGING}/expired-v000001-0123/train")
    then = time.time() - 25 * 3600
    os.utime(storage.local_path(f"{STAGING}/expired-v000001-0123"), (then, then))
    with Publication(storage, "mine"):
        assert storage.names("trash") == ["train"]
        assert storage.names(STAGING) == []


def test_another_configuration(storage: LocalStorage) -> None:
    standing = publish(storage, manifest_of(3))
    check_configuration(standing, "c" * 64, new_version=False)
    check_configuration(standing, "d" * 64, new_version=True)
    message = (
        f"{storage.url} was prepared with another configuration \\(v000001 has c{{12}}, this run d{{12}}\\); "
        "add --new-version to publish a new version there, or choose another --output"
    )
    with pytest.raises(DatasetConflictError, match=message):
        check_configuration(standing, "d" * 64, new_version=False)
