"""`make_spark_converter`: a DataFrame is written as Parquet once, and read by TensorFlow datasets and PyTorch loaders.

Semantics: petastorm 0.13.1, ``spark/spark_dataset_converter.py``.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlparse

from pyspark import TaskContext
from pyspark.ml.functions import vector_to_array
from pyspark.ml.linalg import VectorUDT
from pyspark.mllib.linalg import VectorUDT as OldVectorUDT
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import ArrayType, DoubleType, FloatType

from shardwright.petastorm.fs_utils import get_filesystem_and_path_or_paths, normalize_dir_url
from shardwright.petastorm.reader import make_batch_reader

DEFAULT_ROW_GROUP_SIZE_BYTES = 32 * 2**20
_CODECS = ("uncompressed", "bzip2", "gzip", "lz4", "snappy", "deflate")
_RECOMMENDED_FILE_BYTES = 50 * 2**20
_FILE_AVAILABILITY_WAIT_TIMEOUT_SECS = 30
_RANKS = (("HOROVOD_RANK", "HOROVOD_SIZE"), ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE"))
_log = logging.getLogger(__name__)


class SparkDatasetConverter:
    """A DataFrame that lies as Parquet files below `cache_dir_url`; small, so that it can go to other processes."""

    PARENT_CACHE_DIR_URL_CONF = "petastorm.spark.converter.parentCacheDirUrl"
    """The Spark setting that says where the files go."""

    def __init__(self, cache_dir_url: str, file_urls: list[str], dataset_size: int) -> None:
        self.cache_dir_url = cache_dir_url
        self.file_urls = file_urls
        self.dataset_size = dataset_size

    def __len__(self) -> int:
        return self.dataset_size

    def make_tf_dataset(
        self,
        batch_size: int | None = None,
        prefetch: int | None = None,
        num_epochs: int | None = None,
        workers_count: int | None = None,
        shuffling_queue_capacity: int | None = None,
        **petastorm_reader_kwargs: Any,
    ) -> AbstractContextManager[Any]:
        """A context with a `tf.data.Dataset` of batches (32 rows), whose reader ends with it.

        `num_epochs` None is without end; other keyword arguments are `make_batch_reader`'s.
        """
        arguments = _reader_arguments(petastorm_reader_kwargs, num_epochs, workers_count)
        return _tf_dataset(self.file_urls, batch_size or 32, prefetch, shuffling_queue_capacity, arguments)

    def make_torch_dataloader(
        self,
        batch_size: int = 32,
        num_epochs: int | None = None,
        workers_count: int | None = None,
        shuffling_queue_capacity: int = 0,
        data_loader_fn: Callable[..., Any] | None = None,
        **petastorm_reader_kwargs: Any,
    ) -> AbstractContextManager[Any]:
        """A context with a loader (a `DataLoader`, or what `data_loader_fn` makes), whose reader ends with it."""
        arguments = _reader_arguments(petastorm_reader_kwargs, num_epochs, workers_count)
        return _torch_loader(self.file_urls, batch_size, shuffling_queue_capacity, data_loader_fn, arguments)

    def delete(self) -> None:
        """Delete the files."""
        with _cache_lock:
            _cache_df_meta_list[:] = [one for one in _cache_df_meta_list if one.cache_dir_url != self.cache_dir_url]
        _delete_dir_handler(self.cache_dir_url)


def make_spark_converter(
    df: DataFrame | str,
    parquet_row_group_size_bytes: int = DEFAULT_ROW_GROUP_SIZE_BYTES,
    compression_codec: str | None = None,
    dtype: str | None = "float32",
) -> SparkDatasetConverter:
    """Write a DataFrame below the setting `petastorm.spark.converter.parentCacheDirUrl`, or take a directory that exists.

    One that was written already, with the same settings, is not written again. The files are deleted by `delete`, or when
    Python ends. `dtype` is what all floats become; None leaves them. Raises ValueError without the setting, RuntimeError for an
    unknown codec.
    """
    parent = _get_parent_cache_dir_url()
    if isinstance(df, str):
        url = df
        if "DATABRICKS_RUNTIME_VERSION" in os.environ:
            url = _normalize_databricks_dbfs_url(
                df,
                "On databricks runtime, if `df` argument is a string, it must be a dbfs fuse path like 'file:/dbfs/xxx' or a "
                "dbfs path like 'dbfs:/xxx'.",
            )
    else:
        codec = compression_codec or "uncompressed"
        if codec.lower() not in _CODECS:
            raise RuntimeError(
                f"compression_codec should be None or one of the following values: {', '.join(map(repr, _CODECS))}"
            )
        url = _cached(df, _Settings(parent, parquet_row_group_size_bytes, compression_codec or "uncompressed", dtype))
    written = _get_spark_session().read.parquet(url)
    files = list(written._jdf.inputFiles())  # noqa: SLF001 - pyspark offers no other way
    _check_dataset_file_median_size(files)
    return SparkDatasetConverter(url, files, written.count())


def register_delete_dir_handler(handler: Callable[[str], None] | None) -> None:
    """Let `handler`, called with a directory's URL, delete files; None: the default one."""
    global _delete_dir_handler  # noqa: PLW0603 - Petastorm's interface
    _delete_dir_handler = handler or _default_delete_dir_handler


def _default_delete_dir_handler(dataset_url: str) -> None:
    if urlparse(dataset_url).scheme in ("", "file"):
        path = urlparse(dataset_url).path
        if os.path.exists(path):
            shutil.rmtree(path)
        return
    filesystem, path = get_filesystem_and_path_or_paths(dataset_url)
    if filesystem.exists(path):
        filesystem.rm(path, recursive=True)


_delete_dir_handler: Callable[[str], None] = _default_delete_dir_handler


@dataclass(frozen=True)
class _Settings:
    parent_cache_dir_url: str
    row_group_size: int
    compression_codec: str
    dtype: str | None


@dataclass(frozen=True)
class _Cached:
    settings: _Settings
    plan: Any
    """The DataFrame's logical plan: it does not keep the DataFrame."""
    cache_dir_url: str


_cache_df_meta_list: list[_Cached] = []
_cache_lock = threading.Lock()


def _cached(df: DataFrame, settings: _Settings) -> str:
    """Where a DataFrame of that plan was written with those settings; writes it first where it was not."""
    plan = df._jdf.queryExecution().analyzed()  # noqa: SLF001 - pyspark offers no other way
    with _cache_lock:
        for one in _cache_df_meta_list:
            if one.settings == settings and one.plan.sameResult(plan):
                return one.cache_dir_url
        url = _materialize(df, settings)
        _cache_df_meta_list.append(_Cached(settings, plan, url))
        return url


def _materialize(df: DataFrame, settings: _Settings) -> str:
    application = _get_spark_session().sparkContext.applicationId
    name = f"{datetime.now(UTC):%Y%m%d%H%M%S}-appid-{application}-{uuid.uuid4()}"
    url = _make_sub_dir_url(settings.parent_cache_dir_url, name)
    writer = _with_precision(_with_arrays(df, settings.dtype), settings.dtype).write
    writer.option("compression", settings.compression_codec).option("parquet.block.size", settings.row_group_size).parquet(url)
    atexit.register(_delete_at_exit, url)
    return url


def _delete_at_exit(url: str) -> None:
    try:
        _delete_dir_handler(url)
    except Exception as error:  # noqa: BLE001 - a handler's own, at the end of the process
        _log.warning("Delete cache data %s failed due to %r", url, error)


def _with_arrays(df: DataFrame, dtype: str | None) -> DataFrame:
    """Vectors of Spark ML as arrays."""
    for field in df.schema:
        if isinstance(field.dataType, (VectorUDT, OldVectorUDT)):
            df = df.withColumn(field.name, vector_to_array(df[field.name], dtype or "float64"))
    return df


def _with_precision(df: DataFrame, dtype: str | None) -> DataFrame:
    if dtype is None:
        return df
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype {dtype} is not supported.             Use 'float32' or float64")
    source, target = (DoubleType, FloatType) if dtype == "float32" else (FloatType, DoubleType)
    for field in df.schema:
        if isinstance(field.dataType, source):
            df = df.withColumn(field.name, df[field.name].cast(target()))
        elif isinstance(field.dataType, ArrayType) and isinstance(field.dataType.elementType, source):
            df = df.withColumn(field.name, df[field.name].cast(ArrayType(target())))
    return df


@contextmanager
def _tf_dataset(
    urls: list[str], batch_size: int, prefetch: int | None, capacity: int | None, arguments: dict[str, Any]
) -> Iterator[Any]:
    import tensorflow.compat.v1 as tf

    from shardwright.petastorm.tf_utils import make_petastorm_dataset

    _wait_file_available(urls)
    with make_batch_reader(urls, **arguments) as reader:
        dataset = make_petastorm_dataset(reader).flat_map(tf.data.Dataset.from_tensor_slices)
        if capacity:
            dataset = dataset.shuffle(capacity)
        yield dataset.batch(batch_size=batch_size).prefetch(tf.data.experimental.AUTOTUNE if prefetch is None else prefetch)


@contextmanager
def _torch_loader(
    urls: list[str], batch_size: int, capacity: int, data_loader_fn: Callable[..., Any] | None, arguments: dict[str, Any]
) -> Iterator[Any]:
    from shardwright.petastorm.pytorch import DataLoader

    _wait_file_available(urls)
    with make_batch_reader(urls, **arguments) as reader:
        yield (data_loader_fn or DataLoader)(reader=reader, batch_size=batch_size, shuffling_queue_capacity=capacity)


def _reader_arguments(arguments: dict[str, Any], num_epochs: int | None, workers_count: int | None) -> dict[str, Any]:
    _check_rank_and_size_consistent_with_horovod(arguments)
    return {**arguments, "num_epochs": num_epochs, "workers_count": 4 if workers_count is None else workers_count}


def _check_rank_and_size_consistent_with_horovod(petastorm_reader_kwargs: dict[str, Any]) -> bool:
    """Whether shards are what the launcher's environment says; logs a warning where they are not."""
    rank, size = _get_horovod_rank_and_size()
    shard, count = petastorm_reader_kwargs.get("cur_shard"), petastorm_reader_kwargs.get("shard_count")
    if rank is None or (shard, count) == (rank, size):
        return True
    _log.warning(
        "cur_shard (%s) and shard_count (%s) are not what the launcher says (rank %s of %s): set them to hvd.rank() and "
        "hvd.size() where each worker is to train on a shard of its own",
        shard, count, rank, size,
    )  # fmt: skip
    return False


def _get_horovod_rank_and_size() -> tuple[int | None, int | None]:
    for rank, size in _RANKS:
        if rank in os.environ and size in os.environ:
            return int(os.environ[rank]), int(os.environ[size])
        if rank in os.environ or size in os.environ:
            return None, None
    return None, None


def _get_spark_session() -> SparkSession:
    if TaskContext.get() is not None:
        raise RuntimeError("_get_spark_session should not be invoked from executor side.")
    return SparkSession.builder.getOrCreate()


def _get_parent_cache_dir_url() -> str:
    name = SparkDatasetConverter.PARENT_CACHE_DIR_URL_CONF
    url = _get_spark_session().conf.get(name, None)
    if url is None:
        raise ValueError(f"Please set the spark config {name}.")
    url = normalize_dir_url(url)
    _check_parent_cache_dir_url(url)
    return url


def _check_url(dir_url: str) -> None:
    if not urlparse(dir_url).scheme:
        raise ValueError(
            f'ERROR! A scheme-less directory url ({dir_url}) is no longer supported. Please prepend "file://" for local '
            "filesystem."
        )


def _is_spark_local_mode() -> bool:
    return str(_get_spark_session().conf.get("spark.master")).strip().lower().startswith("local")


def _check_parent_cache_dir_url(dir_url: str) -> None:
    _check_url(dir_url)
    parsed = urlparse(dir_url)
    shared = parsed.scheme != "file" or parsed.path.startswith("/dbfs/")
    if "DATABRICKS_RUNTIME_VERSION" in os.environ and not shared and not _is_spark_local_mode():
        _log.warning(
            "Usually, when running on databricks spark cluster, you should specify a dbfs fuse path for %s, like: "
            "'file:/dbfs/path/to/cache_dir', otherwise, you should mount NFS to this directory '%s' on all nodes of the "
            "cluster.",
            SparkDatasetConverter.PARENT_CACHE_DIR_URL_CONF, dir_url,
        )  # fmt: skip


def _make_sub_dir_url(dir_url: str, name: str) -> str:
    parsed = urlparse(dir_url)
    return parsed._replace(path=f"{parsed.path}/{name}").geturl()


def _normalize_databricks_dbfs_url(url: str, err_msg: str) -> str:
    if url.startswith("dbfs:///"):
        return f"file:/dbfs/{url.removeprefix('dbfs:///')}"
    if url.startswith("dbfs:/") and not url.startswith("dbfs://"):
        return f"file:/dbfs/{url.removeprefix('dbfs:/')}"
    if url.startswith(("file:/dbfs/", "file:///dbfs/")):
        return url
    raise ValueError(err_msg)


def _wait_file_available(url_list: list[str]) -> None:
    """Wait until all files are there: some storages list them later. Raises RuntimeError."""
    filesystem, paths = get_filesystem_and_path_or_paths(url_list)
    end = time.monotonic() + _FILE_AVAILABILITY_WAIT_TIMEOUT_SECS
    missing = dict(zip(paths, url_list, strict=True))
    while missing:
        missing = {path: url for path, url in missing.items() if not filesystem.exists(path)}
        if missing and time.monotonic() > end:
            raise RuntimeError(
                f"Timeout while waiting for all parquet-store files to appear at urls {','.join(missing.values())},"
                "Please check whether these files were saved successfully when materializing dataframe."
            )
        if missing:
            time.sleep(0.1)


def _check_dataset_file_median_size(url_list: list[str]) -> None:
    """Log a warning where local files are small: each costs a reader as much as a large one."""
    if len(url_list) < 2 or any(urlparse(url).scheme not in ("", "file") for url in url_list):
        return
    with ThreadPoolExecutor(16) as threads:
        sizes = list(threads.map(os.path.getsize, [urlparse(url).path for url in url_list]))
    median = statistics.median_high(sizes)
    if median < _RECOMMENDED_FILE_BYTES:
        _log.warning(
            "The median size %d B (< 50 MB) of the parquet files is too small. Total size: %d B. Increase the median file "
            "size by calling df.repartition(n) or df.coalesce(n), which might help improve the performance. Parquet files: "
            "%s, ...",
            median, sum(sizes), url_list[0],
        )  # fmt: skip
