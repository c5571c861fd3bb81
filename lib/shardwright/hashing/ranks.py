"""Which key has which rank, without sorting all: keys are counted in bins, and only bins that hold a rank are looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shardwright.hashing.places import as_sortable

UNIFORM_BINS = 2**16
I64 = npt.NDArray[np.int64]
Sorted = npt.NDArray[np.bytes_]


@dataclass(frozen=True)
class Bins:
    """Ranges of keys, in their order: by the first 16 bits, which suits hashes; or between `edges`, ascending: a sample
    of keys that lie anyhow. Ranks come out the same for any edges.
    """

    edges: tuple[bytes, ...] | None = None

    @property
    def count(self) -> int:
        """How many there are."""
        return UNIFORM_BINS if self.edges is None else len(self.edges) + 1

    def of(self, keys: npt.NDArray[np.uint8]) -> I64:
        """The bin of each key, uint8 of shape (n, width)."""
        if self.edges is None:
            return keys[:, 0].astype(np.int64) * 256 + keys[:, 1]
        return np.searchsorted(np.array(self.edges, f"S{keys.shape[1]}"), as_sortable(keys), side="right")


@dataclass(frozen=True)
class Wanted:
    """A rank that is looked for: the `inside`-th key of a bin."""

    rank: int
    inside: int


def wanted_by_bin(counts: I64, ranks: Sequence[int]) -> dict[int, list[Wanted]]:
    """Where `ranks` lie, given the number of keys in each bin; a rank past the end lies nowhere."""
    ends = np.cumsum(counts)
    out: dict[int, list[Wanted]] = {}
    for rank in ranks:
        if rank < ends[-1]:
            bin_ = int(np.searchsorted(ends, rank, side="right"))
            out.setdefault(bin_, []).append(Wanted(rank, rank - int(ends[bin_] - counts[bin_])))
    return out


def keys_at(bins: Bins, wanted: Mapping[int, Sequence[Wanted]], keys: npt.NDArray[np.uint8]) -> dict[int, bytes]:
    """The key at each rank of the bins whose keys are all among `keys`, uint8 of shape (n, width)."""
    if not len(keys):
        return {}
    ordered = np.sort(as_sortable(keys))
    own = bins.of(ordered.view(np.uint8).reshape(keys.shape))  # ascending, as the keys are
    out: dict[int, bytes] = {}
    for bin_, ranks in wanted.items():
        start, stop = np.searchsorted(own, [bin_, bin_ + 1])
        if start < stop:
            out |= {one.rank: bytes(ordered[start + one.inside]).ljust(keys.shape[1], b"\0") for one in ranks}
    return out


def past_the_end(width: int) -> bytes:
    """A key that is larger than any of at most `width` bytes."""
    return b"\xff" * (width + 1)
