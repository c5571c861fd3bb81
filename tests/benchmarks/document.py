"""docs/benchmarks.md: each command writes its own part, which begins with a title of its own, and leaves the other alone."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.benchmarks.contenders import ROOT, fresh, say
from tests.benchmarks.measure import ContenderError


def measure_groups(head: str, groups: Mapping[str, Callable[[Path], str]], work: Path, output: Path) -> None:
    """Give each group an empty folder, and write `head` and what they return as one part. Exits where a group failed."""
    sections, failed = [head], []
    for name, run in groups.items():
        try:
            sections.append(run(fresh(work / name)))
        except ContenderError as error:  # the other groups are still worth their time
            say(f"{name}: nothing is reported, because a contender failed. {error}")
            failed.append(name)
        shutil.rmtree(work / name)
        write_part(output, "\n".join(sections))  # after each group: what is measured is kept
        say(f"written: {output}")
    print("\n".join(sections))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def output_of(given: Path | None, *, whole: bool) -> Path:
    """Where the document lies: what was measured in part, or on little data, is not for docs/."""
    return given or ROOT / ("docs" if whole else "build") / "benchmarks.md"


def write_part(path: Path, part: str) -> None:
    """Put `part`, Markdown that begins with a line '# Title', in the place of the part of this title, or at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    parts = {found.splitlines()[0]: found.strip() + "\n" for found in re.split(r"^(?=# )", text, flags=re.M) if found.strip()}
    parts[part.splitlines()[0]] = part.strip() + "\n"
    path.write_text("\n".join(parts.values()), encoding="utf-8")
