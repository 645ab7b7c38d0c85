"""Votes: the answers of the kept paths become one answer. Classes are int64, -1 is no answer and never wins."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.entries import Registry

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

#: Sums of the same weights in another order differ by rounding; totals this close (relative) are a tie.
TIE_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Outcome:
    """``winners``: the classes with the largest total weight, ascending; empty when no path has an answer."""

    winners: tuple[int, ...]

    @property
    def tied(self) -> bool:
        """Whether more than one class won."""
        return len(self.winners) > 1

    def correctness(self, gold: int) -> float:
        """Expected correctness when one winner is drawn: 1 / winners if class ``gold`` is among them, else 0."""
        return 1 / len(self.winners) if gold >= 0 and gold in self.winners else 0.0


class Vote(ABC):
    """Gives every kept path a weight; the answer class with the largest total wins.

    ``name`` is what it is called in tables and settings, ``reads`` what it weighs by: nothing, the ``score`` of each
    path, or the mean token ``entropy`` of the complete path.
    """

    name: ClassVar[str]
    reads: ClassVar[Literal["nothing", "score", "entropy"]] = "nothing"

    @abstractmethod
    def weights(self, evidence: Array) -> Array:
        """(k,) weights, not negative, from (k,) evidence per kept path. Raises ValueError on evidence out of range."""

    def elect(self, classes: NDArray[np.int64], evidence: Array | None = None) -> Outcome:
        """The outcome for the (k,) answer classes of the kept paths, with (k,) evidence where the vote reads any.

        Raises ValueError where it is missing, of another length, not finite, or out of the vote's range.
        """
        keep = np.ones((1, len(classes)), np.bool_)
        values, winners = self._winners(classes[None], keep, None if evidence is None else evidence[None])
        return Outcome(tuple(int(value) for value in values[winners[0]]))

    def correctness(
        self, classes: NDArray[np.int64], keep: Flags, gold: int, evidence: Array | None = None
    ) -> tuple[Array, Flags]:
        """(draws,) expected correctness of the winner among class ``gold``, and whether the vote was tied.

        ``classes`` int64, ``keep`` bool and ``evidence`` are (draws, N); otherwise as :meth:`elect`.
        """
        values, winners = self._winners(classes, keep, evidence)
        number = winners.sum(-1)
        right = winners[:, (values == gold) & (values >= 0)].any(-1)
        return np.where(right, 1 / np.maximum(number, 1), 0.0), number > 1

    def _winners(
        self, classes: NDArray[np.int64], keep: Flags, evidence: Array | None
    ) -> tuple[NDArray[np.int64], Flags]:
        """The (classes,) that somebody states, and bool (draws, classes): which of them have the largest total."""
        weights = self._weighed(keep, evidence)
        values = np.unique(classes[classes >= 0])
        stated = keep[..., None] & (classes[..., None] == values)
        totals = np.where(stated, weights[..., None], 0.0).sum(1)
        answered = stated.any(1)
        best = np.where(answered, totals, -np.inf).max(-1, keepdims=True, initial=-np.inf)
        with np.errstate(invalid="ignore"):  # a draw without any answer has no best
            return values, answered & (totals >= best - TIE_TOLERANCE * np.abs(best))

    def _weighed(self, keep: Flags, evidence: Array | None) -> Array:
        """(draws, N): the weight of every kept path, 0 of the others."""
        if self.reads == "nothing":
            return keep.astype(np.float64)
        if evidence is None:
            raise ValueError(f"{type(self).__name__} needs evidence, one number per kept path")
        if evidence.shape != keep.shape:
            raise ValueError(f"{type(self).__name__}: evidence {evidence.shape} for {keep.shape} classes")
        weights = np.zeros(keep.shape)
        for draw, kept in enumerate(keep):
            seen = evidence[draw, kept]
            if not np.isfinite(seen).all():
                raise ValueError(f"{type(self).__name__}: evidence of row {np.argmin(np.isfinite(seen))} is not finite")
            weighed = self.weights(seen)
            weights[draw, kept] = weighed if np.any(weighed) else 1.0  # who says nothing of any path prefers none
        return weights


VOTES: Registry[type[Vote]] = Registry("vote", Vote, ("prunebench.bench.policies.votes",), "prunebench.votes")


def vote(entry: type[Vote]) -> type[Vote]:
    """Class decorator: register a vote under its ``name``. Its hyper-parameters have defaults."""
    return VOTES.register(entry.name)(entry)


@vote
@dataclass(frozen=True)
class Majority(Vote):
    """One path, one vote (self-consistency, arXiv 2203.11171)."""

    name = "majority"

    def weights(self, evidence: Array) -> Array:
        return np.ones(len(evidence))


@vote
@dataclass(frozen=True)
class ScoreWeighted(Vote):
    """Weight = the path's score, as confidence-weighted majority does (DeepConf, arXiv 2508.15260)."""

    name = "score-weighted"
    reads = "score"

    def weights(self, evidence: Array) -> Array:
        if (evidence < 0).any():
            raise ValueError(
                f"ScoreWeighted: row {int(np.argmax(evidence < 0))} has a negative score; "
                "a vote over the ranks (Borda) takes any score"
            )
        return evidence


@vote
@dataclass(frozen=True)
class Borda(Vote):
    """Rank r of the N kept paths (0 = the highest score) gives (N - r)^p (Self-Certainty, arXiv 2502.18581).

    Equal scores share the mean weight of the ranks that they take up, so that the order of the paths does not matter.
    A further path that ranks low lifts all above it: with p > 0 it can cost its own class the vote.
    """

    name = "borda"
    reads = "score"
    p: float = 0.5

    def weights(self, evidence: Array) -> Array:
        _, index, counts = np.unique(-evidence, return_inverse=True, return_counts=True)
        by_rank = np.arange(len(evidence), 0, -1, dtype=np.float64) ** self.p
        # The groups of equal scores are contiguous runs of ranks, best first.
        group = np.repeat(np.arange(len(counts)), counts)
        shared = np.bincount(group, weights=by_rank, minlength=len(counts)) / counts
        return shared[index]


@vote
@dataclass(frozen=True)
class InverseEntropy(Vote):
    """Weight = 1 / mean token entropy of the path, in nats (arXiv 2511.02309)."""

    name = "inverse-entropy"
    reads = "entropy"
    floor: float = 1e-10
    """Entropies below it count as it: a deterministic path has no infinite vote."""

    def weights(self, evidence: Array) -> Array:
        if (evidence < 0).any():
            raise ValueError(f"InverseEntropy: row {int(np.argmax(evidence < 0))} has a negative entropy")
        return 1 / np.maximum(evidence, self.floor)
