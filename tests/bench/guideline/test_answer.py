from __future__ import annotations

from dataclasses import replace

import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.statistics import Interval
from prunebench.bench.guideline.answer import advise
from prunebench.bench.guideline.guideline import Guideline
from prunebench.bench.guideline.paper_law import PAPER
from tests.bench.conftest import refused


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
        ((300_000, 40, 300), "--budget 300,000.*does not extrapolate"),
        ((4096, 400, 300), "--prefix 400"),
        ((4096, 40, 12_000), "--task-length 12,000"),
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
    first, ratio, gained, *_ = advise([useless], 4096, 40, 300).lines()
    assert first == "do not prune by stop: sample N = 13 whole paths and keep all"
    assert ratio == f"its best ratio is no gain to count on ({found.lines()[0].removeprefix('sample ')})"
    assert "lost 1.0 points" in gained


def test_the_best_method_is_the_one_that_gained_most_and_the_others_are_told(guideline):
    def gaining(method, points):
        gain = Interval(points, points - 4, points + 4)
        regrets = [one.model_copy(update={"gain": gain}) for one in guideline.regrets]
        # Its cells are worth less, and still it gained more.
        optima = [one.model_copy(update={"maj": one.maj - points}) for one in guideline.optima]
        return guideline.model_copy(update={"method": method, "regrets": regrets, "optima": optima})

    found = advise([gaining("stop", 9.6), gaining("deepconf", 11.1), gaining("entropy", 10.8)], 4096, 40, 300)
    assert found.method == "deepconf" and list(found.others) == ["entropy", "stop"]
    assert "the largest gain of 3 methods, which is partly luck; the others: entropy +10.8" in "\n".join(found.lines())
    assert advise([gaining("stop", 9.6), gaining("entropy", 10.8)], 4096, 40, 300, "stop").others == {}


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
