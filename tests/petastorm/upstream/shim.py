"""What Petastorm's own tests need of their age, in the process that runs them: a pytest plugin. Nothing that is tested changes.

`report.NEEDS` says what it is.
"""

from __future__ import annotations

import collections
import re
import sys
import types
import warnings
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
import torchvision  # type: ignore[import-not-found] # noqa: F401 - before TensorFlow: the process aborts else

import tests.petastorm.upstream.old_numpy  # noqa: F401 - for what it does


class PartitionSet:
    """Of pyarrow <= 14: the values of a partition column."""

    def __init__(self, name: str, keys: list[str]) -> None:
        self.name = name
        try:
            self.dictionary = pa.array([int(key) for key in keys], pa.int64())
        except ValueError:
            self.dictionary = pa.array(keys)


class _Piece:
    def __init__(self, path: str) -> None:
        self._path = path

    def get_metadata(self) -> Any:
        return pq.read_metadata(self._path)


def _warns(expected: Any = Warning, **options: Any) -> Any:
    return warnings.catch_warnings(record=True) if expected is None else _real_warns(expected, **options)


_real_warns = pytest.warns


class _Hooks:
    """Of the plugin pytest-logger, which Petastorm's conftest configures."""

    def pytest_logger_config(self, logger_config: object) -> None: ...


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(_Hooks)


def _install() -> None:
    pq.PartitionSet = PartitionSet
    pq.ParquetDataset.pieces = property(lambda dataset: [_Piece(path) for path in dataset.files])
    pa.LocalFileSystem = pyarrow.fs.LocalFileSystem
    sys.modules["pyarrow.hdfs"] = types.ModuleType("pyarrow.hdfs")
    pytest.warns = _warns  # type: ignore[assignment]
    _private_names()


def _private_names() -> None:
    from shardwright.petastorm import batches, frames, unischema

    worker = types.ModuleType("shardwright.petastorm.arrow_reader_worker")
    worker.convert_arrow_table_to_numpy_dict = batches.to_arrays  # type: ignore[attr-defined]
    worker.ArrowReaderWorker = types.SimpleNamespace(  # type: ignore[attr-defined]
        _check_shape_and_ravel=frames.check_shape_and_ravel
    )
    sys.modules[worker.__name__] = worker
    private: Any = unischema
    private._fullmatch = re.fullmatch
    private._new_gt_255_compatible_namedtuple = collections.namedtuple  # noqa: PYI024
    private._UNISCHEMA_FIELD_ORDER = "preserve_input_order"


_install()  # now: a conftest's imports need it
