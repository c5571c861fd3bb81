"""The document of the benchmarks keeps the part of the other command."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.document import write_part


def test_a_part_takes_the_place_of_the_one_with_its_title(tmp_path: Path) -> None:
    path = tmp_path / "docs/benchmarks.md"
    write_part(path, "# One\n\n## Group\n\nold\n")
    write_part(path, "# Two\n\nkept\n")
    write_part(path, "# One\n\n## Group\n\nnew\n")
    assert path.read_text(encoding="utf-8") == "# One\n\n## Group\n\nnew\n\n# Two\n\nkept\n"


def test_what_is_written_again_does_not_change(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks.md"
    for _ in range(2):
        write_part(path, "# One\n\n| a |\n")
        write_part(path, "# Two\n")
    assert path.read_text(encoding="utf-8") == "# One\n\n| a |\n\n# Two\n"
