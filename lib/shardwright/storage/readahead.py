"""Byte ranges of remote files, fetched by a few threads before they are used, and held within a limit of bytes."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from shardwright.errors import StorageError
from shardwright.storage.spans import coalesce

I64 = npt.NDArray[np.int64]
_THREADS = 8
"""Requests in flight: what small ones wait for is hidden behind others, and more bring nothing."""
_REQUEST_BYTES = 2**21
"""What a request grows to, of several in flight: ranges of 1 to 2 MiB came two to three times as fast as those of 8 MiB."""
_WAKE_SECONDS = 0.2
"""How often a thread that waits looks whether its bytes are still wanted."""
_FILE_BITS = 44
"""A place in any of the files is one number: the file's number, then 44 bits of offset."""


class Spans(NamedTuple):
    """Bytes [start, stop) of numbered files: three arrays, int64 (n,)."""

    files: I64
    starts: I64
    stops: I64

    @property
    def bytes(self) -> int:
        """Of all different ones."""
        begins, first = np.unique(self.begins, return_index=True)
        return int((self.ends[first] - begins).sum())

    @property
    def begins(self) -> I64:
        """Where each begins, as one number over all files: distances between such numbers of one file are bytes."""
        return (self.files << _FILE_BITS) + self.starts

    @property
    def ends(self) -> I64:
        """Where each ends, as one number over all files."""
        return (self.files << _FILE_BITS) + self.stops

    @staticmethod
    def join(many: list[Spans]) -> Spans:
        """One after the other."""
        return Spans(*(np.concatenate(arrays) for arrays in zip(*many, strict=True))) if many else Spans(*[_NONE] * 3)


_NONE = np.empty(0, np.int64)


class _Request:
    """A range that is asked for: queued, then with its bytes, or with the error that came in their place."""

    __slots__ = ("data", "error", "file", "start", "stop")

    def __init__(self, begin: int, end: int) -> None:
        self.file, self.start = begin >> _FILE_BITS, begin & ((1 << _FILE_BITS) - 1)
        self.stop = self.start + end - begin
        self.data: bytes | None = None
        self.error: BaseException | None = None


@dataclass(kw_only=True)
class Traffic:
    """What was asked for."""

    requests: int = 0
    bytes: int = 0
    held_bytes: int = 0
    """The most at a time, on their way or in memory."""


class HeldRanges:
    """Ranges that were asked for: on their way, or here until the room is needed and no later batch needs them.

    `fetch(file, start, stop)` gets bytes, in several threads. Neighbours at most `gap` bytes apart are one request. Used by one
    thread; after a fork the child asks for what is still on its way by threads of its own. `wanted` says whether to fetch on;
    without, that is while the interpreter or the thread that uses this runs. Batches are numbered: a range is kept until
    `advance` goes past the last batch that asked for it, then dropped when others need the room, the one that was needed
    longest ago first.
    """

    def __init__(
        self,
        fetch: Callable[[int, int, int], bytes],
        *,
        gap: int,
        limit: int,
        traffic: Traffic | None = None,
        wanted: Callable[[], bool] | None = None,
    ) -> None:
        self.limit, self._traffic = limit, Traffic() if traffic is None else traffic
        self._wanted = wanted
        self._fetch, self._gap, self._batch = fetch, gap, 0
        # one entry per request, ascending by where it begins; no two begin at the same place and have a gap asked for between
        self._begins, self._ends, self._until, self._addresses = (_NONE,) * 4
        self._entries: npt.NDArray[np.object_] = np.empty(0, object)
        self._queue: deque[_Request] = deque()
        self._closed = False
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ask for nothing more and let go of everything; requests in flight end by themselves, nobody waits for them."""
        self.cancel()
        self._keep(np.zeros(len(self._begins), bool))

    def cancel(self) -> None:
        """Ask for nothing more; who waits for bytes, in another thread, gets an error at once."""
        self._closed = True  # what is queued stays so: threads may be looking at it
        if self._process == os.getpid():
            with self._changed:
                self._changed.notify_all()

    def missing(self, spans: Spans) -> Spans:
        """Those of `spans` that were not asked for, or are no longer here."""
        absent = self._find(spans) < 0
        return Spans(*(array[absent] for array in spans))

    def fits(self, nbytes: int) -> bool:
        """Whether so many bytes can be asked for beside what is still needed; a quarter of the limit is left for the rest."""
        needed = (self._ends - self._begins)[self._until >= self._batch].sum()
        return bool(needed + nbytes <= self.limit - self.limit // 4)

    def advance(self, batch: int) -> None:
        """Batches before number `batch` are done with."""
        self._batch, self._user = batch, threading.current_thread()

    def ask(self, spans: Spans, batches: I64, *, at_once: bool = False) -> None:
        """Have `spans` fetched, in the order of the batches (n,) that need them first; `at_once`: before all asked so far."""
        self._check_process()
        found = self._find(spans)
        np.maximum.at(self._until, found[found >= 0], batches[found >= 0])
        absent = found < 0
        begins, ends, batches = spans.begins[absent], spans.ends[absent], batches[absent]
        if not len(begins):
            return
        asked = self._plan(begins, ends)
        which = np.searchsorted(asked[:, 0], begins, side="right") - 1
        first, last = np.full(len(asked), np.iinfo(np.int64).max), np.zeros(len(asked), np.int64)
        np.minimum.at(first, which, batches)
        np.maximum.at(last, which, batches)
        self._add(asked, last)
        fresh = self._entries[np.searchsorted(self._begins, asked[:, 0], side="right") - 1]
        queued = fresh[np.argsort(first, kind="stable")].tolist()
        if at_once:
            self._queue.extendleft(reversed(queued))
        else:
            self._queue.extend(queued)
        self._work_on()

    def bring(self, spans: Spans) -> I64:
        """Wait until `spans` are here, asked for or not: the entry of each. Raises what `fetch` raised."""
        self._check_process()
        found = self._find(spans)
        if (found < 0).any():
            self.ask(spans, np.full(len(found), self._batch), at_once=True)
            found = self._find(spans)
        for number in np.unique(found[self._addresses[found] < 0]).tolist():
            self._addresses[number] = _address(self._wait(self._entries[number]))
        return found

    def addresses(self, spans: Spans) -> I64:
        """Where the first byte of each of `spans` lies in memory, once they are here; valid until others are asked for."""
        found = self.bring(spans)
        return self._addresses[found] + (spans.begins - self._begins[found])

    def views(self, spans: Spans) -> list[memoryview]:
        """The bytes of each of `spans`, once they are here; a view keeps the whole request in memory."""
        found = self.bring(spans)
        shifts = spans.begins - self._begins[found]
        sizes = spans.stops - spans.starts
        places = zip(self._entries[found].tolist(), shifts.tolist(), sizes.tolist(), strict=True)
        return [memoryview(request.data)[shift : shift + size] for request, shift, size in places]

    def read(self, file: int, start: int, stop: int) -> bytes:
        """One range: from what was asked for, else fetched now and not held."""
        span = Spans(np.array([file]), np.array([start]), np.array([stop]))
        return bytes(self.views(span)[0]) if self._find(span)[0] >= 0 else self._fetch(file, start, stop)

    def _find(self, spans: Spans) -> I64:
        """The entry that each span lies in; -1: none."""
        found = np.searchsorted(self._begins, spans.begins, side="right") - 1
        inside = found >= 0
        inside[inside] = spans.ends[inside] <= self._ends[found[inside]]
        return np.where(inside, found, -1)

    def _plan(self, begins: I64, ends: I64) -> I64:
        """The requests for these spans, ascending, (m, 2): smaller gaps are read along where memory is tight."""
        order = np.lexsort((ends, begins))
        begins, ends = begins[order], ends[order]
        different = np.append(True, (begins[1:] != begins[:-1]) | (ends[1:] != ends[:-1]))
        begins, ends = begins[different], ends[different]
        # nothing that is here already is fetched along with a gap, nor a span together with one before it that would be found
        # in its place: one that is here and begins where it does, but is shorter
        barrier = np.searchsorted(self._begins, begins, side="right")
        runs = [0, *(np.flatnonzero(np.diff(barrier)) + 1).tolist(), len(begins)]
        pairs = list(zip(begins.tolist(), ends.tolist(), strict=True))
        gap, most = self._gap, max(_REQUEST_BYTES, 4 * self._gap)
        while True:
            asked = np.array([request for a, b in pairwise(runs) for request in coalesce(pairs[a:b], gap, most)], np.int64)
            if not gap or (asked[:, 1] - asked[:, 0]).sum() <= self.limit // 4:
                return asked
            gap //= 8

    def _add(self, asked: I64, until: I64) -> None:
        """Make room for the requests `asked`, and enter them."""
        sizes = self._ends - self._begins
        excess = int(sizes.sum() + (asked[:, 1] - asked[:, 0]).sum()) - self.limit
        if excess > 0:
            idle = np.flatnonzero(self._until < self._batch)
            idle = idle[np.argsort(self._until[idle], kind="stable")]
            drop = idle[: int(np.searchsorted(np.cumsum(sizes[idle]), excess)) + 1]
            keep = np.ones(len(sizes), bool)
            keep[drop] = False
            self._keep(keep)
        fresh = np.empty(len(asked), object)
        fresh[:] = [_Request(begin, end) for begin, end in asked.tolist()]
        begins, ends = np.concatenate([self._begins, asked[:, 0]]), np.concatenate([self._ends, asked[:, 1]])
        order = np.lexsort((ends, begins))
        self._begins, self._ends = begins[order], ends[order]
        self._until = np.concatenate([self._until, until])[order]
        self._addresses = np.concatenate([self._addresses, np.full(len(asked), -1)])[order]
        self._entries = np.concatenate([self._entries, fresh])[order]
        self._traffic.requests += len(asked)
        self._traffic.bytes += int((asked[:, 1] - asked[:, 0]).sum())
        self._traffic.held_bytes = max(self._traffic.held_bytes, int((self._ends - self._begins).sum()))

    def _keep(self, keep: npt.NDArray[np.bool_]) -> None:
        self._begins, self._ends, self._until = self._begins[keep], self._ends[keep], self._until[keep]
        self._addresses, self._entries = self._addresses[keep], self._entries[keep]

    def _start(self) -> None:
        """Threads and their lock belong to one process."""
        self._process, self._working = os.getpid(), 0
        self._changed = threading.Condition()
        self._user = threading.current_thread()

    def _check_process(self) -> None:
        if self._process != os.getpid():
            self._start()
            self._queue = deque(one for one in self._entries.tolist() if one.data is None and one.error is None)
            self._work_on()

    def _work_on(self) -> None:
        with self._changed:
            for _ in range(min(_THREADS - self._working, len(self._queue))):
                self._working += 1
                threading.Thread(target=self._work, name="shardwright-read").start()

    def _work(self) -> None:
        """Fetch what is queued, until nothing is; in a thread, which ends then."""
        while True:
            with self._changed:
                if self._closed or not self._queue or not self._used():
                    self._working -= 1
                    return
                request = self._queue.popleft()
            data, failure = None, None
            try:
                data = self._fetch(request.file, request.start, request.stop)
            except BaseException as error:  # noqa: BLE001 - raised where the bytes are needed
                failure = error
            with self._changed:
                request.data, request.error = data, failure
                self._changed.notify_all()

    def _used(self) -> bool:
        """Whether the interpreter goes on, or the thread that reads: else it should not wait for what nobody will read."""
        if self._wanted is not None:
            return self._wanted()
        return any(one.is_alive() for one in (threading.main_thread(), self._user) if not one.daemon)

    def _wait(self, request: _Request) -> bytes:
        with self._changed:
            while request.data is None and request.error is None:
                if self._closed or not (self._wanted is None or self._wanted()):
                    raise StorageError("closed while it was read from")
                self._changed.wait(None if self._wanted is None else _WAKE_SECONDS)
        if isinstance(request.error, Exception):
            raise request.error
        if request.data is None:
            raise StorageError(f"can't read: {request.error}") from request.error
        return request.data


def _address(data: bytes) -> int:
    place: int = np.frombuffer(data, np.uint8).__array_interface__["data"][0]
    return place
