"""`shardwright expire`: what goes, what stays, and that nothing is lost when it is killed between two steps."""

from __future__ import annotations

import json

import pytest

from shardwright.cli import main
from shardwright.reader import open_dataset
from shardwright.storage import LocalStorage
from tests.cli.test_verify import reseal
from tests.datasets import digits, publish


@pytest.fixture
def root(tmp_path):
    for number in range(1, 5):
        publish(tmp_path / "d", {"train": digits(16, number)}, shards=2, version=f"v{number:06d}")
    return tmp_path / "d"


@pytest.fixture
def run(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        found = capsys.readouterr()
        return ended.value.code, found.out, found.err

    return call


def names(root):
    return sorted(path.name for path in root.iterdir())


def test_the_newest_stay(run, root):
    code, text, _ = run("expire", root, "--keep", 2, "--yes")
    assert code == 0
    assert [line.split()[0] for line in text.splitlines() if line.rstrip().endswith("goes")] == ["v000001", "v000002"]
    assert text.splitlines()[-1].startswith("freed ")
    assert names(root) == ["_LATEST", "v000003", "v000004"]
    assert len(open_dataset(str(root))) == 16


def test_a_dry_run_deletes_nothing(run, root):
    before = names(root)
    code, text, _ = run("expire", root, "--keep", 1, "--dry-run")
    assert (code, names(root)) == (0, before)
    assert text.count("goes") == 3


def test_without_a_terminal_it_wants_yes(run, root):
    before = names(root)
    code, _, err = run("expire", root, "--keep", 1)
    assert (code, names(root)) == (2, before)
    assert "expire deletes 3 of the versions above: add --yes" in err


def test_what_latest_names_stays(run, root):
    latest = json.loads((root / "_LATEST").read_text())
    manifest = json.loads((root / "v000002/_manifest.json").read_text())
    (root / "_LATEST").write_text(json.dumps(latest | {"version": "v000002", "content_id": manifest["content_id"]}))
    _, text, _ = run("expire", root, "--keep", 1, "--yes")
    assert "stays: _LATEST names it" in text
    assert names(root) == ["_LATEST", "v000002", "v000004"]


def test_versions_whose_parts_are_listed_stay(run, root):
    for version, older in (("v000002", "v000001"), ("v000004", "v000002")):

        def borrow(rows, older=older):
            rows[0]["part"] = f"../{older}/{rows[0]['part']}"
            return rows

        reseal(root, index=borrow, version=version)
    _, text, _ = run("expire", root, "--keep", 1, "--yes")
    assert "stays: v000004 lists its parts" in text
    assert "stays: v000002 lists its parts" in text
    assert names(root) == ["_LATEST", "v000001", "v000002", "v000004"]


def test_samples_that_wait_in_a_version_are_named(run, root):
    counts = open_dataset(str(root), version="v000001").manifest.lineage.counts
    reseal(root, lineage={"counts": counts.model_copy(update={"carried": 3})}, version="v000001")
    reseal(root, version="v000004")
    _, text, _ = run("expire", root, "--keep", 1, "--dry-run")
    assert text.count("goes, and with it 3 samples that wait in _carry for a later version") == 1


def test_a_version_that_cannot_tell_what_it_needs(run, root):
    path = root / "v000004/_index.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    before = names(root)
    code, _, err = run("expire", root, "--keep", 1, "--yes")
    assert (code, names(root)) == (1, before)
    assert "_index.parquet: expected" in err


def test_what_a_killed_run_left_is_deleted(run, root):
    LocalStorage(root).make_directory("_staging")
    LocalStorage(root).rename("v000001", "_staging/expired-v000001-0123")
    _, text, _ = run("expire", root, "--keep", 3, "--yes")
    assert "nothing to delete" in text
    assert "freed " in text
    assert names(root) == ["_LATEST", "v000002", "v000003", "v000004"]


def test_a_held_lock(run, root):
    from shardwright.storage import Lock

    with Lock(LocalStorage(root)):
        code, _, err = run("expire", root, "--keep", 1, "--yes")
    assert code == 3
    assert "another publish holds" in err


def test_no_dataset(run, tmp_path):
    code, _, err = run("expire", tmp_path / "nothing", "--keep", 1)
    assert (code, err.startswith("error: no dataset at ")) == (1, True)
    assert not (tmp_path / "nothing").exists()
