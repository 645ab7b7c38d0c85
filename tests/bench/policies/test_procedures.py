from __future__ import annotations

import pytest

from prunebench.bench.policies import parse_policy
from prunebench.bench.policies.procedures import PROCEDURES, CompletedAnswers
from prunebench.methods.confidence.deepconf import DeepConf
from prunebench.methods.registry import PRUNERS


@pytest.mark.parametrize("name", PROCEDURES)
def test_a_procedure_is_a_registered_pruner_and_a_policy_that_can_be_written_down(name):
    procedure = PROCEDURES[name]
    assert name not in PRUNERS.names()
    assert procedure.method is None or procedure.method in PRUNERS.names()
    policy = procedure.policy(64, 8, 40)
    assert parse_policy(str(policy)) == policy
    if not policy.over_completed:
        assert policy.checkpoints(40)[0] == 40, "the first check is that of every other method"


def test_the_quadrant_is_that_of_the_pruner_that_scores():
    assert CompletedAnswers.quadrant().value == "I", "answers are no internal signal, and nothing is learned"
    assert PRUNERS.get(PROCEDURES["parallel-probe"].method).quadrant().value == "I"
    assert PRUNERS.get(PROCEDURES["speculative-rejection"].method).quadrant().value == "II"


def test_its_settings_replace_tuned_ones():
    pruner = PROCEDURES["deepconf-online"].pruner(DeepConf(variant="mean", window=10, k=5))
    assert pruner == DeepConf(variant="min", window=10, k=5)
