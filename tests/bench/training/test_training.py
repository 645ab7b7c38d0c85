from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.training.training import (
    Card,
    Judges,
    describe,
    load_method,
    reads_of,
    refuse_leak,
    train_method,
    training_lengths,
    tunable,
)
from prunebench.methods.base import Setting, Signal
from prunebench.methods.check import example_dataset, example_pool
from prunebench.methods.ensembles.mean_rank import MeanRank
from prunebench.methods.learned.linear_probe import LinearProbe
from prunebench.methods.pool import LabelledPool, PrefixDataset
from prunebench.methods.registry import PRUNERS

SETTING = Setting(prefix_tokens=12, vocabulary_size=64, hidden_size=6, layers=3)
TELLING = 2


def dataset(seed: int, pools: int = 12) -> PrefixDataset:
    """Example pools whose success can be read off the state of layer 2 alone."""
    found = []
    for labelled in example_dataset(pools, seed=seed):
        states = dict(labelled.pool.signals[Signal.HIDDEN_STATE])
        states[TELLING] = states[TELLING] + 4 * np.outer(labelled.success, np.ones(6)).astype(np.float32)
        pool = replace(labelled.pool, signals={**labelled.pool.signals, Signal.HIDDEN_STATE: states})
        found.append(LabelledPool(pool, labelled.success, labelled.continuations))
    return PrefixDataset(tuple(found))


def trained(folder, name="linear-probe", train=None):
    return train_method(
        name, train or dataset(1), dataset(2, 6), SETTING, folder, model_hash="m1", sampling_digest="s1"
    )


def test_the_configuration_with_the_best_validation_ranking_is_kept(tmp_path):
    card = trained(tmp_path)
    assert card.configuration["layer"] == TELLING
    assert card.validation_auroc == max(c["validation_auroc"] for c in card.candidates)
    assert [c["configuration"]["layer"] for c in card.candidates] == [1, 2, 3]
    assert Card.read(tmp_path / "linear-probe.json") == card


def test_a_method_without_anything_to_learn_is_tuned_too(tmp_path):
    card = trained(tmp_path, "deepconf")
    assert 2 <= len(card.candidates) <= 8
    assert card.train_problems == [], "nothing was learned from them"
    assert not list(tmp_path.glob("*.safetensors"))
    assert load_method("deepconf", tmp_path, "m1", 12).pruner.hyperparameters() == card.configuration


def test_what_is_loaded_scores_as_what_was_trained(tmp_path):
    trained(tmp_path)
    chosen = load_method("linear-probe", tmp_path, "m1", 12)
    again = LinearProbe(layer=TELLING).fit(dataset(1), dataset(2, 6))
    pool = dataset(3, 1).pools[0].pool
    np.testing.assert_array_equal(chosen.pruner.score(pool), again.score(pool))
    assert chosen.note == ""


def test_two_trainings_write_the_same_files(tmp_path):
    cards = [trained(tmp_path / name) for name in "ab"]
    first, second = ((tmp_path / name / "linear-probe.safetensors").read_bytes() for name in "ab")
    assert first == second
    assert replace(cards[0], train_seconds=0) == replace(cards[1], train_seconds=0)


def test_training_and_validation_share_no_problem(tmp_path):
    with pytest.raises(UserError, match="split by problem"):
        trained(tmp_path, train=dataset(2))
    assert not list(tmp_path.iterdir())


def test_evaluating_on_what_was_learned_from_is_refused_with_the_ids(tmp_path):
    trained(tmp_path)
    chosen = {"linear-probe": load_method("linear-probe", tmp_path, "m1", 12)}
    refuse_leak(chosen, ["another"])
    for problem in ("example-1-0", "example-2-5"):
        with pytest.raises(UserError, match=f"linear-probe.*trained or tuned on 1 of these problems \\({problem}"):
            refuse_leak(chosen, ["another", problem])


def test_files_of_another_model_are_refused(tmp_path):
    trained(tmp_path)
    with pytest.raises(UserError, match=r"tuned for model m1, this one is m2; run: prunebench train linear-probe"):
        load_method("linear-probe", tmp_path, "m2", 12)


def test_a_learnable_method_without_files_says_how_to_train_it(tmp_path):
    with pytest.raises(UserError, match="prunebench train stop"):
        load_method("stop", tmp_path, "m1", 12)
    assert load_method("entropy", tmp_path, "m1", 12).note == "defaults, not tuned"


def test_a_check_outside_the_trained_lengths_is_marked(tmp_path):
    trained(tmp_path)
    assert "checked at 99 tokens" in load_method("linear-probe", tmp_path, "m1", 99).note


def test_a_damaged_card_is_refused(tmp_path):
    trained(tmp_path)
    path = tmp_path / "linear-probe.json"
    path.write_text(path.read_text()[:-40])
    with pytest.raises(UserError, match=r"linear-probe.json: not a card of this version .*; train again"):
        load_method("linear-probe", tmp_path, "m1", 12)
    path.write_text(json.dumps({"method": "linear-probe"}))
    with pytest.raises(UserError, match="not a card of this version"):
        load_method("linear-probe", tmp_path, "m1", 12)


def test_everything_but_the_controls_is_tuned():
    assert set(tunable()) == {name for name, entry in PRUNERS.items() if entry.quadrant().value != "control"}


def test_a_description_is_one_line():
    assert describe(LinearProbe(layer=3)) == "layer=3, C=0.1, centre=True"
    assert describe(PRUNERS.get("none")()) == "defaults"


def test_the_example_pool_is_public_here():
    assert not example_pool().public().has(Signal.OUTCOME)


def test_an_ensemble_is_made_of_its_tuned_members(tmp_path):
    trained(tmp_path)
    trained(tmp_path, "deepconf")
    judges = Judges({}, tmp_path)
    ensemble = load_method("mean-rank(linear-probe,deepconf)", tmp_path, "m1", 12, judges).pruner
    pool = dataset(3, 1).pools[0].pool
    members = [load_method(name, tmp_path, "m1", 12).pruner for name in ("linear-probe", "deepconf")]
    np.testing.assert_array_equal(ensemble.score(pool), MeanRank("a,b").join(members).score(pool))
    assert reads_of(["mean-rank(linear-probe,deepconf)"]) == {Signal.HIDDEN_STATE, Signal.TOPK_LOGPROBS}
    with pytest.raises(UserError, match="only an ensemble takes members"):
        load_method("entropy(stop)", tmp_path, "m1", 12)


def test_the_same_training_is_not_done_twice_and_another_seed_is(tmp_path):
    card = trained(tmp_path)
    before = (tmp_path / "linear-probe.json").stat().st_mtime_ns
    assert trained(tmp_path) == card
    assert (tmp_path / "linear-probe.json").stat().st_mtime_ns == before
    assert trained(tmp_path, train=dataset(5)).train_data != card.train_data


def test_training_lengths_are_half_once_and_twice():
    assert training_lengths(40) == (20, 40, 80)
    assert training_lengths(1) == (1, 1, 2)
