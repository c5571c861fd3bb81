"""One publish at a time: a live owner's lock is respected, a dead one's taken over, a stolen one noticed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier, Timer
from typing import Any

import pytest

from shardwright.errors import LockedError
from shardwright.storage import LocalStorage, Lock
from shardwright.storage import lock as lock_module
from shardwright.storage.lock import BEAT_SECONDS, STALE_SECONDS


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "dataset")


@pytest.fixture(autouse=True)
def watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent lock is watched for so long."""
    monkeypatch.setattr(lock_module, "WATCH_SECONDS", 0.05)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A live process that is not this one."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def owner(pid: int, **changes: Any) -> dict[str, Any]:
    """What the lock of process `pid` on this host says."""
    here = lock_module._this_process()
    return {**here, "pid": pid, "start_time": lock_module._start_time(pid), "id": "theirs", **changes}


def put(storage: LocalStorage, held_by: dict[str, Any], age: float = 0) -> None:
    storage.make_directory()
    storage.write("_LOCK", json.dumps(held_by).encode())
    then = time.time() - age
    os.utime(storage.local_path("_LOCK"), (then, then))


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_held_and_given_back(storage: LocalStorage) -> None:
    with Lock(storage) as lock:
        found = json.loads(storage.read("_LOCK"))
        assert found["pid"] == os.getpid()
        assert set(found) == {"host", "boot_id", "pid", "start_time", "id"}
        lock.check()
    assert storage.names() == []
    with Lock(storage):
        pass


def test_given_back_after_an_error(storage: LocalStorage) -> None:
    with pytest.raises(ZeroDivisionError), Lock(storage):
        raise ZeroDivisionError
    assert storage.names() == []


def test_a_live_process_keeps_its_lock(storage: LocalStorage, stranger: subprocess.Popen[bytes]) -> None:
    put(storage, owner(stranger.pid))
    host = owner(stranger.pid)["host"]
    message = (
        f"another publish holds {storage.url}: process {stranger.pid} on {host}; "
        "wait for it to end (a dead owner's lock is taken over by itself)"
    )
    with pytest.raises(LockedError, match=f"^{re.escape(message)}$"), Lock(storage):
        pass
    assert json.loads(storage.read("_LOCK"))["pid"] == stranger.pid
    assert storage.names() == ["_LOCK"]


def test_waiting_for_it(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("shardwright.storage.lock.WAIT_SECONDS", 0.01)
    first = Lock(storage)
    first.__enter__()
    later = threading.Timer(0.3, first.__exit__, (None, None, None))
    later.start()
    with caplog.at_level("WARNING"), Lock(storage, wait_seconds=60) as second:
        second.check()
    later.join()
    (said,) = [record.message for record in caplog.records]
    assert re.fullmatch(rf"another publish holds .* process {os.getpid()} on .*; waiting, for \d+ s at most", said)
    with Lock(storage), pytest.raises(LockedError, match="another publish holds"), Lock(storage, wait_seconds=0.1):
        pass


def test_this_very_process_can_not_hold_it_twice(storage: LocalStorage) -> None:
    with Lock(storage) as first:
        with pytest.raises(LockedError, match=f"process {os.getpid()} on"), Lock(storage):
            pass
        first.check()


def _taken_over(storage: LocalStorage) -> bool:
    with ExitStack() as stack:
        try:
            stack.enter_context(Lock(storage)).check()
        except LockedError:
            return False
        assert json.loads(storage.read("_LOCK"))["pid"] == os.getpid()
    assert storage.names() == []
    return True


def test_a_dead_process_loses_it(storage: LocalStorage) -> None:
    put(storage, owner(dead_pid(), start_time="12345"))
    assert _taken_over(storage)


def test_a_later_process_of_the_same_number_is_another(storage: LocalStorage, stranger: subprocess.Popen[bytes]) -> None:
    put(storage, owner(stranger.pid, start_time="1"))
    assert _taken_over(storage)


def test_a_process_before_the_last_boot_is_dead(storage: LocalStorage, stranger: subprocess.Popen[bytes]) -> None:
    put(storage, owner(stranger.pid, boot_id="an older one"))
    assert _taken_over(storage)


@pytest.mark.parametrize("age, stale", [(STALE_SECONDS - 20, False), (STALE_SECONDS + 5, True)])
def test_a_minute_without_a_beat(storage: LocalStorage, stranger: subprocess.Popen[bytes], age: float, stale: bool) -> None:
    """Of a process that hangs, and of one on another host, of which nothing else is known."""
    put(storage, owner(stranger.pid), age)
    assert _taken_over(storage) is stale
    put(storage, owner(4, host="elsewhere", boot_id="other"), age)
    assert _taken_over(storage) is stale


def test_an_owner_that_beats_again_keeps_its_lock(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one whose storage was away for minutes, for itself as for the other that finds no beat."""
    put(storage, owner(4, host="elsewhere"), STALE_SECONDS + 5)
    monkeypatch.setattr(lock_module, "WATCH_SECONDS", 30)
    beat = Timer(0.3, storage.touch, ["_LOCK"])
    beat.start()
    assert not _taken_over(storage)
    beat.join()


def test_a_lock_that_was_taken_over_is_not_kept_fresh(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "BEAT_SECONDS", 0.01)
    with Lock(storage) as lock:
        put(storage, owner(4, host="elsewhere"), 1000)
        time.sleep(0.2)
        assert storage.age("_LOCK") > 900
        with pytest.raises(LockedError, match="process 4 on elsewhere"):
            lock.check()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null"])
def test_a_lock_that_says_nothing_lasts_a_minute(storage: LocalStorage, content: bytes) -> None:
    put(storage, {})
    storage.write("_LOCK", content)
    assert not _taken_over(storage)
    os.utime(storage.local_path("_LOCK"), (0, 0))
    assert _taken_over(storage)


def test_a_stolen_lock_is_noticed_and_left_to_the_thief(storage: LocalStorage, stranger: subprocess.Popen[bytes]) -> None:
    with Lock(storage) as lock:
        put(storage, owner(stranger.pid))
        with pytest.raises(LockedError, match=f"lost the lock of {storage.url} .*{stranger.pid}.*nothing was published"):
            lock.check()
    assert json.loads(storage.read("_LOCK"))["pid"] == stranger.pid


def test_a_lock_that_vanished_is_noticed(storage: LocalStorage) -> None:
    with Lock(storage) as lock:
        storage.delete("_LOCK")
        with pytest.raises(LockedError, match=r"lost the lock .*_LOCK is not there now: was the directory removed"):
            lock.check()


def test_it_beats(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    assert BEAT_SECONDS * 3 <= STALE_SECONDS
    monkeypatch.setattr(lock_module, "BEAT_SECONDS", 0.01)
    with Lock(storage):
        os.utime(storage.local_path("_LOCK"), (0, 0))
        until = time.monotonic() + 10
        while storage.age("_LOCK") > STALE_SECONDS and time.monotonic() < until:
            time.sleep(0.01)
        assert storage.age("_LOCK") < STALE_SECONDS


def test_a_slow_one_leaves_the_winner_its_lock(storage: LocalStorage) -> None:
    """It found the lock stale, then slept while another took over, and longer, until a third holds it."""
    put(storage, owner(dead_pid(), start_time="1"))
    slow = Lock(storage)
    stale = slow._stale_lock()
    assert stale is not None
    with Lock(storage) as second:
        slow._put_aside(stale)
        second.check()
    with Lock(storage) as third:
        slow._put_aside(stale)
        third.check()
        with pytest.raises(LockedError, match="another publish holds"), slow:
            pass
    assert storage.names() == []


def test_of_many_that_find_a_stale_lock_one_wins(storage: LocalStorage) -> None:
    put(storage, owner(dead_pid(), start_time="1"))
    barrier = Barrier(6, timeout=30)

    def publish(_number: int) -> bool:
        """Whether this one would publish; all of them hold on until each has tried to enter."""
        with ExitStack() as stack:
            lock = Lock(storage)
            barrier.wait()
            try:
                stack.enter_context(lock)
                entered = True
            except LockedError:
                entered = False
            barrier.wait()
            try:
                lock.check()  # as before the publishing rename
            except LockedError:
                return False
            finally:
                barrier.wait()
            return entered

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(publish, range(6))) == 1
    assert storage.names() == []
