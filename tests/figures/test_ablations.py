"""Ablations: measured means with their intervals, published values beside them and never among them."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.ablation import VALUES, AblationRow
from prunebench.bench.evaluation.results import rows_csv
from prunebench.figures.ablations import ablations, ablations_csv
from prunebench.figures.paper.marks import published_ablations
from prunebench.figures.run_folder import RunFolder
from tests.figures.readable import assert_readable


def row(axis: str, value: str, avg: float) -> AblationRow:
    return AblationRow.unflattened(
        {
            "method": "stop", "axis": axis, "value": value, "seeds": 3, "n_problems": 48, "n": 64, "k": 8,
            "train_prefixes": 100, "avg_at_k": avg, "avg_at_k_low": avg - 7, "avg_at_k_high": avg + 7,
            "avg_at_k_sd": 2.0, "delta": 10.0, "delta_low": 4.0, "delta_high": 16.0, "auroc": 0.66,
            "auroc_low": 0.6, "auroc_high": 0.7, "auroc_sd": math.nan,
        }
    )  # fmt: skip


ROWS = [row(axis, value, 38.0 + i) for axis, values in VALUES.items() for i, value in enumerate(values)]


@pytest.mark.parametrize("paper", [False, True])
@pytest.mark.parametrize("rows", [ROWS, [row for row in ROWS if row.axis == "rank"]], ids=["all", "one"])
def test_a_panel_per_axis_that_is_readable(rows: list[AblationRow], paper: bool) -> None:
    figure = ablations(rows, paper)
    assert len(figure.axes) == len({row.axis for row in rows})
    assert_readable(figure)


def test_numbers_stand_in_order_of_size_before_words() -> None:
    panels = {ax.get_xlabel(): [label.get_text() for label in ax.get_xticklabels()] for ax in ablations(ROWS).axes}
    assert panels["LoRA rank"] == ["4", "8", "16", "32"]
    assert panels["continuations per label"] == ["1", "4", "all"]
    assert panels["prefix lengths trained on"] == ["L/2", "L", "2L", "all"]


def test_published_values_are_open_and_have_their_own_lines() -> None:
    figure = ablations(ROWS, paper=True)
    open_ones = [line for ax in figure.axes for line in ax.get_lines() if line.get_markerfacecolor() == "white"]
    assert len(open_ones) == len(published_ablations()) == 16
    lines = list(csv.DictReader(ablations_csv(ROWS, paper=True).splitlines()))
    published = [line for line in lines if line["source"] != "measured"]
    assert len(lines) == len(ROWS) + 16 and len(published) == 16
    best = next(line for line in published if (line["axis"], line["value"]) == ("tokens", "6"))
    assert (best["avg_at_k"], best["metric"], best["avg_at_k_low"]) == ("37.71", "avg@32|256", "nan")


def test_rows_are_read_back_from_the_folder_that_ablate_writes(tmp_path: Path) -> None:
    folder = tmp_path / "ablations"
    folder.mkdir()
    run = RunFolder(tmp_path)
    with pytest.raises(UserError, match="nothing trained is in it"):
        _ = run.ablations
    (folder / "rank.csv").write_text(rows_csv([row for row in ROWS if row.axis == "rank"]))
    assert [(row.value, row.avg_at_k.mean) for row in run.ablations] == [("4", 38), ("8", 39), ("16", 40), ("32", 41)]
