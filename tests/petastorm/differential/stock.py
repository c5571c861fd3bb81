"""All readings of the datasets in a folder by stock Petastorm, as JSON; runs in the environment of setup-oracle.sh.

python -m tests.petastorm.differential.stock FOLDER OUT.json
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import traceback
import warnings
from pathlib import Path

from tests.petastorm.differential.package import Package
from tests.petastorm.differential.readings import ALL

warnings.filterwarnings("ignore")  # those of old libraries about each other


def main() -> None:
    folder, out = sys.argv[1:]
    stock, found = Package("petastorm"), {}
    for dataset, readings in ALL.items():
        for reading in readings:
            with contextlib.redirect_stdout(io.StringIO()):  # stock prints when a reader ends
                try:
                    result = reading(stock, (Path(folder) / dataset / "data").as_uri())
                except Exception:  # noqa: BLE001 - told to the test
                    result = {"failed": traceback.format_exc()}
            found[f"{dataset}/{reading.__name__}"] = result
    Path(out).write_text(json.dumps(found))
    os._exit(0)  # all is said: at an ordinary end a thread of the old pyarrow sometimes aborts the process


if __name__ == "__main__":
    main()
