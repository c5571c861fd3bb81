"""`shardwright bench`: what the limit is by construction of the dataset, the storage or the trainer."""

from __future__ import annotations

import json

import imagecodecs
import numpy as np
import pytest

import shardwright as sw
from shardwright.cli import main
from shardwright.cli.bench import verdict
from shardwright.errors import ConfigError
from shardwright.reader.bench import BenchOptions, Measured, Report, Speed, bench
from shardwright.schema import Field, Schema
from tests.datasets import publish
from tests.reader.slow_files import slow_files
from tests.reader.test_metrics import metrics

PICTURES = Schema(fields=(Field(name="picture", dtype="uint8", shape=(256, 256, 3), codec="image"),))
ARRAYS = Schema(fields=(Field(name="array", dtype="uint8", shape=(64, 64)), Field(name="label", dtype="int64", nullable=True)))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Noise, which takes milliseconds to decode and microseconds to read."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    root = tmp_path_factory.mktemp("bench") / "pictures"
    publish(root, {"train": {"picture": [bytes(imagecodecs.jpeg8_encode(noise))] * 64}}, PICTURES, standardise=["picture"])
    return root


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    root = tmp_path_factory.mktemp("bench") / "arrays"
    values = {"array": np.zeros((512, 64, 64), np.uint8), "label": list(range(512))}
    publish(root, {"train": values, "validation": values}, ARRAYS, part_samples=128, row_group_samples=64)
    return root


@pytest.fixture
def run(capsys):
    """Runs `shardwright bench`, quickly: (exit code, stdout, stderr)."""

    def run(*arguments, seconds=0.1):
        with pytest.raises(SystemExit) as caught:
            main(["bench", *map(str, arguments), "--seconds", str(seconds)])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return run


def test_pictures_are_limited_by_decoding(run, pictures):
    code, out, err = run(pictures, "--batch-size", 8, "--shuffle", "none", "--threads", 2, "--threads", 1)
    assert (code, err) == (0, "")
    assert f"{pictures} v000001 train: 64 samples of picture; batches of 8, shuffle='none', one rank" in out
    lines = out.splitlines()
    header = next(number for number, line in enumerate(lines) if line.startswith("threads "))
    assert [line.split()[0] for line in lines[header + 1 : header + 3]] == ["1", "2"]
    (said,) = [line for line in lines if " is the limit" in line]
    assert said.startswith("decoding is the limit: 1 thread ")
    (call,) = [line.strip() for line in lines if "dataset.loader(" in line]
    assert call.startswith(f"dataset.loader(batch_size=8, shuffle='none', threads={said[-1]})")


def test_a_slow_trainer_is_the_limit(run, pictures):
    """Its batch is ready after a step that is a hundred times as long as decoding it."""
    arguments = ("--batch-size", 1, "--threads", 1, "--step-ms", 500, "--normalise")
    code, out, _ = run(pictures, *arguments, seconds=1.2)
    assert code == 0
    assert "a trainer of 500 ms a step" in out
    assert "the trainer is the limit: it waits " in out
    assert "normalise=True, threads=1)" in out


def test_slow_storage_is_the_limit(run, arrays):
    with slow_files(0.02):
        code, out, _ = run(f"slow://{arrays}", "--columns", "array", "--shuffle", "global", "--threads", 1, "--batch-size", 16)
    assert code == 0
    for expected in ("storage is the limit: it gives ", "'window' fetches whole blocks", "cache='/a/local/disk'"):
        assert expected in out


def test_arrays_on_a_local_disk(run, arrays):
    code, out, _ = run(arrays, "--split", "validation", "--json", "--columns", "array", "--batch-size", 32)
    found = json.loads(out)
    assert code == 0
    assert found["limit"] in ("storage", "order"), "nothing is decoded"
    assert (found["url"], found["version"], found["split"], found["samples"]) == (str(arrays), "v000001", "validation", 512)
    assert (found["columns"], found["batch_size"], found["shuffle"], found["step_seconds"]) == (["array"], 32, "window", None)
    assert found["default_threads"] == 0
    assert [one["threads"] for one in found["measured"]] == found["threads"] == [0, 1]
    assert found["recommended_threads"] in (0, 1)
    for one in (*found["measured"], *found["storage"].values()):
        assert one["samples"] > 0
        assert one["bytes"] == 64 * 64 * one["samples"]
        assert one["samples_per_second"] == one["samples"] / one["seconds"]
    for one in found["measured"]:
        assert one["seconds"] >= 0.1
        assert set(one["shares"]) == set(metrics().seconds)
        assert 0 <= one["wait_share"] <= 1
    assert found["verdict"].partition(" is the limit")[1]


@pytest.mark.parametrize("dataset, bytes_of_one", [("arrays", 64 * 64 + 8), ("pictures", 10_000)])
def test_stored_bytes_are_counted(run, request, dataset, bytes_of_one):
    """Of gathered values, of row groups that are decompressed, and of pictures, that are no more than mapped before."""
    code, out, _ = run(request.getfixturevalue(dataset), "--json", "--split", "train", "--threads", 0)
    found = json.loads(out)["storage"]
    assert code == 0
    assert all(speed["bytes"] >= bytes_of_one * speed["samples"] > 0 for speed in found.values())


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (("--shuffle", "all"), 2, "shuffle: expected none, window or global, found 'all'"),
        (("--batch-size", 0), 2, "batch_size: expected at least 1, found 0"),
        (("--threads", -1, "--step-ms", -5), 2, "threads: expected at least 0, found -1\n  step: expected more than 0 "),
        (("--cache", "somewhere"), 2, "cache: "),
        (("--columns", "arrray"), 1, "no field 'arrray'; did you mean 'array'"),
        (("--split", "test"), 1, "has no split 'test'"),
        (("--normalise",), 1, "normalise=True: no field that is read is standardised"),
    ],
)
def test_options_that_cannot_be(run, arrays, arguments, code, message):
    found, out, err = run(arrays, *arguments)
    assert (found, out) == (code, "")
    assert message in err


def test_seconds_that_cannot_be(run, arrays):
    assert run(arrays, seconds=0)[0] == 2
    with pytest.raises(ConfigError, match="seconds: expected more than 0, found -1"):
        BenchOptions(seconds=-1)


def test_progress_is_told_before_each_measurement(arrays):
    told = []
    dataset = sw.open_dataset(arrays, split="train")
    bench(dataset, BenchOptions(seconds=0.01, threads=(1, 0)), progress=lambda *step: told.append(step))
    names = ["storage, the first time", "storage, again", "threads=0", "threads=1"]
    assert told == [(name, number, 4) for number, name in enumerate(names)]


def report(arrays, rows, *, storage=10_000, first=10_000, step_seconds=None):
    """Of speeds, wait shares and the stage that took most time, by threads."""
    speeds = [Speed(samples=speed, bytes=speed, seconds=1.0) for speed in (first, storage)]
    measured = tuple(
        Measured(
            threads=threads, speed=Speed(samples=speed, bytes=speed, seconds=1.0),
            metrics=metrics(wait=share, step=1 - share, **{stage: 1.0, "decode": 0.1}),
        )
        for threads, (speed, share, stage) in rows.items()
    )  # fmt: skip
    options = BenchOptions(threads=tuple(rows), step_seconds=step_seconds)
    return Report(
        dataset=sw.open_dataset(arrays, split="train"), options=options, default_threads=2, first=speeds[0], again=speeds[1],
        measured=measured,
    )  # fmt: skip


@pytest.mark.parametrize(
    "rows, step_seconds, limit, threads",
    [
        ({1: (1350, 1, "decode_wait"), 2: (2600, 1, "decode_wait")}, None, "decode", 2),
        ({1: (2500, 1, "decode_wait"), 2: (2600, 1, "decode_wait")}, None, "decode", 1),
        ({1: (9000, 1, "decode_wait"), 2: (9100, 1, "decode_wait")}, None, "storage", 1),
        ({0: (500, 1, "fetch"), 1: (600, 1, "fetch")}, None, "storage", 1),
        ({0: (500, 1, "order")}, None, "order", 0),
        ({1: (640, 0.2, "decode_wait"), 2: (700, 0.04, "decode_wait"), 4: (710, 0.03, "decode_wait")}, 0.1, "trainer", 2),
        ({1: (640, 0.5, "decode_wait"), 2: (700, 0.3, "decode_wait")}, 0.1, "decode", 2),
        ({1: (640, 0.01, "decode_wait")}, None, "decode", 1),
    ],
)
def test_what_the_figures_say(arrays, rows, step_seconds, limit, threads):
    found = report(arrays, rows, step_seconds=step_seconds)
    assert (found.limit, found.recommended.threads) == (limit, threads)
    assert verdict(found).count(f"use threads={threads}") == 1
    assert ("a trainer of 100 ms a step waits 30% of the time" in verdict(found)) == (
        found.recommended.metrics.wait_share == 0.3
    )


def test_pictures_are_cut_as_a_trainer_has_them(run, pictures, arrays):
    code, out, _ = run(pictures, "--crop", 8, "--threads", 1, "--json")
    assert code == 0
    (one,) = json.loads(out)["measured"]
    assert one["bytes"] == 8 * 8 * 3 * one["samples"]
    code, out, _ = run(pictures, "--crop", 8, "--threads", 1)
    assert 'decode={"picture": sw.RandomResizedCrop(8)}' in out
    code, _, error = run(arrays, "--split", "train", "--crop", 8)
    assert code == 2
    assert "has no encoded pictures; leave it out" in error


def test_the_verdict_has_the_figures(arrays):
    found = report(arrays, {1: (1350, 1, "decode_wait"), 2: (2600, 1, "decode_wait")}, storage=40_000)
    expected = "decoding is the limit: 1 thread 1,350, 2 threads 2,600 samples/s; storage could give 40,000: use threads=2"
    assert verdict(found) == expected
