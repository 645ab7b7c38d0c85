from __future__ import annotations

import numpy as np
import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.label_store import Label, LabelStore
from prunebench.bench.training.data import labelled_pools, require_labels, training_lengths, why_dropped
from prunebench.bench.training.label_plans import LabelPlan
from prunebench.methods.base import Signal
from prunebench.methods.learned.linear_probe import LinearProbe
from tests.bench.rollouts.test_pools import POSITION, labels_for, stored  # noqa: F401 - a fixture


def test_training_lengths_are_half_once_and_twice():
    assert training_lengths(40) == (20, 40, 80)
    assert training_lengths(1) == (1, 1, 2)


def test_labelled_pools_hold_each_distinct_labelled_prefix_once(engine, stored, tmp_path):  # noqa: F811
    dataset = labelled_pools(engine, [stored], labels_for(tmp_path, stored, (0, 2, 4)), POSITION)
    (labelled,) = dataset
    assert labelled.outcome.tolist() == [1, 1]
    assert labelled.final_class.tolist() == [0, 0]
    assert labelled.pool.paths.tolist() == [0, 2]
    assert labelled.continuations == 4


def test_labels_that_are_missing_are_told_with_the_command_before_anything_is_read(tmp_path):
    def label(split, tokens, continuations=4):
        store = LabelStore.create_or_open(tmp_path / split / "mine" / "labels", {"continuations": 4})
        with store.shards:
            store.append([Label("t", f"p{tokens}/{continuations}", "ab", tokens, continuations, 1, 1)])

    with pytest.raises(UserError, match=r"train: nothing is labelled there; .* rollouts --task TASK --set split=train"):
        require_labels(tmp_path, 40)
    label("train", 20)
    (tmp_path / "validation" / "mine" / "rollouts").mkdir(parents=True)
    place = tmp_path / "validation" / "mine"
    with pytest.raises(UserError, match=f"with: prunebench label {place}/rollouts --prefix L --out {place}/labels"):
        require_labels(tmp_path, 40)
    label("validation", 20)
    with pytest.raises(UserError, match=f"40 tokens; .* label {place}/rollouts --prefix 40 --out {place}/labels"):
        require_labels(tmp_path, 40)
    label("validation", 40, continuations=0)
    with pytest.raises(UserError, match=r"40 tokens; .* \(there are some of 20\)"):
        require_labels(tmp_path, 40)  # a path that had ended is no prefix of that length
    label("validation", 40)
    require_labels(tmp_path, 40)
    with pytest.raises(UserError, match="train: no labels of prefixes of 90 tokens"):
        require_labels(tmp_path, 90)


def test_states_are_related_to_all_paths_in_training_and_every_path_counts_in_validation(engine, stored, tmp_path):  # noqa: F811
    labels, reads = labels_for(tmp_path, stored, (0, 2, 4)), {Signal.HIDDEN_STATE, Signal.ENTROPY}
    (train,) = labelled_pools(engine, [stored], labels, POSITION, reads)
    (held,) = labelled_pools(engine, [stored], labels, POSITION, reads, distinct=False)
    equal = [path.token_ids[:POSITION].tobytes() for path in stored.paths]
    marked = [row for row, prefix in enumerate(equal) if prefix in {equal[0], equal[2], equal[4]}]
    assert train.pool.paths.tolist() == [0, 2] and held.pool.paths.tolist() == marked and len(marked) > 2
    for one in (train, held):
        assert one.everything.paths.tolist() == list(range(len(stored.paths)))
        assert one.everything.paths[one.labelled].tolist() == one.pool.paths.tolist()
    probe = LinearProbe(layer=1)
    states = train.everything.hidden_state(1).astype(float)
    expected = (states - states.mean(axis=0))[[0, 2]]
    assert np.allclose(probe._marked(train), expected), "as at test, not over the two that are labelled"
    assert not np.allclose(probe._features(train.pool), expected)


@pytest.mark.parametrize(
    ("right", "reason"),
    [
        (0, "never solved"),
        (1, "too hard (right in fewer than 2 of 16 paths)"),
        (2, None),
        (14, None),
        (15, "too easy (right in more than 14 of 16 paths)"),
        (16, "always solved"),
    ],
)
def test_a_problem_that_is_not_learned_from_has_a_reason(right, reason):
    assert why_dropped(right, LabelPlan(train_paths=16, correct_at_least=2, correct_at_most=14)) == reason
