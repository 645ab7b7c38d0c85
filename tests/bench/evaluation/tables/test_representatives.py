from __future__ import annotations

from dataclasses import replace

from prunebench.bench.evaluation.tables.representatives import ranked_elsewhere, representatives
from prunebench.bench.training.cards import Card
from tests.bench.evaluation.tables.test_main import ByIds, candidates_of

OURS, OTHERS = ["p1", "p2", "p3"], ["q1"]


def tuned(**of):
    """Candidates by name, each with its validation AUROC and problems."""
    candidates = candidates_of({name: ByIds() for name in of})
    return {
        name: replace(
            candidates[name],
            card=Card(name, {}, auroc, [], "m", "s", [10], "d", ["t1"], problems, 0.0, 0),
        )
        for name, (auroc, problems) in of.items()
    }


def test_methods_of_other_validation_problems_are_not_ranked_with_the_others():
    candidates = tuned(first=(0.6, OURS), mine=(0.9, OTHERS), second=(0.7, OURS[::-1]))
    (chosen,) = representatives(candidates, list(candidates))
    assert (chosen.method, chosen.candidates) == ("second", 2)
    said = ranked_elsewhere(candidates, list(candidates))
    assert said.endswith("than the 2 others (3 problems): mine (1)")


def test_methods_of_the_same_validation_problems_are_ranked_without_a_note():
    candidates = tuned(first=(0.6, OURS), second=(0.7, OURS))
    assert representatives(candidates, ["first", "second"])[0].method == "second"
    assert representatives(candidates, ["first"])[0].method == "first", "only what competes"
    assert ranked_elsewhere(candidates, ["first", "second"]) == ""
    assert ranked_elsewhere(candidates_of({"plain": ByIds()}), ["plain"]) == ""
