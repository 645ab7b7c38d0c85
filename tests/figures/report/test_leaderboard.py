"""Several runs on one page."""

from __future__ import annotations

import math

import pytest

from prunebench.bench.errors import UserError
from prunebench.figures.report import write_leaderboard
from prunebench.figures.report.leaderboard import leaderboard, standings
from tests.figures.rows import changed


@pytest.fixture
def runs(results):
    """The same comparison by two models; in the larger one linear-probe is ahead everywhere."""
    rows = [
        changed(row, model="larger", delta=30.0 if row.method == "linear-probe" else row["delta"].mean)
        for row in results.rows
    ]
    return results, results.model_copy(update={"rows": rows})


def test_methods_are_ranked_in_every_pair_of_a_model_and_a_task(runs):
    lines = {line.method: line for line in standings(runs)}
    # on every task of the first model: mix 1, stop 2, linear-probe 3; of the second one linear-probe is first
    assert [lines[name].rank.mean for name in ("mix_of_everything", "stop", "linear-probe")] == [1.5, 2.5, 2.0]
    assert next(iter(lines)) == "mix_of_everything" and "none" not in lines and "length" not in lines
    # over 8 pairs: half of them at 1, half at 2; the interval ends at the best possible rank
    assert lines["mix_of_everything"].rank.low >= 1 and lines["mix_of_everything"].rank.high > 1.5
    assert [row.model for row in lines["stop"].gains] == ["embedded", "larger"]


def test_a_procedure_that_nobody_tuned_keeps_as_many_as_it_likes_and_has_no_rank(runs):
    def named(run):
        rows = [changed(r, method="esc", p_holm=math.nan) if r.method == "linear-probe" else r for r in run.rows]
        return run.model_copy(update={"rows": rows})

    lines = {line.method: line for line in standings([named(run) for run in runs])}
    assert math.isnan(lines["esc"].rank.mean) and lines["esc"].gains[1] is not None
    assert lines["mix_of_everything"].rank.mean == 1.0 and lines["stop"].rank.mean == 2.0


def test_few_pairs_have_no_interval_and_say_so(results):
    two = results.model_copy(
        update={"rows": [row for row in results.rows if row.task in ("power", "program")],
                "problems": {task: results.problems[task] for task in ("power", "program")}}
    )  # fmt: skip
    assert math.isnan(standings([two])[0].rank.low)
    assert "so few pairs tell nothing of others" in leaderboard([two, two])


def test_a_method_that_one_comparison_lacks_is_shown_without_a_rank(runs):
    small, larger = runs
    without = larger.model_copy(update={"rows": [row for row in larger.rows if row.method != "stop"]})
    last = standings([small, without])[-1]
    assert last.method == "stop" and math.isnan(last.rank.mean) and last.gains[1] is None
    nobody = larger.model_copy(update={"rows": [row for row in larger.rows if row.quadrant == "control"]})
    with pytest.raises(UserError, match="nothing to rank"):
        standings([small, nobody])


def test_the_page_filters_by_quadrant_and_sorts(runs, tmp_path, chromium):
    page = write_leaderboard(runs, tmp_path / "leaderboard.html")
    context = chromium.new_context(viewport={"width": 400, "height": 800})
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.goto(page.as_uri())
    opened.wait_for_function("document.body.dataset.ready === 'yes'")
    methods = "rows => rows.filter(r => !r.hidden).map(r => r.cells[0].dataset.key)"
    assert opened.eval_on_selector_all("#main tbody tr", methods)[0] == "mix_of_everything"
    assert opened.text_content(".sorted") == "sorted by mean rank [95 %], smallest first"
    for quadrant in ("I", "II", "III", "mixed"):
        opened.uncheck(f"input[data-quadrant={quadrant}]")
    assert opened.eval_on_selector_all("#main tbody tr", methods) == ["linear-probe", "stop"]
    assert opened.text_content("#count") == "2 methods"
    assert opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    context.close()
    assert errors == []
