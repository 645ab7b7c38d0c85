"""What holds for every figure: whole and readable, the same colours, the same bytes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from bench.results import Results
from figures.pareto import pareto
from figures.score_quality import score_quality
from figures.style import QUADRANTS, WIDTH_INCHES, save, spread

Plot = Callable[..., Figure]
PLOTS = [pareto, score_quality]
plots = pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.__name__)


def texts(figure: Figure) -> list[Text]:
    """The texts that a reader sees, laid out."""
    FigureCanvasAgg(figure).draw()
    labels = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    hidden = {
        tick_label
        for ax in figure.axes
        for axis in (ax.xaxis, ax.yaxis)
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        for tick_label in (tick.label1, tick.label2)
        if not (
            tick_label.get_visible() and axis.get_view_interval()[0] <= tick.get_loc() <= axis.get_view_interval()[1]
        )
    }
    return [text for text in labels if text not in hidden]


def assert_readable(figure: Figure) -> None:
    found = texts(figure)
    boxes = [(text.get_text(), text.get_window_extent()) for text in found]
    page = figure.bbox
    for name, box in boxes:
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1, f"{name} is cut"
    for (first, a), (second, b) in itertools.combinations(boxes, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        along = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 0.5 or along <= 0.25 * min(a.height, b.height), f"{first} and {second} overlap"
    assert min(text.get_fontsize() for text in found) >= 6


def variant(results: Results, kind: str) -> Results:
    rows = results.rows
    if kind == "single":
        rows = [row for row in rows if row.method == "stop"]
    elif kind == "undefined":
        numbers = [name for name, value in rows[0] if isinstance(value, float)]
        rows = [row.model_copy(update=dict.fromkeys(numbers, math.nan)) for row in rows]
    elif kind == "tight":
        rows = [row.model_copy(update={"avg_at_k": 44.0, "tokens": 4150.0}) for row in rows]
    elif kind == "spread":
        rows = [row.model_copy(update={"tokens": 900.0 + 800 * (i % 13)}) for i, row in enumerate(rows)]
    elif kind == "many":
        copies = [row.model_copy(update={"method": f"{row.method}-{i}"}) for row in rows for i in range(3)]
        rows = [*rows, *(row for row in copies if row.quadrant != "control")]
    elif kind == "wide":
        wide = {"avg_at_k_low": -8.0, "avg_at_k_high": 104.0, "headroom_low": -900.0, "headroom_high": 1200.0}
        rows = [row.model_copy(update=wide | {"headroom": -300.0}) for row in rows]
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
    assert {row.method for row in results.rows if row.task == "all"} <= shown
    assert all(ax.get_xlabel() for ax in figure.axes)
    assert figure.get_size_inches()[0] == WIDTH_INCHES


def test_pareto_draws_intervals_seconds_and_tokens(results: Results) -> None:
    accuracy, seconds, scatter = pareto(results).axes
    assert "avg@k" in accuracy.get_xlabel() and "launch + check" in seconds.get_xlabel()
    assert scatter.get_xlabel() == "tokens per problem" and "avg@k" in scatter.get_ylabel()
    stop = next(row for row in results.rows if (row.task, row.method) == ("all", "stop"))
    bars = [tuple(line.get_xdata()) for line in accuracy.get_lines()]
    assert (stop.avg_at_k_low, stop.avg_at_k_high) in bars
    points = [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in scatter.get_lines()]
    assert (stop.tokens, stop.avg_at_k) in points


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
