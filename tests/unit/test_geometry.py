"""Which part of a picture is wanted: always within it, of the area and aspect ratio that were asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwright.codecs.view import View
from shardwright.errors import ConfigError
from shardwright.transforms import DRAWS, CenterCrop, Geometry, RandomCrop, RandomResizedCrop, Resize

sizes = st.integers(1, 600)
wanted = st.one_of(st.integers(1, 300), st.tuples(st.integers(1, 300), st.integers(1, 300)))
draws = st.lists(st.floats(0, 1, exclude_max=True), min_size=DRAWS, max_size=DRAWS)
NONE: tuple[float, ...] = ()


@given(sizes, sizes, wanted, draws)
def test_every_part_lies_within_its_picture(height: int, width: int, size: int | tuple[int, int], numbers: list[float]) -> None:
    most = size if isinstance(size, int) else max(size)
    every: list[Geometry] = [
        Resize(size), CenterCrop(size), CenterCrop(size, resize=most), RandomCrop(size), RandomCrop(size, resize=most + 9),
        RandomResizedCrop(size), RandomResizedCrop(size, scale=(0.01, 0.02), ratio=(0.1, 9.0)),
    ]  # fmt: skip
    for geometry in every:
        view = geometry.view(height, width, numbers)
        assert 0 <= view.top < view.top + view.height <= height
        assert 0 <= view.left < view.left + view.width <= width
        assert geometry.view(height, width, numbers) == view


def test_parts_are_those_of_torchvision() -> None:
    """Resize(256) and CenterCrop(224) of 500 x 400 take the middle 437.5 x 350 x 0.875 pixels, and so on."""
    assert Resize((30, 40)).view(500, 400, NONE) == View(top=0, left=0, height=500, width=400)
    assert Resize((30, 40)).wanted == (30, 40)
    assert CenterCrop(224).view(256, 300, NONE) == View(top=16, left=38, height=224, width=224)
    assert CenterCrop(224, resize=256).view(500, 400, NONE) == View(top=75, left=25, height=350, width=350)
    assert CenterCrop(224, resize=256).wanted == (224, 224)
    assert CenterCrop((100, 200)).view(50, 400, NONE) == View(top=0, left=150, height=50, width=100)  # smaller: enlarged
    least, most = RandomCrop(10).view(32, 20, [0.0] * DRAWS), RandomCrop(10).view(32, 20, [0.999999] * DRAWS)
    assert (least.top, least.left, most.top, most.left) == (0, 0, 22, 10)


def test_areas_are_uniform_ratios_log_uniform_and_half_are_mirrored() -> None:
    rng = np.random.default_rng(1)
    geometry = RandomResizedCrop(64, scale=(0.1, 0.5), flip=0.5)
    views = [geometry.view(1000, 1000, row) for row in rng.random((4000, DRAWS)).tolist()]
    areas = np.array([view.height * view.width / 1e6 for view in views])
    ratios = np.log([view.width / view.height for view in views])
    assert areas.min() > 0.099
    assert areas.max() < 0.501
    assert abs(areas.mean() - 0.3) < 0.006  # 3 standard errors of a uniform share
    assert abs(areas.std() - 0.4 / math.sqrt(12)) < 0.004
    assert abs(ratios.mean()) < 0.009
    assert np.abs(ratios).max() < math.log(4 / 3) + 0.01
    assert abs(np.mean([view.mirrored for view in views]) - 0.5) < 0.025
    left = np.array([view.left / max(1000 - view.width, 1) for view in views])
    assert abs(left.mean() - 0.5) < 0.015
    tops = np.array([view.top / max(1000 - view.height, 1) for view in views])
    assert abs(np.corrcoef(left, tops)[0, 1]) < 0.05


def test_where_no_part_fits_it_is_the_largest_in_the_middle() -> None:
    geometry = RandomResizedCrop(8, scale=(1, 1))
    assert geometry.view(100, 400, [0.5] * DRAWS) == View(top=0, left=133, height=100, width=133)
    assert geometry.view(400, 100, [0.5] * DRAWS) == View(top=133, left=0, height=133, width=100)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Resize(0), "Resize: size: expected pixels, or (height, width), of at least 1, found 0"),
        (lambda: CenterCrop((3, 4, 5)), "CenterCrop: size: expected pixels"),  # type: ignore[arg-type]
        (lambda: CenterCrop(224, resize=200), "CenterCrop: resize: expected at least the size, 224 pixels, found 200"),
        (lambda: RandomCrop(8, flip=2), "RandomCrop: flip: expected a probability, 0 to 1, found 2"),
        (lambda: RandomResizedCrop(8, scale=(0.5, 0.1)), "RandomResizedCrop: scale: expected two shares of the area"),
        (lambda: RandomResizedCrop(8, ratio=(0, 1)), "RandomResizedCrop: ratio: expected two ratios"),
    ],
)
def test_what_can_not_be_is_refused(make: object, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()  # type: ignore[operator]
    assert message in str(error.value)
