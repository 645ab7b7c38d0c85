"""Votes: the answers of the kept paths become one answer. Classes are int64, -1 is no answer and never wins."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    """Gives every kept path a weight; the answer class with the largest total wins."""

    @abstractmethod
    def weights(self, evidence: NDArray[np.float64]) -> NDArray[np.float64]:
        """(k,) weights, not negative, from (k,) evidence per kept path. Raises ValueError on evidence out of range."""

    def elect(self, classes: NDArray[np.int64], evidence: NDArray[np.float64] | None = None) -> Outcome:
        """The outcome for (k,) answer classes.

        ``evidence`` (k,) is what the vote reads (see the subclass). Only :class:`Majority` does without it. Raises
        ValueError where it is missing, of another length, not finite, or out of the vote's range.
        """
        if evidence is None:
            if not isinstance(self, Majority):
                raise ValueError(f"{type(self).__name__} needs evidence, one number per kept path")
            evidence = np.ones(len(classes))
        if evidence.shape != classes.shape:
            raise ValueError(f"{type(self).__name__}: evidence {evidence.shape} for {classes.shape} classes")
        if not np.isfinite(evidence).all():
            raise ValueError(f"{type(self).__name__}: evidence of row {np.argmin(np.isfinite(evidence))} is not finite")
        weights = self.weights(evidence)
        answered = classes >= 0
        if not answered.any():
            return Outcome(())
        values, index = np.unique(classes[answered], return_inverse=True)
        totals = np.bincount(index, weights=weights[answered])
        best = totals.max()
        return Outcome(tuple(int(value) for value in values[totals >= best - TIE_TOLERANCE * abs(best)]))


@dataclass(frozen=True)
class Majority(Vote):
    """One path, one vote (self-consistency, arXiv 2203.11171)."""

    def weights(self, evidence: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.ones(len(evidence))


def majorities(
    classes: NDArray[np.int64], keep: NDArray[np.bool_], gold: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """:class:`Majority` over many draws at once: (D,) expected correctness and whether the vote was tied.

    ``classes`` and ``keep`` are (D, N).
    """
    values = np.unique(classes[classes >= 0])
    if not len(values):
        return np.zeros(len(keep)), np.zeros(len(keep), np.bool_)
    votes = np.stack([(keep & (classes == value)).sum(-1) for value in values], -1)
    best = votes.max(-1, keepdims=True)
    winners = (votes == best) & (best > 0)
    number = winners.sum(-1)
    right = winners[:, values == gold].any(-1)
    return np.where(right, 1 / np.maximum(number, 1), 0.0), number > 1


@dataclass(frozen=True)
class ScoreWeighted(Vote):
    """Weight = the path's score, as confidence-weighted majority does (DeepConf, arXiv 2508.15260)."""

    def weights(self, evidence: NDArray[np.float64]) -> NDArray[np.float64]:
        if (evidence < 0).any():
            raise ValueError(
                f"ScoreWeighted: row {int(np.argmax(evidence < 0))} has a negative score; "
                "a vote over the ranks (Borda) takes any score"
            )
        return evidence


@dataclass(frozen=True)
class InverseEntropy(Vote):
    """Weight = 1 / mean token entropy of the path, in nats (arXiv 2511.02309)."""

    floor: float = 1e-10
    """Entropies below it count as it: a deterministic path has no infinite vote."""

    def weights(self, evidence: NDArray[np.float64]) -> NDArray[np.float64]:
        if (evidence < 0).any():
            raise ValueError(f"InverseEntropy: row {int(np.argmax(evidence < 0))} has a negative entropy")
        return 1 / np.maximum(evidence, self.floor)


@dataclass(frozen=True)
class Borda(Vote):
    """Rank r of the N kept paths (0 = the highest score) gives (N - r)^p (Self-Certainty, arXiv 2502.18581).

    Equal scores share the mean weight of the ranks that they take up, so that the order of the paths does not matter.
    A further path that ranks low lifts all above it: with p > 0 it can cost its own class the vote.
    """

    p: float = 0.5

    def weights(self, evidence: NDArray[np.float64]) -> NDArray[np.float64]:
        _, index, counts = np.unique(-evidence, return_inverse=True, return_counts=True)
        by_rank = np.arange(len(evidence), 0, -1, dtype=np.float64) ** self.p
        # The groups of equal scores are contiguous runs of ranks, best first.
        group = np.repeat(np.arange(len(counts)), counts)
        shared = np.bincount(group, weights=by_rank, minlength=len(counts)) / counts
        return shared[index]
