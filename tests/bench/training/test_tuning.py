from __future__ import annotations

from dataclasses import replace

import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.training.cards import Card
from prunebench.bench.training.loading import load_method
from tests.bench.training.made_up import TELLING, dataset, trained


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


def test_two_trainings_write_the_same_files(tmp_path):
    cards = [trained(tmp_path / name) for name in "ab"]
    first, second = ((tmp_path / name / "linear-probe.safetensors").read_bytes() for name in "ab")
    assert first == second
    assert replace(cards[0], train_seconds=0) == replace(cards[1], train_seconds=0)


def test_training_and_validation_share_no_problem(tmp_path):
    with pytest.raises(UserError, match="split by problem"):
        trained(tmp_path, train=dataset(2))
    assert not list(tmp_path.iterdir())


def test_the_same_training_is_not_done_twice_and_another_seed_is(tmp_path):
    card = trained(tmp_path)
    before = (tmp_path / "linear-probe.json").stat().st_mtime_ns
    assert trained(tmp_path) == card
    assert (tmp_path / "linear-probe.json").stat().st_mtime_ns == before
    assert trained(tmp_path, train=dataset(5)).train_data != card.train_data
