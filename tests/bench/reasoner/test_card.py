from __future__ import annotations

import json

import numpy as np
import pytest

from prunebench.bench.engines.base import NOTHING, Sampling
from prunebench.bench.engines.load import load_local
from prunebench.bench.reasoner.card import Labelled, acceptance, write_card
from prunebench.bench.reasoner.kinds import OneKind, instances
from prunebench.bench.rollouts.labelling import label_prefixes, prefixes_of
from prunebench.bench.rollouts.sampling import problems_of, sample_rollouts
from prunebench.bench.training.data import labelled_pools
from prunebench.methods.judges.text_classifier import TextClassifier
from prunebench.tasks import catalogue

POSITION, PATHS, KEEP = 40, 8, 2
SAMPLING = Sampling(temperature=0.8, max_new_tokens=160)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A card of one family, the rollouts and labels that it was measured on, and its file."""
    engine, task = load_local("embedded", "cpu"), catalogue.get("synthetic/power")
    stored = {}
    for split, count in (("train", 8), ("validation", 3)):
        folder = tmp_path_factory.mktemp(split)
        problems = problems_of([task], split, count, 0)
        store = sample_rollouts(
            engine, problems, folder / "rollouts", n=PATHS, sampling=SAMPLING, seed=0, recording=NOTHING
        )
        prefixes = [prefix for problem in store.read() for prefix in prefixes_of(task, problem, POSITION)]
        label_prefixes(engine, prefixes, folder / "labels", continuations=2, sampling=SAMPLING, seed=1)
        stored[split] = Labelled.open(folder)
    train, validation = stored["train"], stored["validation"]
    text = TextClassifier().fit(
        labelled_pools(engine, train.rollouts, train.labels, POSITION),
        labelled_pools(engine, validation.rollouts, validation.labels, POSITION),
    )
    known = {**instances([task], "train", 0, 8), **instances([task], "validation", 0, 3)}
    kinds = [OneKind(share, {"power": train.rollouts}, {"power": validation.rollouts}) for share in (0.0, 1.0)]
    (card,) = acceptance(engine, {"power": train.rollouts}, {"power": validation}, POSITION, KEEP, text, known, kinds)
    file = tmp_path_factory.mktemp("card") / "card.json"
    write_card([card], engine.digest, {"recipe": "test"}, file)
    return card, validation, json.loads(file.read_text())


def test_a_card_measures_accuracy_votes_and_headroom_of_the_paths(measured):
    card, validation, _ = measured
    values = {line.name: line.value for line in card.lines}
    correct = [[path.correct is True for path in problem.paths] for problem in validation.rollouts]
    assert (card.problems, card.paths) == (3, PATHS)
    assert values["avg@64, %"] == pytest.approx(100 * np.mean(correct))
    assert values["median path length, tokens"] == np.median([p.length for s in validation.rollouts for p in s.paths])
    votes, gains = [], []
    for problem in validation.rollouts:
        answers = [path.answer for path in problem.paths if path.answer is not None]
        most = max(map(answers.count, answers))
        tied = {answer for answer in answers if answers.count(answer) == most}
        right = {path.answer for path in problem.paths if path.correct}
        votes.append(len(tied & right) / len(tied))
        labels = [validation.labels.get(problem.task, problem.problem, p.token_ids[:POSITION]) for p in problem.paths]
        halves = np.array([label.halves for label in labels]).T
        for chosen, held in (halves, halves[::-1]):
            kept = sorted(range(PATHS), key=lambda row, chosen=chosen: -chosen[row])[:KEEP]
            gains.append(held[kept].mean() - held.mean())
    assert values["maj@64, %"] == pytest.approx(100 * np.mean(votes))
    assert values["split-half headroom, points"] == pytest.approx(100 * np.mean(gains))


def test_a_card_is_written_with_what_is_met(measured):
    card, _, content = measured
    (family,) = content["families"]
    assert [line["met"] for line in family["lines"]] == [line.met for line in card.lines]
    assert content["settings"] == {"recipe": "test"}


def test_of_each_kind_of_errors_other_things_are_asked(measured):
    """Both are measured on the same paths here: what differs is what is asked."""
    card, _, _ = measured
    lines = {line.name: line for line in card.lines}
    told = lines["0% confident: AUROC of entropy"]
    untold = lines["100% confident: AUROC of entropy, either way"]
    assert (told.low, told.high, untold.low, untold.high) == (0.70, None, None, 0.62)
    assert untold.value == max(told.value, 1 - told.value) != 0.5
    for share in ("0% confident", "100% confident"):
        assert lines[f"{share}: best AUROC of probes"].low == 0.75
        assert lines[f"{share}: AUROC of a text classifier"].high == 0.62
        majority = lines[f"{share}: maj@{PATHS}, %"]
        assert majority.high == 85 and majority.value == lines["maj@64, %"].value
    assert {f"100% confident: AUROC of {name}, either way" for name in ("margin", "perplexity")} <= set(lines)
