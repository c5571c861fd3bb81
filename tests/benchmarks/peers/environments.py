"""The environments of the peers: one for each file in requirements/, made on first use in the user's cache."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

from tests.benchmarks.contenders import petastorm_python
from tests.environments import make_environment

_REQUIREMENTS = Path(__file__).with_name("requirements")
_PETASTORM = "petastorm"
OURS = "shardwright"


@cache
def python_of(name: str) -> str:
    """The Python of the environment `name`, which is made first where there is none yet.

    `shardwright` is this Python itself; `petastorm` the environment that the tests compare with.
    """
    if name == OURS:
        return sys.executable
    return petastorm_python() if name == _PETASTORM else str(make_environment(f"peer-{name}", _REQUIREMENTS / f"{name}.txt"))
