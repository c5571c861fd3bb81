"""What importing the package costs: no engine, no trainer framework; and what it offers."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import types

import pytest

import shardwright
from tests.conftest import ROOT

HEAVY = {"pyspark", "py4j", "pandas", "torch", "tensorflow", "keras", "jax", "cv2", "imagecodecs", "prometheus_client"}


def loaded_by(statement: str) -> set[str]:
    """The top-level packages that a fresh interpreter loads for `statement`."""
    command = [sys.executable, "-X", "importtime", "-c", statement]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'lib'}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    names = re.findall(r"^import time:\s+\d+ \|\s+\d+ \|\s*(\S+)$", done.stderr, re.M)
    return {name.partition(".")[0] for name in names}


def test_import_time_is_read_right() -> None:
    assert "json" in loaded_by("import json.tool")


@pytest.mark.parametrize(
    "module",
    [
        "shardwright", "shardwright.cli", "shardwright.config", "shardwright.stages.publish", "shardwright.petastorm",
        "shardwright.petastorm.codecs", "shardwright.petastorm.etl.dataset_metadata",
    ],
)  # fmt: skip
def test_no_engine_and_no_framework_is_loaded(module: str) -> None:
    loaded = loaded_by(f"import {module}")
    assert "shardwright" in loaded
    assert not loaded & HEAVY


def _declaring_modules() -> list[str]:
    files = [path for path in sorted((ROOT / "lib").rglob("*.py")) if "\n__all__" in path.read_text(encoding="utf-8")]
    return [".".join(path.relative_to(ROOT / "lib").with_suffix("").parts).removesuffix(".__init__") for path in files]


@pytest.mark.parametrize("name", _declaring_modules())
def test_all_is_what_is_exported(name: str) -> None:
    """`__all__` lists what exists: of a package that only gathers names all of them, else all that it makes."""
    module = importlib.import_module(name)
    declared = list(module.__all__)
    assert len(declared) == len(set(declared))
    assert [key for key in declared if not hasattr(module, key)] == []
    imported = {k: v for k, v in vars(module).items() if not k.startswith("_") and not isinstance(v, types.ModuleType)}
    made_here = {key for key, value in imported.items() if getattr(value, "__module__", None) == name}
    public = made_here or set(imported) - {"annotations"}
    assert public <= set(declared), f"{name} offers more than __all__ says: {public - set(declared)}"


def test_the_top_level_is_small() -> None:
    assert set(shardwright.__all__) == {
        "Balanced",
        "CenterCrop",
        "Dataset",
        "Loader",
        "RandomCrop",
        "RandomResizedCrop",
        "Resize",
        "Topology",
        "Weighted",
        "World",
        "__version__",
        "errors",
        "open_dataset",
    }
