"""Rules about the source itself: small files, nothing unpickled or evaluated, one verb per file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardwright.stages import ORDER
from tests.conftest import ROOT

MAX_LINES = 400
FILES = sorted(path for folder in ("lib", "jobs", "tests", "docs") for path in (ROOT / folder).rglob("*.py"))
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}


def names(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


def test_files_are_found() -> None:
    assert {"lib/shardwright/schema.py", "jobs/prepare.py", "tests/conftest.py"} <= set(names(FILES))


@pytest.mark.parametrize("path", FILES, ids=names(FILES))
def test_no_file_is_long(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{lines} lines, at most {MAX_LINES}: one idea per file"


@pytest.mark.parametrize("path", FILES, ids=names(FILES))
def test_nothing_is_unpickled_or_evaluated(path: Path) -> None:
    found = list(unsafe(ast.parse(path.read_text(encoding="utf-8"))))
    assert not found, f"{path}: {found}"


@pytest.mark.parametrize(
    "source", ["import pickle", "import pickle as p", "from pickle import loads", "eval('1')", "import a, dill.x", "exec(c)"]
)
def test_what_is_unsafe_is_seen(source: str) -> None:
    assert list(unsafe(ast.parse(source)))


def unsafe(tree: ast.AST) -> Iterator[str]:
    """Imports of modules that unpickle, and calls that run text as code."""
    for node in ast.walk(tree):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in UNSAFE_CALLS:
            yield f"{node.func.id}()"
        yield from (f"imports {module}" for module in modules if module.partition(".")[0] in UNSAFE_MODULES)


def test_numpy_never_unpickles() -> None:
    """`allow_pickle=True` would run code from a file."""
    careless = [path for path in FILES if re.search(r"allow_pickle\s*=\s*True", path.read_text(encoding="utf-8"))]
    assert not names([path for path in careless if path != Path(__file__)])


def test_one_verb_per_file() -> None:
    stages = {path.stem for path in (ROOT / "lib/shardwright/stages").glob("*.py")} - {"__init__"}
    assert stages == set(ORDER)


def test_the_readme_names_the_stages_in_order() -> None:
    """Its pipeline sentence has the words reads, cleans, …, publishes, and none of the verbs in another order."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    third_person = [f"{verb}es" if verb.endswith(("sh", "ss")) else f"{verb}s" for verb in ORDER]
    sentences = re.split(r"(?<=[.!?:])\s+(?=[A-Z`#*])|\n\s*\n", text)
    found = [[word for word in re.findall(r"[a-z]+", sentence.lower()) if word in third_person] for sentence in sentences]
    assert third_person in found, f"expected a sentence with {', '.join(third_person)}, in this order"


def test_stages_have_a_docstring_that_begins_with_their_name() -> None:
    for verb in ORDER:
        source = (ROOT / f"lib/shardwright/stages/{verb}.py").read_text(encoding="utf-8")
        docstring = ast.get_docstring(ast.parse(source)) or ""
        assert docstring.lower().startswith(f"{verb}:"), f"stages/{verb}.py: {docstring.splitlines()[:1]}"


def test_the_library_finds_no_data_beside_its_code() -> None:
    """Code runs from a zip on a cluster: package data comes through importlib.resources."""
    library = [path for path in FILES if path.is_relative_to(ROOT / "lib")]
    assert not names([path for path in library if "__file__" in path.read_text(encoding="utf-8")])
