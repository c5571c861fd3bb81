"""Who is measured beside the peers, and how a job of one of them is started."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.contenders import environment, fresh, here
from tests.benchmarks.measure import Run, measure
from tests.benchmarks.peers.environments import OURS, python_of
from tests.benchmarks.peers.process import Job, command

LIMIT = "limit"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A reader, the environment that it starts in, and with how many workers it is measured beside 0."""

    name: str
    reader: str
    environment: str
    packages: tuple[str, ...]
    workers: bool = True
    tables: bool = True
    store: str | None = None
    """Whose store it reads, where it can't write one of its own without Spark."""

    @property
    def stored_by(self) -> str:
        """The reader that converts for it."""
        return self.store or self.reader


SHARDWRIGHT = Peer(
    name="shardwright", reader="ours", environment=OURS, packages=("numpy", "pyarrow", "simplejpeg", "opencv-python-headless")
)
LIMITS = Peer(
    name=LIMIT, reader="limit", environment="limit", packages=("numpy", "pyarrow", "simplejpeg", "opencv-python-headless")
)
PEERS = (
    Peer(name="LitData", reader="litdata", environment="litdata", packages=("litdata", "torch", "numpy")),
    Peer(
        name="MosaicML Streaming",
        reader="mosaicml",
        environment="mosaicml-streaming",
        packages=("mosaicml-streaming", "torch", "numpy"),
    ),
    Peer(
        name="Hugging Face datasets",
        reader="huggingface",
        environment="huggingface",
        packages=("datasets", "pyarrow", "torch", "numpy"),
    ),
    Peer(
        name="stock Petastorm",
        reader="petastorm",
        environment="petastorm",
        packages=("petastorm", "pyarrow", "numpy"),
        store="ours",
    ),
    Peer(name="Lance", reader="lance", environment="lance", packages=("pylance", "pyarrow", "numpy"), workers=False),
    Peer(
        name="WebDataset",
        reader="webdataset",
        environment="webdataset",
        packages=("webdataset", "torch", "numpy"),
        tables=False,
    ),
    Peer(
        name="Grain, ArrayRecord",
        reader="grain",
        environment="grain",
        packages=("grain", "array-record", "numpy"),
        workers=False,
    ),
    Peer(name="PyTorch, files", reader="torch_files", environment="torch", packages=("torch", "numpy")),
)


@dataclass(frozen=True, kw_only=True)
class PeerSettings:
    """What the command line says."""

    work: Path
    scale: float
    rounds: int
    seconds: float
    peers: Sequence[Peer]

    def scaled(self, samples: int, batch: int) -> int:
        """So many samples, a multiple of the batch size, at least two batches."""
        return max(round(samples * self.scale) // batch, 2) * batch


def start(peer: Peer, job: Job, work: Path) -> Run:
    """Run `job` as a process of its own. Raises ContenderError."""
    python = python_of(peer.environment)
    environs = here() if peer.environment == OURS else environment(python)
    folder = fresh(work / "run")
    environs |= {"HF_HOME": str(folder / "huggingface"), "HF_HUB_OFFLINE": "1", "TMPDIR": str(folder), "HOME": str(folder)}
    try:
        return measure(command(python, job), environs, folder)
    finally:
        shutil.rmtree(folder)
