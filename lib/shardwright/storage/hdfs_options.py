"""How files are kept on HDFS. None of it changes a byte of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from shardwright.errors import ConfigError, StorageError

_MIB = 2**20
_GREATEST_PART_BLOCK = 2 * 2**30
_LEAST_BLOCK = "dfs.namenode.fs-limits.min-block-size"
_UMASK = "fs.permissions.umask-mode"


def _check_block(value: object) -> object:
    if value is None or value == "part" or (type(value) is int and value >= _MIB and value % 512 == 0):
        return value
    raise ValueError('expected "part", or bytes: a multiple of 512, and 1048576 at least')


class HdfsOptions(BaseModel):
    """What HDFS is asked for files and directories; None leaves it to the cluster."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replication: Annotated[int, Field(ge=1, le=512)] | None = None
    """Copies of each block."""
    block_bytes: Annotated[Literal["part"] | int | None, BeforeValidator(_check_block)] = None
    """Bytes of a block; "part" gives each part blocks of its own size, so that it lies in one."""
    storage_policy: Literal["HOT", "WARM", "COLD", "ALL_SSD", "ONE_SSD", "LAZY_PERSIST", "PROVIDED", "ALL_NVDIMM"] | None = None
    """On which kind of disks blocks lie; set on the dataset's directory."""
    erasure_coding: str | None = None
    """An erasure-coding policy that the cluster has enabled, such as RS-6-3-1024k; set on the dataset's directory."""
    group: str | None = None
    """Who files belong to, beside their owner; set on the dataset's directory, of which HDFS passes it on."""
    umask: Annotated[str, Field(pattern=r"^0?[0-7]{3}$")] | None = None
    """Permissions that are taken away, in octal; by default fs.permissions.umask-mode of core-site.xml, else 022."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.erasure_coding is not None:
            for name in ("replication", "block_bytes"):
                if getattr(self, name) is not None:
                    raise ValueError(f"erasure_coding decides on blocks and copies: leave out {name}")
        return self

    def asked(self) -> list[str]:
        """The names of the options that are set."""
        return [name for name in HdfsOptions.model_fields if getattr(self, name) is not None]

    def check_local(self, path: str) -> None:
        """Raise ConfigError where any is set: `path` is not on HDFS."""
        if asked := self.asked():
            raise ConfigError([f"{', '.join(asked)}: expected an hdfs:// URL to publish to, found {path!r}; leave them out"])

    def below(self) -> HdfsOptions:
        """Those of a directory below: what HDFS passes on itself is not set again."""
        return self.model_copy(update={"storage_policy": None, "erasure_coding": None, "group": None})

    def block_of(self, size: int, settings: Mapping[str, str]) -> int | None:
        """Bytes of a block for a part of `size` bytes; None for the cluster's default.

        `settings` are Hadoop's. A block of a part's own size is rounded up to whole MiB. A part that is smaller than the least
        block which the cluster allows lies in one anyway; 2 GiB is as much as many of Hadoop's tools can address.
        """
        if self.block_bytes != "part":
            return self.block_bytes
        block = -(-size // _MIB) * _MIB
        least = int(settings.get(_LEAST_BLOCK, _MIB))
        return block if least <= block <= _GREATEST_PART_BLOCK else None

    def permission(self, mode: int, settings: Mapping[str, str]) -> int:
        """`mode` (0o666 for files, 0o777 for directories) less the umask. `settings` are Hadoop's.

        Raises StorageError for a umask that is not octal.
        """
        umask = self.umask or settings.get(_UMASK, "022")
        try:
            return mode & ~int(umask, 8)
        except ValueError as error:
            raise StorageError(
                f"{_UMASK} in Hadoop's configuration: expected octal digits such as 022, found {umask!r}; set publish.umask"
            ) from error
