from __future__ import annotations

import json

import pytest

import prunebench.bench.cli.figures  # noqa: F401 - registers the command
from tests.bench.conftest import refused


def test_figures_need_a_run_of_this_version(prunebench, tmp_path):
    assert "run/results.json: no such file; make it with: prunebench" in refused(prunebench("figures", "--run", "run"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "results.json").write_text(json.dumps({"schema_version": 7}))
    assert "schema version 7 is not that of this version (1)" in refused(prunebench("figures", "--run", "run"))
    assert not (tmp_path / "run" / "figures").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("paretto",), "unknown figure 'paretto': did you mean pareto"),
        (("retention", "--sweep", "nowhere"), "nowhere: no such folder; make it with: prunebench sweep"),
        (("ablations",), "make it with: prunebench ablate"),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_one_sentence(prunebench, tmp_path, arguments, message):
    assert message in refused(prunebench("figures", *arguments, "--out", "out"))
    assert not (tmp_path / "out").exists()


def test_one_figure_by_name_is_three_files(prunebench, tmp_path):
    code, out, _ = prunebench("figures", "taxonomy", "--out", "out")
    assert code == 0
    assert "taxonomy.png, taxonomy.svg, taxonomy.csv" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "taxonomy.csv", "taxonomy.png", "taxonomy.svg",
    ]  # fmt: skip
