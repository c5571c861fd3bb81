"""The daemons of the tests: none outlives its run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cluster.daemon import MARK, wait_until
from tests.cluster.guard import marked

_RUN = """
import sys
from pathlib import Path
from tests.cluster.hdfs import Hdfs
hdfs = Hdfs(Path(sys.argv[1]), datanodes=1)
hdfs.start()
print("started", flush=True)
sys.stdin.read()
"""


def test_daemons_end_with_a_killed_run(tmp_path: Path) -> None:
    folder = tmp_path / "hdfs"
    run = subprocess.Popen([sys.executable, "-c", _RUN, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert run.stdout is not None
        assert run.stdout.readline() == "started\n"
        mark = f"{MARK}={folder}".encode()
        assert len(marked(mark)) == 2
    finally:
        run.kill()
        run.communicate()
    wait_until(lambda: not marked(mark), "the end of the daemons", 20)
