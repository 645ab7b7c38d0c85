"""A comparison as a function, and its tables as frames."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from prunebench.bench import compare
from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.results import TABLES
from prunebench.figures.forest import forest
from tests.figures.readable import assert_readable

PAGE = (Path(__file__).parents[3] / "docs" / "figures.md").read_text()
(NOTEBOOK,) = [text for text in re.findall(r"```python\n(.*?)```", PAGE, flags=re.S) if "compare(" in text]


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """What the page's snippet leaves behind."""
    folder = tmp_path_factory.mktemp("notebook")
    names: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(compile(NOTEBOOK, "docs/figures.md", "exec"), names)
    return names, folder


def test_the_pages_snippet_gives_results_a_frame_and_a_figure(notebook):
    results, table = notebook[0]["results"], notebook[0]["table"]
    assert {row.method for row in results.rows} == {"none", "random", "entropy", "perplexity"}
    row = next(row for row in results.rows if row.method == "entropy")
    cells = table[table.method == "entropy"].iloc[0]
    assert (cells.n, cells.k, cells.n_problems) == (16, 4, 8)
    assert cells.avg_at_k == row["avg_at_k"].mean and cells.delta_low == row["delta"].low
    assert math.isnan(table[table.method == "none"].iloc[0].p_holm)
    assert_readable(forest(results, results.task))


def test_every_table_is_a_frame_and_another_name_is_refused(notebook):
    results = notebook[0]["results"]
    for name in TABLES:
        assert len(results.to_frame(name)) == len(getattr(results, name))
    assert set(results.to_frame("frontier").k) == {16, 8, 4, 2, 1}
    with pytest.raises(ValueError, match="no table 'row': there are rows, representatives"):
        results.to_frame("row")


def test_the_same_call_goes_on_and_a_store_is_compared_again(notebook):
    results, folder = notebook[0]["results"], notebook[1] / "runs" / "notebook"
    before = (folder / "results.json").stat().st_mtime_ns
    again = compare(["synthetic/power"], methods=["entropy", "perplexity"], problems=8, n=16, k=4, out=folder)
    assert again.rows == results.rows or str(again.rows) == str(results.rows)
    assert (folder / "results.json").stat().st_mtime_ns == before
    stored = compare(store=folder / "rollouts", methods=["entropy"], k=4, n=16, out=folder.parent / "stored")
    first, second = (
        next(row for row in some.rows if row.method == "entropy")["avg_at_k"] for some in (results, stored)
    )
    assert first == second


def test_what_cannot_be_run_is_one_sentence():
    with pytest.raises(UserError, match="entropi"):
        compare(["synthetic/power"], methods=["entropi"], problems=1, n=4, k=2, out="never")
    with pytest.raises(UserError, match="unknown key 'kk'"):
        compare(["synthetic/power"], kk=2)
