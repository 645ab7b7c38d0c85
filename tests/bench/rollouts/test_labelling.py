from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from prunebench.bench.engines.base import Recording, Sampling
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.rollouts.labelling import label_prefixes, prefixes_of
from prunebench.bench.rollouts.sampling import problems_of, sample_rollouts
from prunebench.tasks import catalogue
from tests.counted import Counted

TASK = catalogue.get("synthetic/recurrence")
SAMPLING = Sampling(temperature=0.8, max_new_tokens=900)


@pytest.fixture(scope="module")
def reasoner():
    return TransformersEngine.load("embedded")


@pytest.fixture(scope="module")
def stored(reasoner, tmp_path_factory):
    store = sample_rollouts(
        reasoner, problems_of([TASK], "validation", 2, 0), tmp_path_factory.mktemp("rollouts"),
        n=8, sampling=SAMPLING, seed=0, recording=Recording.of((), 40),
    )  # fmt: skip
    return list(store.read())


def labelled(reasoner, cuts, folder, continuations=4):
    return label_prefixes(reasoner, cuts, folder, continuations=continuations, sampling=SAMPLING, seed=1)


def label_of(store, cut):
    label = store.get(cut.task.name, cut.problem, cut.token_ids)
    assert label is not None
    return label


def test_cuts_are_distinct_and_in_path_order(stored):
    (one, *_) = stored
    twin = replace(one, paths=[*one.paths, *one.paths])
    cuts = prefixes_of(TASK, twin, 40)
    prefixes = [cut.token_ids.tolist() for cut in cuts]
    assert prefixes == list(map(list, dict.fromkeys(tuple(path.token_ids[:40]) for path in one.paths)))
    assert [cut.hash for cut in prefixes_of(TASK, twin, 40, limit=2)] == [cut.hash for cut in cuts[:2]]


def test_a_label_does_not_depend_on_what_else_is_labelled(reasoner, stored, tmp_path):
    cuts = [cut for problem in stored for cut in prefixes_of(TASK, problem, 40)]
    together = labelled(reasoner, cuts, tmp_path / "together")
    alone = labelled(reasoner, cuts[3:4], tmp_path / "alone")
    assert label_of(together, cuts[3]) == label_of(alone, cuts[3])
    assert len(together) == len(cuts)


def test_a_finished_path_is_labelled_by_its_verdict_without_sampling(reasoner, stored, tmp_path):
    cuts = prefixes_of(TASK, stored[0], 900)
    store = labelled(reasoner, cuts, tmp_path)
    verdicts = {tuple(path.token_ids): path.correct for path in stored[0].paths}
    for cut in cuts:
        label = label_of(store, cut)
        assert label.continuations == 0
        assert label.success == float(verdicts[tuple(cut.token_ids)])


def test_a_prefix_that_has_stated_its_answer_is_as_good_as_its_verdict(reasoner, stored, tmp_path):
    for problem in stored:
        for path in problem.paths:
            if path.answer is None:
                continue
            position = len(path.token_ids) - 2  # the box is still open
            (cut,) = prefixes_of(TASK, replace(problem, paths=[path]), position)
            assert cut.verdict is None
            label = label_of(labelled(reasoner, [cut], tmp_path), cut)
            assert label.continuations == 4
            assert label.success == float(path.correct)


def test_labels_resume_and_are_not_sampled_twice(reasoner, stored, tmp_path):
    cuts = [cut for problem in stored for cut in prefixes_of(TASK, problem, 40)]
    half = labelled(reasoner, cuts[: len(cuts) // 2], tmp_path)
    kept = [label_of(half, cut) for cut in cuts[: len(cuts) // 2]]
    told: list[int] = []
    whole = label_prefixes(
        reasoner, cuts, tmp_path, continuations=4, sampling=SAMPLING, seed=1, progress=Counted(told.append)
    )
    assert told[0] == len(kept)
    assert [label_of(whole, cut) for cut in cuts[: len(kept)]] == kept


def test_the_mean_label_is_the_mean_outcome_within_its_error(reasoner, stored, tmp_path):
    """Prefixes of paths are drawn as paths are, so the mean success rate of their continuations is avg@N."""
    first = stored[0]
    rates, store = [], labelled(reasoner, prefixes_of(TASK, first, 12), tmp_path, continuations=32)
    for path in first.paths:
        (cut,) = prefixes_of(TASK, replace(first, paths=[path]), 12)
        rates.append(label_of(store, cut).success)
    outcomes = np.array([float(path.correct is True) for path in first.paths])
    error = np.sqrt(np.mean(rates) * (1 - np.mean(rates)) * (1 / len(outcomes) + 1 / 32)) + 1e-9
    assert abs(np.mean(rates) - outcomes.mean()) < 4 * error + 1 / len(outcomes)
