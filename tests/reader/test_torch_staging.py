"""Copies beside the trainer: on a device that, like a GPU, makes them later than it says, but with every tensor on the CPU."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
import torch

import shardwright as sw
import shardwright.torch as swt
from shardwright.errors import DecodeError
from shardwright.torch.staging import SideStream, Staging, one_ahead
from tests.processes import run


class LateLane:
    """Copies lie in a queue until somebody waits for one of them; what came before it is then made too, as in a stream."""

    def __init__(self):
        self.queue: deque[Any] = deque()
        self.allocated = []

    def buffer(self, size):
        self.allocated.append(size)
        return torch.full((size,), 255, dtype=torch.uint8)

    def copy(self, tensors):
        copies = [torch.full_like(tensor, 99) for tensor in tensors]
        copied = Later(self)
        self.queue.append((copied, copies, tensors))
        return copies, copied

    def hand_out(self, tensors, copied):
        copied.synchronize()


class Later:
    def __init__(self, lane):
        self.lane = lane

    def synchronize(self):
        while any(copied is self for copied, _, _ in self.lane.queue):
            _, copies, originals = self.lane.queue.popleft()
            for copy, original in zip(copies, originals, strict=True):
                copy.copy_(original)


LANES = [LateLane, *([lambda: SideStream(torch.device("cuda"))] if torch.cuda.is_available() else [])]
"""The real one too, where there is a device for it."""


@pytest.fixture(params=LANES, ids=["late", "cuda"][: len(LANES)])
def ahead(request):
    """What `swt.loader` gives for a CUDA device, on either lane."""

    def loader(dataset, **options):
        made = swt.TorchLoader(dataset.loader(world=sw.World(), **options), torch.device("cpu"))
        made._staging = Staging(request.param())
        return made

    return loader


def test_a_buffer_is_written_again_only_after_its_copy():
    lane = LateLane()
    staging = Staging(lane)
    sent = []
    for number in range(5):
        batch: dict[str, Any] = {
            "image": torch.full((4, 3), number, dtype=torch.uint8),
            "wide": torch.arange(4) + number,
            "text": ["a", "b"],
        }
        sent.append(staging.send(batch))
        for name in ("image", "wide"):
            batch[name].zero_()  # the caller's own again
        assert len(lane.queue) <= 2
    assert lane.allocated == [12, 32] * 2
    for number, one in enumerate(sent):
        batch = staging.receive(one)
        assert (batch["image"] == number).all()
        assert batch["wide"].tolist() == [number, number + 1, number + 2, number + 3]
        assert batch["text"] == ["a", "b"]
    assert not lane.queue


def test_buffers_grow_with_the_batch_and_serve_smaller_ones_of_any_dtype():
    lane = LateLane()
    staging = Staging(lane)
    for dtype, rows in [(torch.bool, 3), (torch.float32, 8), (torch.uint16, 2), (torch.int64, 0), (torch.float64, 4)]:
        for turn in range(2):
            values = (torch.arange(rows * 2) + turn).to(dtype).reshape(rows, 2)
            assert torch.equal(staging.receive(staging.send({"x": values}))["x"], values)
    assert lane.allocated == [6, 6, 64, 64]


def test_one_ahead_gives_an_error_its_turn():
    taken = []

    def items():
        for number in range(3):
            taken.append(number)
            yield number
        raise ValueError("the fourth")

    found = one_ahead(items())
    assert (next(found), taken) == (0, [0, 1])
    assert (next(found), next(found)) == (1, 2)
    with pytest.raises(ValueError, match="the fourth"):
        next(found)
    assert list(one_ahead(iter(()))) == []
    assert list(one_ahead(iter([None]))) == [None]


def test_ahead_of_the_trainer_the_batches_and_states_are_the_same(small, ahead):
    train = sw.open_dataset(str(small), split="train")
    options: dict[str, Any] = {"batch_size": 16, "seed": 3, "normalise": True}
    ours, theirs = swt.loader(train, world=sw.World(), **options), ahead(train, **options)
    for _ in range(2):
        for plain, batch in zip(ours, theirs, strict=True):
            assert all(torch.equal(batch[name].cpu(), plain[name]) for name in plain)
            assert theirs.state_dict() == ours.state_dict()
            assert (theirs.epoch, theirs.remaining, len(theirs)) == (ours.epoch, ours.remaining, len(ours))
    assert (theirs.epoch, theirs.remaining) == (2, 13)


def labels(batches):
    return [label for batch in batches for label in batch["label"].tolist()]


def test_a_batch_that_was_ahead_of_a_break_comes_next(small, ahead):
    train = sw.open_dataset(str(small), split="train")
    expected = labels(swt.loader(train, 16, world=sw.World()))
    loader = ahead(train, batch_size=16)
    found = []
    for batch in loader:
        found += labels([batch])
        if len(found) == 48:
            break
    assert (loader.state_dict()["samples_consumed"], loader.remaining) == (48, 10)
    first = iter(loader)
    found += labels([next(first)])
    second = iter(loader)  # while the first has a batch in hand
    found += labels([next(second)])
    with pytest.raises(RuntimeError, match="iterated elsewhere"):
        next(first)
    found += labels(second)
    assert found == expected
    assert loader.state_dict() == loader.state_at(0, epoch=1)


def test_a_state_loaded_in_mid_epoch_counts(small, ahead):
    train = sw.open_dataset(str(small), split="train")
    loader = ahead(train, batch_size=16)
    batches = iter(loader)
    next(batches)
    loader.load_state_dict(loader.state_at(96, epoch=4))
    with pytest.raises(RuntimeError, match="its state was changed"):
        next(batches)
    assert (loader.epoch, loader.remaining) == (4, 7)
    other = swt.loader(train, 16, world=sw.World())
    other.load_state_dict(loader.state_dict())
    assert labels(loader) == labels(other)


@pytest.mark.parametrize("threads", [0, 1])
def test_an_error_comes_after_the_batches_before_it_and_the_loader_stands_there(small, ahead, threads):
    seen: list[int] = []

    def transform(batch):
        seen.append(len(seen))
        if len(seen) == 3:
            raise DecodeError("the third batch")
        return batch

    loader = ahead(sw.open_dataset(str(small), split="train"), batch_size=16, transform=transform, threads=threads)
    batches = iter(loader)
    assert len([next(batches), next(batches)]) == 2
    with pytest.raises(DecodeError, match="the third batch"):
        next(batches)
    assert loader.state_dict()["samples_consumed"] == 32
    assert len(labels(loader)) == 203 - 3 - 32


ABSENT = """
import sys, shardwright as sw, shardwright.torch as swt
for options in ({"device": "cuda"}, {"pin_memory": True}, {"device": "meta", "pin_memory": True}):
    try:
        swt.loader(sw.open_dataset(sys.argv[1], split="train"), 16, **options)
    except sw.errors.ConfigError as error:
        print(error)
"""


def test_a_device_that_is_not_there_is_refused_at_once(small):
    [told] = run([["-c", ABSENT, str(small)]])  # with CUDA_VISIBLE_DEVICES empty
    assert "device cuda: PyTorch finds no CUDA device here; leave device= out" in told
    assert "pin_memory=True: PyTorch finds no CUDA device here to copy to" in told
    assert "pin_memory=True: for tensors of the CPU, found device='meta'" in told


def test_other_devices_get_plain_copies(small):
    [batch, *_] = swt.loader(sw.open_dataset(str(small), split="train"), 16, world=sw.World(), device="meta")
    assert (batch["image"].device.type, batch["image"].shape) == ("meta", (16, 8, 8))
