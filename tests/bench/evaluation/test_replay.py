from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from prunebench.bench.evaluation.replay import Complete, replay
from prunebench.bench.policies import Decision, Policy, TopK, keep_best
from prunebench.methods.base import Pruner, Signal, Source
from prunebench.methods.confidence.perplexity import Perplexity
from prunebench.methods.meter import Cost
from prunebench.methods.pool import Pool

LENGTHS = np.array([5, 20, 30, 40])
ANSWERS = np.array([0, 1, 1, 2])


@dataclass
class LastToken(Pruner):
    """The last token of a prefix is its score; a check costs 3 tokens per path; half of it is its answer."""

    name = "last-token"
    source = Source.EXTERNAL
    requires = frozenset({Signal.TOKEN_IDS})
    paper = "test"

    def score(self, pool):
        pool.charge(check_tokens=3)
        return self._last(pool)

    def answers(self, pool):
        return self._last(pool).astype(int) // 2

    def _last(self, pool):
        return np.array([float(ids[-1]) for ids in pool.token_ids])


@dataclass(frozen=True)
class Halving(Policy):
    """Keep the better half at every checkpoint."""

    positions: tuple[int, ...]
    finished: str = "rank"
    reads_answers = False

    def checkpoints(self, position):
        return self.positions

    def decide(self, history):
        return Decision(keep_best(history[-1], max(1, int(history[-1].alive.sum()) // 2)))


@dataclass(frozen=True)
class StopAt(Halving):
    reads_answers = True

    def decide(self, history):
        return Decision(history[-1].alive, stop_all=history[-1].position == 20)


@dataclass(frozen=True)
class TwoThenOne(Policy):
    """Start with two complete paths, then one by one until an answer is seen twice."""

    finished: str = "rank"
    over_completed = True
    first = 2

    def checkpoints(self, position):
        return ()

    def decide(self, history):
        answers = history[-1].answer_class.tolist()
        done = any(answers.count(answer) > 1 for answer in answers)
        return Decision(np.ones(len(answers), bool), launch_more=0 if done else 1, stop_all=done)


def complete(tokens: dict[int, list[int]]) -> Complete:
    """``tokens`` gives the last token of every path's prefix at each checkpoint."""

    def at(position):
        lengths = np.minimum(LENGTHS, position)
        return Pool(
            "p", "t", position, "", np.array([0]), np.arange(4), lengths, position >= LENGTHS, np.full(4, -1),
            {Signal.TOKEN_IDS: tuple(np.array([token]) for token in tokens[position])},
        )  # fmt: skip

    return Complete(LENGTHS, ANSWERS, at)


def test_one_check_decodes_every_prefix_and_the_rest_of_the_kept_paths():
    played = replay(LastToken(), TopK(2), complete({10: [1, 9, 5, 7]}), 10)
    assert played.keep.tolist() == [False, True, False, True]
    assert played.decoded.tolist() == [5, 20, 10, 40]
    assert played.cost == Cost(check_tokens=12)
    assert played.scores.tolist() == [1, 9, 5, 7]


def test_each_check_sees_and_charges_only_the_paths_that_are_left():
    played = replay(LastToken(), Halving((10, 20)), complete({10: [1, 9, 5, 7], 20: [99, 3, 99, 4]}), 10)
    assert played.keep.tolist() == [False, False, False, True]
    assert played.decoded.tolist() == [5, 20, 10, 40], "path 1 goes on from 10 to 20, where it ends"
    assert played.cost == Cost(check_tokens=3 * 4 + 3 * 2)


def test_paths_that_have_ended_are_checked_like_the_others():
    tokens = {10: [9, 8, 5, 7], 20: [9, 1, 9, 9], 30: [9, 9, 9, 9]}
    played = replay(LastToken(), Halving((10, 20, 30)), complete(tokens), 10)
    assert played.keep.tolist() == [True, False, False, False]
    assert played.decoded.tolist() == [5, 20, 10, 10]
    assert played.cost == Cost(check_tokens=3 * 4 + 3 * 2 + 3 * 1)


def test_paths_that_are_stopped_vote_with_their_answer_of_then():
    played = replay(LastToken(), StopAt((10, 20, 30)), complete({10: [9, 8, 5, 7], 20: [9, 6, 8, 4]}), 10)
    assert played.stopped
    assert played.decoded.tolist() == [5, 20, 20, 20]
    assert played.answer_class.tolist() == [0, 1, 4, 2], "the first two had ended with 0 and 1"


@dataclass(frozen=True)
class Separately(Halving):
    """At 20 the second and third path end; at 30 the fourth goes on without a vote."""

    reads_answers = True

    def decide(self, history):
        at = history[-1].position
        rows = np.arange(4)
        return Decision(
            history[-1].alive,
            settled=np.isin(rows, (1, 2)) if at == 20 else None,
            silent=rows == 3 if at == 30 else None,
        )


def test_a_path_may_end_alone_or_go_on_without_a_vote():
    tokens = {10: [9, 8, 5, 7], 20: [9, 6, 8, 4], 30: [1, 9, 9, 9]}
    played = replay(LastToken(), Separately((10, 20, 30)), complete(tokens), 10)
    assert played.stopped
    assert played.keep.tolist() == [True, True, True, False]
    assert played.decoded.tolist() == [5, 20, 20, 40]
    assert played.answer_class.tolist()[:3] == [0, 1, 4], "path 2 had not ended"
    assert played.cost == Cost(check_tokens=3 * 4 + 3 * 4 + 3 * 2), "who has settled is not checked again"


def test_paths_are_launched_one_after_another_until_the_policy_has_enough():
    played = replay(LastToken(), TwoThenOne(), complete({}), 10)
    assert played.keep.tolist() == [True, True, True, False]
    assert played.decoded.tolist() == [5, 20, 30, 0]
    assert played.cost == Cost()


def test_a_score_that_is_not_finite_names_the_path():
    with pytest.raises(ValueError, match="score of path 2 is nan"):
        replay(LastToken(), TopK(2), complete({10: [1, 2, float("nan"), 3]}), 10)


@pytest.mark.filterwarnings("error")
def test_a_path_without_a_token_is_not_shown_and_stands_behind_all_others():
    tokens = (np.array([4.0]), np.zeros(0), np.array([-3.0]))

    def at(position):
        lengths = np.array([1, 0, 1])
        return Pool("p", "t", position, "", np.array([0]), np.arange(3), lengths, lengths < 2, np.full(3, -1),
                    {Signal.LOGPROBS: tokens})  # fmt: skip

    played = replay(Perplexity(), TopK(2), Complete(np.array([1, 0, 1]), ANSWERS[:3], at), 10)
    assert played.scores.tolist() == [4.0, -4.0, -3.0] and played.keep.tolist() == [True, False, True]
