"""The frontier: what the vote of every method is worth at every number of kept paths, against what all of it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.evaluation import metrics
from prunebench.bench.evaluation.candidates import Candidate
from prunebench.bench.evaluation.grading import correct_of, elected, kept_by
from prunebench.bench.evaluation.ledger import entries, generator_token, in_generator_tokens, path_costs, whole_cost
from prunebench.bench.evaluation.replay import Replay
from prunebench.bench.evaluation.replays import Replays
from prunebench.bench.evaluation.results import FrontierRow
from prunebench.bench.evaluation.statistics import POINTS, UNDEFINED, Interval, mean_interval
from prunebench.bench.evaluation.subsampling import subsample_order
from prunebench.bench.evaluation.tables.main import Setting, primary_task
from prunebench.bench.policies import TopK
from prunebench.bench.policies.votes import Majority
from prunebench.bench.rollouts.records import ProblemRecord

Array = NDArray[np.float64]

DRAWS = 200
"""Pools behind a point of ``none``; the larger size's hold those of the smaller."""


@dataclass(frozen=True)
class _Point:
    """A method at one number of kept paths: (problems,) means over its draws, accuracies from 0 to 1."""

    k: float
    tokens: Array
    cost: Array
    avg: Array
    maj: Array


def frontier_rows(
    records: Sequence[ProblemRecord], replays: Replays, candidates: Mapping[str, Candidate], setting: Setting
) -> list[FrontierRow]:
    """Every method at every number of kept paths, ``none`` with so many whole paths; for the primary family.

    A method that checks once keeps the best k by the scores that it gave; what scoring cost is charged at every k. One
    with a policy of its own has the one point where it ended. At the comparison's k costs and accuracies are those of
    the main table. A control that draws has no curve: its vote is that of as many whole paths. Empty where ``none`` did
    not take part: all are held against it.
    """
    if "none" not in replays.of:
        return []
    everything = min(len(record.pool) for record in records)
    sizes = sorted({everything, *_halvings(everything), *_kept_by_policy(setting, everything)}, reverse=True)
    costs = [_Costs.of(record, setting) for record in records]
    unit = generator_token(records, setting.arithmetic)
    whole = _whole(records, sizes, setting, unit)
    rows = []
    for name in replays.of:
        candidate = candidates[name]
        if name == "none":
            points = whole
        elif candidate.is_control and candidate.pruner.draws > 1:
            continue
        elif candidate.policy.checkpoints(setting.prefix_tokens) == (setting.prefix_tokens,):
            points = _curve(records, costs, replays.of[name], candidate, sizes, setting, unit)
        else:
            points = [_point(records, replays.of[name], setting, unit)]
        rows += [_row(primary_task(records), candidate, point, whole) for point in points]
    return rows


def _halvings(count: int) -> list[int]:
    return [count >> step for step in range(count.bit_length())]


def _kept_by_policy(setting: Setting, most: int) -> list[int]:
    """The k of the comparison, so that its tables are points of the curves."""
    return [min(setting.policy.k, most)] if isinstance(setting.policy, TopK) else []


@dataclass(frozen=True)
class _Costs:
    """(N,) tokens and arithmetic (tokens without a model) from the checkpoint to the end of every path of a problem."""

    tokens: Array
    flops: Array

    @classmethod
    def of(cls, record: ProblemRecord, setting: Setting) -> _Costs:
        launched = np.minimum(record.lengths, setting.prefix_tokens)
        flops = path_costs(record, launched, record.lengths, setting.arithmetic)
        return cls((record.lengths - launched).astype(np.float64), flops)


def _curve(
    records: Sequence[ProblemRecord],
    resumed: Sequence[_Costs],
    replays: Sequence[Sequence[Replay]],
    candidate: Candidate,
    sizes: Sequence[int],
    setting: Setting,
    unit: float,
) -> list[_Point]:
    """One check, and the best of every size kept: Launch and Check cost the same at each."""
    policies = [TopK(size, candidate.policy.finished) for size in sizes]
    measured = []
    for record, rest, draws in zip(records, resumed, replays, strict=True):
        launch, check, _ = entries(record, "", draws, setting.arithmetic)
        kept = [replace(draw, keep=kept_by(record, draw.scores, policy)) for policy in policies for draw in draws]
        keep = np.stack([draw.keep for draw in kept])
        by_draw = (
            launch.tokens + check.tokens + keep @ rest.tokens,
            in_generator_tokens([launch, check], draws, unit) + keep @ rest.flops / (1 if math.isnan(unit) else unit),
            metrics.avg_at_k(record.correct, keep),
            elected(setting.vote, record, kept)[0],
        )
        measured.append([values.reshape(len(sizes), -1).mean(axis=1) for values in by_draw])
    by_size = np.array(measured).transpose(2, 1, 0)
    return [_Point(size, *columns) for size, columns in zip(sizes, by_size, strict=True)]


def _point(
    records: Sequence[ProblemRecord], replays: Sequence[Sequence[Replay]], setting: Setting, unit: float
) -> _Point:
    """What a method with a policy of its own did."""
    tokens, cost, avg, maj = [], [], [], []
    for record, draws in zip(records, replays, strict=True):
        phases = entries(record, "", draws, setting.arithmetic)
        tokens.append(sum(phase.tokens for phase in phases))
        cost.append(in_generator_tokens(phases, draws, unit))
        avg.append(np.mean([metrics.avg_at_k(correct_of(record, draw), draw.keep) for draw in draws]))
        maj.append(np.mean(elected(setting.vote, record, draws)[0]))
    kept = float(np.mean([draw.keep.sum() for draws in replays for draw in draws]))
    return _Point(kept, *(np.array(values) for values in (tokens, cost, avg, maj)))


def _whole(records: Sequence[ProblemRecord], sizes: Sequence[int], setting: Setting, unit: float) -> list[_Point]:
    """So many paths to their ends, a point per size."""
    maj = np.array([_votes_of_whole(record, sizes, setting) for record in records])
    tokens = np.array([record.lengths.sum() for record in records], np.float64)
    flops = np.array([whole_cost(record, setting.arithmetic) for record in records])
    cost = tokens if math.isnan(unit) else flops / unit
    avg = np.array([record.correct.mean() for record in records])
    paths = np.array([len(record.pool) for record in records])
    return [
        _Point(size, size / paths * tokens, size / paths * cost, avg, maj[:, column])
        for column, size in enumerate(sizes)
    ]


def _votes_of_whole(record: ProblemRecord, sizes: Sequence[int], setting: Setting) -> list[float]:
    """Expected correctness of the vote of so many paths; without scores a vote that reads them is the majority."""
    vote = Majority() if setting.vote.reads == "score" else setting.vote
    if vote.reads != "nothing" and record.entropy is None:
        return [math.nan] * len(sizes)
    count = len(record.pool)
    place = np.stack(
        [np.argsort(subsample_order(record.task, record.problem, count, draw, setting.seed)) for draw in range(DRAWS)]
    )
    classes = np.broadcast_to(record.answer_class, place.shape)
    evidence = None if vote.reads == "nothing" else np.broadcast_to(record.entropy, place.shape)  # type: ignore[arg-type]
    return [float(vote.correctness(classes, place < size, record.gold_class, evidence)[0].mean()) for size in sizes]


def _row(task: str, candidate: Candidate, point: _Point, whole: Sequence[_Point]) -> FrontierRow:
    return FrontierRow(
        task=task,
        method=candidate.name,
        quadrant=candidate.pruner.quadrant().value,
        k=point.k,
        tokens=float(point.tokens.mean()),
        cost=float(point.cost.mean()),
        avg_at_k=100 * float(point.avg.mean()),
        maj_at_k=100 * float(point.maj.mean()),
        avg_gain=mean_interval(100 * (point.avg - whole[0].avg), bounds=POINTS),
        maj_gain_tokens=_gain(point.maj, float(point.tokens.mean()), [(p.tokens, p.maj) for p in whole]),
        maj_gain_cost=_gain(point.maj, float(point.cost.mean()), [(p.cost, p.maj) for p in whole]),
        n_problems=len(point.maj),
    )


def _gain(maj: Array, spent: float, whole: Sequence[tuple[Array, Array]]) -> Interval:
    """The paired difference to as many whole paths as ``spent`` pays for, all of them at most.

    Between two sizes their accuracies are joined by a line over the logarithm of the cost. Undefined where it does not
    pay for one path.
    """
    costs = np.array([cost.mean() for cost, _ in whole])[::-1]
    if not spent >= costs[0] * (1 - 1e-9):
        return UNDEFINED
    place = float(np.interp(math.log(spent), np.log(costs), np.arange(len(costs))))
    low = min(int(place), len(costs) - 2) if len(costs) > 1 else 0
    accuracies = [accuracy for _, accuracy in whole][::-1]
    at_cost = accuracies[low] if len(costs) == 1 else (
        accuracies[low] + (place - low) * (accuracies[low + 1] - accuracies[low])
    )  # fmt: skip
    return mean_interval(100 * (maj - at_cost), bounds=POINTS)
