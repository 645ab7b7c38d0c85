from __future__ import annotations

import numpy as np
import pytest

from prunebench.bench.guideline.diagnosis import diagnosed
from prunebench.bench.guideline.recommendation import recommend
from prunebench.bench.guideline.sweep import Ranking
from tests.bench.guideline.test_recommendation import made_up


def ranked(entropy, states, problems=40, probe="step"):
    """Rankings around two means; the first problem has no wrong path."""
    random = np.random.default_rng(0)
    drawn = {
        name: random.normal(mean, 0.05, problems).clip(0, 1) for name, mean in (("entropy", entropy), (probe, states))
    }
    rankings = [
        Ranking(method=name, task="t", prefix=40, auroc=[None, *values[1:].tolist()]) for name, values in drawn.items()
    ]
    return made_up({("entropy", 0.25): 0.0, (probe, 0.25): 0.0}, problems).model_copy(update={"rankings": rankings})


@pytest.mark.parametrize(
    ("entropy", "states", "sentence"),
    [
        (0.55, 0.75, "some errors are confident, and what reads the states is worth its training"),
        (0.75, 0.65, "errors are uncertain, and entropy, which costs nothing, tells more of them"),
        (0.70, 0.70, "is not established"),
    ],
)
def test_what_entropy_and_the_states_tell_is_said_with_the_advice(entropy, states, sentence):
    sweep = ranked(entropy, states)
    found = diagnosed(sweep, 40)
    assert found is not None and found.problems == 39 and found.probe == "step"
    assert found.entropy.mean == pytest.approx(entropy, abs=0.02) and found.difference.low < states - entropy + 0.02
    assert found.line().endswith(sentence)
    assert any(found.line() in line for line in recommend(sweep, 4000.0).lines())


def test_without_a_probe_entropy_or_enough_problems_nothing_is_claimed():
    assert diagnosed(made_up({("entropy", 0.25): 0.0}), 40) is None
    sweep = ranked(0.5, 0.9)
    assert diagnosed(sweep, 20) is None, "at another length"
    assert diagnosed(sweep.model_copy(update={"rankings": sweep.rankings[1:]}), 40) is None
    assert recommend(made_up({("entropy", 0.25): 0.0}), 4000.0).diagnosis is None
    few = diagnosed(ranked(0.5, 0.9, problems=6), 40)
    assert few is not None and few.line().endswith(
        "5 problems with right and wrong paths are too few to tell them apart"
    )
    alike = [Ranking(method=name, task="t", prefix=40, auroc=[None] * 6) for name in ("entropy", "step")]
    assert diagnosed(sweep.model_copy(update={"rankings": alike}), 40) is None
