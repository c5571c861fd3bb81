"""Which part of a picture is wanted, at which size: `decode=` of loaders. Names and meaning are those of torchvision."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shardwright.codecs.view import View
from shardwright.errors import ConfigError

Size = int | tuple[int, int]
DRAWS = 11
"""So many random numbers a picture gets: four tries of area and ratio, then top, left, mirrored."""
_TRIES = 4
_TOP, _LEFT, _MIRRORED = range(2 * _TRIES, DRAWS)


class Geometry(Protocol):
    """What is wanted of each picture of a field."""

    @property
    def wanted(self) -> tuple[int, int]:
        """Height and width of the result, in pixels."""

    @property
    def random(self) -> bool:
        """Whether `view` needs draws."""

    def view(self, height: int, width: int, draws: Sequence[float]) -> View:
        """The part of a picture of this size: a pure function. `draws` are `DRAWS` numbers of [0, 1) where `random`."""


@dataclass(frozen=True)
class _Sized(ABC):
    size: Size

    def __post_init__(self) -> None:
        problems = self._problems()
        if problems:
            raise ConfigError([f"{type(self).__name__}: {problem}" for problem in problems])

    @property
    def wanted(self) -> tuple[int, int]:
        """Height and width of the result, in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else (self.size[0], self.size[1])

    @property
    def random(self) -> bool:
        """Whether `view` needs draws."""
        return False

    @abstractmethod
    def view(self, height: int, width: int, draws: Sequence[float]) -> View:
        """See `Geometry`."""

    def _problems(self) -> list[str]:
        size: object = self.size  # as it came, whatever its annotation says
        sizes = size if isinstance(size, tuple) and len(size) == 2 else (size,)
        if any(not isinstance(one, int) or isinstance(one, bool) or one < 1 for one in sizes):
            return [f"size: expected pixels, or (height, width), of at least 1, found {self.size!r}"]
        return []


@dataclass(frozen=True)
class Resize(_Sized):
    """The whole picture at `size`, (height, width) or one number for both; its aspect ratio is not kept."""

    def view(self, height: int, width: int, draws: Sequence[float]) -> View:  # noqa: ARG002 - the protocol's
        """All of it."""
        return View(top=0, left=0, height=height, width=width)


@dataclass(frozen=True)
class CenterCrop(_Sized):
    """The middle of the picture: `size` pixels of it as it is, or when its shorter side was made `resize` pixels.

    ``CenterCrop(224, resize=256)`` is what models are commonly validated with. Of a picture that is smaller than `size` it is
    the largest part of this aspect ratio, enlarged.
    """

    resize: int | None = None

    def view(self, height: int, width: int, draws: Sequence[float]) -> View:  # noqa: ARG002 - the protocol's
        """The middle."""
        rows, columns = _pixels(self.wanted, self.resize, height, width)
        return View(top=(height - rows) // 2, left=(width - columns) // 2, height=rows, width=columns)

    def _problems(self) -> list[str]:
        return super()._problems() or _resize_problems(self.resize, self.wanted)


@dataclass(frozen=True)
class RandomCrop(_Sized):
    """As `CenterCrop`, but anywhere in the picture; mirrored left to right with probability `flip`."""

    resize: int | None = None
    flip: float = 0.0

    @property
    def random(self) -> bool:
        """Whether `view` needs draws."""
        return True

    def view(self, height: int, width: int, draws: Sequence[float]) -> View:
        """Any part of the size that is wanted, each with the same probability."""
        return _anywhere(_pixels(self.wanted, self.resize, height, width), height, width, draws, self.flip)

    def _problems(self) -> list[str]:
        return [*(super()._problems() or _resize_problems(self.resize, self.wanted)), *_share_problems("flip", self.flip)]


@dataclass(frozen=True)
class RandomResizedCrop(_Sized):
    """A part of random area and aspect ratio, at `size`; mirrored left to right with probability `flip`.

    The area is a uniform share of the picture's, within `scale`, width by height log-uniform within `ratio`: Szegedy et al.,
    "Going deeper with convolutions" (2015), as torchvision has it, which tries ten times, where these are four, before it takes
    the largest part in the middle whose ratio is within bounds.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.0

    @property
    def random(self) -> bool:
        """Whether `view` needs draws."""
        return True

    def view(self, height: int, width: int, draws: Sequence[float]) -> View:
        """The first part drawn that lies within the picture."""
        (least, most), (narrow, wide) = self.scale, (math.log(self.ratio[0]), math.log(self.ratio[1]))
        for n in range(0, 2 * _TRIES, 2):
            area = height * width * (least + (most - least) * draws[n])
            ratio = math.exp(narrow + (wide - narrow) * draws[n + 1])
            rows, columns = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < rows <= height and 0 < columns <= width:
                return _anywhere((rows, columns), height, width, draws, self.flip)
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        rows, columns = min(height, max(1, round(width / ratio))), min(width, max(1, round(height * ratio)))
        mirrored = draws[_MIRRORED] < self.flip
        return View(top=(height - rows) // 2, left=(width - columns) // 2, height=rows, width=columns, mirrored=mirrored)

    def _problems(self) -> list[str]:
        fine_scale = 0 < self.scale[0] <= self.scale[1] <= 1
        fine_ratio = 0 < self.ratio[0] <= self.ratio[1] < math.inf
        return [
            *super()._problems(),
            *([] if fine_scale else [f"scale: expected two shares of the area, 0 < least <= most <= 1, found {self.scale!r}"]),
            *([] if fine_ratio else [f"ratio: expected two ratios, 0 < narrowest <= widest, found {self.ratio!r}"]),
            *_share_problems("flip", self.flip),
        ]


def _pixels(wanted: tuple[int, int], resize: int | None, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a picture that become `wanted`, when its shorter side is first made `resize`; no more than it has."""
    scale = 1.0 if resize is None else min(height, width) / resize
    scale = min(scale, height / wanted[0], width / wanted[1])
    return min(height, max(1, round(wanted[0] * scale))), min(width, max(1, round(wanted[1] * scale)))


def _anywhere(pixels: tuple[int, int], height: int, width: int, draws: Sequence[float], flip: float) -> View:
    rows, columns = pixels
    return View(
        top=int(draws[_TOP] * (height - rows + 1)), left=int(draws[_LEFT] * (width - columns + 1)),
        height=rows, width=columns, mirrored=draws[_MIRRORED] < flip,
    )  # fmt: skip


def _resize_problems(resize: int | None, wanted: tuple[int, int]) -> list[str]:
    if resize is None or resize >= max(wanted):
        return []
    return [f"resize: expected at least the size, {max(wanted)} pixels, found {resize!r}"]


def _share_problems(name: str, share: float) -> list[str]:
    return [] if 0 <= share <= 1 else [f"{name}: expected a probability, 0 to 1, found {share!r}"]
