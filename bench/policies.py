"""Policies: scores become the set of paths that go on. They know nothing of methods or answers' correctness."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from bench.errors import UserError

FinishedRule = Literal["rank", "keep", "drop"]
"""What becomes of paths that end before the checkpoint, always within the same k: ``rank`` them with the others,
``keep`` them before all others (they cost nothing more), or ``drop`` them unless unfinished ones are too few."""


@dataclass(frozen=True)
class CheckRecord:
    """What a policy sees of N paths at one checkpoint.

    ``scores`` float64 (N,), higher = keep; ``finished`` bool (N,): ended at or before ``position``; ``answer_class``
    int64 (N,): class of the answer stated so far, -1 none.
    """

    position: int
    scores: NDArray[np.float64]
    finished: NDArray[np.bool_]
    answer_class: NDArray[np.int64]


@dataclass(frozen=True)
class Decision:
    """``keep`` bool (N,): which paths go on; ``launch_more``: how many new ones to start; ``stop_all``: enough."""

    keep: NDArray[np.bool_]
    launch_more: int = 0
    stop_all: bool = False


class Policy(ABC):
    """Says when to check, and what to do after each check."""

    finished: FinishedRule

    @abstractmethod
    def checkpoints(self, position: int) -> tuple[int, ...]:
        """The checkpoints, ascending, in tokens, when the experiment's checkpoint is at ``position``."""

    @abstractmethod
    def decide(self, history: Sequence[CheckRecord]) -> Decision:
        """What to do after the last record of ``history`` (all checks of one problem so far, oldest first).

        Raises ValueError for scores that are not finite, UserError when the policy does not fit the number of paths.
        """


def keep_best(record: CheckRecord, k: int, finished: FinishedRule = "rank") -> NDArray[np.bool_]:
    """bool (N,) with exactly k paths kept: by the finished rule, then the score, then the path index.

    Raises ValueError naming the first row whose score is not finite, or when the columns differ in length.
    """
    scores = np.asarray(record.scores, dtype=np.float64)
    if scores.ndim != 1 or scores.shape != record.finished.shape:
        raise ValueError(f"scores {scores.shape} do not fit {record.finished.shape} paths")
    finite = np.isfinite(scores)
    if not finite.all():
        row = int(np.argmin(finite))
        raise ValueError(f"the score of row {row} is {scores[row]}; scores must be finite")
    if finished == "rank":
        last = np.zeros(len(scores), dtype=np.bool_)
    else:
        last = record.finished if finished == "drop" else ~record.finished
    order = np.lexsort((np.arange(len(scores)), -scores, last))
    keep = np.zeros(len(scores), dtype=np.bool_)
    keep[order[:k]] = True
    return keep


def tied(scores: NDArray[np.float64], keep: NDArray[np.bool_]) -> bool:
    """Whether the cut fell into a tie: a dropped path scores exactly as the last kept one, so the index decided."""
    if keep.all() or not keep.any():
        return False
    return bool(scores[keep].min() == scores[~keep].max())


@dataclass(frozen=True)
class TopK(Policy):
    """One check; the k best go on. Raises UserError for k < 1, and when there are fewer than k paths."""

    k: int
    finished: FinishedRule = "rank"

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UserError(f"policy {self}: k must be at least 1")
        _check_rule(self.finished)

    def checkpoints(self, position: int) -> tuple[int, ...]:
        return (position,)

    def decide(self, history: Sequence[CheckRecord]) -> Decision:
        record = history[-1]
        if self.k > len(record.scores):
            raise UserError(f"policy {self} keeps {self.k} of {len(record.scores)} paths; choose k <= n")
        return Decision(keep_best(record, self.k, self.finished))

    def __str__(self) -> str:
        return f"topk:{self.k}{_suffix(self.finished)}"


@dataclass(frozen=True)
class Ratio(Policy):
    """One check; the best max(1, round(gamma * N)) go on. Raises UserError unless 0 < gamma <= 1."""

    gamma: float
    finished: FinishedRule = "rank"

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1:
            raise UserError(f"policy {self}: the retention ratio must be above 0 and at most 1")
        _check_rule(self.finished)

    def checkpoints(self, position: int) -> tuple[int, ...]:
        return (position,)

    def decide(self, history: Sequence[CheckRecord]) -> Decision:
        record = history[-1]
        return Decision(keep_best(record, max(1, round(self.gamma * len(record.scores))), self.finished))

    def __str__(self) -> str:
        return f"ratio:{self.gamma}{_suffix(self.finished)}"


def parse_policy(text: str) -> Policy:
    """The policy that ``str()`` of it gives: ``topk:8``, ``ratio:0.125``, with a finished rule ``topk:8:keep``.

    Raises UserError for anything else.
    """
    kind, _, rest = text.strip().partition(":")
    value, _, rule = rest.partition(":")
    finished = _rule(rule, text)
    if kind == "topk":
        try:
            return TopK(int(value), finished)
        except ValueError:
            raise UserError(f"policy '{text}': topk needs a whole number of paths, as in topk:8") from None
    if kind == "ratio":
        try:
            gamma = float(value)
        except ValueError:
            gamma = math.nan
        if math.isnan(gamma):
            raise UserError(f"policy '{text}': ratio needs a number above 0 and at most 1, as in ratio:0.125")
        return Ratio(gamma, finished)
    raise UserError(f"unknown policy '{text}'; write topk:8 (paths to keep) or ratio:0.125 (share to keep)")


def _rule(text: str, policy: str) -> FinishedRule:
    for rule in get_args(FinishedRule):
        if text == rule:
            return rule  # type: ignore[no-any-return]
    if text:
        raise UserError(f"policy '{policy}': the rule for finished paths is one of {', '.join(get_args(FinishedRule))}")
    return "rank"


def _check_rule(finished: str) -> None:
    if finished not in get_args(FinishedRule):
        raise UserError(f"finished = '{finished}': must be one of {', '.join(get_args(FinishedRule))}")


def _suffix(finished: FinishedRule) -> str:
    return "" if finished == "rank" else f":{finished}"
