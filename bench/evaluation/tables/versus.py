"""Methods of one comparison held against each other, pair by pair: which is ahead, which are equal, what is open."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.candidates import Candidate
from prunebench.bench.evaluation.grading import graded
from prunebench.bench.evaluation.ledger import generator_token
from prunebench.bench.evaluation.replays import Replays, competing
from prunebench.bench.evaluation.results import MARGIN, PairRow, Representative
from prunebench.bench.evaluation.statistics import (
    FEWEST_PROBLEMS,
    POINTS,
    equivalence_p,
    holm,
    mean_interval,
    problems_to_equate,
    problems_to_find,
    sign_flip_p,
)
from prunebench.bench.evaluation.tables.main import Setting, tables_of
from prunebench.bench.progress import SILENT, Progress
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.methods.base import Quadrant

FREE = (Quadrant.I.value, Quadrant.III.value)

Pair = tuple[str, str]


def pairs_of(representatives: Sequence[Representative]) -> list[Pair]:
    """Every two of the methods that stand for a quadrant."""
    return list(combinations((one.method for one in representatives), 2))


def deciding_pairs(
    representatives: Sequence[Representative], candidates: Mapping[str, Candidate], replays: Replays
) -> list[Pair]:
    """Every pair of representatives, then every other method against the best free one.

    Free are methods with nothing to learn; the best of them is the representative that ranked the validation problems
    best. Only what competes is held against it. Raises UserError where nothing was tuned.
    """
    chosen = [one for one in representatives if one.method in replays.of]
    pairs = pairs_of(chosen)
    free = max((one for one in chosen if one.quadrant in FREE), key=lambda one: one.validation_auroc, default=None)
    if free is not None:
        ours = competing(candidates, replays)
        against = [(name, free.method) for name in ours if name != free.method]
        pairs += [pair for pair in against if pair not in pairs and pair[::-1] not in pairs]
    if not pairs:
        raise UserError("no methods were chosen on validation problems; name those to compare")
    return pairs


def require_others(pairs: Sequence[Pair]) -> None:
    """Raises UserError for a method that is held against itself."""
    for method, other in pairs:
        if method == other:
            raise UserError(f"{method} is held against itself: name other methods")


def versus(
    records: Sequence[ProblemRecord],
    replays: Replays,
    candidates: Mapping[str, Candidate],
    setting: Setting,
    pairs: Sequence[Pair],
    progress: Progress = SILENT,
) -> list[PairRow]:
    """Every one of the ``pairs``, on every task and on all pooled, which comes last.

    Raises UserError for a method that took no part, and for one that is held against itself.
    """
    names = dict.fromkeys(name for pair in pairs for name in pair)
    require_others(pairs)
    for name in names:
        if name not in replays.of:
            known = ", ".join(replays.of)
            raise UserError(f"method '{name}' has no row in this comparison; it has {known}")
    unit = generator_token(records, setting.arithmetic)
    tick, methods = progress.stretch("grading methods", len(names)), {}
    for name in names:
        methods[name] = graded(candidates[name], records, replays.of[name], setting.arithmetic, unit, setting.vote)
        tick(1)
    rows, decides = [], [_by(candidates[method], candidates[other]) for method, other in pairs]
    for task, problems in tables_of(records).items():
        avg = [100 * (methods[method].avg - methods[other].avg)[problems] for method, other in pairs]
        maj = [100 * (methods[method].maj - methods[other].maj)[problems] for method, other in pairs]
        decided = [of_maj if by == "maj" else of_avg for of_avg, of_maj, by in zip(avg, maj, decides, strict=True)]
        p_values = [sign_flip_p(differences, setting.seed) for differences in decided]
        equal = holm([equivalence_p(differences, MARGIN) for differences in decided])
        for row, ((method, other), p_holm) in enumerate(zip(pairs, holm(p_values), strict=True)):
            of_avg, of_maj = (mean_interval(values[row], bounds=POINTS) for values in (avg, maj))
            rows.append(
                PairRow(
                    task=task,
                    method=method,
                    other=other,
                    avg=of_avg,
                    maj=of_maj,
                    p=p_values[row],
                    p_holm=p_holm,
                    p_equal=equal[row],
                    more=_more(decided[row], len(pairs)),
                    n_problems=len(problems),
                    by=decides[row],
                )
            )
    return rows


def _by(method: Candidate, other: Candidate) -> Literal["avg", "maj"]:
    """What decides between two; see :class:`PairRow`."""
    return "maj" if method.policy.over_completed or other.policy.over_completed else "avg"


def _more(differences: NDArray[np.float64], tests: int) -> float:
    """Problems beyond these that find the difference seen, or show it to be small, whichever takes fewer."""
    if len(differences) < FEWEST_PROBLEMS:
        return math.nan
    deviation, seen = float(np.std(differences, ddof=1)), abs(float(differences.mean()))
    if deviation == 0:
        return math.nan
    needed = min(problems_to_find(deviation, seen, tests), problems_to_equate(deviation, seen, MARGIN, tests))
    return max(1.0, needed - len(differences))
