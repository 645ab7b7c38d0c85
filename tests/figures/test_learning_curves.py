"""Learning curves: every method over what it learned from, beside the best free method of the comparison."""

from __future__ import annotations

import csv
import math

import pytest

from prunebench.bench.evaluation.ablation import VALUES, AblationRow
from prunebench.bench.evaluation.results import rows_csv
from prunebench.bench.evaluation.statistics import Interval
from prunebench.figures.learning_curves import best_free, draw, learning_csv, learning_curves
from prunebench.figures.run_folder import RunFolder
from tests.figures.readable import assert_readable
from tests.figures.rows import changed
from tests.figures.test_ablations import row


def curve(method: str, axis: str, value: str, gain: float) -> AblationRow:
    return row(axis, value, 40.0).model_copy(update={"method": method, "delta": Interval(gain, gain - 2, gain + 2)})


ROWS = [
    curve(method, axis, value, gain + number)
    for method, gain in {"stop": 8.0, "otv": 7.9, "step": 7.8, "linear-probe": 4.0, "text-classifier": 0.5}.items()
    for axis in ("problems", "labels", "prefixes")
    for number, value in enumerate(VALUES[axis])
]


def test_a_panel_per_axis_with_the_best_free_method_that_is_readable(results):
    free = best_free(results.rows)
    assert free is not None and free.quadrant in ("I", "III")
    assert free["delta"].mean == max(r["delta"].mean for r in results.rows if r.method in ("slim-sc", "perplexity",
                                     "entropy", "deepconf") and r.task == free.task)  # fmt: skip
    figure = learning_curves(ROWS, free)
    assert [ax.get_xlabel() for ax in figure.axes] == [
        "training problems", "continuations per label", "prefixes per problem",
    ]  # fmt: skip
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["50", "100", "200", "all"]
    figure.savefig("/tmp/lc.png", dpi=200)
    assert_readable(figure)
    assert_readable(learning_curves([one for one in ROWS if one.axis == "labels"]))


def test_who_does_not_compete_is_not_the_best_free_one(results):
    rows = [changed(r, p_holm=math.nan) if r.quadrant in ("I", "III") else r for r in results.rows]
    assert best_free(rows) is None
    with pytest.raises(ValueError, match="no learning curve was measured"):
        learning_curves([curve("stop", "rank", "4", 1.0)])


def test_it_is_drawn_from_what_the_study_wrote(results, tmp_path):
    results.write(tmp_path / "results.json")
    (tmp_path / "curves").mkdir()
    (tmp_path / "curves" / "curves.csv").write_text(rows_csv(ROWS))
    drawing = draw(RunFolder(tmp_path))
    lines = list(csv.DictReader(drawing.data.splitlines()))
    assert len(lines) == len(ROWS) and drawing.data == learning_csv(ROWS)
    assert [lines[0][name] for name in ("method", "axis", "value")] == ["stop", "problems", "50"]
    assert float(lines[0]["delta"]) == 8
