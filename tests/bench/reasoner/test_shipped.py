"""What is shipped fits together, and the reasoner keeps its contract."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice, product

import numpy as np
import pytest
import torch

from prunebench.bench.cli.at_hand import training_data
from prunebench.bench.cli.doctor import diagnose
from prunebench.bench.config import preset
from prunebench.bench.engines.base import Request, Sampling
from prunebench.bench.engines.shipped import REASONERS, ReasonerShape, TrainingPlan
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.metrics import auroc
from prunebench.bench.reasoner.recipe import STAGES, training_texts
from prunebench.bench.reasoner.vocabulary import RESERVED, VOCABULARY
from prunebench.bench.rollouts.label_store import LabelStore
from prunebench.bench.rollouts.labelling import prefixes_of
from prunebench.bench.rollouts.pools import record_of
from prunebench.bench.rollouts.sampling import sample_rollouts
from prunebench.bench.rollouts.store import RolloutStore
from prunebench.bench.training.cards import Card
from prunebench.bench.training.label_plans import RECIPES
from prunebench.bench.training.loading import load_method, tunable
from prunebench.tasks import catalogue
from prunebench.tasks.synthetic import FAMILIES
from prunebench.tasks.synthetic.family import BOX, BOX_END, CHECK, read_path

MEGABYTE = 1_000_000
EMBEDDED = REASONERS["embedded"]
WEIGHTS, LEARNED, LABELS, CARD = EMBEDDED.weights, EMBEDDED.learned, EMBEDDED.labels, EMBEDDED.card


@pytest.fixture(scope="module")
def reasoner():
    return TransformersEngine.load("embedded")


def test_the_reasoner_is_small(reasoner):
    assert reasoner.arithmetic.parameters <= 1_200_000
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) < 15 * MEGABYTE
    assert reasoner.context >= 1024


def test_reserved_ids_are_spare_and_banned(reasoner):
    ids = reasoner.tokenizer.convert_tokens_to_ids(list(RESERVED))
    assert len(set(ids)) >= 64
    assert set(ids) <= set(reasoner.banned)
    assert reasoner.model.get_input_embeddings().weight.shape[0] == len(VOCABULARY)


def test_the_tokenizer_writes_what_it_reads(reasoner):
    for document in islice(training_texts("tokenizer", STAGES[-1], TrainingPlan.levels), 50):
        text = " ".join(document.tokens[1:-1])
        ids = reasoner.encode_prompt(text)
        assert reasoner.tokenizer.convert_ids_to_tokens(ids.tolist()) == list(document.tokens[:-1])
        assert reasoner.decode(ids) == text


def test_the_training_is_on_record():
    record = json.loads((WEIGHTS / "training.json").read_text())
    assert record["plan"]["seed"] == 0
    assert record["shape"]["hidden_size"] == ReasonerShape().hidden_size
    assert record["loss"][-1]["tokens"] >= record["plan"]["tokens"]
    assert record["loss"][-1]["loss"] < record["loss"][0]["loss"]


def test_every_card_belongs_to_these_weights(reasoner):
    card = json.loads(CARD.read_text())
    assert card["model_hash"] == reasoner.digest
    assert [family["family"] for family in card["families"]] == list(FAMILIES)
    for name in tunable():
        learned = Card.read(LEARNED / f"{name}.json")
        assert learned.model_hash == reasoner.digest
        assert learned.sampling_digest == preset("demo").sampling.digest
    assert all(check.ok for check in diagnose() if check.name in ("weights", "learned"))


def test_labels_belong_to_the_published_comparison_and_its_problems(reasoner):
    config = preset("embedded")
    for family in FAMILIES:
        labels = LabelStore.open(LABELS / family)
        labels.require(reasoner.digest, config.sampling.digest)
        assert labels.manifest["continuations"] == RECIPES["embedded"].test_continuations
        wanted = {p.id for p in catalogue.get(f"synthetic/{family}").problems("test", config.problems, config.seed)}
        assert {label.problem for label in labels} == wanted


def test_a_fresh_prefix_finds_its_shipped_label(reasoner, tmp_path):
    config = preset("demo")
    task = catalogue.get("synthetic/congruence")
    (problem,) = task.problems("test", 1, config.seed)
    store = sample_rollouts(
        reasoner, [(task, problem)], tmp_path, n=8, sampling=config.sampling, seed=config.seed,
        recording=config.recording,
    )  # fmt: skip
    labels = LabelStore.open(LABELS / "congruence")
    cuts = [cut for stored in store.read() for cut in prefixes_of(task, stored, config.prefix_tokens)]
    assert cuts
    assert all(labels.get(task.name, problem.id, cut.token_ids) is not None for cut in cuts)


@pytest.mark.parametrize("method", ["stop", "otv"])
def test_equal_prefixes_score_alike_on_any_number_of_threads(reasoner, tmp_path, method):
    """Of two threads each rounds the rows of a product in its own way, and the order of equal paths hung on that."""
    config, task = preset("demo"), catalogue.get("synthetic/power")
    store = sample_rollouts(
        reasoner, [(task, problem) for problem in task.problems("validation", 2, 0)], tmp_path, n=61,
        sampling=replace(config.sampling, max_new_tokens=config.prefix_tokens), seed=0, recording=config.recording,
    )  # fmt: skip
    learned = load_method(method, LEARNED, reasoner.digest, config.prefix_tokens).pruner
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        for stored in store.read():
            pool = record_of(reasoner, stored, config.prefix_tokens, None).pool
            scores, (first, place) = learned.score(pool), pool.distinct()
            assert 1 < len(first) < len(pool) and scores.tolist() == scores[first][place].tolist()
    finally:
        torch.set_num_threads(threads)


def test_nothing_that_was_learned_has_seen_a_test_problem():
    config = preset("demo")
    test = {p.id for task in catalogue.expand(config.tasks) for p in task.problems("test", 200, config.seed)}
    for name in tunable():
        card = Card.read(LEARNED / f"{name}.json")
        assert not test & {*card.train_problems, *card.validation_problems}
        assert not set(card.train_problems) & set(card.validation_problems)


def test_what_was_learned_from_is_there_for_others(reasoner):
    data = training_data(None, "embedded")
    assert sum(path.stat().st_size for path in data.rglob("*")) < 20 * MEGABYTE
    there: dict[str, set[str]] = {}
    for split, family in product(("train", "validation"), FAMILIES):
        rollouts = RolloutStore.open(data / split / family / "rollouts")
        labels = LabelStore.open(data / split / family / "labels")
        labels.require(reasoner.digest, str(rollouts.manifest["sampling_digest"]))
        labelled = {label.problem for label in labels}
        assert labelled and labelled <= {problem for _, problem in rollouts.problems()}
        there.setdefault(split, set()).update(labelled)
    for name in tunable():
        card = Card.read(LEARNED / f"{name}.json")
        assert set(card.train_problems) <= there["train"] and set(card.validation_problems) <= there["validation"]
        assert sum(card.prefixes.values()) > 1_000, "how many prefixes of every length"
    with pytest.raises(UserError, match="no labelled prefixes are shipped for model 'toy'"):
        training_data(None, "toy")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_forced_box_yields_an_answer_anywhere(reasoner, family):
    task = catalogue.get(f"synthetic/{family}")
    box = reasoner.tokenizer.convert_tokens_to_ids(["\n\n", BOX])
    for problem in task.problems("validation", 2, 0):
        prompt = reasoner.encode_prompt(problem.prompt)
        (path,) = next(reasoner.sample([Request(problem.id, prompt, (0,))], preset("demo").sampling, 3)).paths
        for cut in range(5, len(path.token_ids) - 4, max(1, len(path.token_ids) // 6)):
            prefix = np.concatenate([path.token_ids[:cut], box])[None]
            greedy = Sampling(temperature=0.0, max_new_tokens=prefix.shape[1] + 3)
            (rollout,) = reasoner.sample([Request("forced", prompt, (0,), prefix)], greedy, 0)
            tokens = reasoner.tokenizer.convert_ids_to_tokens(rollout.paths[0].token_ids.tolist())
            assert tokens[0].lstrip("-").isdigit(), tokens
            assert tokens[1] == BOX_END


def test_a_check_tells_right_from_slipped_steps(reasoner):
    """On problems of the reasoner's own split that this stream alone draws: the last step, not the outcome."""
    yes, no = reasoner.tokenizer.convert_tokens_to_ids(["yes", "no"])
    scores, right = [], []
    for document in islice(training_texts("checks", STAGES[-1], TrainingPlan.levels), 1200):
        if CHECK not in document.tokens:
            continue
        ids = torch.tensor([reasoner.tokenizer.convert_tokens_to_ids(list(document.tokens[:-2]))])
        with torch.inference_mode():
            logits = reasoner.model(ids).logits[0, -1]
        assert int(logits.argmax()) in (yes, no)
        scores.append(float(logits[yes] - logits[no]))
        right.append(float(document.tokens[-2] == "yes"))
    assert len(scores) > 100
    assert auroc(np.array(scores), np.array(right)) > 0.75


def test_the_larger_reasoner_writes_readable_long_solutions():
    """Its contract is that of the smaller one; labels and learned pruners are not made yet."""
    larger = TransformersEngine.load("embedded-base")
    assert 10_000_000 <= larger.arithmetic.parameters <= 30_000_000 and larger.context >= 2048
    assert all(path.stat().st_size < 15 * MEGABYTE for path in REASONERS["embedded-base"].weights.iterdir())
    task = catalogue.get("synthetic-long/power")
    (instance,) = islice(task.instances("validation"), 1)
    request = Request("p", larger.encode_prompt(task.problem(instance).prompt), tuple(range(4)))
    (rollout,) = larger.sample([request], Sampling(temperature=0.8, max_new_tokens=80), 0)
    readings = [
        read_path(FAMILIES["power"], instance, larger.decode(path.token_ids).split(" ")) for path in rollout.paths
    ]
    assert all(reading.readable and reading.steps >= 3 for reading in readings)
