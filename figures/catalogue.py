"""The catalogue of figures: what there is, what each one needs, and drawing all that a run folder allows."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from matplotlib.figure import Figure as Picture

from prunebench.bench.errors import UserError
from prunebench.bench.files import write_atomically
from prunebench.figures.run_folder import RunFolder
from prunebench.figures.style import save


@dataclass(frozen=True)
class Drawn:
    """A figure and its data as CSV text."""

    picture: Picture
    data: str


@dataclass(frozen=True)
class Figure:
    """An entry: ``target`` is ``module:function`` of ``(run, paper) -> Drawn``, imported when it is drawn.

    ``needs`` says in words what is drawn from; ``published``: the function takes the paper's numbers when ``paper``.
    """

    name: str
    description: str
    target: str
    needs: str
    published: bool = False

    def draw(self, run: RunFolder, paper: bool = False) -> Drawn:
        """Raises UserError where the run folder has not what it needs."""
        module, _, function = self.target.partition(":")
        draw = cast(Callable[[RunFolder, bool], Drawn], getattr(importlib.import_module(module), function))
        try:
            return draw(run, paper)
        except ValueError as error:
            raise UserError(f"{self.name} cannot be drawn from {run.path}: {error}") from error


_HERE = "prunebench.figures.drawings"

FIGURES: tuple[Figure, ...] = (
    Figure("taxonomy", "The quadrant grid with every registered method.", f"{_HERE}:taxonomy", "nothing"),
    Figure("motivation", "The potential of a path along its length, and the share of doomed paths.",
           f"{_HERE}:motivation", "prunebench study motivation"),
    Figure("main_table", "The main table: accuracy, difference, cost, ranking.", f"{_HERE}:main_table", "a run"),
    Figure("quadrant_table", "One representative per quadrant beside the controls.", f"{_HERE}:quadrant_table",
           "a run"),
    Figure("pareto", "Accuracy against tokens and against seconds.", f"{_HERE}:pareto", "a run", published=True),
    Figure("budget", "Accuracy of the vote against the total cost, at 1/2 and at the guideline's ratio.",
           f"{_HERE}:budget", "prunebench sweep"),
    Figure("retention", "Accuracy of the vote over the retention ratio, by prefix length and budget.",
           f"{_HERE}:retention", "prunebench sweep"),
    Figure("law", "The fitted law of the best retention ratio over the measured optima.", f"{_HERE}:law",
           "prunebench sweep"),
    Figure("guideline_table", "The recommended N, k and ratio by budget and prefix length.",
           f"{_HERE}:guideline_table", "prunebench sweep"),
    Figure("overhead", "Seconds, tokens, arithmetic and memory that pruning costs.", f"{_HERE}:overhead", "a run",
           published=True),
    Figure("ablations", "What each choice in training STOP is worth.", f"{_HERE}:ablations",
           "prunebench study ablations", published=True),
    Figure("score_quality", "Ranking within problems, and the headroom captured.", f"{_HERE}:score_quality", "a run"),
    Figure("reliability", "Scores that claim to be probabilities, against the truth.", f"{_HERE}:reliability",
           "a run"),
    Figure("attention", "What the [STOP] tokens attend to on a good and on a bad path.", f"{_HERE}:attention",
           "prunebench study attention"),
)  # fmt: skip
"""In the order in which a reader needs them."""


def figure(name: str) -> Figure:
    """The entry of that name. Raises UserError, which offers the nearest names."""
    for one in FIGURES:
        if one.name == name:
            return one
    known = [one.name for one in FIGURES]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
    raise UserError(f"unknown figure '{name}': {hint}")


@dataclass(frozen=True)
class Gallery:
    """What was drawn: the files, and per figure that could not be drawn a sentence why."""

    written: list[Path] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def draw_figures(
    run: RunFolder,
    out: Path,
    names: Sequence[str] = (),
    *,
    paper: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Gallery:
    """``<name>.png``, ``.svg`` and ``.csv`` in ``out`` for the named figures, or for all that ``run`` allows.

    A figure that was named and cannot be drawn is an error; of all figures, it is left out with its reason. ``paper``
    adds published numbers as open markers, where the paper has any. ``progress`` is called after every figure. Raises
    UserError for an unknown name, and for a folder without readable results when no names are given.
    """
    chosen = [figure(name) for name in dict.fromkeys(names)] or list(FIGURES)
    if not names:
        _ = run.results
    gallery = Gallery()
    for one in chosen:
        try:
            drawn = one.draw(run, paper)
        except UserError as error:
            if names:
                raise
            gallery.left_out[one.name] = str(error)
        else:
            gallery.written.extend(save(drawn.picture, out / one.name))
            data = out / f"{one.name}.csv"
            write_atomically(data, drawn.data.encode())
            gallery.written.append(data)
        progress(1)
    return gallery


def figures_markdown() -> str:
    """The catalogue as a Markdown table."""
    lines = ["| figure | shows | drawn from | `--paper` |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{one.name}` | {one.description} | {f'`{one.needs}`' if one.needs.startswith('prunebench') else one.needs} "
        f"| {'open markers' if one.published else ''} |"
        for one in FIGURES
    ]
    return "\n".join(lines) + "\n"
