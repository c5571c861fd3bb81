"""Datasets that several tests read, and none changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.datasets import digits, publish


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """203 + 50 digits in 4 shards each, 3 and 1 samples dropped; label i is sample i."""
    root = tmp_path_factory.mktemp("small") / "dataset"
    publish(root, {"train": digits(203), "validation": digits(50, seed=1)}, standardise=["image"])
    return root
