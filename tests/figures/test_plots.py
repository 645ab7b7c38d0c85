"""What holds for every figure: whole and readable, the same colours, the same bytes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from prunebench.bench.evaluation.results import FrontierRow, Results
from prunebench.bench.evaluation.statistics import UNDEFINED
from prunebench.figures.forest import HIDDEN, forest
from prunebench.figures.frontier import HIDDEN as HIDDEN_THERE
from prunebench.figures.frontier import PANELS, frontier
from prunebench.figures.score_quality import score_quality
from prunebench.figures.style import INK, QUADRANTS, WIDTH_INCHES, save, spread
from tests.figures.readable import assert_readable, texts
from tests.figures.rows import changed

Plot = Callable[..., Figure]
PLOTS = [forest, score_quality]
plots = pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.__name__)


def variant(results: Results, kind: str) -> Results:
    rows = results.rows
    if kind == "single":
        rows = [row for row in rows if row.method == "stop"]
    elif kind == "undefined":
        rows = [row.model_copy(update={"metrics": dict.fromkeys(row.metrics, UNDEFINED)}) for row in rows]
    elif kind == "tight":
        rows = [changed(row, avg_at_k=44.0, tokens=4150.0) for row in rows]
    elif kind == "spread":
        rows = [changed(row, tokens=900.0 + 800 * (i % 13)) for i, row in enumerate(rows)]
    elif kind == "many":
        copies = [row.model_copy(update={"method": f"{row.method}-{i}"}) for row in rows for i in range(3)]
        rows = [*rows, *(row for row in copies if row.quadrant != "control")]
    elif kind == "wide":
        wide = {"avg_at_k_low": -8.0, "avg_at_k_high": 104.0, "headroom_low": -900.0, "headroom_high": 1200.0}
        rows = [changed(row, **wide, headroom=-300.0) for row in rows]
    return results.model_copy(update={"rows": rows})


@plots
@pytest.mark.parametrize("kind", ["usual", "single", "undefined", "tight", "spread", "many", "wide"])
def test_nothing_is_cut_and_no_text_overlaps(plot: Plot, kind: str, results: Results) -> None:
    for task in ("all", "power"):
        assert_readable(plot(variant(results, kind), task))


@plots
def test_every_method_and_every_axis_is_named(plot: Plot, results: Results) -> None:
    figure = plot(results)
    shown = {text.get_text() for text in texts(figure)}
    left_to_lines = set(HIDDEN) if plot is forest else set()
    assert {row.method for row in results.rows if row.task == "all"} - left_to_lines <= shown
    assert all(ax.get_xlabel() for ax in figure.axes)
    assert figure.get_size_inches()[0] == WIDTH_INCHES


def test_the_forest_says_whether_a_quadrant_is_the_best_one(results: Results) -> None:
    said = [text.get_text() for text in forest(results).texts]
    assert "best quadrant: not established" in said
    assert "IV (stop) minus II (text-classifier): +11.3 [−2.3, +24.9]" in said
    for task in ("power", "all"):
        alone = [text.get_text() for text in forest(results.model_copy(update={"pairs": []}), task).texts]
        assert not any("best quadrant" in text for text in alone), "they were never held together"


def test_the_forest_fills_what_holm_leaves_standing_and_dashes_the_potential(results: Results) -> None:
    rows = [row for row in results.rows if row.task == "all"]
    (ax,) = forest(results).axes
    marks = [line for line in ax.get_lines() if line.get_marker() not in ("None", "")]
    shown = {row["delta"].mean: row["p_holm"].mean < 0.05 for row in rows if row.method not in HIDDEN}
    assert {line.get_xdata()[0]: line.get_markerfacecolor() != "white" for line in marks} == shown
    (dashed,) = [line.get_xdata()[0] for line in ax.get_lines() if line.get_linestyle() == "--"]
    assert dashed == next(row["delta"].mean for row in rows if row.method == "potential")


def of_frontier(ax: Axes) -> dict[str, list[tuple[float, float]]]:
    """The lines of a panel by colour, grey ones apart."""
    return {to_hex(str(line.get_color())): [*zip(line.get_xdata(), line.get_ydata(), strict=True)] for line in ax.lines}


def test_the_frontier_draws_every_method_over_k_and_representatives_in_their_colour(results: Results) -> None:
    drawn = frontier(results)
    assert_readable(drawn)
    curves: dict[str, list[FrontierRow]] = {}
    for row in results.frontier:
        curves.setdefault(row.method, []).append(row)
    others = [
        name for name in curves if name not in (*HIDDEN_THERE, "none", *(r.method for r in results.representatives))
    ]
    for ax, (measure, cost, *_) in zip(drawn.axes, PANELS, strict=True):
        order = [[getattr(row, cost) for row in curves[name]] for name in others]
        assert [list(line.get_xdata()) for line in ax.lines[: len(others)]] == order, "in every process the same"
        assert len(ax.lines) == len(curves) - len(HIDDEN_THERE), "they would squeeze the others"
        lines = of_frontier(ax)
        for method, color in (("none", INK), ("stop", QUADRANTS["IV"].color), ("entropy", QUADRANTS["III"].color)):
            wanted = [(getattr(row, cost), getattr(row, measure)) for row in curves[method]]
            assert lines[color.lower()] == wanted
        assert ax.get_xlim()[0] == 0 and ax.get_xlim()[1] > max(row.tokens for row in curves["none"])
    assert {"none: 64 to 1 whole paths", "IV: stop", "III: entropy"} <= {text.get_text() for text in texts(drawn)}


def test_a_band_of_the_frontier_is_the_paired_difference_to_whole_paths_at_the_same_cost(results: Results) -> None:
    stop = next(row for row in results.frontier if (row.method, row.k) == ("stop", 8))
    for ax, gain, value in zip(
        frontier(results).axes,
        (stop.maj_gain_tokens, stop.maj_gain_cost, stop.avg_gain),
        (stop.maj_at_k, stop.maj_at_k, stop.avg_at_k),
        strict=True,
    ):
        (band,) = [
            band for band in ax.collections if to_hex(band.get_facecolor()[0][:3]) == QUADRANTS["IV"].color.lower()
        ]
        corners = band.get_paths()[0].vertices
        for end in (gain.low, gain.high):
            assert np.isclose(corners[:, 1], value + end - gain.mean).any()


def test_a_method_of_unknown_cost_has_no_curve_and_a_run_without_none_no_frontier(results: Results) -> None:
    unknown = [
        row.model_copy(update={"cost": math.nan}) if row.method == "slim-sc" else row for row in results.frontier
    ]
    before, after = (len(frontier(some).axes[1].lines) for some in (results, with_frontier(results, unknown)))
    assert after == before - 1
    with pytest.raises(ValueError, match="no frontier"):
        frontier(with_frontier(results, [row for row in results.frontier if row.method != "none"]))


@pytest.mark.parametrize("kind", ["one task", "no intervals", "no representatives", "a point"])
def test_the_frontier_stays_readable(kind: str, results: Results) -> None:
    rows = results.frontier
    if kind == "one task":
        rows = [row.model_copy(update={"task": "a_task_with_a_rather_long_name"}) for row in rows]
    elif kind == "no intervals":
        gains = dict.fromkeys(("avg_gain", "maj_gain_tokens", "maj_gain_cost"), UNDEFINED)
        rows = [row.model_copy(update=gains) for row in rows]
    elif kind == "no representatives":
        results = results.model_copy(update={"representatives": []})
    elif kind == "a point":
        rows = [row for row in rows if row.k == 64]
    assert_readable(frontier(with_frontier(results, rows)))


def with_frontier(results: Results, rows: list[FrontierRow]) -> Results:
    return results.model_copy(update={"frontier": rows})


def test_score_quality_draws_what_lies_outside_with_its_value(results: Results) -> None:
    auroc, headroom = score_quality(results).axes
    assert "251" in {text.get_text() for text in headroom.texts}
    assert any(list(line.get_xdata()) == [0.5, 0.5] for line in auroc.get_lines())


@plots
def test_a_quadrant_keeps_its_colour_and_marker(plot: Plot, results: Results) -> None:
    known = {(style.color.lower(), style.marker) for style in QUADRANTS.values()}
    drawn = {
        (to_hex(str(line.get_color())), str(line.get_marker()))
        for ax in plot(results).axes
        for line in ax.get_lines()
        if line.get_marker() not in ("None", "", "<", ">")
    }
    assert drawn == known


def test_colours_and_markers_tell_the_quadrants_apart() -> None:
    assert len({style.color for style in QUADRANTS.values()}) == len(QUADRANTS)
    assert len({style.marker for style in QUADRANTS.values()}) == len(QUADRANTS)


@plots
def test_the_same_results_give_the_same_bytes(plot: Plot, results: Results, tmp_path: Path) -> None:
    first = save(plot(results), tmp_path / "first")
    second = save(plot(results), tmp_path / "second")
    assert [path.suffix for path in first] == [".png", ".svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert len(list(tmp_path.iterdir())) == 4


@given(st.lists(st.floats(-50, 50), max_size=12), st.floats(0.1, 4))
def test_spread_keeps_gap_bounds_and_order(wanted: list[float], gap: float) -> None:
    placed = spread(wanted, gap, -60, 60)
    assert all(-60 - 1e-6 <= y <= 60 + 1e-6 for y in placed)
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    assert all(placed[b] - placed[a] >= gap - 1e-6 for a, b in itertools.pairwise(order))


def test_spread_leaves_alone_what_is_apart_and_parts_a_tie_evenly() -> None:
    assert spread([0.0, 10.0], 1, -100, 100) == [0.0, 10.0]
    assert spread([5.0, 5.0], 1, -100, 100) == [4.5, 5.5]
