"""Of conf/oozie what can be told without Oozie's server: XML, properties, transitions, and what the jobs are given."""

from __future__ import annotations

import ast
import re
import shlex
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.schedulers.deployed import FILES, PACKED, job_properties

DEFINITIONS = sorted(FILES.glob("*.xml"))
OF_OOZIE = {"YEAR", "MONTH", "DAY", "user.name"}
"""What Oozie fills in: of a day's directory, and of whoever submits."""
_COMPARED = re.compile(r"\$\{(\w+) eq ")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.name)
def test_every_property_is_explained(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    used = set(_VARIABLE.findall(text)) - OF_OOZIE
    own = {name.text for name in ET.fromstring(text).iterfind("{*}parameters/{*}property/{*}name")}
    known = job_properties().keys()
    assert used <= own | known
    assert own <= known | {"shipping"}, "a parameter that job.properties does not explain"


def test_every_explained_property_is_used() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in DEFINITIONS)
    properties = job_properties()
    used = {*_VARIABLE.findall(text), *_VARIABLE.findall("".join(properties.values())), *_COMPARED.findall(text)}
    assert {name for name in properties if not name.startswith("oozie.")} <= used
    assert set(_VARIABLE.findall("".join(properties.values()))) <= properties.keys() | OF_OOZIE


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.name)
def test_every_transition_leads_somewhere(path: Path) -> None:
    root = ET.fromstring(path.read_text(encoding="utf-8"))
    nodes = {node.get("name") for node in root if node.get("name")}
    targets = {node.get("to") for node in root.iter() if node.get("to")}
    assert targets == nodes or root.tag.rpartition("}")[2] != "workflow-app"


def test_the_jobs_have_the_options_they_are_given() -> None:
    """Of the words that job.py and the spark action are given, the options are those of the job."""
    checked = 0
    for root in (ET.fromstring((FILES / name).read_text(encoding="utf-8")) for name in ("workflow.xml", "workflow-spark.xml")):
        for action in root.iterfind("{*}action"):
            words = _words(action)
            if not words:
                continue
            job, *given = words
            source = ast.parse((ROOT / "jobs" / job).read_text(encoding="utf-8"))
            known = {node.value for node in ast.walk(source) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
            named = {f"--{argument.arg.replace('_', '-')}" for node in ast.walk(source) for argument in _arguments(node)}
            options = {word for word in given if word.startswith("--")}
            assert options <= known | named, f"{job} has no {options - known - named}"
            checked += 1
    assert checked == 5


def _words(action: ET.Element) -> list[str]:
    """The job of an action and what it is given; none of an fs action."""
    if (jar := action.find("{*}spark/{*}jar")) is not None:
        return [str(jar.text).rpartition("/")[2], *(str(arg.text) for arg in action.iterfind("{*}spark/{*}arg"))]
    arguments = [str(argument.text) for argument in action.iterfind("{*}shell/{*}argument")]
    return shlex.split(re.sub(r"\$\{[^}]*\}", "value", arguments[-1])) if arguments else []


def _arguments(node: ast.AST) -> list[ast.arg]:
    return node.args.args if isinstance(node, ast.FunctionDef) else []


def test_the_archive_is_what_the_document_packs() -> None:
    command = f"git archive -o shardwright.zip HEAD {' '.join(PACKED)}"
    assert command in (ROOT / "docs/oozie.md").read_text(encoding="utf-8")
    assert all((ROOT / name).exists() for name in PACKED)
