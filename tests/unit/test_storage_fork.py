"""A fork waits for reads of HDFS and for hdfs-native's connections; for nothing where there were none."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from shardwright.storage import hdfs_fork
from shardwright.storage.hdfs_fork import reading

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture(autouse=True)
def fresh() -> None:
    """As in a process that has not read."""
    hdfs_fork._gate.open_anew()


def forked(check: Callable[[], bool]) -> float:
    """Seconds that the fork took of a child in which `check` holds."""
    begun = time.monotonic()
    child = os.fork()
    if not child:
        os._exit(0 if check() else 1)
    seconds = time.monotonic() - begun
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return seconds


def can_read() -> bool:
    """Within a second; the thread that forked is the only one that a child has."""
    done = threading.Event()

    def read() -> None:
        with reading():
            done.set()

    threading.Thread(target=read, daemon=True).start()
    return done.wait(1)


def test_without_reads_a_fork_does_not_wait() -> None:
    assert max(forked(can_read) for _ in range(3)) < 1
    assert can_read()


def test_after_a_read_it_waits_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdfs_fork, "_KEPT_SECONDS", 1.5)
    with pytest.raises(ZeroDivisionError), reading():  # a read that fails is over as well
        raise ZeroDivisionError
    assert 1.4 < forked(can_read) < 6
    assert forked(can_read) < 1


def test_it_waits_for_reads_and_holds_new_ones_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdfs_fork, "_KEPT_SECONDS", 0.5)
    inside, done = threading.Event(), threading.Event()
    spans: list[tuple[float, float]] = []

    def keep_reading() -> None:
        while not done.is_set():
            with reading():
                inside.set()
                begun = time.monotonic()
                time.sleep(0.02)
                spans.append((begun, time.monotonic()))

    thread = threading.Thread(target=keep_reading)
    thread.start()
    assert inside.wait(10)
    forked(can_read)
    after = time.monotonic()
    while spans[-1][0] < after and time.monotonic() < after + 10:
        time.sleep(0.01)
    done.set()
    thread.join()
    pause = max(second[0] - first[1] for first, second in pairwise(spans))
    assert pause > 0.45  # none while the connections grew old
    assert spans[-1][0] > after  # and they went on


def test_a_read_that_never_ends_does_not_hold_it_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdfs_fork, "_LONGEST_READ_SECONDS", 0.3)
    inside, done = threading.Event(), threading.Event()

    def hang() -> None:
        with reading():
            inside.set()
            done.wait(30)

    thread = threading.Thread(target=hang)
    thread.start()
    assert inside.wait(10)
    assert 0.3 <= forked(can_read) < 5
    done.set()
    thread.join()
