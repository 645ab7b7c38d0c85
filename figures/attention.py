"""What STOP's last token attends to: the words of two prefixes, shaded by attention (STOP paper, Figures 7 and 10)."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from prunebench.bench.evaluation.attention import STOP_WORD, AttendedPath, Attention
from prunebench.figures.registry import Drawing, figure
from prunebench.figures.run_folder import RunFolder
from prunebench.figures.style import INK, MUTED, WIDTH_INCHES, new_figure, text_inches, theme

POINTS, LINE_INCHES, GAP, EDGE, HEAD = 6.0, 0.135, 0.035, 0.06, 0.22
SHADE = "#D55E00"
LONGEST = 12
"""Longer tokens are cut for the picture."""


@figure(
    "attention",
    "What the [STOP] tokens attend to on a good and on a bad path.",
    needs="prunebench study attention",
    place=140,
)
def draw(run: RunFolder) -> Drawing:
    return Drawing(attention(run.attention), run.attention.csv())


def attention(recorded: Attention) -> Figure:
    """Both paths, token by token in reading order; the shade is the mean weight over all layers, prompt included.

    The darkest token of each path has the full shade. The prompt is written in grey.
    """
    laid = [_lines(path) for path in recorded.paths]
    height = 0.30 + sum(HEAD + LINE_INCHES * len(lines) + 0.10 for lines in laid)
    with theme():
        figure = new_figure(height)
        figure.text(EDGE / WIDTH_INCHES, 1 - 0.05 / height, f"{recorded.method}: what the last [STOP] token reads",
                    va="top", fontsize=7.5)  # fmt: skip
        top = 0.30
        for path, lines in zip(recorded.paths, laid, strict=True):
            outcome = "ends right" if path.correct else "ends wrong"
            figure.text(EDGE / WIDTH_INCHES, 1 - (top + 0.13) / height,
                        f"{path.role} score {path.score:.2f} (path {path.path}, {outcome})", fontsize=6.5)  # fmt: skip
            shares = _shares(path)
            for number, line in enumerate(lines):
                y = top + HEAD + LINE_INCHES * number
                for place, word, x in line:
                    wide = text_inches(word, POINTS)
                    figure.add_artist(
                        Rectangle(((x - 0.012) / WIDTH_INCHES, 1 - (y + LINE_INCHES - 0.025) / height),
                                  (wide + 0.024) / WIDTH_INCHES, (LINE_INCHES - 0.02) / height,
                                  facecolor=SHADE, alpha=0.85 * shares[place], linewidth=0)
                    )  # fmt: skip
                    figure.text(x / WIDTH_INCHES, 1 - (y + LINE_INCHES - 0.045) / height, word, fontsize=POINTS,
                                color=MUTED if place < path.prompt_tokens else INK, va="baseline")  # fmt: skip
            top += HEAD + LINE_INCHES * len(lines) + 0.10
    return figure


def _shares(path: AttendedPath) -> list[float]:
    """(tokens,) mean weight over the layers, as a share of the largest but for the [STOP] tokens' own."""
    means = np.mean(path.weights, axis=0)
    stops = sum(word == STOP_WORD for word in path.tokens)
    largest = float(means[: len(means) - stops].max())
    return [min(1.0, float(weight) / largest) for weight in means]


def _lines(path: AttendedPath) -> list[list[tuple[int, str, float]]]:
    """(place, word, x in inches) line by line; a line break in the text begins a new one."""
    lines: list[list[tuple[int, str, float]]] = [[]]
    x = EDGE + 0.02
    for place, token in enumerate(path.tokens):
        word = token.replace("\n", "↵").replace("Ġ", "").replace("▁", "")[:LONGEST] or "·"
        wide = text_inches(word, POINTS)
        if x + wide > WIDTH_INCHES - EDGE:
            lines.append([])
            x = EDGE + 0.02
        lines[-1].append((place, word, x))
        x += wide + GAP
    return lines
