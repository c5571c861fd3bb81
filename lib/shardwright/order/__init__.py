"""The order of an epoch, and which rank takes what: pure arithmetic, the same on every machine."""

from shardwright.order.batches import Batches, Last
from shardwright.order.context import Context
from shardwright.order.epoch import EpochOrder, Plan, Shuffle
from shardwright.order.sampling import Balanced, Sampling, Weighted
from shardwright.order.state import LoaderState
from shardwright.order.topology import Axis, Place, Topology
from shardwright.order.world import World

__all__ = [
    "Axis", "Balanced", "Batches", "Context", "EpochOrder", "Last", "LoaderState", "Place", "Plan", "Sampling", "Shuffle",
    "Topology", "Weighted", "World",
]  # fmt: skip
