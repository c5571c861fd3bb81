"""Opening: three reads, and clear words about what is not there or not as it was published."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest

import shardwright as sw
from shardwright.errors import ConfigError, CorruptError, DatasetNotFoundError, FormatVersionError, SchemaError, StorageError
from shardwright.format import layout
from shardwright.format.canonical import canonical_json, canonical_sha256
from shardwright.format.index import Extent, RowGroup, encode_index
from shardwright.format.manifest import FileDigest, Manifest, Shard
from shardwright.storage import LocalStorage
from tests.datasets import digits, publish


@pytest.fixture
def copied(small, tmp_path):
    return shutil.copytree(small, tmp_path / "copy")


def edit(root, change):
    path = root / "v000001" / layout.MANIFEST
    body = json.loads(path.read_bytes())
    change(body)
    path.write_bytes(canonical_json(body))


def test_open(small):
    train = sw.open_dataset(str(small), split="train")
    assert len(train) == 200
    assert train.schema.names == ("image", "label")
    assert train.statistics["label"].max == (202,)
    assert train.manifest.content.plan.shards == {"train": 4, "validation": 4}
    assert "v000001 train: 200 samples of image, label" in repr(train)
    assert len(sw.open_dataset(f"file://{small}", split="validation", version="v000001")) == 48


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"split": "trian"}, DatasetNotFoundError, r"no split 'trian': did you mean 'train'\? known: train, validation"),
        ({}, DatasetNotFoundError, "has 2 splits: say split=, one of train, validation"),
        ({"split": "train", "version": "v000009"}, DatasetNotFoundError, "no version 'v000009'.*versions there: v000001"),
        ({"split": "train", "version": "newest"}, DatasetNotFoundError, "no version 'newest'.*versions there: v000001"),
        ({"split": "train", "shards": [1, 4]}, DatasetNotFoundError, r"no shard \[4\]: split 'train' has shards 0 to 3"),
        ({"split": "train", "shards": [1, 1]}, ConfigError, r"shards: expected different numbers .*, found \[1, 1\]"),
        ({"split": "train", "shards": []}, ConfigError, r"shards: expected different numbers .*, found \[\]"),
        ({"split": "train", "shards": "1"}, ConfigError, r"shards: expected different numbers .*, found '1'"),
        ({"split": "train", "columns": ["imagge"]}, SchemaError, "no field 'imagge'; did you mean 'image'"),
        ({"split": "train", "columns": ["label", "label"]}, SchemaError, "expected one or more different names"),
        ({"split": "train", "columns": ["_pad"]}, SchemaError, "only a version with the remainder policy 'pad' has it"),
    ],
)
def test_what_is_not_there(small, options, error, message):
    with pytest.raises(error, match=message):
        sw.open_dataset(str(small), **options)


def test_no_dataset(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"no dataset at .*it has no _LATEST, there is no version"):
        sw.open_dataset(str(tmp_path / "nothing"))
    with pytest.raises(StorageError, match="can't open 'nosuch://x'"):
        sw.open_dataset("nosuch://x")


def test_latest_decides(small, tmp_path):
    for number in (1, 2, 3):
        publish(tmp_path / "d", {"train": digits(8 * number)}, version=layout.version_name(number))
    assert len(sw.open_dataset(str(tmp_path / "d"))) == 24
    assert len(sw.open_dataset(str(tmp_path / "d"), version="v000002")) == 16


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda m: m["content"]["plan"].update(seed=5), "content was changed after publishing: content_id says"),
        (
            lambda m: m["lineage"]["counts"].update(read=5),
            "lineage or provenance was changed after publishing: manifest_sha256",
        ),
        (lambda m: m["provenance"].update(user="x"), "lineage or provenance was changed after publishing: manifest_sha256"),
    ],
)
def test_a_manifest_edited_by_hand(copied, change, message):
    edit(copied, change)
    with pytest.raises(CorruptError, match=message):
        sw.open_dataset(str(copied), split="train")


def test_a_format_version_from_the_future(copied):
    edit(copied, lambda manifest: manifest.update(format_version=99))
    with pytest.raises(FormatVersionError, match=r"format_version 99 is newer than 2.*upgrade shardwright"):
        sw.open_dataset(str(copied), split="train")


def test_an_index_that_is_not_the_published_one(copied):
    index = copied / "v000001" / layout.INDEX
    data = bytearray(index.read_bytes())
    data[100] ^= 1
    index.write_bytes(data)
    with pytest.raises(CorruptError, match=r"_index.parquet: expected \d+ bytes with sha256 .* copy the file again"):
        sw.open_dataset(str(copied), split="train")
    index.unlink()
    with pytest.raises(CorruptError, match=r"_index\.parquet is missing"):
        sw.open_dataset(str(copied), split="train")


def test_latest_that_is_damaged_or_of_other_content(copied):
    (copied / "_LATEST").write_text("v000001")
    with pytest.raises(CorruptError, match="_LATEST: expected JSON with version and content_id"):
        sw.open_dataset(str(copied), split="train")
    (copied / "_LATEST").write_text('{"version": "v000001", "content_id": "beef"}')
    with pytest.raises(CorruptError, match="_LATEST names v000001 with content_id beef, its manifest says"):
        sw.open_dataset(str(copied), split="train")


def test_ten_thousand_row_groups_open_with_three_reads(small, tmp_path, monkeypatch):
    manifest = many_row_groups(Manifest.parse((small / "v000001/_manifest.json").read_bytes(), where="here"), tmp_path)
    touched: list[str] = []

    class Counting(LocalStorage):
        def read(self, name):
            touched.append(name)
            return super().read(name)

        def local_path(self, name=""):
            if name and name not in touched:
                touched.append(name)
            return super().local_path(name)

    monkeypatch.setattr("shardwright.reader.open.open_storage", Counting)
    train = sw.open_dataset(str(tmp_path), split="train")
    assert len(train) == manifest.content.splits["train"].samples == 40_000
    assert touched == ["_LATEST", "v000001/_manifest.json", "v000001/_index.parquet"]


def many_row_groups(manifest, root):
    """A version whose index has 10,000 row groups of 4 samples, and no part at all."""
    groups = [
        RowGroup(
            split="train", shard=shard, part=f"train/{layout.shard_name(shard)}/part-00000.parquet", row_group=number,
            first_sample=4 * number, samples=4, bytes=10**6, sha256="0", side_files=(),
            extents=(Extent(field="label", first=0, count=4, offset=32 * number, stride=8),),
        )
        for shard in range(4)
        for number in range(2500)
    ]  # fmt: skip
    index = encode_index(groups)
    split = manifest.content.splits["train"].model_copy(
        update={"samples": 40_000, "shards": (Shard(samples=10_000, parts=1, bytes=10**6),) * 4}
    )
    digest = FileDigest(name=layout.INDEX, bytes=len(index), sha256=hashlib.sha256(index).hexdigest())
    content = manifest.content.model_copy(update={"splits": {"train": split}, "index": digest})
    sealed = Manifest.seal(content, manifest.lineage, manifest.provenance)
    (root / "v000001").mkdir()
    (root / "v000001" / layout.INDEX).write_bytes(index)
    (root / "v000001" / layout.MANIFEST).write_bytes(sealed.to_json())
    (root / "_LATEST").write_text(json.dumps({"version": "v000001", "content_id": sealed.content_id}))
    assert sealed.content_id == canonical_sha256(json.loads(sealed.to_json())["content"])
    return sealed
