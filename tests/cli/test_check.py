"""`shardwright check`: what a dataset of another system is, what is wrong with it, and what migration would make of it."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardwright.cli import main
from shardwright.format.common_metadata import ROW_GROUPS_KEY, UNISCHEMA_KEY
from tests.datasets import digits, publish
from tests.petastorm.stored import DATA
from tests.petastorm.written import NDARRAY, unischema, unischema_field, write_dataset


def check(capsys: pytest.CaptureFixture[str], url: Path, *options: str) -> tuple[int, dict[str, Any]]:
    with pytest.raises(SystemExit) as ended:
        main(["check", str(url), "--json", *options])
    found = json.loads(capsys.readouterr().out)
    return int(ended.value.code or 0), found


def problems(found: dict[str, Any]) -> list[str]:
    return [f"{one['about']}: {one['found']}" for one in found["findings"] if one["level"] == "problem"]


def keys(counts: dict[str, int]) -> dict[str, bytes]:
    return {ROW_GROUPS_KEY: json.dumps(counts).encode()}


TABLE = pa.table({"x": [1, 2, 3, 4]})
PICKLED = unischema(unischema_field("x", "int64"))


def test_a_healthy_petastorm_dataset(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = check(capsys, DATA / "arrays/data", "--ranks", "2")
    assert (code, found["kind"], found["healthy"]) == (0, "petastorm", True)
    assert (found["files"], found["rows"], found["row_groups"]) == (2, 12, 2)
    fields = {field["name"]: field for field in found["fields"]}
    assert len(fields) == 14
    assert fields["mat"]["before"] == "float64 (2, 3) (compressed_ndarray)"
    assert fields["strs"] == {
        "name": "strs", "before": "str_ (?,) (ndarray)", "after": "string", "note": "array of text as JSON",
    }  # fmt: skip
    assert found["migrate"] == f"./spark-submit.sh jobs/migrate.py {DATA / 'arrays/data'} --output URL --shards N"


def test_as_people_read_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check", str(DATA / "partitioned/data"), "--ranks", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert ended.value.code == 1
    assert lines[0].endswith("a Petastorm dataset, 3 files, 4.5 KiB, 24 rows, 3 row groups")
    assert any(line.startswith("problem  2 ranks: get 8 to 16 rows") for line in lines)
    assert any(line.split()[:4] == ["split", "str_", "(StringType)", "string"] for line in lines)
    assert "1 problems" in lines


def test_ranks_and_row_groups(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    root = write_dataset(tmp_path, PICKLED, {"p.parquet": TABLE}, keys({"p.parquet": 4}), row_group_size=1)
    assert check(capsys, root, "--ranks", "4")[0] == 0
    assert check(capsys, root)[0] == 0
    code, found = check(capsys, root, "--ranks", "3")
    assert code == 1
    assert problems(found) == ["3 ranks: get 1 to 2 rows: they don't end an epoch together"]
    assert "more than the 4 row groups" in problems(check(capsys, root, "--ranks", "5")[1])[0]


def test_a_hostile_pickle_is_named_and_not_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    pickled = b"c__builtin__\neval\n(Vopen('" + str(marker).encode() + b"', 'w')\ntR."
    root = write_dataset(tmp_path / "in", pickled, {"p.parquet": TABLE}, keys({"p.parquet": 1}))
    code, found = check(capsys, root)
    assert code == 1
    assert not marker.exists()
    assert "the pickle names '__builtin__.eval'" in problems(found)[0]
    assert found["migrate"].endswith("--shards N --format parquet")
    assert [(field["name"], field["after"]) for field in found["fields"]] == [("x", "int64")]


DAMAGE: dict[str, tuple[dict[str, Any], str]] = {
    "a part that is not listed": ({"counts": {}}, "1 files: not in the list of row groups, at which stock Petastorm fails"),
    "a part that is gone": ({"counts": {"p.parquet": 2, "q.parquet": 1}}, "1 files: in the list of row groups, and not there"),
    "another count": ({"counts": {"p.parquet": 3}}, "1 files: of another number of row groups than the list says: 'p.parquet'"),
    "no list": ({"counts": None}, f"_common_metadata: no key {ROW_GROUPS_KEY}: stock Petastorm refuses the dataset"),
    "a path that leads out": ({"counts": {"../p.parquet": 1}}, "_common_metadata: .*expected plain paths below the dataset"),
    "an empty row group": ({"rows": 0, "counts": {"p.parquet": 1}}, "1 files: with a row group without rows"),
    "damaged metadata": ({"cut": "_common_metadata"}, "_common_metadata: .*expected a Parquet file, found a damaged one"),
    "a damaged part": ({"more": "q.parquet", "cut": "q.parquet"}, "q.parquet: .*expected a Parquet file"),
    "other columns": ({"more": "q.parquet", "column": "z"}, "1 files: other columns or types than p.parquet: 'q.parquet'"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_wrong(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    how, told = DAMAGE[name]
    table = TABLE.slice(0, how.get("rows", 4))
    counts = how.get("counts", {"p.parquet": 2, **({how["more"]: 1} if "more" in how else {})})
    root = write_dataset(
        tmp_path, PICKLED, {"p.parquet": table}, keys(counts) if counts is not None else None, row_group_size=2
    )
    if not how.get("rows", 4):  # a file with one row group, of no rows
        with pq.ParquetWriter(root / "p.parquet", table.schema) as writer:
            writer.write_table(table)
            writer.write_batch(table.to_batches()[0] if table.num_rows else pa.RecordBatch.from_pylist([], table.schema))
    if "more" in how:
        pq.write_table(pa.table({how.get("column", "x"): [5, 6]}), root / how["more"])
    if "cut" in how:
        (root / how["cut"]).write_bytes((root / how["cut"]).read_bytes()[:-5])
    code, found = check(capsys, root)
    assert code == 1
    assert any(_matches(told, problem) for problem in problems(found)), problems(found)


def _matches(told: str, problem: str) -> bool:
    about, _, rest = told.partition(": .*")
    return problem.startswith(about) and rest in problem if rest else problem.startswith(told)


def test_a_field_that_can_not_be_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pickled = unischema(unischema_field("x", "int64"), unischema_field("c", "complex64", NDARRAY, (2,)))
    table = pa.table({"x": [1], "c": [b""], "left out": ["a"]})
    code, found = check(capsys, write_dataset(tmp_path, pickled, {"p.parquet": table}, keys({"p.parquet": 1})))
    assert code == 1
    assert problems(found) == ["field 'c': can't be one here: complex64 in an array"]
    assert found["migrate"].endswith("--shards N --columns x")
    assert any(one["level"] == "warning" and "'left out'" in one["found"] for one in found["findings"])


def test_plain_parquet(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = check(capsys, DATA / "plain/data")
    assert (code, found["kind"]) == (0, "parquet")
    assert {field["name"]: field["after"] for field in found["fields"]} == {
        "id": "int64", "f": "float32", "s": "string", "v": "float32 (?,)", "ni": "int32 or null", "bin": "bytes",
        "ts": "timestamp",
    }  # fmt: skip


def test_metadata_of_others_is_no_petastorm(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Spark writes `_common_metadata` too, without its keys."""
    root = write_dataset(tmp_path, None, {"p.parquet": TABLE})
    assert check(capsys, root)[1]["kind"] == "parquet"
    (root / "_common_metadata").unlink()
    write_dataset(root, None, {"p.parquet": TABLE}, {UNISCHEMA_KEY: PICKLED})
    assert check(capsys, root)[1]["kind"] == "petastorm"


def test_a_glob_of_a_petastorm_dataset_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    for path in ("*.parquet", "part-00000-*"):
        assert check(capsys, DATA / "arrays/data" / path)[1]["kind"] == "petastorm"


def test_mds(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shard = {"samples": 3, "raw_data": {"basename": "shard.00000.mds", "bytes": 10}, "zip_data": None}
    (tmp_path / "index.json").write_text(json.dumps({"version": 2, "shards": [shard]}))
    (tmp_path / "shard.00000.mds").write_bytes(bytes(10))
    _, found = check(capsys, tmp_path)
    assert (found["kind"], found["rows"]) == ("mds", 3)
    assert not any("which is not there" in problem for problem in problems(found))
    (tmp_path / "shard.00000.mds").write_bytes(bytes(9))
    code, found = check(capsys, tmp_path)
    assert code == 1
    assert any("lists shard.00000.mds, which is not there in that size" in problem for problem in problems(found))


def test_webdataset(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with tarfile.open(tmp_path / "x-000000.tar", "w") as tar:
        tar.add(tmp_path / "a.txt", "0.txt")
    (tmp_path / "a.txt").unlink()
    _, found = check(capsys, tmp_path)
    assert found["kind"] == "webdataset"
    assert not any("empty" in problem for problem in problems(found))
    (tmp_path / "x-000001.tar").touch()
    code, found = check(capsys, tmp_path)
    assert code == 1
    assert "x-000001.tar: an empty file" in problems(found)


def test_our_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    publish(tmp_path / "d", {"train": digits(16)}, shards=2)
    code, found = check(capsys, tmp_path / "d")
    assert (code, found["kind"], found["migrate"]) == (0, "shardwright", None)
    shutil.rmtree(tmp_path / "d/v000001/train/shard=00000")
    assert check(capsys, tmp_path / "d")[0] == 1


def test_what_is_none_of_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello, this is no dataset")
    (tmp_path / "index.json").write_text('{"version": 1}')
    with pytest.raises(SystemExit) as ended:
        main(["check", str(tmp_path)])
    assert ended.value.code == 1
    assert "expected a folder with _common_metadata (Petastorm), Parquet files" in capsys.readouterr().err
