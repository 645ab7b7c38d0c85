from __future__ import annotations

import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.guideline.curves import curves_of, problems_needed
from prunebench.bench.guideline.guideline import guideline_of
from tests.made_up_sweep import made_up


def test_the_planted_law_is_inside_its_intervals_and_loses_least(guideline):
    law = guideline.fit("law").constants
    assert law["b"].low - 0.15 <= 0.5 <= law["b"].high + 0.15  # the grid of ratios is coarse
    regrets = {one.rule: one.held_out.mean for one in guideline.regrets}
    assert regrets["law"] < regrets["constant"] and regrets["law"] < regrets["always 1/8"] < regrets["keep all"] + 50
    assert all(regret.held_out.mean >= 0 for regret in guideline.regrets)
    assert {one.rule: one.refused for one in guideline.regrets}["paper's constants"] == 1.0
    assert {one.rule: one.left_out_task for one in guideline.regrets}["law"] < 3
    assert guideline.floor <= regrets["law"] + 0.5


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        (made_up(problems=4), "4 problems in a task are too few.*at least 8 are needed"),
        (
            made_up(problems=10, noise=1.0, slope=0.001),
            r"no retention ratio is significantly worse.*about \d+ are needed",
        ),
    ],
    ids=["few", "noisy"],
)
def test_too_few_problems_are_refused_with_the_number_that_is_needed(sweep, message):
    with pytest.raises(UserError, match=message):
        guideline_of(sweep, "stop")
    assert all(problems_needed(curve) > curve.maj.shape[1] for curve in curves_of(sweep, "stop"))


def test_a_method_that_was_not_swept_is_refused_with_its_reason():
    with pytest.raises(UserError, match="'slim-sc': because"):
        guideline_of(made_up(problems=8), "slim-sc")
