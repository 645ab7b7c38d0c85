from __future__ import annotations

import csv
import math

from prunebench.bench.evaluation.results import PolicyRow, Representative
from prunebench.figures.policy_table import PolicyTable
from prunebench.figures.quadrant_table import QuadrantTable


def row(**more):
    values = {
        "method": "stop", "policy": "funnel", "tokens": 5000.0, "one_check_k": 11, "one_check_tokens": 4990.0,
        "avg_difference": 1.5, "avg_difference_low": -2.0, "avg_difference_high": 5.0, "maj_difference": -1.0,
        "maj_difference_low": math.nan, "maj_difference_high": math.nan, "n_problems": 48,
    }  # fmt: skip
    return PolicyRow(**{**values, **more})


def test_the_policy_table_shows_both_costs_and_the_paired_differences(results, tmp_path):
    table = PolicyTable(results.model_copy(update={"policies": [row()]}))
    assert table.rows() == [["stop", "funnel", "5000", "topk:11", "4990", "+1.5 [−2.0, +5.0]", "−1.0"]]
    table.write(tmp_path)
    (line,) = csv.DictReader((tmp_path / "policy_table.csv").read_text().splitlines())
    assert line["one_check_k"] == "11"
    assert line["maj_difference_low"] == "nan"
    assert (tmp_path / "policy_table.md").read_text().count("\n") == 3


def test_the_quadrant_table_names_the_candidates_and_keeps_the_controls(results):
    methods = {row.method: row for row in results.rows if row.task == "all"}
    chosen = next(name for name, row in methods.items() if row.quadrant == "III")
    representative = Representative(quadrant="III", method=chosen, validation_auroc=0.6, candidates=7)
    rows = QuadrantTable(results.model_copy(update={"representatives": [representative]}), "all").rows()
    assert rows[0][:4] == ["III", chosen, "7", "0.60"]
    assert [cells[1] for cells in rows[1:]] == [n for n in ("none", "random", "potential", "oracle") if n in methods]
