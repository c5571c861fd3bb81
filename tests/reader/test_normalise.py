"""(x - mean) / std, beside NumPy in double precision."""

from __future__ import annotations

import numpy as np
import pytest

from shardwright.errors import SchemaError
from shardwright.transforms import Normalise

rng = np.random.default_rng(3)


@pytest.mark.parametrize(
    "values",
    [
        rng.integers(0, 256, (5, 4, 4, 3), np.uint8),
        rng.integers(-9, 9, (5, 3)).astype("i2"),
        rng.integers(0, 2**40, (5, 2, 3)),
        rng.normal(1e6, 1, (5, 2, 3)).astype("f4"),
        rng.normal(0, 1, (5, 3)).astype("f2"),
        np.empty((0, 4, 3), np.uint8),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_beside_numpy(values, channels):
    mean = [float(values.mean()) if values.size else 1.0] * channels
    std = [2.0, 3.0, 0.5][:channels]
    found = Normalise(mean, std)(values)
    assert found.dtype == np.float32
    expected = (values.astype(np.float64) - np.array(mean)) / np.array(std)
    # in 8 bits, the mean is rounded to float32: at most 2^-18 / std
    np.testing.assert_allclose(found, expected, rtol=2e-7, atol=2**-18 / 0.5 if values.dtype == np.uint8 else 1e-7)


def test_a_constant_channel_becomes_zero():
    values = np.full((2, 2, 2), 7, np.uint8)
    assert (Normalise([7.0, 6.0], [0.0, 2.0])(values) == [0, 0.5]).all()


def test_arrays_of_several_shapes():
    values = np.empty(3, object)
    values[0], values[2] = np.full((1, 2), 4, np.uint8), np.full((3, 2), 4, np.uint8)
    found = Normalise([2.0, 0.0], [2.0, 4.0])(values)
    assert found[1] is None
    assert (found[2] == np.ones((3, 2))).all()


def test_channels_that_do_not_fit():
    with pytest.raises(SchemaError, match="one mean and one std per channel, found 2 and 1"):
        Normalise([1.0, 2.0], [1.0])
    with pytest.raises(SchemaError, match="expected 3 channels in the last axis"):
        Normalise([1.0] * 3, [1.0] * 3)(np.zeros((2, 4), np.uint8))
