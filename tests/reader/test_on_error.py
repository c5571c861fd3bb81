"""Values that can't be decoded: named, or replaced by the same sample on every machine."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import shardwright as sw
from shardwright.errors import ConfigError, CorruptError, DecodeError
from shardwright.schema import Field, Schema
from tests.datasets import publish
from tests.reader.test_loader import sequence

imagecodecs = pytest.importorskip("imagecodecs")

SAMPLES = 96
SCHEMA = Schema(
    fields=(
        Field(name="image", dtype="uint8", shape=(4, 4), codec="image"),
        Field(name="label", dtype="int64"),
        Field(name="text", dtype="string"),
    )
)
BAD = {5, 40, 41, 95}


def pictures(bad):
    generator = np.random.default_rng(0)
    out = [imagecodecs.png_encode(generator.integers(0, 256, (4, 4), np.uint8)) for _ in range(SAMPLES)]
    return [b"\x89PNG\r\n\x1a\n not one" if row in bad else data for row, data in enumerate(out)]


def make(root, bad):
    data = {"image": pictures(bad), "label": np.arange(SAMPLES), "text": [f"text number {row}" for row in range(SAMPLES)]}
    publish(root, {"train": data}, SCHEMA, shards=4, part_samples=12, row_group_samples=6)
    return sw.open_dataset(str(root))


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    return make(tmp_path_factory.mktemp("damaged") / "d", BAD)


def test_the_error_names_part_and_sample(damaged):
    for read in (lambda: damaged[41], lambda: damaged.take([1, 41, 40]), lambda: list(damaged)):
        with pytest.raises(
            DecodeError, match=r"d/v000001/train/shard=0000\d/part-0000\d.parquet: sample \d+ of the part .*'image'"
        ):
            read()
    with pytest.raises(
        DecodeError, match=r"shard=00001/part-00001.parquet: sample 5 of the part can't be decoded: field 'image'"
    ):
        damaged[41]
    with pytest.raises(DecodeError, match="can't be decoded: field 'image'"):
        list(damaged.loader(batch_size=8, world=sw.World()))


@pytest.mark.parametrize(
    "options", [{}, {"shuffle": "none"}, {"sampling": sw.Weighted([1.0] * SAMPLES), "samples_per_epoch": 200}]
)
def test_replaced_alike_in_any_world(damaged, options):
    alone, _ = sequence(damaged, [sw.World()], batch_size=96, on_error="replace", **options)
    ranks = [sw.World(rank, 4) for rank in range(4)]
    assert sequence(damaged, ranks, batch_size=3, on_error="replace", **options)[0] == alone
    first, state = sequence(damaged, ranks, batch_size=3, batches=2, on_error="replace", **options)
    rest, _ = sequence(damaged, [sw.World()], batch_size=5, state=state, on_error="replace", **options)
    assert first + rest == alone
    assert not set(alone) & BAD
    plain, _ = sequence(damaged.reading("label"), [sw.World()], batch_size=96, **options)
    assert [(x in BAD) or x == y for x, y in zip(plain, alone, strict=True)] == [True] * len(alone)


def test_a_substitute_is_of_the_same_shard_and_all_its_fields_belong_together(damaged):
    plain, _ = sequence(damaged.reading("label"), [sw.World()], batch_size=96)
    loader = damaged.loader(batch_size=96, world=sw.World(), on_error="replace")
    (batch,) = loader
    for wanted, found, text in zip(plain, batch["label"], batch["text"], strict=True):
        assert wanted // 24 == found // 24
        assert text == f"text number {found}"


def test_metrics_and_log(damaged, caplog):
    loader = damaged.loader(batch_size=10, world=sw.World(), on_error="replace")
    with caplog.at_level("WARNING", "shardwright.reader.loader"):
        list(loader)
        list(loader)
    metrics = loader.metrics()
    assert (metrics.replaced, metrics.samples) == (8, 192)
    assert len(metrics.replaced_first) == 8
    assert all("part-0000" in where and "field 'image'" in where for where in metrics.replaced_first)
    assert [record.message.endswith("another sample takes its place (1 so far)") for record in caplog.records] == [True]
    assert damaged.reading("label").loader(batch_size=10, world=sw.World(), on_error="replace").metrics().replaced == 0


def test_a_row_group_that_cannot_be_read(tmp_path):
    dataset = make(tmp_path / "d", set())
    part = min((tmp_path / "d").rglob("part-00000.parquet"))
    data = bytearray(part.read_bytes())
    import pyarrow.parquet as pq

    chunk = pq.read_metadata(part).row_group(1).column(2)
    assert chunk.path_in_schema == "text"
    data[chunk.dictionary_page_offset + 40] ^= 1
    part.write_bytes(data)
    with pytest.raises(DecodeError, match=r"part-00000.parquet: sample 7 of the part .*row group 1 of 'text' can't be read"):
        dataset[7]
    drawn, _ = sequence(dataset, [sw.World(0, 2), sw.World(1, 2)], batch_size=5, on_error="replace")
    assert len(drawn) == 96
    assert not set(drawn) & set(range(6, 12))


def test_node_local_finds_substitutes_on_the_node(damaged, tmp_path):
    root = shutil.copytree(damaged.source.url, tmp_path / "node")
    for shard in (1, 3):
        shutil.rmtree(root / f"v000001/train/shard={shard:05d}")
    local = sw.open_dataset(str(root))
    loader = local.loader(batch_size=6, world=sw.World(0, 2, 0, 2), node_local=True, on_error="replace")
    assert len([label for batch in loader for label in batch["label"]]) == 48
    assert loader.metrics().replaced == 1  # sample 5; 40, 41 and 95 lie in shards 1 and 3


def test_too_much_is_damaged(tmp_path):
    dataset = make(tmp_path / "d", set(range(24, 48)))
    with pytest.raises(DecodeError, match="none of 16 other samples of its shard can be decoded either"):
        list(dataset.loader(batch_size=8, world=sw.World(), on_error="replace"))


def test_missing_and_short_files_are_no_rows(tmp_path):
    dataset = make(tmp_path / "d", set())
    part = min((tmp_path / "d").rglob("part-00001.parquet"))
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(CorruptError, match=r"part-00001.parquet: expected \d+ bytes, found \d+"):
        list(dataset.loader(batch_size=8, world=sw.World(), on_error="replace"))
    part.unlink()
    with pytest.raises(CorruptError, match=r"part-00001.parquet is missing"):
        list(sw.open_dataset(str(tmp_path / "d")).loader(batch_size=8, world=sw.World(), on_error="replace"))


def test_another_word_is_refused(damaged):
    with pytest.raises(ConfigError, match="on_error: expected raise or replace, found 'skip'"):
        damaged.loader(batch_size=8, world=sw.World(), on_error="skip")
