from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from prunebench.bench.engines import tokenization
from prunebench.bench.engines.judge import EngineJudge
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.errors import UserError
from prunebench.methods.check import check_pruner
from prunebench.methods.judges.mav import Mav
from prunebench.methods.judges.thinkprm import ThinkPrm


@pytest.fixture(scope="module")
def judge(engine):
    return EngineJudge(engine)


@pytest.fixture(scope="module")
def contexts():
    """Nine contexts of five lengths; two pairs are equal."""
    random = np.random.default_rng(1)
    drawn = [random.integers(4, 400, length).astype(np.int64) for length in (12, 7, 12, 30, 7, 1, 12)]
    return [*drawn, drawn[0].copy(), drawn[4].copy()]


def greedy(engine, ids, tokens):
    """The whole text through the model's own forward, once per token."""
    text = ids.tolist()
    for _ in range(tokens):
        logits = engine.model(torch.tensor([text])).logits[0, -1].index_fill(0, engine.decoder.banned, -torch.inf)
        text.append(int(logits.argmax()))
        if text[-1] == engine.tokenizer.eos_token_id:
            break
    return text[len(ids) :]


def test_completions_are_the_models_greedy_continuations(judge, engine, contexts):
    written = judge.complete(contexts, 9)
    assert [ids.tolist() for ids in written] == [greedy(engine, ids, 9) for ids in contexts]


def test_log_probabilities_are_the_models_own(judge, engine, contexts):
    tokens = [8, 300, 9]
    logprobs = judge.next_logprobs(contexts, tokens)
    assert logprobs.shape == (9, 3) and logprobs.dtype == np.float64
    for row, ids in zip(logprobs, contexts, strict=True):
        logits = engine.model(torch.from_numpy(ids)[None]).logits[0, -1]
        np.testing.assert_allclose(row, logits.double().log_softmax(-1)[tokens], atol=2e-5)


def test_an_answer_does_not_depend_on_the_other_contexts(judge, contexts):
    written, logprobs = judge.complete(contexts, 20, temperature=1.0, seed=3), judge.next_logprobs(contexts, [8, 9])
    for order in ([3], [8, 2, 5], [1, 0, 2, 3, 4, 5, 6]):
        some = [contexts[row] for row in order]
        for row, ids in zip(order, judge.complete(some, 20, temperature=1.0, seed=3), strict=True):
            np.testing.assert_array_equal(ids, written[row])
        np.testing.assert_array_equal(judge.next_logprobs(some, [8, 9]), logprobs[order])


def test_neither_do_the_rows_in_flight_matter(checkpoint, judge, contexts):
    narrow = EngineJudge(TransformersEngine.load(str(checkpoint), rows_in_flight=1))
    for ours, theirs in zip(narrow.complete(contexts, 20), judge.complete(contexts, 20), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_seeds_differ_and_repeat(judge, contexts):
    first, second, other = (judge.complete(contexts[:3], 30, temperature=1.0, seed=seed) for seed in (0, 0, 1))
    assert [ids.tolist() for ids in first] == [ids.tolist() for ids in second] != [ids.tolist() for ids in other]


def test_equal_contexts_are_answered_once(judge, engine, contexts, monkeypatch):
    asked = []
    sample, next_logprobs = engine.sample, engine.next_logprobs

    def counted(requests, *arguments, **options):
        requests = list(requests)
        asked.extend(requests)
        return sample(requests, *arguments, **options)

    def counted_next(pool, *arguments):
        asked.extend(pool.token_ids)
        return next_logprobs(pool, *arguments)

    monkeypatch.setattr(engine, "sample", counted)
    monkeypatch.setattr(engine, "next_logprobs", counted_next)
    judge.complete(contexts, 2)
    assert len(asked) == 7
    judge.next_logprobs(contexts, [8])
    assert len(asked) == 14


def test_encoding_adds_nothing_and_knows_special_tokens_by_name(judge, engine):
    assert judge.encode("<bos> plan : early \n\n check: ").tolist() == engine.tokenizer.convert_tokens_to_ids(
        ["<bos>", "plan", ":", "early", "\n\n", "check:"]
    )
    assert judge.decode(judge.encode("<bos> plan : early \n\n <eos>")) == "plan : early \n\n"


def test_the_parameters_are_counted(judge, engine):
    assert judge.parameters == sum(p.numel() for p in engine.model.parameters())


def test_contexts_that_do_not_fit_are_refused_in_a_sentence(judge):
    for ids in (np.full(256, 5), np.zeros(0, np.int64)):
        with pytest.raises(UserError, match=f"context 1 has {len(ids)} tokens; it reads 1 to 255"):
            judge.complete([np.full(3, 5), ids], 4)
        with pytest.raises(UserError, match=f"context 1 has {len(ids)} tokens"):
            judge.next_logprobs([np.full(3, 5), ids], [8])


def test_a_completion_ends_where_the_context_of_the_model_ends(judge):
    (written,) = judge.complete([np.full(250, 5)], 50)
    assert 1 <= len(written) <= 6


def test_no_contexts_no_answers(judge):
    assert judge.complete([], 4) == []
    assert judge.next_logprobs([], [8, 9]).shape == (0, 2)


def test_what_the_settings_of_a_judge_ban_is_never_written(checkpoint, judge, contexts, tmp_path):
    """A verifier has to come without the reasoner's ban on ``check:``."""
    free = tmp_path / "free"
    shutil.copytree(checkpoint, free)
    settings = json.loads((free / "generation_config.json").read_text())
    wanted = judge.complete(contexts[:1], 1)[0].tolist()
    settings["suppress_tokens"] += wanted
    (free / "generation_config.json").write_text(json.dumps(settings))
    without = EngineJudge(TransformersEngine.load(str(free)))
    assert without.complete(contexts[:1], 1)[0].tolist() != wanted


@pytest.mark.parametrize("verifier", [ThinkPrm(max_new_tokens=6), Mav()])
def test_verifiers_conform_on_an_engine(verifier, judge, monkeypatch):
    monkeypatch.setattr(tokenization, "MOST_UNKNOWN", 1.0)  # this tokenizer knows none of their words
    assert check_pruner(verifier.bind("checkpoint", judge)) is None
