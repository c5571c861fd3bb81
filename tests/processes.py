"""Processes of a test: started together, none left behind."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from tests.conftest import ROOT

SECONDS = 240
_ENVIRONMENT = {
    **os.environ, "PYTHONPATH": f"{ROOT / 'lib'}{os.pathsep}{ROOT}", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu",
    "TF_CPP_MIN_LOG_LEVEL": "1",
}  # fmt: skip


def run(commands: Sequence[Sequence[str]], *environments: Mapping[str, str]) -> list[str]:
    """`python ARGUMENT…` for each command at the same time; what each printed. Fails where one fails.

    `environments` are additions to that of each command; one for all of them, or none, will do.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        started = []
        for number, command in enumerate(commands):
            own = environments[number % len(environments)] if environments else {}
            out, err = (stack.enter_context((folder / f"{name}{number}").open("w+")) for name in ("out", "err"))
            process = subprocess.Popen(
                [sys.executable, *command], env={**_ENVIRONMENT, **own}, cwd=folder, stdout=out, stderr=err, text=True
            )
            stack.callback(_end, process)
            started.append((process, out, err))
        deadline = time.monotonic() + SECONDS
        while not _over([process.poll() for process, _, _ in started]):
            assert time.monotonic() < deadline, f"not done after {SECONDS} s"
            time.sleep(0.05)
        return [_told(*one) for one in started]


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nothing listens on now.

    Below those that systems give to outgoing connections (from 32768), so that none is taken before a server listens there.
    """
    free: list[int] = []
    with contextlib.ExitStack() as stack:
        for port in np.random.default_rng().permutation(np.arange(10_000, 32_000)).tolist():
            own = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                own.bind(("127.0.0.1", port))
                free.append(port)
            if len(free) == count:
                break
    return free


def _over(codes: Sequence[int | None]) -> bool:
    """Whether all have ended, or one has failed, for which the others would wait."""
    return None not in codes or any(codes)


def _told(process: subprocess.Popen[str], out: IO[str], err: IO[str]) -> str:
    for file in (out, err):
        file.seek(0)
    assert not process.poll(), f"exit code {process.poll()} of {process.args!r}:\n{err.read()[-6000:]}"
    return out.read()


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
