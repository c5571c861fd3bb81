"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from shardwright.cli import main
from tests.datasets import digits, publish


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    root = tmp_path_factory.mktemp("cli") / "dataset"
    publish(root, {"train": digits(203), "validation": digits(50)}, standardise=["image"], quarantined=2)
    return root


@pytest.fixture
def copied(published, tmp_path):
    return shutil.copytree(published, tmp_path / "copy")


@pytest.fixture
def run(capsys):
    """Runs a command line: (exit code, stdout, stderr)."""

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return run


def test_inspect(run, published):
    code, out, err = run("inspect", published)
    assert (code, err) == (0, "")
    for expected in (
        f"{published} v000001", "content_id ", "train       200      4       50", "validation  48       4       12",
        "image  uint8  (8, 8)  npy", "(applied when read)", "remainder drop, blocks of 8 samples, windows of 3 blocks",
        "lineage: read 255 + padded 0 = published 248 + quarantined 2 + dropped 5 + carried 0 + filtered 0; parent none",
    ):  # fmt: skip
        assert expected in out


def test_inspect_as_json_and_an_order_that_was_kept(run, published, tmp_path):
    code, out, _ = run("inspect", published, "--json")
    assert (code, json.loads(out)) == (0, json.loads((published / "v000001/_manifest.json").read_bytes()))
    publish(tmp_path / "d", {"train": digits(8)}, order_by=("label",))
    assert "plan: in the order of label, seed 0, remainder drop" in run("inspect", tmp_path / "d")[1]


def test_head(run, published):
    code, out, _ = run("head", published, "-n", 2, "--split", "validation")
    assert code == 0
    assert out.startswith("v000001 validation: 48 samples\n")
    assert out.count("image: uint8 (8, 8) [") == 2
    assert "label: 1\n" in out
    assert "v000001 train" in run("head", published)[1]


def test_verify(run, published):
    code, out, err = run("verify", published)
    assert (code, err) == (0, "")
    assert out.splitlines() == [out.strip()]
    assert "v000001: as published; " in out
    assert "248 samples" in out


def damage(path, at=200):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_verify_lists_all_problems(run, copied):
    train = copied / "v000001/train"
    damage(train / "shard=00000/part-00000.parquet")
    short = train / "shard=00001/part-00001.parquet"
    short.write_bytes(short.read_bytes()[:-5])
    (train / "shard=00002/part-00000.parquet").unlink()
    damage(train / "shard=00003/_petastorm")
    damage(train / "shard=00003/_SHA256SUMS", 3)
    damage(train / "_common_metadata")
    (train / "shard=00003/part-00000.parquet.tmp").touch()
    (copied / "v000001/notes.txt").touch()
    (copied / "v000001/_quarantine/part-00000.parquet").unlink()
    code, out, _ = run("verify", copied)
    assert code == 1
    *problems, verdict = out.splitlines()
    assert sorted(problem.split(": ")[0] for problem in problems) == sorted(
        [
            "train/shard=00000/part-00000.parquet", "train/shard=00001/part-00001.parquet", "_quarantine", "notes.txt",
            "train/shard=00002/part-00000.parquet", "train/shard=00003/_petastorm", "train/shard=00003/_SHA256SUMS",
            "train/shard=00003/_SHA256SUMS", "train/_common_metadata", "train/shard=00003/part-00000.parquet.tmp",
        ]
    )  # fmt: skip
    for expected in (
        "part-00000.parquet: expected sha256 ", "part-00001.parquet: expected ", "shard=00002/part-00000.parquet: missing",
        "notes.txt: nobody published this file", "the manifest counts 2 rejected samples, its files hold 0",
    ):  # fmt: skip
        assert expected in out
    assert "v000001: 10 problems; " in verdict


@pytest.mark.parametrize("name", ["_manifest.json", "_index.parquet"])
def test_verify_says_when_manifest_or_index_is_damaged(run, copied, name):
    damage(copied / "v000001" / name, 900)
    code, out, _ = run("verify", copied)
    assert code == 1
    assert name in out.splitlines()[0]
    assert "1 problem; 0 files" in out


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["inspect", "nowhere"], 1, "error: no dataset at "),
        (["inspect", "{published}/_LATEST"], 1, "/_LATEST: expected the directory that holds _LATEST and v000001, …"),
        (["head", "{published}/v000001"], 1, "/v000001: expected the directory that holds _LATEST and v000001, …"),
        (
            ["head", "{published}", "--split", "trian"],
            1,
            "error: {published}/v000001 has no split 'trian': did you mean 'train'?",
        ),
        (
            ["verify", "{published}", "--version", "v000007"],
            1,
            "error: no version 'v000007' in {published}: versions there: v000001",
        ),
        (["verify"], 2, "Missing argument"),
        (["head", "{published}", "-n", "0"], 2, "-n"),
        (["prepair"], 2, "prepair"),
    ],
)
def test_errors(run, published, arguments, code, message):
    found, out, err = run(*[argument.format(published=published) for argument in arguments])
    assert (found, out) == (code, "")
    assert message.format(published=published) in err
    assert "Traceback" not in err
    if code == 1:
        assert err.count("\n") == 1


def test_debug_shows_the_trace(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "shardwright.cli", "inspect", str(tmp_path / "x"), "--debug"], capture_output=True, text=True,
        env={"PYTHONPATH": "lib"}, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "DatasetNotFoundError: no dataset at" in done.stderr


@pytest.mark.parametrize("statement", ["import shardwright", "import shardwright.cli, shardwright.reader"])
def test_importing_loads_nothing_heavy(statement):
    code = f"{statement}, sys; print([m for m in ('pyspark', 'torch', 'tensorflow', 'pandas', 'jax') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": "lib"}, check=True)
    assert done.stdout.strip() == "[]"
