"""The training curve of a learned method: loss and validation ranking over the epochs of every configuration."""

from __future__ import annotations

from pathlib import Path

import seaborn as sns
from matplotlib.figure import Figure

from prunebench.bench.files import csv_text, write_atomically
from prunebench.bench.training.cards import Card, describe_configuration
from prunebench.figures.style import new_figure, save, theme

COLUMNS = ("configuration", "epoch", "loss", "validation_auroc")


def training_rows(card: Card) -> list[dict[str, object]]:
    """One row per configuration and epoch; empty for a method that is not trained in epochs."""
    return [
        {"configuration": describe_configuration(candidate["configuration"]), **{c: epoch[c] for c in COLUMNS[1:]}}
        for candidate in card.candidates
        for epoch in candidate["history"]
    ]


def write_training_curve(card: Card, folder: Path) -> list[Path]:
    """``<method>_curve.csv`` and ``.png`` in ``folder``; nothing for a method without epochs."""
    rows = training_rows(card)
    if not rows:
        return []
    table = folder / f"{card.method}_curve.csv"
    lines = ([str(row[column]) for column in COLUMNS] for row in rows)  # with all digits
    write_atomically(table, csv_text(COLUMNS, lines).encode())
    return [table, *save(_figure(card), folder / f"{card.method}_curve", formats=("png",))]


def _figure(card: Card) -> Figure:
    """Two panels, a line per configuration; the chosen one is drawn strong."""
    with theme():
        figure = new_figure(2.4 + 0.14 * len(card.candidates))
        left, right = figure.subplots(1, 2)
        colors = sns.color_palette("colorblind", len(card.candidates))
        for color, candidate in zip(colors, card.candidates, strict=True):
            history = candidate["history"]
            chosen = candidate["configuration"] == card.configuration
            label = _what_differs(candidate["configuration"], card) + (" (chosen)" if chosen else "")
            for axes, key in ((left, "loss"), (right, "validation_auroc")):
                axes.plot(
                    [point["epoch"] for point in history],
                    [point[key] for point in history],
                    color=color,
                    linewidth=1.8 if chosen else 0.8,
                    label=label,
                )
        left.set(xlabel="epoch", ylabel="training loss")
        right.set(xlabel="epoch", ylabel="validation AUROC")
        figure.suptitle(f"{card.method}, trained with {len(card.candidates)} configurations", fontsize=7.5)
        figure.legend(*left.get_legend_handles_labels(), loc="lower center")
        figure.tight_layout(rect=(0, 0.02 + 0.14 * len(card.candidates) / figure.get_figheight(), 1, 1))
    return figure


def _what_differs(configuration: dict[str, object], card: Card) -> str:
    """Only the hyper-parameters that differ between the configurations."""
    differing = [
        key for key in configuration if len({str(other["configuration"][key]) for other in card.candidates}) > 1
    ]
    return ", ".join(f"{key} {configuration[key]}" for key in differing) or "defaults"
