"""Row-group indexes: not written. They are pickles, and what they are for needs none.

The names are here so that jobs which build an index after `materialize_dataset` go on.
"""

from __future__ import annotations

import warnings
from typing import Any


def build_rowgroup_index(dataset_url: str, spark_context: Any, indexers: Any, hdfs_driver: str = "libhdfs3") -> None:  # noqa: ARG001
    """Writes nothing, and warns: readers take `predicate=` or `filters=` in place of a selector."""
    warnings.warn(
        "build_rowgroup_index: no index is written, since it would be a pickle; in place of rowgroup_selector use "
        "predicate=in_set(values, field), or filters=[(partition, 'in', values)]",
        stacklevel=2,
    )
