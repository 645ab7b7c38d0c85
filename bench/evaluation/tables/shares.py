"""What every method gains over the share of confident errors, and where two of them change places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.candidates import Candidate
from prunebench.bench.evaluation.grading import graded
from prunebench.bench.evaluation.ledger import generator_token
from prunebench.bench.evaluation.replays import Replays
from prunebench.bench.evaluation.results import POOLED, ResultRow, Row
from prunebench.bench.evaluation.statistics import UNDEFINED, Interval, resamples
from prunebench.bench.evaluation.tables.main import Setting, main_rows
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.tasks.synthetic_task import SYNTHETIC_TASKS

Array = NDArray[np.float64]
DRAWS = 2000
Shares = Mapping[float, Sequence[int]]
"""The places of the problems of every share, in ascending order of the shares."""


class Crossing(Row):
    """``avg@k`` of a method minus another's, points, as a straight line over the share of confident errors (%).

    ``none`` and ``all`` are the line's ends at 0 and 100 %, ``at`` the share at which it is 0: where the ends' 95 %
    intervals lie on different sides of 0, else undefined. All intervals are percentiles over resampled problems, each
    share on its own.
    """

    method: str
    other: str
    none: Interval
    all: Interval
    at: Interval


def shares_of(records: Sequence[ProblemRecord]) -> dict[float, list[int]]:
    """Raises UserError for problems of which nobody knows it, and where there is one share only."""
    found: dict[float, list[int]] = {}
    for place, record in enumerate(records):
        if record.task not in SYNTHETIC_TASKS:
            raise UserError(f"nobody knows how many errors on {record.task} are confident: compare synthetic tasks")
        found.setdefault(SYNTHETIC_TASKS[record.task].confident, []).append(place)
    if len(found) < 2:
        raise UserError("all problems have one share of confident errors: compare several, as in --config shares")
    return {share: found[share] for share in sorted(found)}


def share_rows(
    records: Sequence[ProblemRecord], replays: Replays, candidates: Mapping[str, Candidate], setting: Setting
) -> dict[float, list[ResultRow]]:
    """By share the row of every method on its problems, all families pooled."""
    rows = {}
    for share, places in shares_of(records).items():
        of = {name: [draws[place] for place in places] for name, draws in replays.of.items()}
        table = main_rows([records[place] for place in places], Replays(of, replays.left_out), candidates, setting)
        tasks = {row.task for row in table.rows}
        rows[share] = [row for row in table.rows if row.task == POOLED or len(tasks) == 1]
    return rows


def crossings(
    records: Sequence[ProblemRecord],
    replays: Replays,
    candidates: Mapping[str, Candidate],
    setting: Setting,
    pairs: Sequence[tuple[str, str]],
) -> list[Crossing]:
    """Every pair's line over the shares."""
    unit, shares = generator_token(records, setting.arithmetic), shares_of(records)
    avg = {
        name: graded(candidates[name], records, replays.of[name], setting.arithmetic, unit, setting.vote).avg
        for name in dict.fromkeys(name for pair in pairs for name in pair)
    }
    return [_crossing(method, other, 100 * (avg[method] - avg[other]), shares, setting.seed) for method, other in pairs]


def _crossing(method: str, other: str, differences: Array, shares: Shares, seed: int) -> Crossing:
    at = 100 * np.array(list(shares))
    means = np.array([differences[places].mean() for places in shares.values()])
    drawn = np.stack(
        [
            differences[places][resamples(seed + number, len(places), DRAWS)].mean(1)
            for number, places in enumerate(shares.values())
        ],
        axis=1,
    )
    weights = np.array([len(places) for places in shares.values()], np.float64)
    seen, everything = (_line(values, at, weights) for values in (means[None], drawn))
    ends = [
        Interval(float(mean), *map(float, np.quantile(draws, [0.025, 0.975])))
        for mean, draws in zip(seen[0], everything.T, strict=True)
    ]
    if _apart(*ends):
        crossed = everything[everything[:, 0] * everything[:, 1] < 0]
        crossing = Interval(float(_zero(seen)[0]), *map(float, np.quantile(_zero(crossed), [0.025, 0.975])))
    else:
        crossing = UNDEFINED
    return Crossing(method=method, other=other, none=ends[0], all=ends[1], at=crossing)


def _line(values: Array, at: Array, weights: Array) -> Array:
    """(draws, 2): where least squares through (draws, shares) values stand at 0 and at 100 %."""
    design = np.stack([np.ones_like(at), at], 1)
    root = np.sqrt(weights)[:, None]
    coefficients = np.linalg.lstsq(root * design, root * values.T, rcond=None)[0]
    return np.stack([coefficients[0], coefficients[0] + 100 * coefficients[1]], 1)


def _apart(one: Interval, other: Interval) -> bool:
    return (one.high < 0 < other.low) or (other.high < 0 < one.low)


def _zero(ends: Array) -> Array:
    """(draws,) in %: where lines between two ends of different sign are 0."""
    zero: Array = 100 * ends[:, 0] / (ends[:, 0] - ends[:, 1])
    return zero
