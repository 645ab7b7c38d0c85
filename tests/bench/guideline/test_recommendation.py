from __future__ import annotations

import numpy as np
import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.statistics import mean_interval
from prunebench.bench.guideline.recommendation import CROSS_FITTED, Recommendation, _halved, recommend
from prunebench.bench.guideline.sweep import Sweep, SweepCell

BUDGETS = (1000.0, 2000.0, 4000.0)


def made_up(gains, problems=40, noise=0.25, seed=0, tasks=("t",)) -> Sweep:
    """Votes of ``gains`` (method, gamma) -> points over keeping all; every problem has its own level."""
    random = np.random.default_rng(seed)
    cells = []
    for task in tasks:
        level = random.uniform(0.2, 0.8, problems)
        for budget in BUDGETS:
            base = level - (0.1 if budget < 4000 else 0.0) + random.normal(0, noise, problems)
            for (method, gamma), gain in {**{(m, 1.0): 0.0 for m, _ in gains}, **gains}.items():
                maj = base if gamma == 1 else base + gain / 100 + random.normal(0, noise, problems)
                n = int(budget / 100 / gamma**0.5)
                cells.append(
                    SweepCell(method=method, task=task, prefix=40, budget=budget, gamma=gamma, n=n,
                         k=max(1, int(gamma * n)), cost=budget, capped=False, maj=maj.tolist(), avg=maj.tolist())
                )  # fmt: skip
    return Sweep(
        command="test", model="m", model_hash="h", sampling={}, store="s", stored_paths=64, draws=4, seed=0,
        problems={task: [f"{task}{i}" for i in range(problems)] for task in tasks}, lengths=dict.fromkeys(tasks, 250.0),
        cells=cells, left_out={},
    )  # fmt: skip


def test_a_true_gain_is_found_and_recommended():
    gains = {("stop", 0.25): 20.0, ("stop", 0.5): 8.0, ("entropy", 0.25): 2.0, ("random", 0.25): 0.0}
    found = recommend(made_up(gains, problems=120), 4000.0)
    assert found.worth_it and (found.choice.method, found.choice.gamma) == ("stop", 0.25)
    assert found.gain.low < 20 < found.gain.high and found.agreement > 0.95 and found.candidates == 3
    text = "\n".join(found.lines())
    assert "PRUNE: stop: sample N = 80 paths, keep k = 20 after 40 tokens (gamma = 0.25)" in text
    assert "DO NOT" not in text and "on 120 problems (t)" in text
    assert "the best of 3 pairs of a method and a ratio" in text and "of 400 random halves of these problems" in text
    assert "the same for 50% of that cost: +" in text and "over keeping all at the whole cost" in text


def test_without_a_difference_pruning_is_seldom_recommended():
    """Twelve candidates of no worth: the best of them looks good on the problems that chose it, and nowhere else."""
    nothing = {(f"m{i}", gamma): 0.0 for i in range(6) for gamma in (0.5, 0.25)}
    found = [recommend(made_up(nothing, seed=seed), 4000.0) for seed in range(60)]
    assert np.mean([one.at_hand for one in found]) > 4, "the winner's curse"
    assert abs(np.mean([one.gain.mean for one in found])) < 1.0
    assert sum(one.worth_it for one in found) <= 5
    refused = next(one for one in found if not one.worth_it)
    assert any(line.startswith("DO NOT PRUNE HERE on this evidence") for line in refused.lines())


def test_cheaper_runs_are_compared_with_keeping_all_at_full_cost():
    found = recommend(made_up({("stop", 0.25): 10.0}, problems=400, noise=0.02), 4000.0)
    assert list(found.cheaper) == ["50%", "25%"]
    assert found.cheaper["50%"].mean == pytest.approx(0.0, abs=1.0), "+10 for pruning, -10 for the smaller budget"


def test_the_needed_number_of_problems_grows_with_the_noise():
    quiet, loud = (recommend(made_up({("stop", 0.25): 10.0}, noise=n, problems=60), 4000.0) for n in (0.05, 0.4))
    assert quiet.needed < 60 < loud.needed
    found = [
        recommend(made_up({("stop", 0.25): 10.0}, noise=0.4, problems=loud.needed, seed=seed), 4000.0).worth_it
        for seed in range(40)
    ]
    assert 24 <= sum(found) <= 39, "four times in five, as a gain that was measured once may be off"
    assert recommend(made_up({("stop", 0.25): -30.0}), 4000.0).needed is None


@pytest.mark.parametrize("gains", [[0.0] * 12, [10.0] + [0.0] * 11, list(np.linspace(-10, 10, 12))])
@pytest.mark.parametrize("problems", [20, 40])
def test_the_interval_of_the_gain_covers_it(gains, problems):
    """The gain that is meant: of what the halves choose, as often as they choose it."""
    random, held, runs = np.random.default_rng(1), 0, 150
    names = [f"m{number}" for number in range(len(gains))]
    for _ in range(runs):
        none = random.uniform(0, 1, problems) + random.normal(0, 0.15, problems)
        majs = none + np.array(gains)[:, None] / 100 + random.normal(0, 0.3, (len(gains), problems))
        chosen, _ = _halved(majs, names)
        found = mean_interval(100 * ((chosen * majs).sum(axis=0) - none), CROSS_FITTED)
        held += found.low <= float(chosen.mean(axis=1) @ np.array(gains)) <= found.high
    assert held / runs > 0.92


@pytest.mark.parametrize("problems", [5, 19])
def test_few_problems_give_no_recommendation(problems):
    found = recommend(made_up({("stop", 0.25): 60.0}, problems=problems, noise=0.01), 4000.0)
    assert not found.worth_it and f"{problems} problems are too few to conclude anything" in "\n".join(found.lines())
    single = recommend(made_up({("stop", 0.25): 60.0}, problems=1), 4000.0)
    assert np.isnan(single.gain.low) and "too few" in "\n".join(single.lines())


def test_problems_of_several_tasks_count_together():
    found = recommend(made_up({("stop", 0.25): 10.0}, tasks=("a", "b")), 4000.0)
    assert found.problems == 80 and found.tasks == ["a", "b"]


def test_chance_is_told_where_it_was_swept_only():
    with_chance = recommend(made_up({("stop", 0.25): 10.0, ("random", 0.25): 0.0}), 4000.0)
    assert sum("random pruning at the same ratio" in line for line in with_chance.lines()) == 1
    without = recommend(made_up({("stop", 0.25): 10.0}), 4000.0)
    assert not any("random pruning" in line or "nan" in line for line in without.lines())


def test_it_is_written_and_read_back(tmp_path):
    found = recommend(made_up({("stop", 0.25): 10.0}), 4000.0, "prunebench advise")
    found.save(tmp_path / "recommendation.json")
    assert Recommendation.read(tmp_path) == found


def test_controls_are_no_candidates():
    with pytest.raises(UserError, match="no method to choose from"):
        recommend(made_up({("random", 0.25): 30.0}), 4000.0)
