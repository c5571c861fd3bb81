"""What `verify` finds beyond checksums: counts and places that contradict each other though every hash is right."""

from __future__ import annotations

import hashlib
import json

import fsspec
import pytest

from shardwright.format import layout
from shardwright.format.index import decode_index, encode_index
from shardwright.format.manifest import FileDigest, Manifest
from shardwright.reader.verify import verify
from shardwright.reader.verify_part import PartRows
from tests.datasets import digits, publish


@pytest.fixture
def root(tmp_path):
    publish(tmp_path / "d", {"train": digits(64)}, shards=2)
    return tmp_path / "d"


def reseal(root, *, index=lambda rows: rows, content=None, lineage=None, version="v000001"):
    """Publish the version anew with changed contents and right hashes."""
    from shardwright.format.index import Extent, RowGroup

    base = root / version
    manifest = Manifest.parse((base / layout.MANIFEST).read_bytes(), where="here")
    rows = index(decode_index((base / layout.INDEX).read_bytes(), where="here").to_pylist())
    data = encode_index(
        [
            RowGroup(
                **{
                    **row, "extents": tuple(Extent(**extent) for extent in row["extents"]),
                    "side_files": tuple(FileDigest(**file) for file in row["side_files"]),
                }
            )
            for row in rows
        ]
    )  # fmt: skip
    digest = FileDigest(name=layout.INDEX, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    sealed = Manifest.seal(
        manifest.content.model_copy(update={"index": digest, **(content or {})}),
        manifest.lineage.model_copy(update=lineage or {}),
        manifest.provenance,
    )
    (base / layout.INDEX).write_bytes(data)
    (base / layout.MANIFEST).write_bytes(sealed.to_json())
    (root / "_LATEST").write_text(json.dumps({"version": version, "content_id": sealed.content_id}))


def problems(root):
    return verify(str(root)).problems


def test_resealing_changes_nothing(root):
    reseal(root)
    assert problems(root) == []


def moved(rows, field="label", by=8):
    for extent in rows[0]["extents"]:
        if extent["field"] == field:
            extent["offset"] += by
    return rows


def test_an_extent_that_points_elsewhere(root):
    reseal(root, index=lambda rows: moved(rows, "image", 1))
    (problem,) = problems(root)
    assert problem.startswith("train/shard=00000/part-00000.parquet: row group 0: 'image' is not at byte ")


def test_row_groups_that_the_footer_contradicts(root):
    def other(rows):
        rows[0]["samples"], rows[1]["samples"] = 15, 17
        rows[1]["first_sample"] = 15
        return rows

    reseal(root, index=other)
    (problem,) = problems(root)
    assert "row groups of [15, 17] samples in the index, [16, 16] in the file" in problem


def test_totals_that_do_not_add_up(root):
    manifest = Manifest.parse((root / "v000001" / layout.MANIFEST).read_bytes(), where="here")
    split = manifest.content.splits["train"]
    shards = (split.shards[0], split.shards[1].model_copy(update={"samples": 31}))
    counts = manifest.lineage.counts.model_copy(update={"read": 65})
    reseal(root, content={"splits": {"train": split.model_copy(update={"shards": shards})}}, lineage={"counts": counts})
    found = "\n".join(problems(root))
    assert "train: shards of 31 to 32 samples are out of balance (remainder 'drop')" in found
    assert "train: 64 samples, but its shards hold 63" in found
    assert "train shard 1: samples, parts, bytes are (31, " in found
    assert "lineage does not add up" in found


def test_larger_shards_come_first(tmp_path):
    publish(tmp_path / "d", {"train": digits(9)}, shards=2, remainder="spread")
    manifest = Manifest.parse((tmp_path / "d/v000001" / layout.MANIFEST).read_bytes(), where="here")
    split = manifest.content.splits["train"]
    reseal(tmp_path / "d", content={"splits": {"train": split.model_copy(update={"shards": split.shards[::-1]})}})
    assert "train: shards of 4 to 5 samples are out of balance (remainder 'spread')" in problems(tmp_path / "d")


def test_a_shard_file_that_the_index_does_not_list(root):
    def unlisted(rows):
        rows[0]["side_files"] = [file for file in rows[0]["side_files"] if not file["name"].endswith("_petastorm")]
        return rows

    reseal(root, index=unlisted)
    found = problems(root)
    assert "train/shard=00000/_petastorm is not listed in the index" in found
    assert "train/shard=00000/_petastorm: nobody published this file" in found
    assert any("_SHA256SUMS: of _petastorm expected nothing, found " in problem for problem in found)


def test_a_remote_version(root):
    memory = fsspec.filesystem("memory")
    memory.put(str(root), "/verify", recursive=True)
    report = verify("memory://verify")
    assert (report.problems, report.samples) == ([], 64)
    assert report.files == 7
    memory.rm("/verify", recursive=True)


def test_part_rows():
    rows = [
        {
            "split": "s", "shard": 0, "part": "s/p.parquet", "row_group": number, "samples": 3, "bytes": 9, "sha256": "0",
            "extents": [], "side_files": [],
        }
        for number in range(2)
    ]  # fmt: skip
    assert PartRows(rows).samples == 6
