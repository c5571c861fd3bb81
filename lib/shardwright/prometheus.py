"""What loaders count, for Prometheus: ``import shardwright.prometheus as swp; swp.register(loader, name="train")``.

Who serves the metrics is the trainer's matter: `prometheus_client.start_http_server(port)`, a push gateway, a text file.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from shardwright.errors import ConfigError, MissingDependencyError
from shardwright.reader import Dataset, LoaderOptions, Metrics

try:
    from prometheus_client.core import REGISTRY, CollectorRegistry, CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as error:
    raise MissingDependencyError(
        f"shardwright.prometheus needs prometheus_client, which can't be imported ({error}): pip install 'shardwright[metrics]'"
    ) from error

__all__ = ["Measured", "register", "unregister"]
_PREFIX = "shardwright_loader"
_LABELS = ("loader", "dataset", "version", "split", "rank")
Labels = tuple[str, ...]
Count = Callable[[Metrics], float]
_COUNTERS: dict[str, tuple[str, Count]] = {
    "batches": ("Batches handed out.", lambda metrics: metrics.batches),
    "samples": ("Samples handed out.", lambda metrics: metrics.samples),
    "decoded_bytes": ("Bytes of the decoded values that were handed out.", lambda metrics: metrics.bytes),
    "dropped_samples": ("Samples that no rank took at the end of an epoch.", lambda metrics: metrics.dropped),
    "replaced_samples": ("Samples that could not be decoded and had another in their place.", lambda metrics: metrics.replaced),
    "requests": ("Ranges of remote parts that were fetched.", lambda metrics: metrics.requests),
    "fetched_bytes": ("Bytes of these ranges.", lambda metrics: metrics.fetched_bytes),
    "row_group_hits": ("Row groups of compressed columns found in memory.", lambda metrics: metrics.cache_hits),
    "row_group_misses": ("Row groups that were read and decompressed.", lambda metrics: metrics.cache_misses),
}
_GAUGES: dict[str, tuple[str, Count]] = {
    "held_bytes_max": (
        "The most bytes of remote parts on their way or in memory at a time.",
        lambda metrics: metrics.held_bytes,
    ),
    "queued_batches": ("Batches that are made and wait for the trainer.", lambda metrics: metrics.queued),
}
_collectors: weakref.WeakKeyDictionary[CollectorRegistry, _Loaders] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


class Measured(Protocol):
    """What can be registered: a `Loader`, or one of `shardwright.torch`."""

    @property
    def dataset(self) -> Dataset:
        """What is read."""

    @property
    def options(self) -> LoaderOptions:
        """How it is read."""

    @property
    def epoch(self) -> int:
        """The current epoch."""

    def metrics(self) -> Metrics:
        """What was done so far."""


def register(loader: Measured, *, name: str = "", registry: CollectorRegistry = REGISTRY) -> None:
    """Show what `loader` counts in `registry`, until `unregister`, or until nothing else holds the loader.

    The labels are ``loader`` (`name`), ``dataset`` (its URL), ``version``, ``split`` and ``rank``. Raises ConfigError where
    another loader that is registered there has the same.
    """
    labels = _labels(loader, name)
    with _lock:
        collector = _collectors.get(registry)
        if collector is None:
            registry.register(collector := _Loaders())
            _collectors[registry] = collector
        if labels in (known for one, known in collector.loaders() if one is not loader):
            problem = (
                f"name: a loader with {dict(zip(_LABELS, labels, strict=True))} is registered already; give this another name"
            )
            raise ConfigError([problem])
        collector.add(loader, labels)


def unregister(loader: Measured, *, registry: CollectorRegistry = REGISTRY) -> None:
    """Show it no longer. One that is not registered there is no error."""
    with _lock:
        collector = _collectors.get(registry)
        if collector is not None:
            collector.remove(loader)
            if not collector.loaders():
                registry.unregister(_collectors.pop(registry))


class _Loaders(Collector):
    """The loaders of one registry. It can't be a collector for each: the text format has every family once."""

    def __init__(self) -> None:
        self._labels: dict[weakref.ref[Measured], Labels] = {}

    def loaders(self) -> list[tuple[Measured, Labels]]:
        """Those that are still there."""
        known = [(reference(), labels) for reference, labels in list(self._labels.items())]
        return [(loader, labels) for loader, labels in known if loader is not None]

    def add(self, loader: Measured, labels: Labels) -> None:
        self._labels[weakref.ref(loader, self._forget)] = labels

    def remove(self, loader: Measured) -> None:
        self._forget(weakref.ref(loader))

    def _forget(self, reference: weakref.ref[Measured]) -> None:
        self._labels.pop(reference, None)

    def describe(self) -> Iterable[Metric]:
        """The families without loaders: their names."""
        return _families([])

    def collect(self) -> Iterable[Metric]:
        return _families([(loader.metrics(), loader.epoch, labels) for loader, labels in self.loaders()])


def _families(measured: list[tuple[Metrics, int, Labels]]) -> Iterator[Metric]:
    for name, (what, count) in _COUNTERS.items():
        counter = CounterMetricFamily(f"{_PREFIX}_{name}", what, labels=_LABELS)
        for metrics, _, labels in measured:
            counter.add_metric(labels, count(metrics))
        yield counter
    for name, (what, count) in _GAUGES.items():
        gauge = GaugeMetricFamily(f"{_PREFIX}_{name}", what, labels=_LABELS)
        for metrics, _, labels in measured:
            gauge.add_metric(labels, count(metrics))
        yield gauge
    epochs = GaugeMetricFamily(f"{_PREFIX}_epoch", "The current epoch, from 0.", labels=_LABELS)
    seconds = CounterMetricFamily(
        f"{_PREFIX}_stage_seconds", "Where the time went: Metrics.seconds says what each stage is.", labels=(*_LABELS, "stage")
    )
    for metrics, epoch, labels in measured:
        epochs.add_metric(labels, epoch)
        for stage, spent in metrics.seconds.items():
            seconds.add_metric((*labels, stage), spent)
    yield epochs
    yield seconds


def _labels(loader: Measured, name: str) -> Labels:
    source = loader.dataset.source
    return name, source.url, source.version, source.catalog.split, str(loader.options.world.rank)
