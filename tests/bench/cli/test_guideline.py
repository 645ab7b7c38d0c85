"""Sweeps and what guidelines are asked: what would be written over, and what a budget cannot show."""

from prunebench.bench.cli.guideline import _said
from prunebench.bench.engines.shipped import REASONERS
from tests.bench.conftest import refused
from tests.made_up_sweep import made_up

GRID = ("--set", "prefix=120", "--set", "budget=4k,8k", "--set", "problems=2", "--set", "draws=2")


def test_a_sweep_over_another_grid_is_not_written_over(prunebench, tmp_path):
    base = REASONERS["embedded-base"].rollouts
    sweep = ("sweep", "--store", base, "--methods", "length,random", "--out", "s")
    code, out, err = prunebench(*sweep, *GRID)
    assert code == 0 and "no score was swept, only the length of the prefixes and chance" in out, err
    held = (tmp_path / "s" / "sweep.json").read_bytes()
    said = refused(prunebench(*sweep, *GRID[:2], "--set", "budget=2k,16k", *GRID[4:]))
    assert said.startswith("prunebench: s holds another sweep (prunebench sweep ") and "choose another --out" in said
    assert (tmp_path / "s" / "sweep.json").read_bytes() == held
    assert prunebench(*sweep, *GRID)[0] == 0, "the same goes on"


def test_budgets_that_whole_paths_do_not_use_up_are_told(tmp_path):
    sweep = made_up()
    assert not any("keeping all spends less" in line for line in _said(sweep, {}, tmp_path))
    cells = [
        cell.model_copy(update={"cost": 0.8 * cell.cost}) if cell.gamma == 1 and cell.budget == 2048 else cell
        for cell in sweep.cells
    ]
    (line,) = [line for line in _said(sweep.model_copy(update={"cells": cells}), {}, tmp_path) if "spends less" in line]
    assert line.startswith("keeping all spends less than 90% of these budgets, as a path more is too much: 2,048; ")
