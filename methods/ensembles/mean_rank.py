"""Mean rank: several pruners vote on the order of the paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.base import Pruner, Scores, Signal, Source
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner


@pruner
@dataclass
class MeanRank(Pruner):
    """Mean of the members' ranks within the pool, worst 0, best N - 1, equal scores sharing their mean rank.

    Ranks need no common scale. ``members`` are the names of two methods or more, joined by commas; ``bench`` puts the
    members themselves in by :meth:`join`, and what they cost adds up. A comparison names an ensemble as
    ``mean-rank(stop,deepconf)``.
    """

    name = "mean-rank"
    source = Source.MIXED
    requires = frozenset()
    paper = "Borda count"
    extra_cost = "that of its members"

    members: str = "stop,deepconf"

    @property
    def names(self) -> list[str]:
        """The members' names, in order."""
        return [name.strip() for name in self.members.split(",")]

    @property
    def ready(self) -> bool:
        return hasattr(self, "pruners_")

    def join(self, pruners: Sequence[Pruner]) -> Self:
        """Put in the members, in the order of ``members``. Raises ValueError for fewer than two."""
        if len(pruners) < 2 or len(pruners) != len(self.names):
            raise ValueError(f"'{self.name}' takes two members or more, as in mean-rank(stop,entropy)")
        self.pruners_ = list(pruners)
        return self

    def score(self, pool: Pool) -> Scores:
        mean: Scores = np.array([ranks(member.score(pool.apart())) for member in self._joined()]).mean(axis=0)
        return mean

    def _joined(self) -> list[Pruner]:
        if not self.ready:
            raise ValueError(f"'{self.name}' has no members yet; call join()")
        return self.pruners_


def signals_read(pruner: Pruner) -> frozenset[Signal]:
    """The signals that a pruner declares; for an ensemble those of its members as well."""
    members = pruner.pruners_ if isinstance(pruner, MeanRank) and pruner.ready else []
    return pruner.requires.union(*map(signals_read, members))


def ranks(scores: Scores) -> NDArray[np.float64]:
    """(N,) ranks from 0 (lowest); equal scores get the mean of the ranks that they take up."""
    below = (scores[None, :] < scores[:, None]).sum(1)
    equal = (scores[None, :] == scores[:, None]).sum(1)
    mean: NDArray[np.float64] = below + (equal - 1) / 2
    return mean
