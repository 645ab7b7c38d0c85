from __future__ import annotations

from dataclasses import is_dataclass

import pytest

from prunebench.bench.engines.shipped import REASONERS
from prunebench.bench.guideline.scores import identity
from prunebench.bench.training.cards import Card
from prunebench.bench.training.loading import load_method


@pytest.mark.parametrize("name", ["stop", "step", "mlp-probe", "linear-probe", "text-classifier"])
def test_scores_are_not_taken_over_from_a_method_that_learned_something_else(name):
    folder = REASONERS["embedded"].learned
    model_hash = Card.read(folder / f"{name}.json").model_hash
    one, same, other = (load_method(name, folder, model_hash, 40).pruner for _ in range(3))
    for held in vars(other).values():
        inside = held.values() if isinstance(held, dict) else vars(held).values() if is_dataclass(held) else [held]
        for part in inside:
            if hasattr(part, "__array__") and part.size:
                part += 1
    assert identity(one) == identity(same) != identity(other)
