"""Whether a process grows: its memory as it reads on, and the slope of that with its standard error."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np


class Held(NamedTuple):
    """What a process holds. Private memory is what it can't give back: pages of mapped files are not among it."""

    seconds: float
    private: int
    resident: int
    descriptors: int
    threads: int
    maps: int


def held() -> Held:
    """By this process, now."""
    words = (line.split() for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    memory = {name[0].rstrip(":"): int(name[1]) * 1024 for name in words if len(name) == 3 and name[2] == "kB"}
    maps = Path("/proc/self/maps").read_bytes().count(b"\n")
    return Held(
        seconds=time.monotonic(), private=memory["RssAnon"], resident=memory["VmRSS"],
        descriptors=len(os.listdir("/proc/self/fd")), threads=threading.active_count(), maps=maps,
    )  # fmt: skip


def at_rest() -> Held:
    """What is held when the threads of loaders that were left have ended."""
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("shardwright") for thread in threading.enumerate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"threads are left: {threading.enumerate()}")
        time.sleep(0.005)
    gc.collect()
    return held()


FEW_ARENAS = {"MALLOC_ARENA_MAX": "2"}
"""The environment of a process whose memory is to be seen: glibc keeps up to 64 MiB of freed memory in each of its arenas, of
which threads, new ones for each epoch, fill eight a processor by and by. What leaks does so with two as well."""


def trim() -> None:
    """Have glibc give back what it can of freed memory."""
    with contextlib.suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


class Watch(threading.Thread):
    """Notes what this process holds every `seconds`; a context that ends with it."""

    def __init__(self, seconds: float) -> None:
        super().__init__(daemon=True)
        self.noted: list[Held] = []
        self._seconds, self._over = seconds, threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        """Note until the context ends."""
        while not self._over.wait(self._seconds):
            self.noted.append(held())


@dataclass(frozen=True)
class Slope:
    """A straight line's slope by least squares, and its standard error."""

    value: float
    error: float

    def below(self, bound: float) -> bool:
        """Whether it is not above `bound` by more than two standard errors."""
        return self.value - 2 * self.error <= bound


def slope(times: Sequence[float], values: Sequence[float]) -> Slope:
    """Of values (n,) at times (n,), n at least 3."""
    x, y = np.asarray(times, float) - np.mean(times), np.asarray(values, float) - np.mean(values)
    spread = float(x @ x)
    value = float(x @ y) / spread
    rest = y - value * x
    return Slope(value, math.sqrt(float(rest @ rest) / (len(x) - 2) / spread))
