"""Petastorm's published examples, by changed imports: each is run as its authors mean it, on data that lies here.

MNIST is not downloaded: the digits of data/samples stand for it, as the examples' own functions take them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.petastorm.conftest import oracle_python
from tests.petastorm.upstream.suite import ROOT, extra_packages, rewritten

_SECONDS = 400
_TERMINAL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0e-\x1f]|━+ ?")
_NOISE = re.compile(r"^\[Stage |\bWARN|log(ging)? level|log4j")
_DIGITS = """
import numpy as np
from PIL import Image
import tests.petastorm.upstream.old_numpy
from tests.spark.mnist import digits
images, labels = digits()
pictures = [(Image.fromarray(image), int(label)) for image, label in zip(images, labels)]
"""
_LIBSVM = """
import os
os.makedirs('{folder}/libsvm')
with open('{folder}/libsvm/digits.txt', 'w') as out:
    for image, label in zip(images, labels):
        values = ' '.join(f'{{place + 1}}:{{value}}' for place, value in enumerate(image.ravel().tolist()) if value)
        print(label, values, file=out)
"""
_HELLO, _EXTERNAL, _MNIST = "file://{folder}/hello", "file://{folder}/external", "file://{folder}/mnist"
_OF = "from examples.hello_world.petastorm_dataset.{0} import *; {0}('" + _HELLO + "')"
_OF_EXTERNAL = "from examples.hello_world.external_dataset.{0} import *; {0}('" + _EXTERNAL + "')"


_GRAPH = "import tensorflow.compat.v1 as tf; tf.disable_eager_execution()\n"
"""The examples for TensorFlow make graphs and sessions, which TensorFlow 2 wants to be told; their authors' tests do it too."""


def _of(template: str, name: str) -> str:
    return template.replace("{0}", name)


EXAMPLES: dict[str, str] = {
    "hello_world/petastorm_dataset/generate_petastorm_dataset": _of(_OF, "generate_petastorm_dataset"),
    "hello_world/petastorm_dataset/python_hello_world": _of(_OF, "python_hello_world"),
    "hello_world/petastorm_dataset/pytorch_hello_world": _of(_OF, "pytorch_hello_world"),
    "hello_world/petastorm_dataset/tensorflow_hello_world": _GRAPH + _of(_OF, "tensorflow_hello_world"),
    "hello_world/petastorm_dataset/pyspark_hello_world": _of(_OF, "pyspark_hello_world"),
    "hello_world/external_dataset/generate_external_dataset": _of(_OF_EXTERNAL, "generate_external_dataset"),
    "hello_world/external_dataset/python_hello_world": _of(_OF_EXTERNAL, "python_hello_world"),
    "hello_world/external_dataset/pytorch_hello_world": _of(_OF_EXTERNAL, "pytorch_hello_world"),
    "hello_world/external_dataset/tensorflow_hello_world": _GRAPH + _of(_OF_EXTERNAL, "tensorflow_hello_world"),
    "mnist/generate_petastorm_mnist": _DIGITS
    + "from examples.mnist.generate_petastorm_mnist import mnist_data_to_petastorm_dataset as made\n"
    + f"made(None, '{_MNIST}', 'local[2]', mnist_data={{'train': pictures[:1600], 'test': pictures[1600:]}})",
    "mnist/pytorch_example": "import sys; from examples.mnist.pytorch_example import main\n"
    f"sys.argv[1:] = ['--dataset-url', '{_MNIST}', '--epochs', '2', '--no-cuda', '--test-batch-size', '100']; main()",
    "mnist/tf_example": _GRAPH
    + f"from examples.mnist.tf_example import train_and_test; train_and_test('{_MNIST}', 30, 100, 10)",
    "spark_dataset_converter/pytorch_converter_example": _DIGITS + _LIBSVM
    + "from examples.spark_dataset_converter.pytorch_converter_example import run; run('{folder}/libsvm')",
    "spark_dataset_converter/tensorflow_converter_example":
    "from examples.spark_dataset_converter.tensorflow_converter_example import run; run('{folder}/libsvm')",
}  # fmt: skip


@dataclass(frozen=True)
class Ran:
    """An example that was run."""

    name: str
    passed: bool
    seconds: float
    last: str
    """The last line that it printed."""


def run_examples(folder: Path) -> list[Ran]:
    """All of them, in order, in `folder`."""
    source = Path(oracle_python()).parents[1] / f"lib/python3.{sys.version_info[1]}/site-packages/examples"
    shutil.copytree(source, folder / "examples", ignore=shutil.ignore_patterns("__pycache__", "tests"))
    for path in (folder / "examples").rglob("*.py"):
        path.write_text(rewritten(path.read_text()))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (folder, ROOT / "lib", ROOT, extra_packages())))}
    environment |= {"PYSPARK_PYTHON": sys.executable, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    found = []
    for name, code in EXAMPLES.items():
        filled = code.replace("{folder}", str(folder)).replace("{{", "{").replace("}}", "}")
        began = time.monotonic()
        log = folder / f"{name.replace('/', '-')}.log"
        with open(log, "wb") as out:
            code_of_exit = _run([sys.executable, "-c", filled], folder, environment, out)
        seconds = time.monotonic() - began
        found.append(Ran(name, code_of_exit == 0, seconds, _last_line(log.read_text(errors="replace"))))
        print(f"{name}: {'ran' if found[-1].passed else 'FAILED'}", flush=True)
    return found


def _last_line(printed: str) -> str:
    """Of what an example says itself: neither Spark's bars nor warnings, nor what moves a terminal's cursor."""
    lines = (_TERMINAL.sub("", line).strip() for line in printed.splitlines())
    return next((line[:160] for line in reversed(list(lines)) if line and not _NOISE.search(line)), "")


def _run(command: list[str], folder: Path, environment: dict[str, str], out: object) -> int:
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            timeout=_SECONDS,  # type: ignore[call-overload]
        ).returncode
    except subprocess.TimeoutExpired:
        return 124
