from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.statistics import Interval
from prunebench.bench.guideline.answer import advise
from prunebench.bench.guideline.guideline import (
    Guideline,
    curves_of,
    fit_form,
    guideline_of,
    halves,
    lost,
    optimum_of,
    problems_needed,
    taken,
)
from prunebench.bench.guideline.paper_law import PAPER, UNIT
from tests.bench.conftest import refused
from tests.made_up_sweep import GAMMAS, made_up, planted


@pytest.fixture(scope="module")
def guideline():
    return guideline_of(made_up(), "stop")


@pytest.mark.parametrize("form", ["law", "log-linear", "constant"])
def test_a_form_that_made_the_points_is_found_again(form):
    random = np.random.default_rng(1)
    points = np.exp(random.uniform(2, 9, (30, 3)))
    c, p, t = np.log(points / UNIT).T
    truth = {"law": [2.0, 0.46, 0.4, 1.3], "log-linear": [40.0, 0.5, 0.25, 0.75], "constant": [7.0]}[form]
    inverse = {
        "law": truth[0] * np.exp(0.46 * c + 0.4 * p - 1.3 * t),
        "log-linear": truth[0] + 0.5 * c + 0.25 * p - 0.75 * t,
        "constant": np.full(30, 7.0),
    }[form]
    np.testing.assert_allclose(fit_form(form, points, inverse), truth, rtol=1e-6)


def test_what_does_not_vary_gets_no_exponent():
    points = np.array([[1024.0, 40, 270], [2048, 40, 270], [4096, 40, 270]])
    a, b, c, d = fit_form("law", points, np.array([2.0, 4.0, 8.0]))
    assert (b, c, d) == (pytest.approx(1.0), 0.0, 0.0) and a == pytest.approx(2.0)


def test_the_optimum_and_all_that_are_as_good():
    (curve, *_) = curves_of(made_up(noise=0.001), "stop")
    found = optimum_of(curve)
    nearest = min(GAMMAS, key=lambda g: abs(math.log(g) + math.log(planted(2048, 20, 200))))
    assert found.gamma == nearest and found.as_good == [nearest]
    assert found.gain.low <= found.gain.mean <= found.gain.high
    noisy = optimum_of(curves_of(made_up(problems=8, noise=0.5), "stop")[0])
    assert len(noisy.as_good) > 1


def test_the_planted_law_is_inside_its_intervals_and_loses_least(guideline):
    law = guideline.fit("law").constants
    assert law["b"].low - 0.15 <= 0.5 <= law["b"].high + 0.15  # the grid of ratios is coarse
    regrets = {one.rule: one.held_out.mean for one in guideline.regrets}
    assert regrets["law"] < regrets["constant"] and regrets["law"] < regrets["always 1/8"] < regrets["keep all"] + 50
    assert all(one.held_out.mean >= 0 for one in guideline.regrets)
    assert {one.rule: one.refused for one in guideline.regrets}["paper's constants"] == 1.0
    assert {one.rule: one.left_out_task for one in guideline.regrets}["law"] < 3
    assert guideline.floor <= regrets["law"] + 0.5


def test_regret_is_zero_for_the_best_ratio_and_the_gap_for_another():
    curves = curves_of(made_up(noise=0.0), "stop")[:1]
    best = lambda curve: 1 / curve.gammas[curve.best]  # noqa: E731
    np.testing.assert_array_equal(lost(curves, best)[0], 0)
    values, refused_share = lost(curves, lambda _: 0.2)
    gap = 100 * (curves[0].maj[curves[0].best] - curves[0].maj[0])
    np.testing.assert_allclose(values, gap)
    assert refused_share == 1.0 and taken(curves[0], 7.0) == 3


def test_halves_are_disjoint_by_problem_and_the_same_every_time():
    sweep = made_up(problems=9)
    for task, (fit, held) in halves(sweep).items():
        assert sorted([*fit, *held]) == list(range(9)) and len(fit) == 4
        np.testing.assert_array_equal(halves(made_up(problems=9, seed=5))[task][0], fit)


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


def test_advice_is_the_form_of_least_regret_within_the_budget(guideline):
    found = advise([guideline], 4096, 40, 300)
    assert found.n * (40 + found.gamma * (300 - 40)) <= 4096 < (found.n + 1) * (40 + found.gamma * (300 - 40))
    assert found.k == round(found.gamma * found.n) and found.method == "stop"
    best = min(
        (r for r in guideline.regrets if r.rule in ("law", "constant", "log-linear")), key=lambda r: r.held_out.mean
    )
    assert found.form == best.rule
    assert 1 / found.gamma == pytest.approx(guideline.inverse_gamma(found.form, 4096, 40, 300))
    assert (found.nearest.task, found.nearest.prefix, found.nearest.budget) == ("middle", 40, 4096.0)
    assert "keeps no path" in found.paper or f"{PAPER.gamma(4096, 40, 300):.3g}" in found.paper
    assert "40 of short" in "\n".join(found.lines())


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ((300_000, 40, 300), "--budget 300000.*does not extrapolate"),
        ((4096, 400, 300), "--prefix 400"),
        ((4096, 40, 12_000), "--task-length 12000"),
    ],
)
def test_nothing_is_extrapolated(guideline, asked, message):
    with pytest.raises(UserError, match=message):
        advise([guideline], *asked)


def test_the_gain_is_that_of_held_out_problems_and_no_gain_says_do_not_prune(guideline):
    for one in guideline.regrets:
        assert one.gain.mean == pytest.approx(guideline.regret("keep all").mean - one.held_out.mean)
    assert (guideline.gain("keep all").low, guideline.gain("keep all").high) == (0.0, 0.0)
    found = advise([guideline], 4096, 40, 300)
    assert found.gain == guideline.gain(found.form) and "do not prune" not in "\n".join(found.lines())
    useless = guideline.model_copy(deep=True)
    for number, one in enumerate(useless.regrets):
        useless.regrets[number] = one.model_copy(update={"gain": Interval(mean=-1.0, low=-2.0, high=0.5)})
    assert "lost 1.0 points" in "\n".join(advise([useless], 4096, 40, 300).lines())
    assert "do not prune" in "\n".join(advise([useless], 4096, 40, 300).lines())


def test_a_ratio_below_all_that_were_swept_is_refused(guideline):
    steep = guideline.model_copy(deep=True)
    for fit in steep.fits:
        fit.constants["a"] = replace(fit.constants["a"], mean=1e3)
    with pytest.raises(UserError, match=r"below 0\.0625, the smallest ratio that was swept"):
        advise([steep], 4096, 40, 300)


def test_a_ratio_above_one_is_refused(guideline):
    flat = guideline.model_copy(deep=True)
    for fit in flat.fits:
        fit.constants["a"] = replace(fit.constants["a"], mean=1e-3)
    for number, one in enumerate(flat.regrets):
        held_out = replace(one.held_out, mean=float(one.rule != "law"))
        flat.regrets[number] = one.model_copy(update={"held_out": held_out})
    with pytest.raises(UserError, match="a retention ratio above 1"):
        advise([flat], 4096, 40, 300)


def test_the_command_answers_from_a_file_and_refuses_another_version(guideline, prunebench, tmp_path):
    guideline.save(tmp_path / "guideline-stop.json")
    assert Guideline.read(tmp_path / "guideline-stop.json") == guideline
    code, out, _ = prunebench(
        "guideline", "--file", tmp_path, "--budget", "4k", "--prefix", "40", "--task-length", "300"
    )
    found = advise([guideline], 4096, 40, 300)
    assert code == 0 and f"N = {found.n} prefixes, keep k = {found.k}" in out
    (tmp_path / "guideline-stop.json").write_text("{}")
    assert "not a guideline of this version" in refused(
        prunebench("guideline", "--file", tmp_path, "--budget", "4k", "--prefix", "40", "--task-length", "300")
    )
