"""The methods that ask the generating model something, against answers that are fixed by hand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from prunebench.methods.base import MissingSignalError, Quadrant, Signal
from prunebench.methods.check import check_pruner, cost_of
from prunebench.methods.confidence.deer import Deer
from prunebench.methods.confidence.p_true import PTrue
from prunebench.methods.examples import EXAMPLE_SETTING, example_pool
from prunebench.methods.generator import Phrases, Probe
from prunebench.methods.meter import Cost, Meter
from prunebench.methods.surface.agreement import Agreement

PHRASES = Phrases(answer=(8, 9, 7), question=(10, 13), yes=11, no=12, step_end=4)


@dataclass
class Scripted:
    """What each path answers, by path id: probabilities of its tokens, its class, and (p_yes, p_no).

    Of the tokens at most ``answered`` are the answer itself.
    """

    answers: dict[int, tuple[list[float], int]] = field(default_factory=dict)
    opinions: dict[int, tuple[float, float]] = field(default_factory=dict)
    asked: list[tuple[list[int], tuple[int, ...], int]] = field(default_factory=list)
    replay_seconds: float = 0.0
    answered: int = 99

    def probe(self, pool, suffix_ids, max_new_tokens):
        self.asked.append((pool.paths.tolist(), tuple(suffix_ids), max_new_tokens))
        answers = [self.answers[path] for path in pool.paths.tolist()]
        return Probe(
            tuple(np.arange(len(p)) for p, _ in answers),
            tuple(np.log(np.array(p, np.float64)) for p, _ in answers),
            np.array([answer for _, answer in answers], np.int64),
            np.array([min(self.answered, len(p)) for p, _ in answers], np.int64),
        )

    def next_logprobs(self, pool, suffix_ids, token_ids):
        assert (tuple(suffix_ids), tuple(token_ids)) == (PHRASES.question, (PHRASES.yes, PHRASES.no))
        return np.log(np.array([self.opinions[path] for path in pool.paths.tolist()]))

    def kv(self, pool, rows):
        raise AssertionError("nothing here reads the cache")


def pool_of(generator, finished=(), stated=()):
    """One path per scripted answer or opinion, ids 10, 11, ...; ``finished`` rows have ``stated`` their classes."""
    count = len(generator.answers or generator.opinions)
    done, classes = np.zeros(count, np.bool_), np.full(count, -1)
    done[list(finished)], classes[list(finished)] = True, list(stated)
    pool = example_pool(count, generator=generator)
    return replace(pool, paths=10 + np.arange(count), finished=done, answer_class=classes, phrases=PHRASES)


# --- deer ---


def test_deer_is_the_mean_probability_of_the_answer():
    script = Scripted({10: ([1.0, 0.5, 0.25, 0.25], 0), 11: ([0.9], 1), 12: ([], -1)})
    assert Deer().score(pool_of(script)) == pytest.approx([0.5, 0.9, 0.0])
    geometric = Deer(average="geometric").score(pool_of(script))
    assert geometric == pytest.approx([(0.5 * 0.25 * 0.25) ** (1 / 4), 0.9, 0.0])
    assert script.asked[0] == ([10, 11, 12], PHRASES.answer, 20)


def test_what_closes_an_answer_is_no_part_of_its_probability():
    script = Scripted({10: ([0.5, 0.25, 1.0, 1.0], 0), 11: ([0.9], 1), 12: ([], -1)}, answered=2)
    assert Deer().score(pool_of(script)) == pytest.approx([0.375, 0.9, 0.0])


def test_one_unlikely_token_tells_the_averages_apart():
    script = Scripted({10: ([1.0, 1.0, 1.0, 1e-6], 0), 11: ([0.6, 0.6, 0.6, 0.6], 0)})
    first, second = Deer().score(pool_of(script))
    assert first > second
    first, second = Deer(average="geometric").score(pool_of(script))
    assert first < second


def test_a_probe_costs_suffix_and_answer_and_is_not_asked_twice():
    script = Scripted({10: ([0.5] * 4, 0), 11: ([0.9], 1), 12: ([], -1)})
    meter, method = Meter(), Deer(answer_tokens=7)
    pool = pool_of(script).metered(meter)
    method.score(pool)
    assert meter.cost == Cost(probe_tokens=3 * 3 + 4 + 1)
    assert pool.take([1, 2]).probe(7).answer_class.tolist() == [1, -1]
    assert meter.cost == Cost(probe_tokens=3 * 3 + 4 + 1)
    assert [tokens for _, _, tokens in script.asked] == [7]
    other = pool_of(Scripted({10: ([0.5], 0)}))
    assert cost_of(method, other) == Cost(probe_tokens=3 + 1)  # another pool is asked anew
    assert cost_of(method, pool) == meter.cost
    assert len(script.asked) == 2  # in another check so is the same one


# --- p-true ---


def test_p_true_is_the_share_of_yes():
    script = Scripted(opinions={10: (0.3, 0.1), 11: (0.001, 0.003), 12: (0.2, 0.2), 13: (1e-300, 1.0)})
    assert PTrue().score(pool_of(script)) == pytest.approx([0.75, 0.25, 0.5, 0.0])
    assert cost_of(PTrue(), pool_of(script)) == Cost(probe_tokens=4 * 2)


# --- agreement ---


def test_agreement_counts_the_paths_of_the_same_answer():
    # Probed: 5, 5, none, 6, 5. The finished ones (rows 1 and 4) have stated 6 and 7 and are not asked.
    script = Scripted({10: ([0.5], 5), 11: ([0.5], 5), 12: ([0.5], -1), 13: ([0.5], 6), 14: ([0.5] * 9, 5)})
    meter, method = Meter(), Agreement()
    pool = pool_of(script, finished=(1, 4), stated=(6, 7)).metered(meter)
    assert method.score(pool).tolist() == [1.0, 2.0, 0.0, 2.0, 1.0]
    assert method.answers(pool).tolist() == [5, 6, -1, 6, 7]
    assert meter.cost == Cost(probe_tokens=3 * (3 + 1))
    assert script.asked == [([10, 12, 13], PHRASES.answer, 20)]
    assert pool.answer_class.tolist() == [-1, 6, -1, -1, 7]


def test_the_mode_has_the_highest_score():
    for seed in range(20):
        classes = np.random.default_rng(seed).integers(-1, 4, 15).tolist()
        script = Scripted({10 + row: ([0.5], answer) for row, answer in enumerate(classes)})
        scores = Agreement().score(pool_of(script))
        assert scores.tolist() == [classes.count(answer) if answer >= 0 else 0 for answer in classes]


def test_finished_paths_are_neither_asked_nor_charged():
    script = Scripted({10: ([0.5], 5), 11: ([0.5], 5), 12: ([0.5], 5)})
    pool, method = pool_of(script, finished=(0, 1, 2), stated=(4, -1, 4)), Agreement()
    assert method.score(pool).tolist() == [2.0, 0.0, 2.0]
    assert method.answers(pool).tolist() == [4, -1, 4]
    assert cost_of(method, pool) == Cost()
    assert script.asked == []


def test_answers_alone_ask_too():
    script = Scripted({10: ([0.5], 5), 11: ([0.5], 2)})
    assert Agreement().answers(pool_of(script)).tolist() == [5, 2]


# --- all of them ---


@pytest.mark.parametrize("method", [Deer(), PTrue(), Agreement()], ids=lambda method: method.name)
def test_without_a_generator_or_its_phrases_the_probe_is_missing(method):
    mute, without = example_pool(), replace(example_pool(generator=Scripted()), phrases=None)
    for pool in (mute, without):
        with pytest.raises(MissingSignalError, match=r"'(probe|forced_answers)'"):
            method.score(pool)


@pytest.mark.parametrize("kind", [Deer, PTrue, Agreement])
def test_every_configuration_conforms_on_an_engine(kind, engine):
    for configuration in kind.configurations(EXAMPLE_SETTING):
        assert check_pruner(configuration, engine) is None


def test_quadrants():
    assert Deer.quadrant() is Quadrant.III
    assert PTrue.quadrant() is Quadrant.III
    assert Agreement.quadrant() is Quadrant.I
    assert Deer.requires == PTrue.requires == {Signal.PROBE}
    assert Agreement.requires == {Signal.FORCED_ANSWERS}
