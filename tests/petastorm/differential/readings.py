"""Ways to read a dataset, which stock Petastorm and the drop-in are both given: the same code, with another package.

Each is a function of the package and a URL; it describes all that readers hand out, in order. In the reader's own thread:
stock 0.13.1 with a pool of 3 keeps the order of its seed in 30 of 40 readings, and of 40 rows hands out none in 26 of 240.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.petastorm.differential.described import describe
from tests.petastorm.differential.package import Package, described_row, described_schema

Reading = Callable[[Package, str], Any]


def regex(package: Package, url: str) -> Any:
    names = ["i.*", "x", "lane", "s.*"]
    found = package.rows(url, schema_fields=names)
    return [dict(sorted(row.items())) for row in found]  # stock's fields come in the order of a set


def shards(package: Package, url: str) -> Any:
    return [package.rows(url, cur_shard=shard, shard_count=2) for shard in range(2)]


def seeded_shards(package: Package, url: str) -> Any:
    options = {"shard_count": 2, "seed": 7, "shuffle_row_groups": True}
    return [package.rows(url, cur_shard=shard, **options) for shard in range(2)]


def seeded_shards_in_order(package: Package, url: str) -> Any:
    return [package.rows(url, cur_shard=shard, shard_count=2, seed=7) for shard in range(2)]


def seeded(package: Package, url: str) -> Any:
    return package.rows(url, seed=42, shuffle_row_groups=True, num_epochs=3)


def shuffled_rows(package: Package, url: str) -> Any:
    return package.rows(url, seed=3, shuffle_rows=True, num_epochs=2)


def parts(package: Package, url: str) -> Any:
    return package.rows(url, shuffle_row_drop_partitions=3)


def parts_of_shuffled_rows(package: Package, url: str) -> Any:
    return package.rows(url, shuffle_row_drop_partitions=2, shuffle_rows=True, seed=11, shuffle_row_groups=True)


def some(package: Package, url: str) -> Any:
    return package.rows(url, predicate=package.predicates.in_lambda([_key(url)], lambda key: int(key) % 3 == 1))


def none(package: Package, url: str) -> Any:
    return package.rows(url, predicate=package.predicates.in_set({-1}, _key(url)))


def combined(package: Package, url: str) -> Any:
    of = package.predicates
    few, even = of.in_set(range(12), _key(url)), of.in_lambda([_key(url)], lambda key, two: int(key) % two == 0, 2)
    return package.rows(url, predicate=of.in_reduce([of.in_negate(few), even], any), seed=5, shuffle_row_groups=True)


def subsets(package: Package, url: str) -> Any:
    split = package.predicates.in_pseudorandom_split
    return [package.rows(url, predicate=split([0.3, 0.3, 0.4], subset, _key(url))) for subset in range(3)]


def transformed(package: Package, url: str) -> Any:
    def change(row: dict[str, Any]) -> dict[str, Any]:
        row["twice"] = np.float32(2 * int(row[key]))
        del row[key]
        return row

    key = _key(url)
    spec = package.transform.TransformSpec(change, edit_fields=[("twice", np.float32, (), False)], removed_fields=[key])
    return package.rows(url, transform_spec=spec)


def selected(package: Package, url: str) -> Any:
    spec = package.transform.TransformSpec(removed_fields=[_key(url)])
    predicate = package.predicates.in_lambda([_key(url)], lambda key: int(key) > 5)
    return package.rows(url, transform_spec=spec, predicate=predicate)


def windows(package: Package, url: str) -> Any:
    fields = {-1: ["timestamp_us", "sensor"], 0: ["timestamp_us", "lane"], 1: ["sensor"]}
    ngram = package.ngram.NGram(fields, delta_threshold=100_000, timestamp_field="timestamp_us")
    return package.rows(url, schema_fields=ngram)


def windows_apart(package: Package, url: str) -> Any:
    ngram = package.ngram.NGram({0: [".*"], 1: [".*"]}, 60_000, "timestamp_us", timestamp_overlap=False)
    return package.rows(url, schema_fields=ngram, seed=2, shuffle_row_groups=True)


def windows_of_parts(package: Package, url: str) -> Any:
    ngram = package.ngram.NGram({0: ["timestamp_us"], 2: ["timestamp_us"]}, 10**9, "timestamp_us")
    return package.rows(url, schema_fields=ngram, shuffle_row_drop_partitions=2)


def windows_of_shards(package: Package, url: str) -> Any:
    """Windows of shards, in the order of a seed."""
    ngram = package.ngram.NGram({0: ["timestamp_us"], 1: ["sensor"]}, 10**9, "timestamp_us")
    options = {"shuffle_row_groups": True, "seed": 5, "shard_count": 2}
    return [package.rows(url, schema_fields=ngram, cur_shard=shard, **options) for shard in range(2)]


def windows_of_some(package: Package, url: str) -> Any:
    ngram = package.ngram.NGram({0: ["timestamp_us"], 1: ["timestamp_us", "lane"]}, 10**9, "timestamp_us")
    odd = package.predicates.in_lambda(["timestamp_us"], lambda time: (int(time) // 1000) % 3 > 0)
    return package.rows(url, schema_fields=ngram, predicate=odd)


def transformed_windows(package: Package, url: str) -> Any:
    def change(row: dict[str, Any]) -> dict[str, Any]:
        row["timestamp_us"] = row["timestamp_us"] * 2
        return row

    ngram = package.ngram.NGram({0: [".*"], 1: ["timestamp_us"]}, 10**9, "timestamp_us")
    return package.rows(url, schema_fields=ngram, transform_spec=package.transform.TransformSpec(change))


def schema(package: Package, url: str) -> Any:
    """Of a reader, whose fields have a name, a class, a shape, a codec and may hold nulls; and which kind of reader it is."""
    with package.quiet(package.reader.make_reader, url) as reader:
        return described_schema(reader), reader.batched_output


def batch_schema(package: Package, url: str) -> Any:
    with package.quiet(package.reader.make_batch_reader, url) as reader:
        return described_schema(reader), reader.batched_output


def reset(package: Package, url: str) -> Any:
    """Two passes, and whether the reader knows that it has handed out its last row."""
    found = []
    options = {"reader_pool_type": "dummy", "shuffle_row_groups": True, "seed": 13, "shuffle_rows": True}
    with package.quiet(package.reader.make_reader, url, **options) as reader:
        for _ in range(2):
            found.append([described_row(row) for row in reader])
            found.append(reader.last_row_consumed)
            reader.reset()
    return found


def of_fields(package: Package, url: str) -> Any:
    """Fields of the schema in place of names."""
    with package.quiet(package.reader.make_reader, url) as reader:
        fields = list(reader.schema.fields.values())
    return [dict(sorted(row.items())) for row in package.rows(url, schema_fields=fields[::2])]


def kept_by_a_transform(package: Package, url: str) -> Any:
    key = _key(url)
    spec = package.transform.TransformSpec(lambda row: {key: row[key]}, selected_fields=[key])
    return package.rows(url, transform_spec=spec)


def shards_by_their_seed(package: Package, url: str) -> Any:
    return [package.rows(url, cur_shard=shard, shard_count=2, shard_seed=3) for shard in range(2)]


def batches_of_encoded_rows(package: Package, url: str) -> Any:
    return package.batches(url, seed=8, shuffle_row_groups=True, shuffle_rows=True, num_epochs=2)


def batches_on_partition(package: Package, url: str) -> Any:
    return package.batches(url, predicate=package.predicates.in_set({"train"}, "split"))


def batches_of_partition(package: Package, url: str) -> Any:
    return package.batches(url, filters=[("split", "!=", "train")])


def batches_of_fields(package: Package, url: str) -> Any:
    return [dict(sorted(batch.items())) for batch in package.batches(url, schema_fields=["id", "v.*"])]


def early_transformed_batches(package: Package, url: str) -> Any:
    spec = package.transform.TransformSpec(lambda frame: frame.loc[frame["id"] % 2 == 0, ["id"]], selected_fields=["id"])
    return package.batches(url, transform_spec=spec, convert_early_to_numpy=True)


def one_partition(package: Package, url: str) -> Any:
    return package.rows(url, filters=[("split", "=", "train")])


def either_partition(package: Package, url: str) -> Any:
    return package.rows(url, filters=[[("split", "=", "train")], [("split", "in", ["test"])]])


def on_partition(package: Package, url: str) -> Any:
    return package.rows(url, predicate=package.predicates.in_set({"train"}, "split"))


def batches(package: Package, url: str) -> Any:
    return package.batches(url)


def seeded_batches(package: Package, url: str) -> Any:
    return package.batches(url, seed=42, shuffle_row_groups=True, num_epochs=2, cur_shard=1, shard_count=2)


def shuffled_batches(package: Package, url: str) -> Any:
    return package.batches(url, seed=3, shuffle_rows=True, num_epochs=3)


def early_batches(package: Package, url: str) -> Any:
    return package.batches(url, convert_early_to_numpy=True)


def batches_in_parts(package: Package, url: str) -> Any:
    return package.batches(url, shuffle_row_drop_partitions=3)


def transformed_batches(package: Package, url: str) -> Any:
    def change(frame: Any) -> Any:
        frame["square"] = frame["id"].map(lambda number: np.full((2, 2), number, np.float32))
        return frame

    spec = package.transform.TransformSpec(
        change, edit_fields=[("square", np.float32, (2, 2), False)], removed_fields=["s", "v", "bin", "ts"]
    )
    return package.batches(url, transform_spec=spec)


def selected_batches(package: Package, url: str) -> Any:
    """Ids of the rows that a predicate takes: stock turns other columns with numbers to floats then."""
    predicate = package.predicates.in_lambda(["id"], lambda ids: ids % 3 == 0)
    options = {"reader_pool_type": "dummy", "shuffle_row_groups": False}
    with package.quiet(package.reader.make_batch_reader, url, predicate=predicate, **options) as reader:
        return [describe(np.asarray(batch.id, np.int64)) for batch in reader]


def files(package: Package, url: str) -> Any:
    """A list of files, one of them twice."""
    import glob

    found = sorted(glob.glob(url.replace("file://", "") + "/*.parquet"))
    urls = [f"file://{path}" for path in (*found, found[0])]
    return package.batches(urls), package.batches(urls[0])


def _key(url: str) -> str:
    return "timestamp_us" if "/ngram/" in url else "id"


def rows(package: Package, url: str) -> Any:
    return package.rows(url)


_OF_ROWS: list[Reading] = [
    rows, shards, seeded, seeded_shards, seeded_shards_in_order, shuffled_rows, parts, parts_of_shuffled_rows, some, none,
    combined, subsets, transformed, selected, batches, schema, batch_schema, reset, of_fields, kept_by_a_transform,
    shards_by_their_seed, batches_of_encoded_rows,
]  # fmt: skip
ALL: dict[str, list[Reading]] = {
    "hello_world": _OF_ROWS,
    "scalars": _OF_ROWS,
    "scalars-p0.12.1": _OF_ROWS,
    "arrays": _OF_ROWS,
    "upstream-0.7.6": _OF_ROWS,
    "partitioned": [rows, regex, shards, seeded, some, one_partition, either_partition, on_partition, batches,
                    schema, batch_schema, batches_on_partition, batches_of_partition],
    "ngram": [rows, windows, windows_apart, windows_of_parts, seeded, some, subsets, batches,
              windows_of_shards, windows_of_some, transformed_windows, schema],
    "plain": [
        rows, batches, seeded_batches, shuffled_batches, early_batches, batches_in_parts, transformed_batches, selected_batches,
        files, batches_of_fields, early_transformed_batches, batch_schema,
    ],
}  # fmt: skip
"""By dataset."""
