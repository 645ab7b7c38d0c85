"""Generative verifiers, asked through a hand-written model that says fixed words with fixed probabilities."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from prunebench.methods.base import JudgeMissingError, MissingSignalError, Quadrant, Setting, Signal
from prunebench.methods.check import check_pruner, cost_of
from prunebench.methods.examples import example_pool
from prunebench.methods.judges.mav import Mav
from prunebench.methods.judges.thinkprm import ThinkPrm
from prunebench.methods.judges.verifier import ASPECTS, PROMPTS
from prunebench.methods.meter import Cost

STOP = "<stop>"


class Spoken:
    """Texts are words parted by spaces. ``critiques``: by a phrase of the context; ``odds``: P(yes), P(no) likewise."""

    parameters = 1000
    weight_bytes = 4000

    def __init__(self, odds: Mapping[str, tuple[float, float]], critiques: Mapping[str, str] | None = None) -> None:
        self.odds, self.critiques = odds, critiques or {}
        self.words: list[str] = []
        self.completed: list[str] = []
        self.asked: list[str] = []

    def encode(self, text):
        return np.array([self._id(word) for word in text.split(" ") if word], np.int64)

    def decode(self, token_ids):
        return " ".join(word for word in self._words(token_ids) if word != STOP)

    def complete(self, contexts, max_new_tokens, temperature=0.0, seed=0):
        assert temperature == 0.0
        texts = [self.decode(ids) for ids in contexts]
        self.completed += texts
        critiques = [self._of(self.critiques, text) for text in texts]
        return [self.encode(f"{critique} {STOP}")[:max_new_tokens] for critique in critiques]

    def next_logprobs(self, contexts, token_ids):
        texts = [self.decode(ids) for ids in contexts]
        self.asked += texts
        assert self._words(token_ids) in (["yes", "no"], ["Yes", "No"])
        return np.log([self._of(self.odds, text) for text in texts])

    def _of(self, table, text):
        """The longest phrase that the text holds decides."""
        return table[max((phrase for phrase in table if phrase in text), key=len)]

    def _id(self, word):
        if word not in self.words:
            self.words.append(word)
        return self.words.index(word)

    def _words(self, token_ids):
        return [self.words[int(token)] for token in token_ids]


class Hashed:
    """Answers that hang on every token of the context, for the conformance suite."""

    parameters = 7
    weight_bytes = 28

    def encode(self, text):
        return np.array([sum(map(ord, word)) % 97 for word in text.split(" ") if word], np.int64)

    def decode(self, token_ids):
        return " ".join(f"w{token}" for token in token_ids)

    def complete(self, contexts, max_new_tokens, temperature=0.0, seed=0):
        return [np.arange(1 + int(ids.sum()) % min(9, max_new_tokens)) for ids in contexts]

    def next_logprobs(self, contexts, token_ids):
        mixed = [float((ids * np.arange(1, 1 + len(ids))).sum() % 101) for ids in contexts]
        return np.array([[-0.1 - value / 101 * (1 + token % 3) for token in token_ids] for value in mixed])


def pool_of(*texts):
    pool = example_pool(len(texts))
    return replace(pool, prompt="t4 t5", signals={Signal.TEXT: texts}, paths=np.arange(len(texts)))


@pytest.mark.parametrize("language", ["words", "english"])
@pytest.mark.parametrize("kind", [ThinkPrm, Mav])
def test_it_conforms(kind, language):
    assert check_pruner(kind(language=language).bind("anywhere", Hashed())) is None


@pytest.mark.parametrize("kind", [ThinkPrm, Mav])
def test_it_is_a_learnable_judge_outside_the_model(kind):
    assert kind.quadrant() is Quadrant.II
    assert kind.generative and kind.role == "verifier"
    with pytest.raises(JudgeMissingError, match=f"'{kind.name}' has no judge; name one"):
        kind().score(pool_of("a"))
    with pytest.raises(MissingSignalError):
        kind().bind("anywhere", Hashed()).score(replace(example_pool(), signals={}))


@pytest.mark.parametrize("kind", [ThinkPrm, Mav])
@pytest.mark.parametrize(("vocabulary", "language"), [(515, "words"), (151_936, "english")])
def test_configurations_speak_as_the_verifier_does(kind, vocabulary, language):
    proposed = kind.configurations(Setting(40, vocabulary, 128, 5))
    assert {configuration.language for configuration in proposed} == {language}
    assert all(
        json.loads(json.dumps(configuration.hyperparameters())) == configuration.hyperparameters()
        for configuration in proposed
    )


def test_thinkprm_reads_the_verdict_behind_the_critique():
    """P(yes) = 0.6 and P(no) = 0.2 give 3/4; 0.1 and 0.4 give 1/5."""
    critiques = {"t4 t5 good check:": "a = 3 yes check: no", "t4 t5 bad check:": "a = 3 no check: no"}
    verifier = Spoken({"a = 3 yes check:": (0.6, 0.2), "a = 3 no check:": (0.1, 0.4)}, critiques)
    scores = ThinkPrm().bind("anywhere", verifier).score(pool_of("good", "bad", "good"))
    np.testing.assert_allclose(scores, [0.75, 0.2, 0.75], rtol=1e-12)
    assert verifier.asked == [
        "<bos> t4 t5 bad check: a = 3 no check:",
        "<bos> t4 t5 good check: a = 3 yes check:",
    ]


def test_thinkprm_judges_equal_prefixes_once():
    verifier = Spoken({"": (0.5, 0.5)}, {"": "yes"})
    ThinkPrm().bind("anywhere", verifier).score(pool_of("b", "a", "b", "a", "b"))
    assert verifier.completed == ["<bos> t4 t5 a check:", "<bos> t4 t5 b check:"]
    assert len(verifier.asked) == 2


def test_thinkprm_asks_where_a_critique_runs_out_of_tokens():
    verifier = Spoken({"x y check:": (0.9, 0.1), "": (0.5, 0.5)}, {"": "x y z"})
    judge = ThinkPrm(max_new_tokens=2).bind("anywhere", verifier)
    np.testing.assert_allclose(judge.score(pool_of("a")), [0.9], rtol=1e-12)


def test_thinkprm_without_tokens_asks_at_once():
    verifier = Spoken({"a check: check:": (0.3, 0.1)})
    judge = ThinkPrm(max_new_tokens=0).bind("anywhere", verifier)
    np.testing.assert_allclose(judge.score(pool_of("a")), [0.75], rtol=1e-12)
    assert verifier.completed == []
    assert cost_of(judge, pool_of("a")) == Cost(
        reencoded_tokens=5, probe_tokens=1, flops=2.0 * 1000 * 6, model_bytes=4000
    )


def test_thinkprm_charges_contexts_critiques_and_the_question():
    """Contexts of 5 and 6 tokens; critiques of 2 + stop and 1 + stop; one token each for the question."""
    critiques = {"t4 t5 a check:": "x y", "t4 t5 b c check:": "z"}
    pool = pool_of("a", "b c", "a")
    fresh = ThinkPrm().bind("anywhere", Spoken({"": (0.5, 0.5)}, critiques))
    assert cost_of(fresh, pool) == Cost(reencoded_tokens=11, probe_tokens=7, flops=2.0 * 1000 * 18, model_bytes=4000)
    fresh.score(pool_of("a"))
    assert cost_of(fresh, pool) == Cost(reencoded_tokens=11, probe_tokens=7, flops=2.0 * 1000 * 18, model_bytes=4000)


def test_the_cost_is_known_without_writing_anything_again():
    verifier = Spoken({"": (0.5, 0.5)}, {"": "x"})
    judge = ThinkPrm().bind("anywhere", verifier)
    assert cost_of(judge, pool_of("a", "b")).probe_tokens == 2 * 3
    assert len(verifier.completed) == 2


def test_mav_is_the_share_of_aspects_that_approve():
    """For ``a``: yes, yes (a tie counts as yes), no; for ``b``: no, yes, no."""
    odds = {
        "a check: find": (0.5, 0.1),
        "a check: do": (0.2, 0.2),
        "a check: check:": (0.1, 0.11),
        "b check: find": (0.0001, 0.9),
        "b check: do": (0.3, 0.2),
        "b check: check:": (0.2, 0.3),
    }
    verifier = Spoken(odds)
    scores = Mav().bind("anywhere", verifier).score(pool_of("b", "a", "b"))
    np.testing.assert_allclose(scores, [1 / 3, 2 / 3, 1 / 3], rtol=1e-12)
    assert len(verifier.asked) == 6
    only = Mav(aspects=["computing"]).bind("anywhere", Spoken(odds))
    np.testing.assert_array_equal(only.score(pool_of("b", "a", "b")), [1.0, 1.0, 1.0])


def test_mav_charges_every_aspect_of_every_distinct_prefix():
    """Six tokens per question about ``a``, three questions."""
    judge = Mav().bind("anywhere", Spoken({"": (0.5, 0.5)}))
    assert cost_of(judge, pool_of("a", "a")) == Cost(reencoded_tokens=18, flops=2.0 * 1000 * 18, model_bytes=4000)


def test_aspects_that_nobody_knows_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="unknown aspect 'logic'; known: reading, computing, whole"):
        Mav(aspects=["logic"]).bind("anywhere", Hashed()).score(pool_of("a"))
    with pytest.raises(ValueError, match="no aspects; name at least one"):
        Mav(aspects=[]).bind("anywhere", Hashed()).score(pool_of("a"))


def test_a_tokenizer_that_cannot_tell_yes_from_no_is_refused():
    class Split(Hashed):
        def encode(self, text):
            return np.array([0, *super().encode(text)])

    with pytest.raises(ValueError, match="begins 'yes' and 'no' with the same token"):
        Mav().bind("anywhere", Split()).score(pool_of("a"))


@pytest.mark.parametrize("language", PROMPTS)
def test_every_prompt_holds_problem_and_prefix_and_every_aspect_is_asked_differently(language):
    prompts = PROMPTS[language]
    assert tuple(prompts.aspects) == ASPECTS
    texts = [prompts.critique, *prompts.aspects.values()]
    assert all(text.count("{problem}") == text.count("{prefix}") == 1 for text in texts)
    assert len(set(texts)) == 4


def test_a_very_sure_verifier_gives_finite_scores():
    class Sure(Hashed):
        def next_logprobs(self, contexts, token_ids):
            return np.array([[-2000.0, 0.0], [0.0, -2000.0]])[: len(contexts)]

    judge = ThinkPrm(max_new_tokens=0).bind("anywhere", Sure())
    np.testing.assert_array_equal(judge.score(pool_of("a", "b")), [0.0, 1.0])
