"""The input that every contender converts into its own format: values and, as its label, the number of each sample.

Needs NumPy alone to be read; to be written also what shardwright decodes and encodes pictures with.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]

_PHOTOS = Path(__file__).resolve().parents[3] / "data/samples/photos"
_QUALITY = 90


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What is read: `shape` is that of one stored value; of a table row (columns,)."""

    name: str
    content: Literal["array", "picture", "table"]
    samples: int
    shape: tuple[int, ...]
    batch: int = 256

    @property
    def columns(self) -> list[str]:
        """The names of a table's columns."""
        return [f"f{column:03}" for column in range(self.shape[0])]


ARRAY_3K = Kind(name="array-3k", content="array", samples=32_768, shape=(32, 32, 3))
ARRAY_12K = Kind(name="array-12k", content="array", samples=20_480, shape=(64, 64, 3))
PICTURE_256 = Kind(name="jpeg-256", content="picture", samples=2_048, shape=(256, 256, 3))
PICTURE_500 = Kind(name="jpeg-500", content="picture", samples=1_024, shape=(500, 500, 3))
TABLE_64 = Kind(name="table-64", content="table", samples=65_536, shape=(64,), batch=8192)
TABLE_300 = Kind(name="table-300", content="table", samples=32_768, shape=(300,), batch=8192)


@dataclass(frozen=True)
class Source:
    """A folder with the samples of one kind."""

    folder: Path
    kind: Kind

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The number of each sample."""
        return np.arange(self.kind.samples)

    @property
    def values(self) -> npt.NDArray[Any]:
        """Arrays (n, *shape) uint8, or table rows (n, columns) float32, mapped."""
        return np.load(self.folder / "values.npy", mmap_mode="r")

    def pictures(self) -> list[bytes]:
        """The encoded pictures."""
        ends, data = np.load(self.folder / "ends.npy").tolist(), (self.folder / "pictures.bin").read_bytes()
        return [data[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def samples(self) -> Iterator[tuple[int, Any]]:
        """(label, value) one by one: the array, the encoded picture or the table row."""
        return enumerate(self.pictures() if self.kind.content == "picture" else self.values)

    @classmethod
    def open(cls, folder: Path) -> Source:
        """What `write_source` wrote."""
        told = json.loads((folder / "kind.json").read_text(encoding="utf-8"))
        return cls(folder, Kind(**told | {"shape": tuple(told["shape"])}))


def write_source(folder: Path, kind: Kind) -> Source:
    """The samples of `kind`, always the same, below `folder`, which is made."""
    folder.mkdir(parents=True)
    (folder / "kind.json").write_text(json.dumps(asdict(kind)), encoding="utf-8")
    random = np.random.default_rng(kind.samples)
    if kind.content == "picture":
        pictures = list(_pictures(kind, random))
        np.save(folder / "ends.npy", np.cumsum([len(picture) for picture in pictures]))
        (folder / "pictures.bin").write_bytes(b"".join(pictures))
    elif kind.content == "array":
        np.save(folder / "values.npy", random.integers(0, 256, (kind.samples, *kind.shape), np.uint8))
    else:
        np.save(folder / "values.npy", random.standard_normal((kind.samples, *kind.shape), np.float32))
    return Source(folder, kind)


def _pictures(kind: Kind, random: np.random.Generator) -> Iterator[bytes]:
    """Windows of photographs, at half or full resolution, mirrored or not."""
    import imagecodecs

    photos: list[U8] = [imagecodecs.jpeg8_decode(path.read_bytes()) for path in sorted(_PHOTOS.rglob("*.jpg"))]
    height, width, _ = kind.shape
    photos = [_at_least(photo, height, width) for photo in photos if photo.ndim == 3]
    for _ in range(kind.samples):
        photo = photos[random.integers(len(photos))]
        top, left = (
            int(random.integers(size - wanted + 1)) for size, wanted in zip(photo.shape, (height, width), strict=False)
        )
        window = photo[top : top + height, left : left + width]
        window = window[:, :: -1 if random.integers(2) else 1]
        yield bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(window), level=_QUALITY))


def _at_least(photo: U8, height: int, width: int) -> U8:
    """The photograph, continued by its mirror image where it is too small."""
    missing = [(0, max(0, wanted - size)) for size, wanted in zip(photo.shape, (height, width), strict=False)]
    return np.pad(photo, [*missing, (0, 0)], mode="symmetric")
