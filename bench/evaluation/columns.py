"""The metrics of the main table: each is declared once, with its column, how it is shown, and how it is computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.evaluation.formats import number, p_value, seconds, with_interval
from prunebench.bench.evaluation.grading import Baseline, Graded, correct_of
from prunebench.bench.evaluation.metrics import avg_at_k as accuracy_of
from prunebench.bench.evaluation.statistics import (
    PERCENT,
    POINTS,
    SHARE,
    UNBOUNDED,
    Bounds,
    Interval,
    mean_interval,
    ratio_of_means,
    spread,
)
from prunebench.methods.entries import Registry

Array = NDArray[np.float64]


def exactly(value: float) -> Interval:
    """A number without an interval."""
    return Interval(value, math.nan, math.nan)


@dataclass(frozen=True)
class Cell:
    """One method on one table: what a metric is computed from.

    ``problems`` int64: the rows of ``method`` and ``base`` that belong to the table. ``p``, ``p_holm``: of the paired
    difference of avg@k to ``none``, Holm over all methods of the table that compete; ``draw_spread`` as in the metric
    of that name.
    """

    method: Graded
    base: Baseline
    problems: NDArray[np.int64]
    seed: int
    p: float
    p_holm: float
    draw_spread: float

    def mean(self, values: Array) -> Interval:
        """The mean of (problems,) values over the table, without an interval."""
        return exactly(float(values[self.problems].mean()))

    def share(self, values: Array) -> Interval:
        """The mean of (problems,) shares over the table, from 0 to 100, without an interval."""
        return exactly(100 * float(values[self.problems].mean()))

    def interval(self, values: Array, bounds: Bounds = UNBOUNDED) -> Interval:
        """The mean of (problems,) values over the table, with its interval; ``bounds`` are those of a value."""
        return mean_interval(values[self.problems], bounds=bounds)

    def ratio(self, numerator: Array, denominator: Array) -> Interval:
        """A percentage: mean over mean, jointly bootstrapped."""
        rows = self.problems
        return ratio_of_means(numerator[rows], denominator[rows], self.seed).scaled(100)


@dataclass(frozen=True)
class Metric:
    """``name`` is its CSV column (with ``_low`` and ``_high`` behind it where it has an ``interval``).

    ``header`` and ``format`` show it to people, where ``header`` is given; a narrow terminal leaves out the highest
    ``priority`` first, 0 never. ``measured``: it is a time, hence never the same twice.
    """

    name: str
    function: Callable[[Cell], Interval]
    header: str = ""
    format: Callable[[Interval], str] = with_interval
    priority: int = 0
    interval: bool = True
    measured: bool = False


METRICS: Registry[Metric] = Registry("metric", Metric, ("prunebench.bench.evaluation.columns",), "prunebench.metrics")


def metric(
    name: str,
    header: str = "",
    format: Callable[[Interval], str] = with_interval,
    *,
    priority: int = 5,
    interval: bool = True,
    measured: bool = False,
) -> Callable[[Callable[[Cell], Interval]], Metric]:
    """Decorator of a function from a :class:`Cell` to an :class:`Interval`: register it; see :class:`Metric`."""

    def add(function: Callable[[Cell], Interval]) -> Metric:
        made = Metric(name, function, header, format, priority, interval, measured)
        return METRICS.register(name, made_by=function)(made)

    return add


def _plain(decimals: int = 1) -> Callable[[Interval], str]:
    return lambda value: number(value.mean, decimals)


single = partial(metric, interval=False)
"""A metric without an interval."""


@single("avg_at_n")
def avg_at_n(cell: Cell) -> Interval:
    """Mean accuracy of all N paths."""
    return cell.share(cell.base.avg)


@metric("avg_at_k", "avg@k [95 %]", priority=0)
def avg_at_k(cell: Cell) -> Interval:
    """Mean accuracy of the kept paths."""
    return cell.interval(100 * cell.method.avg, PERCENT)


@metric("delta", "Δ none [95 %]", partial(with_interval, signed=True), priority=0)
def delta(cell: Cell) -> Interval:
    """Paired difference of avg@k to keeping all N."""
    return cell.interval(100 * (cell.method.avg - cell.base.avg), POINTS)


@single("p_holm", "p (Holm)", lambda value: p_value(value.mean), priority=1)
def p_holm(cell: Cell) -> Interval:
    """Sign-flip p of ``delta``, Holm over the candidates: no controls, no procedures, nothing that ties all paths."""
    return exactly(cell.p_holm)


@single("maj_at_k", "maj@k", _plain(), priority=3)
def maj_at_k(cell: Cell) -> Interval:
    """Accuracy of the vote of the kept paths."""
    return cell.share(cell.method.maj)


@single("pass_at_k", "pass@k", _plain(), priority=8)
def pass_at_k(cell: Cell) -> Interval:
    """Share of problems of which a kept path is right."""
    return cell.share(cell.method.passed)


@single("tokens", "tokens", _plain(0), priority=6)
def tokens(cell: Cell) -> Interval:
    """Decoded, re-encoded, probe and check tokens per problem."""
    return cell.mean(cell.method.tokens)


@single("reduction", "saved %", _plain(), priority=2)
def reduction(cell: Cell) -> Interval:
    """1 - tokens / tokens of ``none``, a ratio of means."""
    return exactly(100 * (1 - cell.mean(cell.method.tokens).mean / cell.mean(cell.base.tokens).mean))


@metric("auroc", "AUROC", _plain(2), priority=4)
def auroc(cell: Cell) -> Interval:
    """Within problems, P(a right path scores above a wrong one); problems of one verdict have none."""
    ranked = cell.method.auroc[cell.problems]
    return mean_interval(ranked[~np.isnan(ranked)], bounds=SHARE)


@metric("headroom", "headroom % [95 %]", partial(with_interval, decimals=0), priority=6)
def headroom(cell: Cell) -> Interval:
    """Share of the potential control's gain in held-out potential."""
    base = cell.base.expected
    return cell.ratio(cell.method.expected - base, cell.base.potential_expected - base)


@single("launch_seconds", measured=True)
def launch_seconds(cell: Cell) -> Interval:
    """Seconds per problem to sample the prefixes."""
    return cell.mean(cell.base.launch_seconds)


@single("check_seconds", "check s", lambda value: seconds(value.mean), priority=7, measured=True)
def check_seconds(cell: Cell) -> Interval:
    """Seconds per problem to score."""
    return cell.mean(cell.method.check_seconds)


@single("resume_seconds", measured=True)
def resume_seconds(_: Cell) -> Interval:
    """NaN: a replay never resumes."""
    return exactly(math.nan)


@single("paper_tokens")
def paper_tokens(cell: Cell) -> Interval:
    """Tokens as the STOP paper counts them; for one check only."""
    return cell.mean(cell.method.paper_tokens)


@single("avg_at_k_expected")
def avg_at_k_expected(cell: Cell) -> Interval:
    """Mean held-out potential of the kept paths; undefined for paths that were stopped to vote early."""
    return cell.share(cell.method.expected)


@metric("maj_delta")
def maj_delta(cell: Cell) -> Interval:
    """Paired difference of the vote to that of all N."""
    return cell.interval(100 * (cell.method.maj - cell.base.maj), POINTS)


@metric("maj_delta_random")
def maj_delta_random(cell: Cell) -> Interval:
    """Paired difference of the vote to that of ``random`` at the same k."""
    return cell.interval(100 * (cell.method.maj - cell.base.random_maj), POINTS)


@single("p_value")
def p_value_of_delta(cell: Cell) -> Interval:
    """Sign-flip p of ``delta``, unadjusted."""
    return exactly(cell.p)


@metric("expected_delta")
def expected_delta(cell: Cell) -> Interval:
    """``delta`` in held-out potential."""
    return cell.interval(100 * (cell.method.expected - cell.base.expected), POINTS)


@metric("potential_delta")
def potential_delta(cell: Cell) -> Interval:
    """Paired difference of avg@k to the ``potential`` control."""
    return cell.interval(100 * (cell.method.avg - cell.base.potential_avg), POINTS)


@single("spearman")
def spearman(cell: Cell) -> Interval:
    """Rank correlation with the potential, mean over the problems where it is defined."""
    values = cell.method.spearman[cell.problems]
    defined = values[~np.isnan(values)]
    return exactly(float(defined.mean()) if len(defined) else math.nan)


@single("tie_rate", "tied %", _plain(0), priority=7)
def tie_rate(cell: Cell) -> Interval:
    """Share of the pools whose cut fell into a tie; for one check only."""
    return cell.share(cell.method.cut_tied)


@single("flops_tokens")
def flops_tokens(cell: Cell) -> Interval:
    """Arithmetic of all models, in generator tokens."""
    return cell.mean(cell.method.flops_tokens)


@single("finished_share")
def finished_share(cell: Cell) -> Interval:
    """Share of the prefixes that ended before the checkpoint."""
    return cell.share(cell.base.finished)


@single("leaky_share")
def leaky_share(cell: Cell) -> Interval:
    """Share of the prefixes that state an answer."""
    return cell.share(cell.base.leaky)


@metric("normalised")
def normalised(cell: Cell) -> Interval:
    """Share of what the oracle gains over chance: k paths at random are worth as much as all N."""
    return cell.ratio(cell.method.avg - cell.base.avg, cell.base.oracle_avg - cell.base.avg)


@single("draw_spread")
def draw_spread(cell: Cell) -> Interval:
    """Standard deviation of avg@k over draws of the N paths from at least 4N stored ones."""
    return exactly(cell.draw_spread)


@single("seed_spread", "seed sd", _plain(), priority=6)
def seed_spread(cell: Cell) -> Interval:
    """Standard deviation of avg@k over the seeds that a method was trained with."""
    if cell.method.candidate.is_control:
        return exactly(math.nan)
    records, replays = cell.method.records, cell.method.replays
    values = [
        [float(accuracy_of(correct_of(records[row], replay), replay.keep)) for replay in replays[row]]
        for row in cell.problems
    ]
    return exactly(spread(100 * np.array(values).mean(axis=0)))
