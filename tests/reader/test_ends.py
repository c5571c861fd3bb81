"""However a program ends that has loaders open, it ends at once, with its own exit code, and leaves no thread."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from shardwright.reader.cache import RecentlyUsed

BEGIN = """
import gc, multiprocessing, os, signal, sys, threading, time
import shardwright as sw

signal.signal(signal.SIGINT, signal.default_int_handler)
train = sw.open_dataset(sys.argv[1], split="train")


def slow(batch):
    print("made", flush=True)
    time.sleep(0.3)
    return batch


def wait_for_threads():
    deadline = time.monotonic() + 20
    while left := [thread for thread in threading.enumerate() if thread.name.startswith("shardwright")]:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)

"""


def begin(small: Path, script: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BEGIN + script, str(small)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, stdout, stderr; a process that hangs is killed, and that is a failure."""
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    return process.returncode, out, err


@pytest.mark.parametrize("threads", [0, 2])
def test_ctrl_c_while_a_batch_is_made(small: Path, threads: int) -> None:
    process = begin(small, f"for batch in train.loader(batch_size=1, threads={threads}, transform=slow): pass")
    assert process.stdout is not None
    assert process.stdout.readline() == "made\n"
    process.send_signal(signal.SIGINT)
    code, out, err = end(process)
    assert code == -signal.SIGINT, err
    assert err.splitlines()[-1] == "KeyboardInterrupt"
    assert out.count("made") < 9  # of 200
    assert "Exception in thread" not in err
    assert "Exception ignored" not in err


def test_ctrl_c_that_is_caught_leaves_the_loader_after_its_last_batch(small: Path) -> None:
    script = """
loader = train.loader(batch_size=5, threads=2, transform=slow)
seen = []
try:
    for batch in loader:
        seen += batch["label"].tolist()
        if len(seen) == 10:
            os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    assert loader.state_dict()["samples_consumed"] == len(seen)
    wait_for_threads()
    seen += next(iter(loader))["label"].tolist()
    assert len(set(seen)) == 15
    wait_for_threads()
    print("went on")
"""
    code, out, err = end(begin(small, script))
    assert code == 0, err
    assert "went on" in out


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize(
    "ending, expected",
    [
        ("held = iterator", 0),
        ("del iterator; wait_for_threads()", 0),
        ("iterator.close(); wait_for_threads()", 0),
        ("cycle = [iterator]; cycle.append(cycle); del iterator, cycle; gc.collect(); wait_for_threads()", 0),
        ("sys.exit(3)", 3),
        ("raise ValueError('of the trainer')", 1),
        ("threading.Thread(target=list, args=(train.loader(batch_size=50),)).start()", 0),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    ],
)
def test_an_iterator_that_is_never_finished(small: Path, ending: str, expected: int, threads: int) -> None:
    script = f"""
other = iter(train.loader(batch_size=7, seed=1, threads={threads}, normalise=True))
next(other)
iterator = iter(train.loader(batch_size=1, threads={threads}, transform=slow))
next(iterator)
{"other = None" if "wait" in ending else ""}
{ending}
"""
    code, out, err = end(begin(small, script))
    assert code == expected, err
    assert out.count("made") < 9
    assert err == "" or (code == 1 and err.splitlines()[-1] == "ValueError: of the trainer")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="fork is what Linux starts processes with")
def test_children_end_with_their_own_code_and_the_parent_goes_on(small: Path) -> None:
    script = """
def rest(batches):
    print("child", sorted(label for batch in batches for label in batch["label"].tolist()) == expected, flush=True)
    sys.exit(4)

def nothing():
    pass

expected = sorted(label for batch in list(train.loader(batch_size=10))[1:] for label in batch["label"].tolist())
fork = multiprocessing.get_context("fork")
batches = iter(train.loader(batch_size=10, threads=2, transform=lambda batch: batch))
next(batches)
for work, code in ((lambda: rest(batches), 4), (nothing, 0)):
    child = fork.Process(target=work)
    child.start()
    child.join(30)
    print(child.exitcode == code)
print("parent", sorted(label for batch in batches for label in batch["label"].tolist()) == expected)
"""
    code, out, err = end(begin(small, script))
    assert (code, out.splitlines()) == (0, ["child True", "True", "True", "parent True"]), err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_while_a_thread_is_in_the_cache() -> None:
    cache, inside, leave = RecentlyUsed(100), threading.Event(), threading.Event()

    def size(value: int) -> int:
        inside.set()
        leave.wait(30)
        return 1

    def child(work: Callable[[], object]) -> int:
        if (pid := os.fork()) == 0:
            signal.alarm(20)  # ends a child that hangs
            work()
            os._exit(0)
        return os.waitpid(pid, 0)[1]

    thread = threading.Thread(target=lambda: cache.get("one", lambda: 1, size))
    thread.start()
    assert inside.wait(30)
    try:
        assert child(lambda: cache.get("two", lambda: 2, lambda value: 1)) == 0
    finally:
        leave.set()
        thread.join()
    assert cache.get("one", lambda: 3, lambda value: 1) == 1
