"""What holds for every figure: whole and readable, the same colours, the same bytes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from prunebench.bench.evaluation.results import Results
from prunebench.bench.evaluation.statistics import UNDEFINED
from prunebench.figures.forest import HIDDEN, forest
from prunebench.figures.paper.marks import published_points
from prunebench.figures.pareto import pareto
from prunebench.figures.score_quality import score_quality
from prunebench.figures.style import QUADRANTS, WIDTH_INCHES, save, spread
from tests.figures.readable import assert_readable, texts
from tests.figures.rows import changed

Plot = Callable[..., Figure]
PLOTS = [forest, pareto, score_quality]
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
    shown = {text.get_text().partition(" (↑")[0] for text in texts(figure)}
    left_to_lines = set(HIDDEN) if plot is forest else set()
    assert {row.method for row in results.rows if row.task == "all"} - left_to_lines <= shown
    assert all(ax.get_xlabel() for ax in figure.axes)
    assert figure.get_size_inches()[0] == WIDTH_INCHES


def test_the_forest_fills_what_holm_leaves_standing_and_dashes_the_potential(results: Results) -> None:
    rows = [row for row in results.rows if row.task == "all"]
    (ax,) = forest(results).axes
    marks = [line for line in ax.get_lines() if line.get_marker() not in ("None", "")]
    shown = {row["delta"].mean: row["p_holm"].mean < 0.05 for row in rows if row.method not in HIDDEN}
    assert {line.get_xdata()[0]: line.get_markerfacecolor() != "white" for line in marks} == shown
    (dashed,) = [line.get_xdata()[0] for line in ax.get_lines() if line.get_linestyle() == "--"]
    assert dashed == next(row["delta"].mean for row in rows if row.method == "potential")


def test_pareto_draws_intervals_against_tokens_and_against_seconds(results: Results) -> None:
    tokens, seconds = pareto(results).axes
    assert "avg@k" in tokens.get_ylabel() and tokens.get_ylim() == seconds.get_ylim()
    assert tokens.get_xlabel().startswith("tokens") and "check (s)" in seconds.get_xlabel()
    stop = next(row for row in results.rows if (row.task, row.method) == ("all", "stop"))
    for ax, cost in ((tokens, stop["tokens"].mean), (seconds, stop["check_seconds"].mean)):
        drawn = [(list(line.get_xdata()), list(line.get_ydata())) for line in ax.get_lines()]
        assert ([cost, cost], [stop["avg_at_k"].low, stop["avg_at_k"].high]) in drawn
        assert ([cost], [stop["avg_at_k"].mean]) in drawn


def test_pareto_marks_none_and_potential_as_lines(results: Results) -> None:
    wanted = [row["avg_at_k"].mean for row in results.rows if row.task == "all" and row.method in ("none", "potential")]
    for ax in pareto(results).axes:
        dashed = [line.get_ydata()[0] for line in ax.get_lines() if line.get_linestyle() == "--"]
        assert sorted(dashed) == sorted(wanted)


def test_published_points_stand_in_a_panel_of_their_own_as_open_markers(results: Results) -> None:
    figure = pareto(results, paper=True)
    assert_readable(figure)
    *measured, published = figure.axes
    points = [line for line in published.get_lines() if line.get_marker() not in ("None", "")]
    assert len(points) == len(published_points()) > 0
    assert all(line.get_markerfacecolor() == "white" for line in points)
    assert not any(line.get_markerfacecolor() == "white" for ax in measured for line in ax.get_lines())


def test_a_method_without_seconds_is_still_named_and_placed_by_its_tokens(results: Results) -> None:
    rows = [changed(row, check_seconds=math.nan) for row in results.rows]
    tokens, seconds = pareto(results.model_copy(update={"rows": rows})).axes
    markers = [line for line in tokens.get_lines() if line.get_marker() not in ("None", "")]
    assert len(markers) == len({row.method for row in rows}) - 1  # the oracle lies above the panel
    assert [text.get_text() for text in seconds.texts] == ["not measured"]


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
