from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunebench.bench.errors import UserError
from prunebench.bench.guideline.paper_law import PAPER, RetentionLaw
from prunebench.figures.paper import published

KILO = 1024


def test_the_papers_constants_reproduce_all_its_cells():
    cells = [(grid.task_length, cell) for grid in published.retention_grids() for cell in grid.cells]
    assert len(cells) == 90
    for length, cell in cells:
        assert 1 / PAPER.gamma(cell.budget, cell.prefix, length) == pytest.approx(cell.inverse_gamma, rel=0.002)


def at_the_spent_budget(model: str) -> dict[str, tuple[float, int, float]]:
    """By task, the arguments of the law: what type IV spent, the prefix, and the baseline's mean length, in tokens."""
    rows = {(row.dataset, row.type): row for row in published.main_table() if row.model == model}
    return {
        task: (1000 * row.tokens_k, 2048, 1000 * rows[task, "baseline"].tokens_k / 64)
        for (task, type_), row in rows.items()
        if type_ == "IV"
    }


def test_at_the_8b_models_lengths_the_papers_constants_are_refused():
    cases = at_the_spent_budget("DS-Qwen-3-8B")
    del cases["GPQA-D"]  # short paths: inside the law
    assert len(cases) == 4
    inverse = [PAPER.inverse_gamma(*case) for case in cases.values()]
    assert (round(min(inverse), 2), round(max(inverse), 2)) == (0.10, 0.24)
    for case, value in zip(cases.values(), inverse, strict=True):
        with pytest.raises(UserError, match=f"prefix = 2048, .*1/gamma = {value:.2g}, a retention ratio above 1"):
            PAPER.gamma(*case)


def test_at_the_20b_models_length_on_gpqa_one_path_in_212_would_be_kept():
    assert round(1 / PAPER.gamma(*at_the_spent_budget("GPT-OSS-20B")["GPQA-D"])) == 212


def test_by_hand():
    law = RetentionLaw(a=3, b=0.5, c=2, d=1)
    # 3 * sqrt(16) * 2^2 / 6 = 8
    assert law.gamma(16 * KILO, 2 * KILO, 6 * KILO) == pytest.approx(1 / 8)
    # gamma = 1 is everything: 3 * sqrt(16) * 1 / 12 = 1
    assert law.gamma(16 * KILO, KILO, 12 * KILO) == 1


tokens = st.floats(1024, 1e6)


@given(tokens, tokens, tokens, st.floats(1.1, 8))
def test_exponents(budget, prefix, length, factor):
    base = PAPER.inverse_gamma(budget, prefix, length)
    assert PAPER.inverse_gamma(factor * budget, prefix, length) == pytest.approx(base * factor**0.46)
    assert PAPER.inverse_gamma(budget, factor * prefix, length) == pytest.approx(base * factor**0.40)
    assert PAPER.inverse_gamma(budget, prefix, factor * length) == pytest.approx(base / factor**4.55)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_what_is_no_number_of_tokens_is_refused(value):
    for position, name in enumerate(("budget", "prefix", "task_length")):
        given = [200 * KILO, 2 * KILO, 8 * KILO]
        given[position] = value
        with pytest.raises(UserError, match=f"{name} = {value}: give a positive number of tokens"):
            PAPER.gamma(*given)
