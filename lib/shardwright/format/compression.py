"""How Parquet compresses the pages of a column."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

_LEVELS: dict[str, tuple[int, int, int | None]] = {
    "zstd": (1, 22, 3),
    "gzip": (1, 9, 6),
    "lz4": (1, 12, None),
    "brotli": (0, 11, 5),
}
"""Lowest and highest level, and the one that is taken where none is named (None: the codec's own)."""


class ColumnCodec(BaseModel):
    """One of Parquet's codecs and its level.

    ``zlib`` is another name for gzip, which is what Parquet calls deflate. ``lz4`` is Parquet's LZ4_RAW, as pyarrow writes it;
    pyarrow from 6, DuckDB and Spark read all of them, but that Spark has no brotli (`spark_reads`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[
        Literal["zstd", "gzip", "lz4", "snappy", "brotli", "none"],
        BeforeValidator(lambda name: "gzip" if name == "zlib" else name),
    ] = "zstd"
    level: int | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: object) -> object:
        return {"name": values} if isinstance(values, str) else values

    @model_validator(mode="after")
    def _check_level(self) -> Self:
        if self.level is None:
            return self
        if self.name not in _LEVELS:
            raise ValueError(f"{self.name} has no levels, found {self.level}; leave the level out")
        low, high, _ = _LEVELS[self.name]
        if not low <= self.level <= high:
            raise ValueError(f"{self.name} has the levels {low} to {high}, found {self.level}")
        return self

    @property
    def effective_level(self) -> int | None:
        """The level that is used; None for the codec's own, and where there are none."""
        return _LEVELS[self.name][2] if self.level is None and self.name in _LEVELS else self.level

    @property
    def spark_reads(self) -> bool:
        """Whether Spark reads such columns as it is installed: for brotli it needs a Hadoop codec that it does not bring."""
        return self.name != "brotli"


ZSTD = ColumnCodec()
"""What compresses the columns whose values can't be addressed, unless the configuration says otherwise."""
