"""The runner of Petastorm's own tests hides none: neither one that kills its process, nor those that come after it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.petastorm.upstream.report import summary
from tests.petastorm.upstream.suite import ROOT, TESTS, Outcome, Subject, SuiteError, not_applicable, rewritten, run_file

TESTED = """
import os
import pytest

@pytest.mark.parametrize("number", [1, 2])
def test_of_parameters(number):
    assert number == 1, "not one"

def test_that_kills():
    os._exit(0)

@pytest.mark.skip(reason="not here")
def test_skipped():
    pass

@pytest.fixture
def broken_at_its_end():
    yield
    raise OSError("at the end")

def test_whose_fixture_fails(broken_at_its_end):
    pass

def test_after_all():
    pass
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    package = tmp_path / "upstream_tests"
    package.mkdir()
    (package / "__init__.py").touch()
    return package / "test_this.py"


def run(file: Path, text: str) -> list[Outcome]:
    file.write_text(text)
    return run_file(file, Subject(sys.executable, (ROOT,), (), rewritten=False))


def test_each_test_has_an_outcome(file: Path) -> None:
    found = run(file, TESTED)
    assert {one.test: one.outcome for one in found} == {
        "test_of_parameters[1]": "passed",
        "test_of_parameters[2]": "failed",
        "test_that_kills": "failed",
        "test_skipped": "skipped",
        "test_whose_fixture_fails": "failed",
        "test_after_all": "passed",
    }
    reasons = {one.test: one.reason for one in found}
    assert "not one" in reasons["test_of_parameters[2]"]
    assert "aborted its process" in reasons["test_that_kills"]
    assert "not here" in reasons["test_skipped"]
    assert "at the end" in reasons["test_whose_fixture_fails"]


@pytest.mark.parametrize(
    "text, told",
    [("import no_such_module", "No module named 'no_such_module'"), ("def other(): ...", "no test of test_this was collected")],
)
def test_a_file_without_a_result_is_an_error(file: Path, text: str, told: str) -> None:
    with pytest.raises(SuiteError, match=told):
        run(file, text)


def test_less_than_85_percent_is_not_enough() -> None:
    passed = [Outcome("test_unischema", f"test_{number}", "passed", "") for number in range(85)]
    failed = [Outcome("test_unischema", f"test_bad_{number}", "failed", "why") for number in range(15)]
    assert summary(passed + failed).enough
    assert not summary(passed[1:] + failed).enough
    private = Outcome("test_unischema", "test_fullmatch", "passed", "")
    assert not summary([*passed, *failed, private]).enough  # one that is not applicable does not count as passed
    assert [one.test for one in summary(passed + failed).failed] == [f"test_bad_{number}" for number in range(15)]


def test_private_tests_are_named_once_and_of_files_that_run() -> None:
    assert {test.partition("::")[0] for test in not_applicable()} <= set(TESTS)


def test_imports_are_rewritten_and_nothing_else() -> None:
    text = "from petastorm import make_reader\nfrom petastorm.tests.test_common import x\n'petastorm.unischema.y' 'petastorm_z'"
    assert rewritten(text) == (
        "from shardwright.petastorm import make_reader\nfrom upstream_tests.test_common import x\n"
        "'shardwright.petastorm.unischema.y' 'petastorm_z'"
    )
