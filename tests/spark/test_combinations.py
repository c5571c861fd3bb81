"""Options together: of every sample it is known what became of it, and the result is the same however the work is cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import shardwright as sw
from shardwright.config import Config
from shardwright.errors import BalanceError
from shardwright.reader.verify import verify
from shardwright.spark import prepare
from shardwright.spark.reshard import ReshardOptions, open_reshard, reshard
from shardwright.stages.publish import Published
from shardwright.stages.standardise import collector
from tests.spark.mnist import tree

pytestmark = pytest.mark.usefixtures("spark")

ROWS = 211


def write_table(folder: Path, files: int) -> Path:
    """Rows with nulls, NaN, ties, copies of whole rows (equal ids) and too long strings, in `files` files and another order."""
    rng = np.random.default_rng(11)
    source = np.arange(ROWS) - np.where(np.arange(ROWS) % 10 == 9, 1, 0)  # every tenth is a copy of the one before
    values = rng.normal(0, 9, (ROWS, 3)).astype("f4")
    values[::37, 1] = np.nan
    time = [None if row % 41 == 5 else int(row % 13) for row in range(ROWS)]
    name = ["n" * 70 if row % 53 == 7 else f"n{row % 9}" for row in range(ROWS)]
    order = np.random.default_rng(files).permutation(ROWS)
    rows = source[order]
    table = pa.table(
        {
            "id": pa.array(rows), "label": pa.array(rows % 5 % 4),
            "vector": pa.array(values[rows].tolist(), pa.list_(pa.float32())),
            "time": pa.array([time[row] for row in rows], pa.int64()), "name": pa.array([name[row] for row in rows]),
            "stage": pa.array([f"s{row % 3}" for row in rows]),
            "home": pa.array([["train", "test", "no name"][row % 20 // 9] for row in rows]),
        }
    )  # fmt: skip
    folder.mkdir(parents=True)
    for number, part in enumerate(np.array_split(np.arange(ROWS), files)):
        pq.write_table(table.take(part), folder / f"{files - number}.parquet", row_group_size=19)
    return folder


def choose(batch: Mapping[str, npt.NDArray[Any]], keys: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
    """A map: leaves some out, refuses some, raises for some, and changes a field."""
    if (batch["id"] == 66).any():
        raise ValueError("sixty-six")
    reasons = np.full(len(keys), None, object)
    reasons[batch["id"] % 17 == 4] = "refused"
    return {"_keep": keys[:, 0] % 8 != 0, "_reject": reasons, "label": batch["label"] * 2}


MAP = [{"function": "tests.spark.test_combinations:choose"}]
FRACTIONS = {"train": 0.7, "validation": 0.2, "test": 0.1}
AT_WRITE = {"vector": {"method": "mean_std", "at": "write"}, "name": {"method": "vocabulary", "min_count": 2}}
SMALL_PARTS = {"part_bytes": 900, "row_group_bytes": 300}
CASES: dict[str, dict[str, Any]] = {
    "map, stratify, carry, at write": {
        "map": MAP, "split": {"fractions": FRACTIONS, "stratify": "label"}, "standardise": {"features": AT_WRITE},
        "shard": {"count": 4, "per_split": {"test": 3, "validation": 1}, "remainder": "carry", **SMALL_PARTS},
    },
    "group, pad, one-hot, values encoded": {
        "split": {"fractions": FRACTIONS, "group": "name", "seed": 4},
        "standardise": {"features": {"stage": "one_hot", "vector": {"method": "robust", "at": "write", "per": "field"}}},
        "compress": {"columns": "gzip", "fields": {"vector": "float16", "id": "zstd", "name": "lz4"}},
        "shard": {"count": 7, "per_split": {"test": 2}, "remainder": "pad", **SMALL_PARTS},
    },
    "map, order, carry": {
        "map": MAP, "read": {"key": ["label", "time"], "duplicate_keys": "keep"},
        "split": {"fractions": {"train": 0.6, "validation": 0.4}, "stratify": "label"},
        "shard": {"count": 5, "order": "keep", "order_by": ["name", "time"], "remainder": "carry", **SMALL_PARTS},
    },
    "column, drop, robust at read": {
        "split": {"column": "home"},
        "standardise": {"features": {"vector": "robust", "label": {"method": "min_max", "at": "write"}}},
        "compress": {"columns": "snappy"}, "shard": {"count": 6, **SMALL_PARTS},
    },
    "map, pad, order by ties": {
        "map": MAP, "standardise": {"features": AT_WRITE},
        "shard": {"count": 9, "order": "keep", "order_by": ["label"], "remainder": "pad", **SMALL_PARTS},
    },
}  # fmt: skip


def run(source: Path, output: Path, tables: Mapping[str, Any], task_bytes: int = 2**27) -> Published:
    read = {
        "format": "parquet", "path": str(source), "task_bytes": task_bytes,
        "fields": {"vector": {"dtype": "float32", "shape": [3]}, "time": {"dtype": "int64", "nullable": True}},
    } | tables.get("read", {})  # fmt: skip
    rest = {name: table for name, table in tables.items() if name != "read"}
    values = {"name": "t", "read": read, "clean": {"max_rejected": 1.0}, "publish": {"path": str(output)}, **rest}
    return prepare(Config.model_validate(values), quiet=True)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Published]:
    source = write_table(tmp_path_factory.mktemp("combinations") / "in", 1)
    return {name: run(source, source.parent / str(number), CASES[name]) for number, name in enumerate(CASES)}


def ids(published: Published) -> dict[str, Counter[int]]:
    """The ids of the samples of each fate, as they lie there."""
    root = Path(published.url) / published.version
    stored: Counter[int] = Counter()
    for path in root.glob("*/shard=*/part-*.parquet"):
        for row in pq.ParquetFile(path).read().to_pylist():
            stored[row["id"]] += not row.get("_pad", False)
    quarantined = Counter(pq.read_table(root / "_quarantine")["sample_id"].to_pylist())
    carried: Counter[int] = Counter()
    for file in published.manifest.lineage.carried:
        carried += Counter(pq.ParquetFile(root / file.name).read()["id"].to_pylist())
    return {"published": +stored, "quarantined": quarantined, "carried": carried}


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_lost_or_doubled(published: dict[str, Published], tmp_path: Path, case: str) -> None:
    found, counts = ids(published[case]), published[case].manifest.lineage.counts
    table = pq.read_table(write_table(tmp_path / "in", 1))
    given = Counter(table["id"].to_pylist())
    assert counts.read == ROWS
    assert sum(found["published"].values()) == counts.published - counts.padded
    assert (sum(found["quarantined"].values()), sum(found["carried"].values())) == (counts.quarantined, counts.carried)
    together = found["published"] + found["quarantined"] + found["carried"]
    assert together <= given
    assert (given - together).total() == counts.dropped + counts.filtered
    assert counts.quarantined > 0
    tables = CASES[case]
    assert (counts.filtered > 0) == ("map" in tables)
    assert (counts.carried > 0) == (tables["shard"].get("remainder") == "carry")
    assert (counts.padded > 0) == (tables["shard"].get("remainder") == "pad")
    rows = pq.read_table(Path(published[case].url) / "v000001/_quarantine").to_pylist()
    original = {row["id"]: row for row in table.to_pylist()}
    for row in rows:  # as they were read, whatever stage refused them
        sample = {name: row[f"sample_{name}"] for name in table.column_names}
        np.testing.assert_equal(sample, original[row["sample_id"]])


@pytest.mark.parametrize("case", CASES)
def test_the_same_however_it_is_cut(published: dict[str, Published], tmp_path: Path, case: str) -> None:
    again, first = run(write_table(tmp_path / "in", 5), tmp_path / "out", CASES[case], task_bytes=1), published[case]
    assert again.manifest.content == first.manifest.content
    assert again.manifest.lineage.counts == first.manifest.lineage.counts
    carried = {file.name for file in again.manifest.lineage.carried}  # these name their files
    mine, theirs = (tree(Path(one.url)) for one in (again, first))
    assert {name: mine[name] for name in mine.keys() - carried} == {name: theirs[name] for name in theirs.keys() - carried}
    assert ids(again) == ids(first)
    assert verify(again.url, collector=collector).problems == []


@pytest.mark.parametrize("case", ["map, stratify, carry, at write", "map, order, carry"])
def test_cut_into_others_and_back(published: dict[str, Published], tmp_path: Path, case: str) -> None:
    first = published[case]
    encoded = any(transform.at == "write" for transform in first.manifest.content.transforms)
    few = cut(first.url, tmp_path / "few", shards=2, remainder="spread", seed=3)
    found = ids(first)
    taken = found["published"] + (Counter() if encoded else found["carried"])
    assert ids_of(few) == taken
    other = cut(first.url, tmp_path / "other", shards=3, remainder="spread", seed=8, where="id < 100")
    assert ids_of(other) == Counter({number: count for number, count in taken.items() if number < 100})
    again = cut(few.url, tmp_path / "again", shards=3, remainder="spread", seed=8, where="id < 100")
    assert again.manifest.content_id == other.manifest.content_id  # whatever order the source is in


def cut(url: str, output: Path, **options: Any) -> Published:
    done = reshard(open_reshard([url], ReshardOptions(**options)), str(output), quiet=True)
    assert verify(str(output), collector=collector).problems == []
    return done


def ids_of(published: Published) -> Counter[int]:
    splits = published.manifest.content.splits
    return Counter(int(row["id"]) for split in splits for row in sw.open_dataset(published.url, split=split, columns=["id"]))


def test_a_split_without_samples_is_told(tmp_path: Path) -> None:
    tables = {"split": {"fractions": {"train": 0.998, "rare": 0.001, "test": 0.001}}, "shard": {"count": 2}}
    with pytest.raises(BalanceError, match=r"'rare' has 0 for 2, 'test' has 0 for 2; lower shard\.count"):
        run(write_table(tmp_path / "in", 1), tmp_path / "out", tables)
    assert not list((tmp_path / "out").glob("v0*"))


def test_a_filter_that_leaves_nothing_of_a_split_is_told(published: dict[str, Published], tmp_path: Path) -> None:
    url = published["group, pad, one-hot, values encoded"].url
    wanted = next(int(row["id"]) for row in sw.open_dataset(url, split="test", columns=["id"]))
    with pytest.raises(BalanceError, match=r"'train' has 0 for 1, 'validation' has 0 for 1; .*--splits"):
        cut(url, tmp_path / "out", shards=1, where=f"id == {wanted}")


@pytest.mark.parametrize("split", [{}, {"fractions": {"train": 1.0}, "stratify": "label"}])
def test_one_sample(tmp_path: Path, split: dict[str, Any]) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(pq.read_table(write_table(tmp_path / "all", 1)).slice(3, 1), tmp_path / "in/a.parquet")
    features = {"label": {"method": "robust", "at": "write"}, "name": "one_hot"}
    made = run(
        tmp_path / "in", tmp_path / "out", {"split": split, "standardise": {"features": features}, "shard": {"count": 1}}
    )
    (sample,) = sw.open_dataset(made.url, split="train")
    assert (sample["label"], sample["name"].tolist()) == (0, [1])
    assert verify(made.url, collector=collector).problems == []


def test_a_map_that_leaves_nothing(tmp_path: Path) -> None:
    leave = {"map": [{"function": "tests.spark.bad_maps:nothing"}], "split": CASES["map, order, carry"]["split"]}
    with pytest.raises(BalanceError, match="there are no samples left"):
        run(write_table(tmp_path / "in", 2), tmp_path / "out", {**leave, "shard": {"count": 1}})
