from __future__ import annotations

import numpy as np
import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.training.loading import Judges, equip, load_method, reads_of, tunable
from prunebench.methods.base import Signal
from prunebench.methods.ensembles.mean_rank import MeanRank
from prunebench.methods.examples import example_pool
from prunebench.methods.learned.linear_probe import LinearProbe
from prunebench.methods.registry import PRUNERS
from tests.bench.training.made_up import TELLING, dataset, trained


def test_what_is_loaded_scores_as_what_was_trained(tmp_path):
    trained(tmp_path)
    chosen = load_method("linear-probe", tmp_path, "m1", 12)
    again = LinearProbe(layer=TELLING).fit(dataset(1), dataset(2, 6))
    pool = dataset(3, 1).pools[0].pool
    np.testing.assert_array_equal(chosen.pruner.score(pool), again.score(pool))
    assert chosen.note == ""


def test_files_of_another_model_are_refused(tmp_path):
    trained(tmp_path)
    with pytest.raises(UserError, match=r"tuned for model m1, this one is m2; run: prunebench train linear-probe"):
        load_method("linear-probe", tmp_path, "m2", 12)


def test_what_a_folder_lacks_comes_from_the_next_one(tmp_path):
    own, shipped = tmp_path / "own", tmp_path / "shipped"
    trained(own)
    trained(shipped, train=dataset(5))
    trained(shipped, "deepconf")
    layers = (own, shipped)
    assert load_method("linear-probe", layers, "m1", 12).card == load_method("linear-probe", own, "m1", 12).card
    assert load_method("deepconf", layers, "m1", 12).card == load_method("deepconf", shipped, "m1", 12).card
    ensemble = load_method("mean-rank(linear-probe,deepconf)", layers, "m1", 12).pruner
    assert len(ensemble.pruners_) == 2
    with pytest.raises(UserError, match=f"no learned files in {own}"):
        load_method("stop", layers, "m1", 12)


def test_a_learnable_method_without_files_says_how_to_train_it(tmp_path):
    with pytest.raises(UserError, match="prunebench train stop"):
        load_method("stop", tmp_path, "m1", 12)
    assert load_method("entropy", tmp_path, "m1", 12).note == "defaults, not tuned"


def test_a_check_outside_the_trained_lengths_is_marked(tmp_path):
    trained(tmp_path)
    assert "checked at 99 tokens" in load_method("linear-probe", tmp_path, "m1", 99).note


def test_everything_but_the_controls_is_tuned():
    assert set(tunable()) == {name for name, entry in PRUNERS.items() if entry.quadrant().value != "control"}


def test_the_example_pool_is_public_here():
    assert not example_pool().public().has(Signal.OUTCOME)


def test_an_ensemble_is_made_of_its_tuned_members(tmp_path):
    trained(tmp_path)
    trained(tmp_path, "deepconf")
    judges = Judges({})
    ensemble = load_method("mean-rank(linear-probe,deepconf)", tmp_path, "m1", 12, judges).pruner
    pool = dataset(3, 1).pools[0].pool
    members = [load_method(name, tmp_path, "m1", 12).pruner for name in ("linear-probe", "deepconf")]
    np.testing.assert_array_equal(ensemble.score(pool), MeanRank("a,b").join(members).score(pool))
    assert reads_of(["mean-rank(linear-probe,deepconf)"]) == {Signal.HIDDEN_STATE, Signal.TOPK_LOGPROBS}
    with pytest.raises(UserError, match="only an ensemble takes members"):
        load_method("entropy(stop)", tmp_path, "m1", 12)


def test_members_come_from_the_folder_that_the_ensemble_is_trained_in(tmp_path):
    trained(tmp_path / "learned", "deepconf")
    trained(tmp_path / "learned", "entropy")
    pool = dataset(3, 1).pools[0].pool
    ensemble = MeanRank("deepconf,entropy")
    equip(ensemble, tmp_path / "learned", Judges({}))
    members = [load_method(name, tmp_path / "learned", "m1", 12).pruner for name in ensemble.names]
    np.testing.assert_array_equal(ensemble.score(pool), MeanRank("a,b").join(members).score(pool))
