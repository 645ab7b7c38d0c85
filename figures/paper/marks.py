"""The STOP paper's numbers as open markers: beside what was measured, in the same units, and never joined with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from prunebench.bench.evaluation.results import QuadrantName
from prunebench.figures.paper import published
from prunebench.figures.style import QUADRANTS

SOURCE = "STOP paper (arXiv 2604.16029)"
ABLATION_SETTINGS = {"labels": "labels", "adapter": "adapter", "stop tokens": "tokens", "LoRA rank": "rank"}
"""The paper's name of a setting, and the axis of ``prunebench study ablations`` that varies the same thing."""
_VALUES = {"hard K=1": "1", "soft K=32": "32", "none (linear head)": "without"}


@dataclass(frozen=True)
class PublishedPoint:
    """A method type of Table 2: gain of avg@8|64 over avg@64 in points, and tokens as a percentage of the baseline's.

    Means over the data sets of one model.
    """

    model: str
    quadrant: QuadrantName
    gain: float
    tokens_percent: float


@dataclass(frozen=True)
class PublishedAblation:
    """One value of Tables 3 to 6: avg@k in %, as the paper counts it (``metric``)."""

    axis: str
    value: str
    metric: str
    dataset: str
    avg_at_k: float


def published_points() -> list[PublishedPoint]:
    """Table 2, a point per model and type."""
    rows = [row for row in published.main_table() if row.acc == row.acc and row.tokens_k == row.tokens_k]
    base = {(row.model, row.dataset): row for row in rows if row.type == "baseline"}
    pairs_of: dict[tuple[str, QuadrantName], list[tuple[float, float]]] = {}
    for row in rows:
        none = base.get((row.model, row.dataset))
        if row.type == "baseline" or none is None:
            continue
        pair = (row.acc - none.acc, 100 * row.tokens_k / none.tokens_k)
        pairs_of.setdefault((row.model, row.type), []).append(pair)
    return [
        PublishedPoint(model, quadrant, *(sum(values) / len(values) for values in zip(*pairs, strict=True)))
        for (model, quadrant), pairs in pairs_of.items()
    ]


def published_ablations(dataset: str = "AIME24") -> list[PublishedAblation]:
    """Tables 3 to 6 on one data set: the rows that state avg@k."""
    return [
        PublishedAblation(ABLATION_SETTINGS[row.setting], _VALUES.get(row.value, row.value), row.metric, row.dataset,
                          row.result)
        for row in published.ablations()
        if row.setting in ABLATION_SETTINGS and row.metric.startswith("avg@") and row.dataset == dataset
    ]  # fmt: skip


def published_check_seconds() -> list[tuple[QuadrantName, float, str]]:
    """Table 16: seconds of the check of one batch, per type, with the paper's note."""
    return [(row.type, row.check_s, row.note) for row in published.latency() if row.type != "none"]


def open_marker(ax: Axes, x: Sequence[float], y: Sequence[float], quadrant: QuadrantName, **more: Any) -> None:
    """Markers without a filling, in the colour of the quadrant."""
    style = QUADRANTS[quadrant]
    ax.plot(x, y, marker=style.marker, markersize=style.size, markerfacecolor="white", markeredgecolor=style.color,
            markeredgewidth=0.9, linestyle="none", clip_on=False, zorder=5, **more)  # fmt: skip
