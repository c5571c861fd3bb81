"""Sampling: which sample lies at position g of an epoch when not every sample shall come exactly once.

A sampler is a pure function of (content_id, seed, epoch, g), as the order of an epoch is: the same for every world and batch
size, and any position costs the same. All integers are unsigned 64-bit with wrap-around, mix is `shardwright.hashing.mix64`,
and key(what) is `Plan.key(epoch, 0, what)`.

``balanced``  With C classes, in ascending order of their values, position g is slot g mod C of round r = g // C. The classes
              of a round are permuted by the key mix(key("rounds") + r), so every round has each class once. Sample r of a
              class with n samples is number r mod n of cycle q = r // n, in a permutation of its samples by the key
              mix(mix(key("classes") + class) + q): each sample once per cycle, in a new order in each.
``weighted``  u = mix(key("weighted") + g) >> 11, and the sample is the first whose cumulative weight is above
              u / 2^53 * (sum of all weights): drawn with replacement. Weights are summed one after the other as float64, which
              IEEE 754 defines to the bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from shardwright.errors import ConfigError
from shardwright.hashing import mix64, permuted
from shardwright.order.epoch import Plan

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
_LEAST = 2 * float(np.finfo(np.float64).tiny)
"""Below this, (1 - 2^-53) times a sum of weights may round up to the sum, which is past the last sample."""


@dataclass(frozen=True)
class Balanced:
    """Every class equally often: of C classes, each C positions in a row hold each once.

    `field` has the class of each sample: a whole number, bool or string.
    """

    field: str


@dataclass(frozen=True, eq=False)
class Weighted:
    """Samples drawn with replacement, each as often as its weight says.

    `weights` names a field with numbers, or holds a number for each sample of the dataset: finite, not negative, not all 0.
    """

    weights: str | Sequence[float] | npt.NDArray[Any]


Sampling = Balanced | Weighted


class Sampler(Protocol):
    """Gives the sample at each position of an epoch."""

    def __call__(self, epoch: int, positions: I64) -> I64:
        """The numbers of the samples at `positions` (int64, shape (n,)): int64 of the same shape."""


class BalancedSampler:
    """Each of the classes in turn; `classes` has the class of each sample, 0 to C - 1, int64 of shape (samples,)."""

    def __init__(self, plan: Plan, classes: I64) -> None:
        self._plan = plan
        self._members = np.argsort(classes, kind="stable")
        self._sizes = np.bincount(classes)
        self._first = np.cumsum(self._sizes) - self._sizes

    def __call__(self, epoch: int, positions: I64) -> I64:
        """The numbers of the samples at `positions`."""
        rounds, slots = np.divmod(positions, len(self._sizes))
        classes = permuted(len(self._sizes), self._keys(epoch, "rounds", rounds), slots)
        sizes = self._sizes[classes]
        cycles, numbers = np.divmod(rounds, sizes)
        keys = mix64(self._keys(epoch, "classes", classes) + cycles.astype(np.uint64))
        members: I64 = self._members[self._first[classes] + permuted(sizes, keys, numbers)]
        return members

    def _keys(self, epoch: int, what: str, numbers: I64) -> npt.NDArray[np.uint64]:
        return mix64(np.uint64(self._plan.key(epoch, 0, what)) + numbers.astype(np.uint64))


class WeightedSampler:
    """Samples by weight, with replacement; `weights` are checked: float64 of shape (samples,)."""

    def __init__(self, plan: Plan, weights: F64) -> None:
        self._plan = plan
        self._sums = np.cumsum(weights)  # one after the other; numpy.sum adds by halves, and in no promised order

    def __call__(self, epoch: int, positions: I64) -> I64:
        """The numbers of the samples at `positions`."""
        hashed = mix64(np.uint64(self._plan.key(epoch, 0, "weighted")) + positions.astype(np.uint64))
        targets = (hashed >> np.uint64(11)).astype(np.float64) * 2.0**-53 * self._sums[-1]  # below the sum, also when rounded
        numbers: I64 = np.searchsorted(self._sums, targets, side="right").astype(np.int64, copy=False)
        return numbers


def check_weights(weights: npt.NDArray[Any], samples: int) -> F64:
    """`weights` as float64 of shape (samples,). Raises ConfigError unless they are as `Weighted` says."""
    if weights.shape != (samples,) or weights.dtype.kind not in "biuf":
        raise ConfigError([f"sampling: expected {samples} numbers, one per sample, found {weights.dtype} {weights.shape}"])
    checked: F64 = np.ascontiguousarray(weights, np.float64)
    bad = np.flatnonzero(~(np.isfinite(checked) & (checked >= 0)))
    if len(bad):
        raise ConfigError(
            [f"sampling: weight {checked[bad[0]]} of sample {bad[0]} ({len(bad)} such): expected finite numbers of at least 0"]
        )
    with np.errstate(over="ignore"):
        total = float(np.cumsum(checked)[-1]) if samples else 0.0
    if not _LEAST <= total < float("inf"):
        expected = f"expected a finite number above 0 (at least {_LEAST:.3g})"
        raise ConfigError([f"sampling: the {samples} weights add up to {total}: {expected}"])
    return checked


def describe_sampling(sampling: Sampling, samples: int) -> dict[str, str | int]:
    """What a state says of the sampling of `samples` per epoch: equal where, for equal content, the samples are equal."""
    if isinstance(sampling, Balanced):
        return {"name": "balanced", "field": sampling.field, "samples": samples}
    if isinstance(sampling.weights, str):
        return {"name": "weighted", "field": sampling.weights, "samples": samples}
    digest = hashlib.sha256(np.ascontiguousarray(sampling.weights, "<f8").tobytes()).hexdigest()
    return {"name": "weighted", "weights_sha256": digest, "samples": samples}
