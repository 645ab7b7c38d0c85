"""One problem as an evaluation sees it: prefixes, complete paths, verdicts and labels, row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.rollouts.label_store import Labels
from prunebench.methods.base import Signal
from prunebench.methods.pool import Pool

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Complete:
    """The complete paths of one problem, as a replay needs them.

    ``lengths`` int64 (N,): tokens; ``answer_class`` int64 (N,): classes of the final answers, -1 none; ``at`` gives the
    pool of all N prefixes at any checkpoint.
    """

    lengths: NDArray[np.int64]
    answer_class: NDArray[np.int64]
    at: Callable[[int], Pool]


@dataclass(frozen=True)
class ProblemRecord:
    """One problem of one task with N complete paths; rows are in the order of ``pool``.

    - ``pool``: the prefixes at the checkpoint; OUTCOME, and POTENTIAL where labels exist, are attached.
    - ``lengths`` int64 (N,): tokens of the complete paths. ``correct`` float64 (N,): 1/0 verdicts, ungradable is 0.
    - ``answer_class`` int64 (N,): class of the final answers, -1 none; ``gold_class``: the correct one, -1 if nobody
      has it.
    - ``halves`` float64 (2, N): success rates of two disjoint halves of the label continuations; None without labels.
    - ``leaky`` bool (N,): the prefix already states a final answer; None where there is no text to tell.
    - ``launch_seconds``: measured for the whole pool.
    - ``elsewhere`` gives the pool at another checkpoint, for policies that check more than once.
    - ``ungraded`` bool (N,): the answer could not be graded, so it counts as wrong; None: all were.
    - ``tool_spans`` (N,): begin and end of what tools wrote in each path; None where no path called one.
    - ``found_by`` (N,): the rule that found the final answer, ``none`` or ``unknown``; None where nobody counts them.
    - ``entropy`` float64 (N,): mean token entropy of the complete paths, in nats; None where it was not recorded.
    """

    task: str
    problem: str
    pool: Pool
    lengths: NDArray[np.int64]
    correct: NDArray[np.float64]
    answer_class: NDArray[np.int64]
    gold_class: int
    halves: NDArray[np.float64] | None
    leaky: NDArray[np.bool_] | None
    launch_seconds: float
    elsewhere: Callable[[int], Pool] | None = None
    entropy: Array | None = None
    ungraded: NDArray[np.bool_] | None = None
    tool_spans: tuple[tuple[tuple[int, int], ...], ...] | None = None
    found_by: tuple[str, ...] | None = None

    def tool_tokens(self, begin: NDArray[np.int64], end: NDArray[np.int64]) -> int:
        """Tokens that tools wrote, between ``begin`` and ``end`` (N,) of every path, over all paths."""
        return sum(
            max(0, min(stop, int(last)) - max(start, int(first)))
            for spans, first, last in zip(self.tool_spans or (), begin, end, strict=False)
            for start, stop in spans
        )

    def labelled(self, labels: Labels) -> ProblemRecord:
        """The record with the ``labels`` of its prefixes; as it is where one of them has none."""
        halves, success = labels.lookup(self.task, self.problem, self.pool.token_ids)
        if np.isnan(success).any():
            return self
        return replace(self, halves=halves, pool=self.pool.adding({Signal.POTENTIAL: success}))

    @property
    def complete(self) -> Complete:
        return Complete(self.lengths, self.answer_class, self.at)

    def at(self, position: int) -> Pool:
        """The pool at a checkpoint. Raises ValueError where there is only the experiment's own."""
        if position == self.pool.position:
            return self.pool
        if self.elsewhere is None:
            raise ValueError(f"{self.task}/{self.problem} has no prefixes of {position} tokens")
        return self.elsewhere(position)

    @property
    def potential(self) -> Array | None:
        """(N,) success rates over all label continuations; None without labels."""
        if self.halves is None:
            return None
        return self.pool.potential if self.pool.has(Signal.POTENTIAL) else self.halves.mean(axis=0)

    @property
    def open(self) -> NDArray[np.bool_]:
        """bool (N,): the prefixes that are neither finished nor leaky, hence still have something to decide."""
        return ~self.pool.finished if self.leaky is None else ~(self.pool.finished | self.leaky)

    def first(self, count: int) -> ProblemRecord:
        """The record of the first ``count`` paths."""
        return self if len(self.pool) == count else self.take(range(count))

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> ProblemRecord:
        """The record of some paths only, in the given order."""
        index = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            pool=self.pool.take(index),
            lengths=self.lengths[index],
            correct=self.correct[index],
            answer_class=self.answer_class[index],
            halves=None if self.halves is None else self.halves[:, index],
            leaky=None if self.leaky is None else self.leaky[index],
            elsewhere=lambda position: self.at(position).take(index),
            entropy=None if self.entropy is None else self.entropy[index],
            ungraded=None if self.ungraded is None else self.ungraded[index],
            found_by=None if self.found_by is None else tuple(self.found_by[row] for row in index),
            tool_spans=None if self.tool_spans is None else tuple(self.tool_spans[row] for row in index),
        )
