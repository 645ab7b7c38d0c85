"""What a policy sees, what it answers, and the two ways to choose paths by their scores: the k best, or a bar."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.errors import UserError
from prunebench.methods.entries import Registry

FinishedRule = Literal["rank", "keep", "drop"]
"""What becomes of paths that end before the checkpoint, always within the same k: ``rank`` them with the others,
``keep`` them before all others (they cost nothing more), or ``drop`` them unless unfinished ones are too few. Under a
bar there is no k: ``keep`` lets them pass whatever they score, ``drop`` never."""


@dataclass(frozen=True)
class CheckRecord:
    """What a policy sees of N paths at one checkpoint.

    ``position`` in tokens (over completed paths: the longest one launched); ``scores`` float64 (N,), higher = keep, NaN
    where a path is not alive; ``finished`` bool (N,): ended at or before ``position``; ``answer_class`` int64 (N,):
    class of the answer stated (or probed) so far, -1 none; ``alive`` bool (N,): the paths that earlier decisions have
    kept (None: all). Over completed paths N counts those launched so far.
    """

    position: int
    scores: NDArray[np.float64]
    finished: NDArray[np.bool_]
    answer_class: NDArray[np.int64]
    alive: NDArray[np.bool_] = field(default=None)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        if self.alive is None:
            object.__setattr__(self, "alive", np.ones(len(self.finished), dtype=np.bool_))

    @cached_property
    def mode(self) -> int:
        """The most frequent answer class of the paths alive, of equal ones the smallest; -1 if none has an answer."""
        answers = self.answer_class[self.alive & (self.answer_class >= 0)]
        return int(np.bincount(answers).argmax()) if len(answers) else -1


@dataclass(frozen=True)
class Decision:
    """``keep`` bool (N,): which of the paths alive are kept; the others are dropped. ``launch_more``: how many new ones
    to start; ``stop_all``: enough, what is kept votes as it is.

    ``settled`` bool (N,): of the kept, those that end here and vote with their present answers (None: none);
    ``silent``: of the kept, those that go on and do not vote.
    """

    keep: NDArray[np.bool_]
    launch_more: int = 0
    stop_all: bool = False
    settled: NDArray[np.bool_] | None = None
    silent: NDArray[np.bool_] | None = None

    @property
    def goes_on(self) -> NDArray[np.bool_]:
        """bool (N,): which paths are decoded further."""
        if self.stop_all:
            return np.zeros_like(self.keep)
        return self.keep if self.settled is None else self.keep & ~self.settled


class Policy(ABC):
    """Says when to check, and what to do after each check. Subclasses are frozen dataclasses of hyper-parameters.

    ``kind`` is its name in text and ``example`` such a text. ``over_completed``: it decides over complete paths, of
    which ``first`` are launched at once. ``reads_answers``: the records must hold the method's own answers (probed),
    not only those that the prefixes state. ``finished`` is a hyper-parameter where there is a choice.
    """

    kind: ClassVar[str]
    example: ClassVar[str]
    over_completed: ClassVar[bool] = False
    reads_answers: ClassVar[bool] = False
    finished: FinishedRule = "rank"

    @property
    def first(self) -> int:
        """How many complete paths to begin with; read only where ``over_completed``."""
        return 0

    @abstractmethod
    def checkpoints(self, position: int) -> tuple[int, ...]:
        """The checkpoints, ascending, in tokens, when the experiment's checkpoint is at ``position``."""

    @abstractmethod
    def decide(self, history: Sequence[CheckRecord]) -> Decision:
        """What to do after the last record of ``history`` (all checks of one problem so far, oldest first).

        Raises ValueError for scores that are not finite, UserError when the policy does not fit the number of paths.
        """

    def scaled(self, paths: int, of: int) -> Policy:
        """The same policy for a pool of so many ``paths`` instead of ``of``. Default: it does not depend on them."""
        return self

    @classmethod
    def main_parameter(cls) -> str | None:
        """The hyper-parameter that is written without its name: the first positional one; None where there is none."""
        return next((option.name for option in fields(cls) if not option.kw_only), None)  # type: ignore[arg-type]

    def __str__(self) -> str:
        """``kind:value,name=value``: the main hyper-parameter, then the others that are not at their default."""
        main = self.main_parameter()
        options = [option for option in fields(self) if option.name not in (main, "finished")]  # type: ignore[arg-type]
        written = [
            f",{option.name}={getattr(self, option.name)}"
            for option in sorted(options, key=lambda option: bool(option.kw_only))
            if option.default is MISSING or getattr(self, option.name) != option.default
        ]
        value = "" if main is None else f":{getattr(self, main)}"
        return f"{self.kind}{value}{''.join(written)}{self.finished_suffix}"

    @property
    def finished_suffix(self) -> str:
        """The end of its text: nothing for the rule ``rank``, else ``:keep`` or ``:drop``."""
        return "" if self.finished == "rank" else f":{self.finished}"


POLICIES: Registry[type[Policy]] = Registry("policy", Policy, ("prunebench.bench.policies",), "prunebench.policies")
"""By their ``kind``, which is what they are called in text."""


def policy(entry: type[Policy]) -> type[Policy]:
    """Class decorator: register a policy under its ``kind``."""
    return POLICIES.register(entry.kind)(entry)


def require(policy: Policy, right: bool, what: str) -> None:
    """Raises UserError with ``what`` unless ``right``, and for a finished rule that does not exist."""
    if policy.finished not in get_args(FinishedRule):
        raise UserError(
            f"policy {policy}: the rule for finished paths is one of {', '.join(get_args(FinishedRule))}, "
            f"as in {policy.example}:keep"
        )
    if not right:
        raise UserError(f"policy {policy}: {what}, as in {policy.example}")


def highest(scores: NDArray[np.float64], k: int) -> NDArray[np.bool_]:
    """bool (..., N): the ``k`` highest of the last axis; of equal scores the first."""
    order = np.argsort(-scores, axis=-1, kind="stable")
    keep = np.zeros(scores.shape, np.bool_)
    if scores.ndim == 1:
        keep[order[:k]] = True
    else:
        np.put_along_axis(keep, order[..., :k], True, axis=-1)
    return keep


def keep_best(record: CheckRecord, k: int, finished: FinishedRule = "rank") -> NDArray[np.bool_]:
    """bool (N,) with min(k, alive) paths kept: by the finished rule, then the score, then the path index.

    Raises ValueError as :func:`finite_scores` does.
    """
    scores = finite_scores(record)
    alive = int(record.alive.sum())
    if finished == "rank" and alive == len(scores):
        return highest(scores, k)
    last = np.zeros_like(record.finished) if finished == "rank" else record.finished ^ (finished == "keep")
    order = np.lexsort((np.arange(len(scores)), -scores, last, ~record.alive))
    keep = np.zeros(len(scores), dtype=np.bool_)
    keep[order[: min(k, alive)]] = True
    return keep


def reach(record: CheckRecord, bar: float, finished: FinishedRule = "rank") -> NDArray[np.bool_]:
    """bool (N,): the paths alive that score at least ``bar``, with the finished rule for those that have ended.

    Raises ValueError as :func:`finite_scores` does.
    """
    above = finite_scores(record) >= bar
    if finished == "keep":
        above |= record.finished
    elif finished == "drop":
        above &= ~record.finished
    return above & record.alive


def finite_scores(record: CheckRecord) -> NDArray[np.float64]:
    """float64 (N,): the scores, 0 where a path is not alive.

    Raises ValueError naming the first path alive whose score is not finite, or when the columns differ in length.
    """
    scores = np.asarray(record.scores, dtype=np.float64)
    if scores.ndim != 1 or not scores.shape == record.finished.shape == record.alive.shape:
        raise ValueError(f"scores {scores.shape} do not fit {record.finished.shape} paths")
    wrong = record.alive & ~np.isfinite(scores)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"the score of row {row} is {scores[row]}; scores must be finite")
    return np.where(record.alive, scores, 0.0)


def tied(scores: NDArray[np.float64], keep: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """bool (...): whether the cut of (..., N) fell into a tie: a dropped path scores exactly as the last kept one, so
    that the index decided."""
    last = np.where(keep, scores, np.inf).min(-1, initial=np.inf)
    first = np.where(keep, -np.inf, scores).max(-1, initial=-np.inf)
    tie: NDArray[np.bool_] = (last == first) & keep.any(-1) & ~keep.all(-1)
    return tie
