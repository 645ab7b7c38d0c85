"""Methods of one comparison held against each other, pair by pair: which is ahead, which are equal, what is open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.grading import graded
from prunebench.bench.evaluation.ledger import generator_token
from prunebench.bench.evaluation.rebuild import WrittenRun
from prunebench.bench.evaluation.replays import competing
from prunebench.bench.evaluation.statistics import (
    FEWEST_PROBLEMS,
    POINTS,
    Interval,
    equivalence_p,
    holm,
    mean_interval,
    problems_to_equate,
    problems_to_find,
    sign_flip_p,
)
from prunebench.bench.evaluation.tables.main import tables_of
from prunebench.bench.progress import SILENT, Progress
from prunebench.methods.base import Quadrant

MARGIN = 2.0
"""Points of avg@k: two methods that are shown to differ by less are equal."""
LEVEL = 0.05
FREE = (Quadrant.I.value, Quadrant.III.value)

Pair = tuple[str, str]


@dataclass(frozen=True)
class VersusRow:
    """``method`` minus ``other`` on a task, in points: avg@k and the vote, with 95 % intervals over problems.

    ``p``: sign-flip permutation of the avg@k. ``p_holm`` and ``p_equal`` (two one-sided tests within :data:`MARGIN`)
    are adjusted for all pairs that were asked for. ``more``: the further problems that would decide it 80 times in
    100, if the true difference is the one that was seen; NaN where nobody can tell.
    """

    task: str
    method: str
    other: str
    avg: Interval
    maj: Interval
    p: float
    p_holm: float
    p_equal: float
    more: float
    n_problems: int

    @property
    def verdict(self) -> str:
        """What these problems establish."""
        near = self.p_equal < LEVEL
        if self.p_holm < LEVEL:
            ahead = "ahead" if self.avg.mean > 0 else "behind"
            return f"{ahead}, by less than {MARGIN:g} points" if near else ahead
        if near:
            return f"equal within {MARGIN:g} points"
        if self.n_problems < FEWEST_PROBLEMS:
            return f"not established: {FEWEST_PROBLEMS} problems are the fewest"
        if math.isnan(self.more):
            return "no difference on any problem" if self.avg.mean == 0 else "not established"
        return f"not established: about {_rounded(self.more):,} more problems"


def _rounded(count: float) -> int:
    """Two digits: of so rough a number no more are known."""
    digits = max(0, len(str(int(count))) - 2)
    return int(round(count, -digits))


def deciding_pairs(run: WrittenRun) -> list[Pair]:
    """Every pair of representatives, then every other method against the best free one.

    Free are methods with nothing to learn; the best of them is the representative that ranked the validation problems
    best. Only what competes is held against it. Raises UserError where nothing was tuned.
    """
    chosen = [one for one in run.results.representatives if one.method in run.replays.of]
    pairs = list(combinations((one.method for one in chosen), 2))
    free = max((one for one in chosen if one.quadrant in FREE), key=lambda one: one.validation_auroc, default=None)
    if free is not None:
        ours = competing(run.candidates, run.replays)
        against = [(name, free.method) for name in ours if name != free.method]
        pairs += [pair for pair in against if pair not in pairs and pair[::-1] not in pairs]
    if not pairs:
        raise UserError(f"{run.folder}: no methods were chosen on validation problems; name those to compare")
    return pairs


def versus(run: WrittenRun, pairs: Sequence[Pair], progress: Progress = SILENT) -> list[VersusRow]:
    """Every one of the ``pairs``, on every task and on all pooled, which comes last.

    Raises UserError for a method that took no part, and for one that is held against itself.
    """
    names = dict.fromkeys(name for pair in pairs for name in pair)
    for method, other in pairs:
        if method == other:
            raise UserError(f"{method} is held against itself: name other methods")
    for name in names:
        if name not in run.replays.of:
            known = ", ".join(run.replays.of)
            raise UserError(f"method '{name}' has no row in this comparison; it has {known}")
    unit = generator_token(run.records, run.setting.arithmetic)
    tick, methods = progress.stretch("grading methods", len(names)), {}
    for name in names:
        methods[name] = graded(
            run.candidates[name], run.records, run.replays.of[name], run.setting.arithmetic, unit, run.setting.vote
        )
        tick(1)
    rows = []
    for task, problems in tables_of(run.records).items():
        avg = [100 * (methods[method].avg - methods[other].avg)[problems] for method, other in pairs]
        maj = [100 * (methods[method].maj - methods[other].maj)[problems] for method, other in pairs]
        p_values = [sign_flip_p(differences, run.config.seed) for differences in avg]
        equal = holm([equivalence_p(differences, MARGIN) for differences in avg])
        for row, ((method, other), p_holm) in enumerate(zip(pairs, holm(p_values), strict=True)):
            of_avg, of_maj = (mean_interval(values[row], bounds=POINTS) for values in (avg, maj))
            tests = p_values[row], p_holm, equal[row], _more(avg[row], len(pairs))
            rows.append(VersusRow(task, method, other, of_avg, of_maj, *tests, len(problems)))
    return rows


def _more(differences: NDArray[np.float64], tests: int) -> float:
    """Problems beyond these that find the difference seen, or show it to be small, whichever takes fewer."""
    if len(differences) < FEWEST_PROBLEMS:
        return math.nan
    deviation, seen = float(np.std(differences, ddof=1)), abs(float(differences.mean()))
    if deviation == 0:
        return math.nan
    needed = min(problems_to_find(deviation, seen, tests), problems_to_equate(deviation, MARGIN - seen, tests))
    return max(1.0, needed - len(differences))
