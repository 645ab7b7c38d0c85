"""A table as a picture: one column of text per column, as wide as what it holds."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from prunebench.figures.style import FAINT, INK, MUTED, NAME_POINTS, TICK_POINTS, text_inches, theme

ROW_INCHES, GAP_INCHES, EDGE_INCHES, MARK_INCHES = 0.15, 0.14, 0.08, 0.12


def table_picture(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], colors: Sequence[str] = (), note: str = ""
) -> Figure:
    """The table in 6.5 points. ``colors`` are those of a mark before each row. Words are left, numbers right aligned.

    The picture is as wide as its cells need, which for many columns is more than one column of a paper.
    """
    points = TICK_POINTS
    widths = [max(text_inches(str(cell), points) for cell in column) for column in zip(header, *rows, strict=True)]
    edge = EDGE_INCHES + (MARK_INCHES if colors else 0.0)
    wide = edge + EDGE_INCHES + sum(widths) + GAP_INCHES * (len(widths) - 1)
    wide = max(wide, text_inches(title, 7.5) + 2 * EDGE_INCHES, text_inches(note, NAME_POINTS) + 2 * EDGE_INCHES)
    top, foot = 0.45, 0.22 if note else 0.08
    height = top + ROW_INCHES * len(rows) + foot
    with theme():
        figure = Figure(figsize=(wide, height), facecolor="white")
        figure.text(EDGE_INCHES / wide, 1 - 0.1 / height, title, ha="left", va="top", fontsize=7.5)
        for line, color in enumerate(colors):
            y = 1 - (top + ROW_INCHES * (line + 0.52)) / height
            figure.add_artist(Line2D([(EDGE_INCHES + 0.04) / wide], [y], marker="s", markersize=3.6, color=color,
                                     linestyle="none"))  # fmt: skip
        x = edge
        for index, (name, width) in enumerate(zip(header, widths, strict=True)):
            cells = [row[index] for row in rows]
            left = not any(cell[:1].isdigit() or cell[:1] in "+−–<≥" for cell in cells if cell)
            place, side = (x, "left") if left else (x + width, "right")
            figure.text(place / wide, 1 - (top - 0.05) / height, name, ha=side, va="baseline", fontsize=points,
                        color=MUTED)  # fmt: skip
            for line, cell in enumerate(cells):
                y = 1 - (top + ROW_INCHES * (line + 0.75)) / height
                figure.text(place / wide, y, cell, ha=side, va="baseline", fontsize=points, color=INK)
            x += width + GAP_INCHES
        for y, color in ((top - 0.01, INK), (top + ROW_INCHES * len(rows) + 0.02, FAINT)):
            figure.add_artist(Line2D([EDGE_INCHES / wide, (x - GAP_INCHES) / wide], [1 - y / height] * 2, color=color,
                                     linewidth=0.6))  # fmt: skip
        if note:
            figure.text(EDGE_INCHES / wide, 0.06 / height, note, va="bottom", fontsize=NAME_POINTS, color=MUTED)
    return figure
