"""What a loader is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np

from shardwright.errors import ConfigError
from shardwright.order import Balanced, Last, Sampling, Shuffle, Weighted, World
from shardwright.reader.columns import Batch
from shardwright.reader.normalise import Normalised, NormaliseOption
from shardwright.transforms import Geometry

OnError = Literal["raise", "replace"]


@dataclass(frozen=True, kw_only=True)
class LoaderOptions:
    """What `Dataset.loader` takes. Raises ConfigError with all that is wrong."""

    batch_size: int
    world: World
    seed: int
    shuffle: Shuffle
    window_blocks: int | None
    last: Last
    epochs: int | None
    normalise: Normalised
    decode: Mapping[str, Geometry]
    transform: Callable[[Batch], Batch] | None
    node_local: bool
    on_error: OnError
    sampling: Sampling | None
    samples_per_epoch: int | None
    memory_limit_bytes: int
    threads: int | None

    def __post_init__(self) -> None:
        window, epochs, per_epoch = self.window_blocks, self.epochs, self.samples_per_epoch
        sampled, known = self.sampling is not None, self.sampling is None or isinstance(self.sampling, Balanced | Weighted)
        expected = {
            f"world: expected sw.World(rank, size), found {self.world!r}": isinstance(self.world, World),
            f"batch_size: expected at least 1, found {self.batch_size!r}": _whole(self.batch_size, 1),
            f"seed: expected 0 to 2**64 - 1, found {self.seed!r}": _whole(self.seed, 0) and self.seed < 2**64,
            f"shuffle: expected none, window or global, found {self.shuffle!r}": self.shuffle in ("none", "window", "global"),
            f"window_blocks: expected at least 1, found {window!r}": window is None or _whole(window, 1),
            f"last: expected short, drop or pad, found {self.last!r}": self.last in ("short", "drop", "pad"),
            f"epochs: expected at least 0, found {epochs!r}": epochs is None or _whole(epochs, 0),
            f"memory_limit_bytes: expected at least 1, found {self.memory_limit_bytes!r}": _whole(self.memory_limit_bytes, 1),
            f"threads: expected at least 0, found {self.threads!r}": self.threads is None or _whole(self.threads, 0),
            f"transform: expected a function, found {self.transform!r}": self.transform is None or callable(self.transform),
            f"on_error: expected raise or replace, found {self.on_error!r}": self.on_error in ("raise", "replace"),
            f"sampling: expected sw.Balanced(…) or sw.Weighted(…), found {self.sampling!r}": known,
            f"samples_per_epoch: expected at least 1, found {per_epoch!r}": per_epoch is None or _whole(per_epoch, 1),
            "samples_per_epoch: it goes with sampling=; an epoch without has every sample once": sampled or per_epoch is None,
            "sampling decides the order: leave out shuffle='none' and window_blocks": not sampled
            or (self.shuffle != "none" and window is None),
            "sampling draws from all shards: leave out node_local=True": not (sampled and self.node_local),
        }
        problems = [problem for problem, fine in expected.items() if not fine]
        if problems:
            raise ConfigError(problems)
        for name, value in list(vars(self).items()):
            if isinstance(value, np.integer):
                object.__setattr__(self, name, int(value))  # a state is JSON


def _whole(value: object, least: int) -> bool:
    """Whether it is a whole number, and not below `least`."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= least


class LoaderArguments(TypedDict, total=False):
    """What `Dataset.loader` takes beside `batch_size` and `world`: for adapters that hand it on as ``**options``."""

    seed: int
    shuffle: Shuffle
    window_blocks: int | None
    last: Last
    epochs: int | None
    normalise: NormaliseOption
    decode: Mapping[str, Geometry] | None
    transform: Callable[[Batch], Batch] | None
    node_local: bool
    on_error: OnError
    sampling: Sampling | None
    samples_per_epoch: int | None
    memory_limit_bytes: int
    threads: int | None
