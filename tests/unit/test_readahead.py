"""Ranges that are fetched ahead: the right bytes whatever was asked for before, by threads that come and go."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shardwright.storage.readahead import HeldRanges, Spans

FILES = [np.random.default_rng(number).bytes(400) for number in range(2)]
SPAN = st.builds(
    lambda file, start, size: (file, start, min(start + size, 400)), st.integers(0, 1), st.integers(0, 390), st.integers(0, 60)
)
BATCH = st.lists(SPAN, min_size=1, max_size=8)


def spans(ranges):
    return Spans(*(np.array(numbers, np.int64) for numbers in zip(*ranges, strict=True)))


def fetch(file, start, stop):
    return FILES[file][start:stop]


@settings(deadline=None)
@given(st.lists(st.tuples(BATCH, st.booleans()), max_size=8), st.sampled_from([0, 3, 200]), st.sampled_from([50, 300, 4000]))
def test_the_right_bytes_whatever_is_here_already(batches, gap, limit):
    with HeldRanges(fetch, gap=gap, limit=limit) as held:
        for number, (ranges, ahead) in enumerate(batches):
            held.advance(number)
            if ahead:
                held.ask(spans(ranges), np.arange(len(ranges)) % 3 + number)
            assert [bytes(view) for view in held.views(spans(ranges))] == [fetch(*one) for one in ranges]


def test_a_range_that_begins_where_a_shorter_one_does():
    with HeldRanges(fetch, gap=20, limit=4000) as held:
        held.views(spans([(0, 50, 55)]))
        found = held.views(spans([(0, 40, 45), (0, 50, 60)]))
        assert [bytes(view) for view in found] == [fetch(0, 40, 45), fetch(0, 50, 60)]


def test_a_late_request_does_not_wait_for_one_in_flight():
    release = threading.Event()

    def slow(file, start, stop):
        if start == 0:
            release.wait(10)
        return fetch(file, start, stop)

    with HeldRanges(slow, gap=0, limit=4000) as held:
        held.ask(spans([(0, 0, 10)]), np.array([5]))
        time.sleep(0.05)  # a thread has taken it
        began = time.monotonic()
        assert bytes(held.views(spans([(0, 20, 30)]))[0]) == fetch(0, 20, 30)
        assert time.monotonic() - began < 5
        release.set()


def test_a_thread_reads_on_when_the_main_thread_has_ended():
    script = """
import threading, time
import numpy as np
from shardwright.storage.readahead import HeldRanges, Spans

def work():
    threading.main_thread().join()
    with HeldRanges(lambda file, start, stop: bytes(stop - start), gap=0, limit=100) as held:
        print(len(held.views(Spans(*np.array([[0], [5], [9]])))[0]))

threading.Thread(target=work).start()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("4\n", "")
