from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from prunebench.bench.engines.base import Recording, Sampling
from prunebench.bench.rollouts.generator import answer_length, complete_steps
from prunebench.bench.rollouts.label_store import Label, LabelStore, prefix_hash
from prunebench.bench.rollouts.pools import pool_of, record_of
from prunebench.bench.rollouts.sampling import problems_of, sample_rollouts
from prunebench.methods.base import Signal
from prunebench.tasks import catalogue

POSITION = 8


@pytest.fixture(scope="module")
def stored(engine, tmp_path_factory):
    """A problem whose paths are cut at 24 tokens, so that the texts and verdicts can be set by hand."""
    problems = problems_of([catalogue.get("synthetic/power")], "validation", 1, 0)
    store = sample_rollouts(
        engine, problems, tmp_path_factory.mktemp("rollouts"), n=6,
        sampling=Sampling(temperature=1.0, max_new_tokens=24), seed=0, recording=Recording.of((), POSITION),
    )  # fmt: skip
    (problem,) = store.read()
    short, twin = problem.paths[1].token_ids[:5], problem.paths[0].token_ids.copy()
    problem.paths[1] = replace(problem.paths[1], token_ids=short, length=5)  # ends before the checkpoint
    problem.paths[4] = replace(problem.paths[4], token_ids=twin, length=len(twin))  # the same prefix as path 0
    for path, answer, correct in zip(problem.paths, ("3", None, "03", "5", "5", "6"), (1, 0, 1, 0, 0, 0), strict=True):
        path.answer, path.correct = answer, bool(correct)
    return problem


def labels_for(folder, stored, rows):
    store = LabelStore.create_or_open(
        folder, {"model_hash": "m", "sampling_digest": "s", "seed": 1, "continuations": 4}
    )
    labels = {}
    for row in rows:
        hash_ = prefix_hash(stored.paths[row].token_ids[:POSITION])
        labels[hash_] = Label(stored.task, stored.problem, hash_, POSITION, 4, row % 3, 1)
    with store.shards:
        store.append(list(labels.values()))
    return store


def test_a_pool_shows_the_prefix_and_nothing_behind_it(engine, stored):
    pool = pool_of(engine, stored, POSITION)
    assert pool.lengths.tolist() == [8, 5, 8, 8, 8, 8]
    assert pool.finished.tolist() == [False, True, False, False, False, False]
    for row, path in enumerate(stored.paths):
        length = pool.lengths[row]
        assert pool.token_ids[row].tolist() == path.token_ids[:POSITION].tolist()
        assert pool.text[row] == engine.decode(path.token_ids[:POSITION])
        for column in (pool.logprobs, pool.entropy, pool.self_certainty, pool.topk_logprobs):
            assert len(column[row]) >= length
            assert len(column[row]) <= POSITION
    assert sorted(pool.signals[Signal.ALL_LAYERS]) == [0, 1, 2]
    assert not pool.has(Signal.OUTCOME)
    assert not pool.has(Signal.POTENTIAL)


def test_the_columns_of_a_path_that_ended_are_as_long_as_it_is(stored):
    """Without an engine, which would read again what seems to be missing."""
    ended = stored.paths[1]
    paths = list(stored.paths)
    paths[1] = replace(ended, signals={name: column[: ended.length] for name, column in ended.signals.items()})
    pool = pool_of(None, replace(stored, paths=paths), POSITION)
    assert len(pool.entropy[1]) == ended.length < POSITION == len(pool.entropy[0])
    short = replace(ended, signals={name: column[:-1] for name, column in paths[1].signals.items()})
    assert not pool_of(None, replace(stored, paths=[*paths[:1], short, *paths[2:]]), POSITION).has(Signal.ENTROPY)


def test_another_position_has_no_states(engine, stored):
    assert not pool_of(engine, stored, POSITION - 1).has(Signal.HIDDEN_STATE)
    states = pool_of(engine, stored, POSITION - 1, reads={Signal.HIDDEN_STATE}).hidden_state(2)
    assert states.shape == (6, 128), "but they can be had by reading the prefixes again"


def test_signals_that_are_read_again_are_those_that_were_recorded(engine, stored):
    recorded = pool_of(engine, stored, POSITION)
    bare = [replace(path, signals={}) for path in stored.paths]
    reads = {Signal.LOGPROBS, Signal.ENTROPY, Signal.SELF_CERTAINTY, Signal.TOPK_LOGPROBS, Signal.HIDDEN_STATE}
    reread = pool_of(engine, replace(stored, paths=bare, hidden={}), POSITION, reads=reads)
    for signal in reads - {Signal.HIDDEN_STATE}:
        for row in (0, 2, 3, 5):  # the others were changed by hand after they were recorded
            np.testing.assert_allclose(recorded.signals[signal][row], reread.signals[signal][row], atol=1e-4)
    for row in (0, 2, 3, 5):
        np.testing.assert_allclose(recorded.hidden_state(2)[row], reread.hidden_state(2)[row], atol=1e-4)


def test_varentropy_and_states_come_from_the_models_own_distributions(engine, stored):
    pool = pool_of(engine, stored, POSITION, reads={Signal.VARENTROPY, Signal.STATES, Signal.ALL_LAYERS})
    for row in (0, 1):
        ids = np.concatenate([stored.prompt_ids, pool.token_ids[row]])
        with torch.inference_mode():
            out = engine.model(torch.from_numpy(ids)[None], output_hidden_states=True)
        start = len(stored.prompt_ids)
        p = out.logits[0, start - 1 : -1].double().softmax(-1).numpy()
        surprise = -np.log(p)
        mean = (p * surprise).sum(1, keepdims=True)
        np.testing.assert_allclose(pool.varentropy[row], (p * (surprise - mean) ** 2).sum(1), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(pool.states(1)[row], out.hidden_states[1][0, start:].numpy(), atol=1e-4)
    np.testing.assert_allclose(pool.all_layers[1][0], pool.states(1)[0][-1], atol=1e-5)


def test_a_probe_is_graded_in_the_classes_of_the_final_answers(engine, stored):
    grading = pool_of(engine, stored, POSITION).generator
    assert grading.classes(["03", "5", None, "77", "6"]).tolist() == [0, 1, -1, 3, 2]
    probe = pool_of(engine, stored, POSITION).probe(4)
    assert probe.answer_class[0] == probe.answer_class[4], "equal prefixes are asked once"
    assert len(probe.token_ids) == 6


def test_the_opinion_is_the_models_next_token(engine, stored):
    pool = pool_of(engine, stored, POSITION)
    opinion = pool.opinion()
    for row in (0, 1):
        ids = np.concatenate([stored.prompt_ids, pool.token_ids[row], pool.phrases.question])
        with torch.inference_mode():
            logprobs = engine.model(torch.from_numpy(ids)[None]).logits[0, -1].double().log_softmax(-1)
        np.testing.assert_allclose(opinion[row], logprobs[[pool.phrases.yes, pool.phrases.no]].numpy(), atol=1e-4)


def test_rows_choose_paths(engine, stored):
    pool, part = pool_of(engine, stored, POSITION), pool_of(engine, stored, POSITION, [3, 1])
    assert part.paths.tolist() == [3, 1]
    np.testing.assert_array_equal(part.hidden_state(2), pool.hidden_state(2)[[3, 1]])


def test_a_record_knows_verdicts_classes_and_lengths(engine, stored):
    record = record_of(engine, stored, POSITION, None)
    assert record.correct.tolist() == [1, 0, 1, 0, 0, 0]
    assert record.answer_class.tolist() == [0, -1, 0, 1, 1, 2], "03 is 3"
    assert record.gold_class == 0
    assert record.lengths.tolist() == [len(path.token_ids) for path in stored.paths]
    assert record.halves is None
    assert not record.pool.has(Signal.POTENTIAL)
    np.testing.assert_array_equal(record.pool.outcome, record.correct)


def test_labels_are_attached_when_every_prefix_has_one(engine, stored, tmp_path):
    record = record_of(engine, stored, POSITION, labels_for(tmp_path / "all", stored, range(6)))
    assert record.halves is not None
    assert record.pool.potential[0] == record.pool.potential[4], "equal prefixes share their label"
    np.testing.assert_allclose(record.pool.potential[2], (2 + 1) / 4)
    np.testing.assert_allclose(record.halves[:, 2], [2 / 2, 1 / 2])
    some = record_of(engine, stored, POSITION, labels_for(tmp_path / "some", stored, range(3)))
    assert some.halves is None


@pytest.mark.parametrize(
    ("opened", "tokens", "own"),
    [
        ("\\boxed{", ["4", "2", "}", "$.", "\n"], 2),
        ("\\boxed{", ["\\frac{", "1", "}{", "2", "}", "}"], 5),
        ("\\boxed{", ["4", "2}", "."], 2),
        ("\\boxed{", ["}", "."], 0),
        ("The answer is", [" 14", ".", "\n", "Next"], 2),
        ("\\boxed{", ["7", ""], 1),
        ("\\boxed{", ["7", "8"], 2),
    ],
)
def test_an_answer_ends_at_what_closes_it(opened, tokens, own):
    assert answer_length(np.arange(len(tokens)), opened, lambda ids: tokens[ids[0]]) == own


def test_an_opinion_is_asked_behind_the_last_complete_step(engine, stored):
    whole = pool_of(engine, stored, POSITION)
    assert whole.phrases is not None
    end = whole.phrases.step_end
    ids = tuple(map(np.array, ([5, end, 6, end, 7], [5, 6], [5, end])))
    expected = ([5, end, 6, end], [5, 6], [5, end])

    def asked(rows):
        lengths = np.array([len(row) for row in rows])
        return replace(whole.take([0, 1, 2]), lengths=lengths, signals={Signal.TOKEN_IDS: tuple(map(np.array, rows))})

    assert [row.tolist() for row in complete_steps(asked(ids)).token_ids] == [*expected]
    assert np.array_equal(asked(ids).opinion(), asked(expected).opinion())
    assert not np.allclose(
        asked(ids).opinion(),
        engine.next_logprobs(asked(ids), whole.phrases.question, (whole.phrases.yes, whole.phrases.no)),
    )


def test_a_path_is_probed_once_and_told_its_seconds_again(engine, stored, monkeypatch):
    asked, probe = [], type(engine).probe
    monkeypatch.setattr(
        type(engine), "probe", lambda self, pool, *rest: asked.append(len(pool)) or probe(self, pool, *rest)
    )
    pool = pool_of(engine, stored, POSITION)
    assert pool.generator is not None
    some = pool.take([0, 2]).probe(4)
    before = pool.generator.replay_seconds
    again = pool.take([2]).probe(4)
    assert pool.generator.replay_seconds < before, "what it took then is part of this check"
    whole = pool.probe(4)
    assert asked == [2, 4]
    assert [ids.tolist() for ids in again.token_ids] == [some.token_ids[1].tolist()]
    assert whole.token_ids[0].tolist() == some.token_ids[0].tolist() and len(whole.token_ids) == 6
