from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.training.cards import Card
from prunebench.bench.training.loading import load_method
from prunebench.bench.training.tuning import halves, train_method
from prunebench.methods.base import Pruner, Source
from prunebench.methods.pool import PrefixDataset, within_problem_auroc
from prunebench.methods.registry import PRUNERS
from tests.bench.training.made_up import SETTING, TELLING, dataset, trained


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


def test_a_card_counts_its_prefixes_by_length(tmp_path):
    learned, tuned = trained(tmp_path), trained(tmp_path, "deepconf")
    train, validation = dataset(1), dataset(2, 6)
    assert learned.prefixes == {12: sum(len(pool.success) for pool in train)}
    assert tuned.prefixes == {12: sum(len(pool.success) for pool in validation)} and tuned.tuned_at == 12
    assert (tmp_path / "linear-probe.safetensors").stat().st_mode & 0o777 == 0o644


def test_cards_of_earlier_versions_are_read(tmp_path):
    trained(tmp_path)
    path = tmp_path / "linear-probe.json"
    content = json.loads(path.read_text())
    for name in ("prefixes", "checkpoint", "code", "key"):
        del content[name]
    path.write_text(json.dumps(content | {"prefix_tokens": [6, 12, 24]}))
    assert load_method("linear-probe", tmp_path, "m1", 12).note == ""
    note = load_method("linear-probe", tmp_path, "m1", 10).note
    assert note == "tuned at 12 tokens, checked at 10 tokens", "also between the lengths that it learned from"


def test_what_was_learned_by_other_code_is_refused_and_what_was_tuned_is_marked(tmp_path):
    for name in ("linear-probe", "deepconf"):
        trained(tmp_path, name)
        path = tmp_path / f"{name}.json"
        path.write_text(path.read_text().replace(Card.read(path).code, "0" * 16))
    both = "has changed since it was trained, and so has that of deepconf"
    again = f"train again: prunebench train linear-probe deepconf --out {tmp_path}"
    with pytest.raises(UserError, match=f"linear-probe.json: the code of 'linear-probe' {both}; {again}"):
        load_method("linear-probe", tmp_path, "m1", 12)
    with pytest.raises(UserError, match="the code of 'linear-probe' has changed"):
        load_method("mean-rank(linear-probe,deepconf)", tmp_path, "m1", 12)
    assert "its code is not what it was tuned with" in load_method("deepconf", tmp_path, "m1", 12).note


# --- choosing


def voting(dataset_of, answers):
    """The same pools, whose final answers are the wrong class 1, but for those rows that ``answers`` name as right."""
    found = []
    for labelled in dataset_of:
        right = np.isin(np.arange(len(labelled.pool)), answers).astype(float)
        found.append(replace(labelled, outcome=right, final_class=np.where(right == 1, 0, 1)))
    return PrefixDataset(tuple(found))


@dataclass
class Apart(Pruner):
    """Keeps one path: that of the row ``chosen``; -1 ties all."""

    name = "apart"
    source = Source.EXTERNAL
    requires = frozenset()
    paper = "test"
    redundancy = True
    chosen: int = -1

    @classmethod
    def configurations(cls, setting):
        return [cls(chosen=chosen) for chosen in (-1, 2, 5)]

    def score(self, pool):
        return (np.arange(len(pool)) == self.chosen).astype(float)


@pytest.fixture
def apart():
    PRUNERS.register("apart")(Apart)
    yield
    del PRUNERS._entries["apart"]


@pytest.mark.usefixtures("apart")
def test_what_keeps_paths_apart_is_chosen_by_the_vote_and_what_ties_all_is_no_candidate(tmp_path):
    told = voting(dataset(2, 6), [5])
    ranking = {one.chosen: within_problem_auroc(halves(told)[1], [one.score(p.pool) for p in halves(told)[1]])
               for one in Apart.configurations(SETTING)}  # fmt: skip
    card = train_method("apart", dataset(1), told, SETTING, tmp_path, model_hash="m1", sampling_digest="s1")
    assert card.configuration == {"chosen": 5} and card.validation_auroc == ranking[5]
    assert [one["validation_maj"] for one in card.candidates] == [0, 0, 1]
    assert [one["tied"] for one in card.candidates] == [True, False, False]
    untold = PrefixDataset(tuple(replace(one, final_class=None) for one in told))
    card = train_method("apart", dataset(1), untold, SETTING, tmp_path, model_hash="m1", sampling_digest="s1")
    assert card.configuration["chosen"] == max((2, 5), key=ranking.__getitem__), "by ranking, but not what ties"


def test_epochs_and_configurations_are_chosen_on_different_problems(tmp_path):
    validation = dataset(2, 6)
    fitting, choosing = halves(validation)
    assert not fitting.problems & choosing.problems and fitting.problems | choosing.problems == validation.problems
    card = trained(tmp_path)
    assert set(card.epoch_problems) == fitting.problems
    pruner = load_method("linear-probe", tmp_path, "m1", 12).pruner
    assert card.validation_auroc == within_problem_auroc(choosing, [pruner.score(p.pool) for p in choosing])
    assert halves(PrefixDataset(validation.pools[:1])) == (PrefixDataset(validation.pools[:1]),) * 2


def test_what_is_drawn_in_learning_is_trained_with_three_seeds(tmp_path):
    card = trained(tmp_path, "mlp-probe")
    assert [member["seed"] for member in card.members] == [0, 1, 2] and card.configuration["seed"] == 0
    assert card.validation_auroc == pytest.approx(np.mean([member["validation_auroc"] for member in card.members]))
    loaded = load_method("mlp-probe", tmp_path, "m1", 12)
    pool = dataset(9, 1).pools[0].pool
    scores = [one.score(pool) for one in (loaded.pruner, *loaded.members)]
    assert len(scores) == 3 and not np.allclose(scores[0], scores[1])
    (tmp_path / "mlp-probe.seed2.safetensors").unlink()
    with pytest.raises(UserError, match=r"seed2\.safetensors: cannot be read"):
        load_method("mlp-probe", tmp_path, "m1", 12)
    straight = trained(tmp_path)
    assert straight.members == [] and not list(tmp_path.glob("linear-probe.seed*")), "nothing is drawn"
    assert load_method("linear-probe", tmp_path, "m1", 12).members == ()
