from __future__ import annotations

from prunebench.bench.evaluation.results import Representative
from prunebench.figures.quadrant_table import QuadrantTable


def test_the_quadrant_table_names_the_candidates_and_keeps_the_controls(results):
    methods = {row.method: row for row in results.rows if row.task == "all"}
    chosen = next(name for name, row in methods.items() if row.quadrant == "III")
    representative = Representative(quadrant="III", method=chosen, validation_auroc=0.6, candidates=7)
    rows = QuadrantTable(results.model_copy(update={"representatives": [representative]}), "all").rows()
    assert rows[0][:4] == ["III", chosen, "7", "0.60"]
    assert [cells[1] for cells in rows[1:]] == [n for n in ("none", "random", "potential", "oracle") if n in methods]


def test_a_table_without_quadrants_says_why(results):
    table = QuadrantTable(results.model_copy(update={"representatives": []}), "all").markdown()
    assert "none of these methods was chosen on validation problems" in table
    assert "No quadrant" not in QuadrantTable(results, "all").markdown()
