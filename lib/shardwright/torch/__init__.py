"""Batches as PyTorch tensors: ``import shardwright.torch as swt; swt.loader(dataset, batch_size=256, device="cuda")``.

`loader` is what to give to a trainer: threads of this process read. `batches` is for those who want the
worker processes of a `torch.utils.data.DataLoader`, or torchdata's StatefulDataLoader.
"""

from shardwright import errors

try:
    import torch  # noqa: F401
except ImportError as error:
    raise errors.MissingDependencyError("shardwright.torch needs PyTorch: pip install 'shardwright[torch]'") from error

from shardwright.torch.batches import Batches, batches
from shardwright.torch.loader import TorchLoader, loader
from shardwright.torch.tensors import TensorBatch
from shardwright.torch.world import place, world

__all__ = ["Batches", "TensorBatch", "TorchLoader", "batches", "loader", "place", "world"]
