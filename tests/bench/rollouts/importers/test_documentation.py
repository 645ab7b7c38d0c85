"""docs/importing.md says what the importers do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from prunebench.bench.rollouts.importers import IMPORTERS
from prunebench.bench.rollouts.importers.plain import OF_PATH, OF_PROBLEM

PAGE = (Path(__file__).parents[4] / "docs" / "importing.md").read_text()


def table(first):
    """The rows of the table whose first heading is ``first``, their cells stripped of blanks."""
    lines = PAGE[PAGE.index(f"| {first} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_format_is_listed_with_its_files_signals_and_fields():
    rows = {row[0].strip("`"): row for row in table("format")}
    assert list(rows) == list(IMPORTERS)
    for name, (_, files, _, signals, fields) in rows.items():
        importer = IMPORTERS[name]
        assert all(suffix in files for suffix in importer.suffixes[:1])
        assert set(re.findall(r"[a-z_]+", signals.split("(")[0])) - {"none"} == {s.name for s in importer.signals}
        if name != "plain":
            assert set(re.findall(r"`(\w+)`", fields)) == importer.fields


def test_every_field_of_the_format_plain_is_listed():
    rows = [(field.strip("`"), of) for field, of, _ in table("field")]
    assert rows == [(field, "problem") for field in OF_PROBLEM] + [(field, "path") for field in OF_PATH]


@pytest.mark.parametrize("block", re.findall(r"```jsonl\n(.*?)```", PAGE, re.DOTALL))
def test_the_example_is_imported(block, tmp_path, imported):
    path = tmp_path / "example.jsonl"
    path.write_text(block)
    problems, report = imported("plain", path)
    assert {name: [path.answer for path in problem.paths] for name, problem in problems.items()} == {
        "sum": ["5", "6"],
        "half": ["0.5", None],
    }
    assert [path.correct for problem in problems.values() for path in problem.paths] == [True, False, True, False]
    assert (report.verdicts, report.disagreements.total()) == (2, 0)
