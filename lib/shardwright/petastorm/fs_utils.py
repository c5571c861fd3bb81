"""File systems of dataset URLs, by Petastorm's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import ParseResult, urlparse

import fsspec

from shardwright.petastorm.files import path_of


class FilesystemResolver:
    """The fsspec file system of a URL. Raises ValueError for a path without a scheme.

    hdfs:// is read by hdfs-native (the [hdfs] extra), which takes the cluster's addresses from HADOOP_CONF_DIR.
    """

    def __init__(self, dataset_url: str | ParseResult, storage_options: Mapping[str, Any] | None = None) -> None:
        url = dataset_url if isinstance(dataset_url, str) else dataset_url.geturl()
        if not urlparse(url).scheme:
            raise ValueError(
                f'ERROR! A scheme-less dataset url ({url}) is no longer supported. Please prepend "file://" for local '
                "filesystem."
            )
        self._url, self._options = url, dict(storage_options or {})

    def parsed_dataset_url(self) -> ParseResult:
        """The URL."""
        return urlparse(self._url)

    def get_dataset_path(self) -> str:
        """Its path as the file system has it."""
        return path_of(self._url)

    def filesystem(self) -> Any:
        """The file system."""
        return self.filesystem_factory()()

    def filesystem_factory(self) -> Callable[[], Any]:
        """What makes the file system, in this process or another."""
        url, options = self._url, self._options
        if url.startswith("hdfs:"):
            return lambda: _hdfs(url)
        return lambda: fsspec.core.url_to_fs(url, **options)[0]


def get_filesystem_and_path_or_paths(
    url_or_urls: str | list[str], storage_options: Mapping[str, Any] | None = None, filesystem: Any = None
) -> tuple[Any, Any]:
    """The file system of a URL or of several ones, and its path, or their paths. Raises ValueError for two servers."""
    urls = url_or_urls if isinstance(url_or_urls, list) else [url_or_urls]
    if len({urlparse(url)[:2] for url in urls}) > 1:
        raise ValueError("The dataset url list must contain url with the same scheme and netloc.")
    found = filesystem or FilesystemResolver(urls[0], storage_options).filesystem()
    paths = [path_of(url) for url in urls]
    return found, paths if isinstance(url_or_urls, list) else paths[0]


def normalize_dir_url(dataset_url: Any) -> str:
    """Without a slash at its end. Raises ValueError for anything but a string."""
    if not isinstance(dataset_url, str):
        raise ValueError("directory url must be a string")
    return dataset_url.removesuffix("/")


def _hdfs(url: str) -> Any:
    from hdfs_native.fsspec import HdfsFileSystem

    parts = urlparse(url)
    return HdfsFileSystem(parts.hostname, parts.port)
