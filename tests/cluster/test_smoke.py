"""The one cluster test of the default run: a dataset prepared on a real HDFS, verified and read there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shardwright import open_dataset
from shardwright.reader.verify import verify
from shardwright.spark import prepare
from shardwright.storage import open_writable
from tests.cluster.hdfs import Hdfs
from tests.spark.mnist import config, digits, write_digits

pytestmark = pytest.mark.smoke


def test_a_dataset(hdfs: Hdfs, spark: object, tmp_path: Path) -> None:
    url = hdfs.new_folder("smoke")
    source = write_digits(tmp_path / "in", [np.arange(200)], ["a"])
    tables = {"publish": {"path": url}, "split": {}, "standardise": {}, "shard": {"count": 2}}
    published = prepare(config(source, tmp_path, **tables), quiet=True)
    assert (published.version, open_writable(url).names()) == ("v000001", ["_LATEST", "v000001"])
    assert not verify(url).problems
    found = open_dataset(url).take(range(200))["label"]
    np.testing.assert_array_equal(np.sort(found), np.sort(digits()[1][:200]))
