"""Processes of a test cluster: each in a session of its own, ended exactly, none left behind even if the test run is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

MARK = "SHARDWRIGHT_TEST_CLUSTER"
"""The variable that all processes of a cluster carry, those in YARN's containers too; its value is the cluster's directory."""

_STOP_SECONDS = 10


class Daemon:
    """A process that can be started again; what it says is appended to `log`."""

    def __init__(self, name: str, command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        assert not self.running, f"{self.name} runs already"
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, env=self._environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def signal(self, number: int) -> None:
        """SIGSTOP, SIGCONT, …; nothing happens where it does not run."""
        if self._process is not None:
            self._process.send_signal(number)

    def pause(self) -> None:
        """It hangs, with its connections open."""
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After `pause`."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill -9."""
        self.signal(signal.SIGKILL)
        self._wait(_STOP_SECONDS)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL where that is not heard."""
        self.go_on()
        self.signal(signal.SIGTERM)
        try:
            self._wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def _wait(self, seconds: float) -> None:
        if self._process is not None:
            self._process.wait(seconds)

    def check(self) -> None:
        """Fails with the end of its log where it has ended."""
        assert self.running, f"{self.name} has ended; the end of {self.log}:\n{self.log.read_text(errors='replace')[-3000:]}"


class Guard:
    """A process that ends a cluster's processes when the test run ends, however that happens: its pipe breaks then."""

    def __init__(self, mark: str) -> None:
        command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py")), f"{MARK}={mark}"]
        environment = {name: value for name, value in os.environ.items() if name != MARK}
        self._process = subprocess.Popen(
            command, env=environment, start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def close(self) -> list[str]:
        """End what still runs; a line for each such process."""
        left, _ = self._process.communicate(timeout=30)
        return left.splitlines()


def wait_until(
    condition: Callable[[], bool], what: str, seconds: float = 60, daemons: Sequence[Daemon] = (), every: float = 0.05
) -> float:
    """Seconds until `condition`, asked `every` so many seconds, holds.

    Fails where that takes too long, or one of `daemons` has ended.
    """
    began = time.monotonic()
    while not condition():
        for daemon in daemons:
            daemon.check()
        logs = "".join(f"\n{daemon.log}" for daemon in daemons)
        assert time.monotonic() - began < seconds, f"not within {seconds} s: {what}{logs}"
        time.sleep(every)
    return time.monotonic() - began


def listens(port: int) -> bool:
    """Whether a server takes connections at 127.0.0.1."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
