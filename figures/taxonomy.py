"""The quadrant grid: where a method's signal comes from, whether it learns, and which methods are registered there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.results import QuadrantName
from prunebench.bench.files import csv_text
from prunebench.figures.registry import Drawing, figure
from prunebench.figures.run_folder import RunFolder
from prunebench.figures.style import INK, MUTED, NAME_POINTS, QUADRANTS, WIDTH_INCHES, new_figure, text_inches, theme

GRID: tuple[tuple[QuadrantName, QuadrantName], ...] = (("I", "III"), ("II", "IV"))
"""Rows: fixed, learned; columns: external, internal signal (arXiv 2604.16029, Table 1)."""
LINE_INCHES, LEFT, TOP, GAP, PAD = 0.125, 0.20, 0.50, 0.06, 0.07


@dataclass(frozen=True)
class Placed:
    """A registered method and where it belongs; ``procedure``: it also decides when to check and to stop."""

    name: str
    quadrant: QuadrantName
    learnable: bool
    procedure: bool


def registered() -> list[Placed]:
    """Every pruner and procedure of the registry, plugins included, controls and ensembles too."""
    from prunebench.bench.policies.procedures import PROCEDURES, CompletedAnswers
    from prunebench.methods.registry import PRUNERS

    placed = [Placed(name, _name(entry.quadrant().value), entry.learnable, False) for name, entry in PRUNERS.items()]
    for name, procedure in PROCEDURES.items():
        scored = PRUNERS.get(procedure.method) if procedure.method else CompletedAnswers
        placed.append(Placed(name, _name(scored.quadrant().value), scored.learnable, True))
    return placed


def _name(value: str) -> QuadrantName:
    return next(name for name in QUADRANTS if name == value)


def taxonomy_csv(methods: Sequence[Placed] | None = None) -> str:
    """Columns method, quadrant, learnable, procedure."""
    chosen = registered() if methods is None else methods
    return csv_text(
        ("method", "quadrant", "learnable", "procedure"),
        ((method.name, method.quadrant, method.learnable, method.procedure) for method in chosen),
    )


def taxonomy(methods: Sequence[Placed] | None = None) -> Figure:
    """Two by two cells with the names of the methods, below them what belongs to no quadrant.

    ``methods`` defaults to the registry. Procedures stand in italics.
    """
    chosen = registered() if methods is None else list(methods)
    wide = (WIDTH_INCHES - LEFT - GAP - 0.06) / 2
    lines = {
        name: _wrapped([method for method in chosen if method.quadrant == name], wide - 2 * PAD) for name in QUADRANTS
    }
    heads = 0.30
    tall = [heads + LINE_INCHES * max(1, *(len(lines[name]) for name in row)) + PAD for row in GRID]
    rest: list[QuadrantName] = [
        name for name in QUADRANTS if name in ("mixed", "control") if any(method.quadrant == name for method in chosen)
    ]
    across = {
        name: _wrapped([method for method in chosen if method.quadrant == name], WIDTH_INCHES - LEFT - 0.7)
        for name in rest
    }
    foot = sum(LINE_INCHES * len(across[name]) + 0.04 for name in rest) + 0.34
    height = TOP + sum(tall) + GAP + foot
    with theme():
        figure = new_figure(height)
        ax = figure.add_axes((0, 0, 1, 1))
        ax.set(xlim=(0, WIDTH_INCHES), ylim=(height, 0))
        ax.axis("off")
        ax.text(LEFT, 0.06, "where the score comes from and whether it learns", fontsize=7.5, va="top")
        for column, label in enumerate(("external: text and answers", "internal: the model's own state")):
            ax.text(LEFT + column * (wide + GAP) + wide / 2, TOP - 0.09, label, color=MUTED, ha="center",
                    fontsize=NAME_POINTS)  # fmt: skip
        y = TOP
        for row, (names, high) in enumerate(zip(GRID, tall, strict=True)):
            ax.text(0.10, y + high / 2, ("fixed", "learned")[row], color=MUTED, rotation=90, ha="center", va="center",
                    fontsize=NAME_POINTS)  # fmt: skip
            for column, quadrant in enumerate(names):
                x, style = LEFT + column * (wide + GAP), QUADRANTS[quadrant]
                ax.add_patch(Rectangle((x, y), wide, high, facecolor=style.color, alpha=0.10, linewidth=0))
                ax.add_patch(Rectangle((x, y), 0.025, high, facecolor=style.color, linewidth=0))
                ax.plot([x + PAD + 0.06], [y + 0.13], marker=style.marker, color=style.color, markersize=style.size)
                ax.text(x + PAD + 0.15, y + 0.13, style.label, va="center", fontsize=7.0, weight="bold")
                _write(ax, lines[quadrant], x + PAD, y + heads)
            y += high + (GAP if row == 0 else 0)
        y += 0.10
        for name in rest:
            style = QUADRANTS[name]
            ax.plot([LEFT + 0.06], [y + 0.05], marker=style.marker, color=style.color, markersize=style.size)
            ax.text(LEFT + 0.15, y + 0.05, name, va="center", fontsize=NAME_POINTS, weight="bold")
            _write(ax, across[name], LEFT + 0.62, y + 0.05)
            y += LINE_INCHES * len(across[name]) + 0.04
        ax.text(LEFT, height - 0.07, "italics: a procedure, which also says when to check and to stop", color=MUTED,
                fontsize=NAME_POINTS)  # fmt: skip
    return figure


def taking_part(run: RunFolder) -> list[Placed]:
    """The methods of a run that are not registered here: those of plugins. None where there is no run."""
    try:
        rows = run.results.rows
    except UserError:
        return []
    known = {method.name for method in registered()}
    quadrants = {row.method: row.quadrant for row in rows if row.method not in known and "(" not in row.method}
    return [Placed(name, quadrant, quadrant in ("II", "IV"), False) for name, quadrant in quadrants.items()]


@figure("taxonomy", "The quadrant grid with every registered method, and a run's own.", needs="nothing", place=10)
def draw(run: RunFolder) -> Drawing:
    methods = [*registered(), *taking_part(run)]
    return Drawing(taxonomy(methods), taxonomy_csv(methods))


def _wrapped(methods: Sequence[Placed], inches: float) -> list[list[Placed]]:
    """The names in lines that are at most so wide."""
    lines: list[list[Placed]] = []
    used = 0.0
    for method in methods:
        needed = text_inches(method.name, NAME_POINTS) + 0.09
        if not lines or used + needed > inches:
            lines.append([])
            used = 0.0
        lines[-1].append(method)
        used += needed
    return lines


def _write(ax: Axes, lines: Sequence[Sequence[Placed]], x: float, y: float) -> None:
    for index, line in enumerate(lines):
        at = x
        for method in line:
            ax.text(at, y + LINE_INCHES * index, method.name, va="center", fontsize=NAME_POINTS, color=INK,
                    style="italic" if method.procedure else "normal")  # fmt: skip
            at += text_inches(method.name, NAME_POINTS) + 0.09
