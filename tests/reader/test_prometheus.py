"""Loaders' metrics as Prometheus gets them."""

from __future__ import annotations

import gc
import sys

import pytest

import shardwright as sw
from shardwright.errors import ConfigError, MissingDependencyError

prometheus_client = pytest.importorskip("prometheus_client")

from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

import shardwright.prometheus as swp  # noqa: E402 - it needs the package that is asked for above


@pytest.fixture(scope="module")
def train(small):
    return sw.open_dataset(str(small), split="train")


@pytest.fixture
def registry():
    return prometheus_client.CollectorRegistry(auto_describe=True)


def scraped(registry):
    """What a scrape gets: families by name, and the samples of each."""
    text = prometheus_client.generate_latest(registry).decode()
    families = list(text_string_to_metric_families(text))
    assert len(families) == len({family.name for family in families}) == text.count("# TYPE")
    return {family.name: family for family in families}


def value(registry, name, **labels):
    (found,) = [
        sample.value
        for family in scraped(registry).values()
        for sample in family.samples
        if sample.name == f"shardwright_loader_{name}" and sample.labels.items() >= labels.items()
    ]
    return found


def test_all_that_is_counted(train, small, registry):
    loader = train.loader(batch_size=32, world=sw.World(1, 3), normalise=True, threads=1)
    swp.register(loader, name="main", registry=registry)
    for _ in loader:
        pass
    found = loader.metrics()
    labels = {"loader": "main", "dataset": str(small), "version": "v000001", "split": "train", "rank": "1"}
    for name, expected in {
        "batches_total": found.batches, "samples_total": found.samples, "decoded_bytes_total": found.bytes,
        "dropped_samples_total": found.dropped, "queued_batches": 0, "epoch": 1, "requests_total": 0,
    }.items():  # fmt: skip
        assert value(registry, name, **labels) == expected, name
    for stage, seconds in found.seconds.items():
        assert value(registry, "stage_seconds_total", stage=stage, **labels) == seconds
    assert (found.batches, found.dropped) == (3, 2)


def test_counters_are_named_and_typed_as_such(train, registry):
    loader = train.loader(batch_size=32, world=sw.World())
    swp.register(loader, registry=registry)
    families = scraped(registry)
    assert {family.type for family in families.values()} == {"counter", "gauge"}
    for family in families.values():
        assert family.documentation
        assert {sample.name.endswith("_total") for sample in family.samples} == {family.type == "counter"}


def test_several_loaders_side_by_side(train, small, registry):
    validation = sw.open_dataset(str(small), split="validation")
    loaders = [dataset.loader(batch_size=10, world=sw.World()) for dataset in (train, validation)]
    for loader in loaders:
        swp.register(loader, registry=registry)
    assert [len(list(loader)) for loader in loaders] == [20, 5]
    assert [value(registry, "batches_total", split=split) for split in ("train", "validation")] == [20, 5]
    again = train.loader(batch_size=10, world=sw.World())
    with pytest.raises(ConfigError, match=r"name: a loader with .*'split': 'train'.* is registered already"):
        swp.register(again, registry=registry)
    swp.register(again, name="again", registry=registry)
    assert value(registry, "batches_total", loader="again") == 0
    swp.register(loaders[0], name="first", registry=registry)  # renamed
    assert value(registry, "batches_total", loader="first") == 20


def test_unregistered(train, registry):
    mine = prometheus_client.Counter("mine", "Of the trainer.", registry=registry)
    loader = train.loader(batch_size=10, world=sw.World())
    swp.unregister(loader, registry=registry)
    swp.register(loader, registry=registry)
    assert "shardwright_loader_batches" in scraped(registry)
    swp.unregister(loader, registry=registry)
    assert "shardwright_loader_batches" not in scraped(registry)
    swp.register(loader, registry=registry)
    mine.inc()
    assert scraped(registry)["mine"].samples[0].value == value(registry, "epoch") + 1 == 1


def test_a_loader_is_not_kept(train, registry):
    loader = train.loader(batch_size=10, world=sw.World())
    swp.register(loader, registry=registry)
    assert len(scraped(registry)["shardwright_loader_epoch"].samples) == 1
    del loader
    gc.collect()
    assert not scraped(registry)["shardwright_loader_epoch"].samples
    swp.register(train.loader(batch_size=10, world=sw.World()), registry=registry)  # the labels are free again


def test_the_default_registry(train):
    loader = train.loader(batch_size=10, world=sw.World())
    swp.register(loader, name="default")
    assert value(prometheus_client.REGISTRY, "samples_total", loader="default") == 0
    swp.unregister(loader)
    assert "shardwright_loader_samples" not in scraped(prometheus_client.REGISTRY)


def test_loaders_of_pytorch(train, registry):
    pytest.importorskip("torch")
    import shardwright.torch as swt

    loader = swt.loader(train, 10, world=sw.World())
    swp.register(loader, registry=registry)
    assert len(list(loader)) == 20
    assert value(registry, "samples_total") == 200


def test_without_prometheus_client(monkeypatch):
    monkeypatch.delitem(sys.modules, "shardwright.prometheus")
    monkeypatch.setitem(sys.modules, "prometheus_client.core", None)
    with pytest.raises(MissingDependencyError, match=r"needs prometheus_client.*pip install 'shardwright\[metrics\]'"):
        import shardwright.prometheus  # noqa: F401
