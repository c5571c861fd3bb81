"""Copies to a device in a stream of their own, from page-locked buffers that are used in turn."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch

from shardwright.errors import ConfigError

T = TypeVar("T")
_cuda: Any = torch.cuda  # its streams and events have no types
_BUFFERS = 2
"""Sets of buffers: while one is on its way to the device, the next batch is written into the other."""
_END: Any = object()


class Copied(Protocol):
    """That some copies were made, or will be."""

    def synchronize(self) -> None:
        """Wait, on the host, until they are made."""


class Lane(Protocol):
    """How copies to a device run beside its other work."""

    def buffer(self, size: int) -> torch.Tensor:
        """`size` bytes that `copy` reads from: uint8."""

    def copy(self, tensors: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], Copied]:
        """Copies on the device, which are made some time later: until then the originals may not change."""

    def hand_out(self, tensors: Sequence[torch.Tensor], copied: Copied) -> None:
        """What the current stream does from here on sees the copies, whose memory stays theirs until it has done it."""


class SideStream:
    """The `Lane` of a CUDA device.

    The copies' memory belongs to the side stream, and the allocator would give it to the next batch as soon as the trainer
    drops a tensor, though the trainer's stream may still have to read it: `record_stream` makes it wait for that (see the notes
    on streams in PyTorch's "CUDA semantics" and at `torch.Tensor.record_stream`).
    """

    def __init__(self, device: torch.device) -> None:
        if not _cuda.is_available():
            raise ConfigError([f"device {device}: PyTorch finds no CUDA device here; leave device= out for tensors of the CPU"])
        self._device = torch.empty(0, device=device).device  # with its number, where `device` has none
        self._stream = _cuda.Stream(self._device)

    def buffer(self, size: int) -> torch.Tensor:
        """Page-locked bytes: only from them a copy runs beside other work."""
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def copy(self, tensors: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], Copied]:
        """Begin the copies, and come back."""
        with _cuda.stream(self._stream):
            copies = [tensor.to(self._device, non_blocking=True) for tensor in tensors]
            copied: Copied = self._stream.record_event()
        return copies, copied

    def hand_out(self, tensors: Sequence[torch.Tensor], copied: Copied) -> None:
        """To the stream that is the current one now, whichever was when the copies began."""
        stream = _cuda.current_stream(self._device)
        stream.wait_event(copied)
        for tensor in tensors:
            tensor.record_stream(stream)


@dataclass
class _Buffers:
    """Where one batch is staged; `copied` says whether that is over."""

    by_name: dict[str, torch.Tensor] = field(default_factory=dict)
    copied: Copied | None = None


@dataclass(frozen=True)
class OnItsWay:
    """A batch that is being copied."""

    batch: dict[str, Any]
    copied: Copied


class Staging:
    """Brings batches through a lane. A buffer is written again only when its last copy is made."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._buffers = itertools.cycle([_Buffers() for _ in range(_BUFFERS)])

    def send(self, batch: dict[str, Any]) -> OnItsWay:
        """Begin to copy the tensors of `batch`, which belong to the caller again; what is no tensor stays as it is."""
        buffers = next(self._buffers)
        if buffers.copied is not None:
            buffers.copied.synchronize()
        names = [name for name, value in batch.items() if isinstance(value, torch.Tensor)]
        copies, buffers.copied = self._lane.copy([self._stage(buffers, name, batch[name]) for name in names])
        return OnItsWay({**batch, **dict(zip(names, copies, strict=True))}, buffers.copied)

    def receive(self, sent: OnItsWay) -> dict[str, Any]:
        """The batch, for the stream that is current now."""
        self._lane.hand_out([value for value in sent.batch.values() if isinstance(value, torch.Tensor)], sent.copied)
        return sent.batch

    def _stage(self, buffers: _Buffers, name: str, tensor: torch.Tensor) -> torch.Tensor:
        buffer = buffers.by_name.get(name)
        if buffer is None or len(buffer) < tensor.nbytes:
            buffer = buffers.by_name[name] = self._lane.buffer(tensor.nbytes)
        return buffer[: tensor.nbytes].view(tensor.dtype).view(tensor.shape).copy_(tensor)


def one_ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, each handed out when the next one was taken; an error comes in its turn."""
    ahead = next(items, _END)
    while ahead is not _END:
        item, problem = ahead, None
        try:
            ahead = next(items, _END)
        except Exception as error:  # noqa: BLE001 - it is raised when the item before it is done
            problem = error
        yield item
        if problem is not None:
            raise problem
