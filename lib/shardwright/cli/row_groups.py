"""Whether the row groups of Parquet files are what stock Petastorm needs, and how even its ranks would read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from shardwright.cli.output import Finding

_SHOWN = 5
_ANEW = "have the metadata written anew by `petastorm-generate-metadata.py`"


def row_group_findings(
    rows: Mapping[str, Sequence[int]], listed: Mapping[str, int] | None, ranks: int | None
) -> Iterator[Finding]:
    """`rows` are those of each row group, by the name of the file; `listed` is what Petastorm's metadata says of how many row
    groups a file has; `ranks` are to read them.
    """
    if listed is not None:
        yield from _listed(rows, listed)
    empty = [name for name, counts in sorted(rows.items()) if 0 in counts]
    if empty:
        told = f"with a row group without rows, at which stock make_reader fails: {_some(empty)}"
        yield Finding("problem", f"{len(empty)} files", told, "migrate, or remove them")
    if ranks is not None:
        yield _ranks([count for _, counts in sorted(rows.items()) for count in counts], ranks)


def _listed(rows: Mapping[str, Sequence[int]], listed: Mapping[str, int]) -> Iterator[Finding]:
    absent = sorted(rows.keys() - listed.keys())
    gone = sorted(listed.keys() - rows.keys())
    other = [name for name in sorted(rows.keys() & listed.keys()) if listed[name] != len(rows[name])]
    if absent:
        told = f"not in the list of row groups, at which stock Petastorm fails: {_some(absent)}"
        yield Finding("problem", f"{len(absent)} files", told, _ANEW)
    if gone:
        told = f"in the list of row groups, and not there: {_some(gone)}"
        yield Finding("problem", f"{len(gone)} files", told, f"copy them again, or {_ANEW}")
    if other:
        told = f"of another number of row groups than the list says: {_some(other)}"
        yield Finding("problem", f"{len(other)} files", told, _ANEW)
    if not absent and not gone and not other:
        yield Finding("ok", "row groups", f"{sum(listed.values()):,} in {len(listed):,} files, as the metadata says")


def _ranks(counts: Sequence[int], ranks: int) -> Finding:
    """Row group i goes to rank i modulo the number of ranks, in the order of paths."""
    if len(counts) < ranks:
        return Finding(
            "problem", f"{ranks} ranks", f"more than the {len(counts)} row groups: some get nothing, and stock Petastorm fails",
            "migrate: shards are equal there, whatever the ranks",
        )  # fmt: skip
    each = [sum(counts[rank::ranks]) for rank in range(ranks)]
    if max(each) == min(each):
        return Finding("ok", f"{ranks} ranks", f"{each[0]:,} rows each")
    return Finding(
        "problem", f"{ranks} ranks", f"get {min(each):,} to {max(each):,} rows: they don't end an epoch together",
        "migrate: shards are equal there, whatever the ranks",
    )  # fmt: skip


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(f"{name[:200]!a}" for name in names[:_SHOWN]) + more
