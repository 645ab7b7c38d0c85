"""One pruner under one policy on one problem, replayed from its complete paths: check, decide, go on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.policies import CheckRecord, Policy
from prunebench.bench.rollouts.records import Complete
from prunebench.bench.training.crashes import crashes_of
from prunebench.methods.base import Pruner, Source
from prunebench.methods.meter import Charge, Cost, Meter
from prunebench.methods.pool import Pool
from prunebench.methods.signals import PRIVILEGED

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Replay:
    """What came of it.

    ``keep`` bool (N,): the paths that vote. ``decoded`` int64 (N,): tokens that the generator wrote of each path, 0 for
    one that was never launched. ``answer_class`` int64 (N,): what each path votes for; it differs from the final answer
    only for paths that were stopped to vote early (``stopped``). ``scores`` float64 (N,): those of the first check, and
    ``charges`` what it was charged path by path (None where nobody knows); the ``cost`` sums over the checks, and so do
    the ``seconds`` that an online run would also have spent.
    """

    keep: NDArray[np.bool_]
    decoded: NDArray[np.int64]
    launched: NDArray[np.int64]
    answer_class: NDArray[np.int64]
    stopped: bool
    scores: Array
    cost: Cost
    seconds: float
    charges: Sequence[Charge] | None = None


def replay(pruner: Pruner, policy: Policy, complete: Complete, position: int) -> Replay:
    """Replay. ``position`` is the experiment's checkpoint, to which the policy relates its own.

    Raises ValueError for scores of a wrong shape or not finite (naming the path), UserError for a policy that does not
    fit.
    """
    if policy.over_completed:
        return _over_completed(pruner, policy, complete)
    count = len(complete.lengths)
    alive = np.ones(count, dtype=np.bool_)
    stopped_at = complete.lengths
    history: list[CheckRecord] = []
    checks: list[Check] = []
    first: Array | None = None
    answers = complete.answer_class
    settled, silent, stopped = np.zeros_like(alive), np.zeros_like(alive), False
    for checkpoint in policy.checkpoints(position):
        pool = visible(complete.at(checkpoint), pruner)
        rows = None if alive.all() else np.flatnonzero(alive)
        pool = pool if rows is None else pool.take(rows)
        checks.append(check(pruner, pool, policy.reads_answers))
        scores, stated = checks[-1].scores, checks[-1].answer_class
        if rows is not None:
            scores, stated = _spread(scores, rows, count, np.nan), _spread(stated, rows, count, -1)
        first = scores if first is None else first
        history.append(CheckRecord(checkpoint, scores, complete.lengths <= checkpoint, stated, alive))
        decision = policy.decide(history)
        stopped_at = np.where(alive & ~decision.goes_on, np.minimum(complete.lengths, checkpoint), stopped_at)
        ending = alive & decision.keep & ~decision.goes_on
        early = ending & (complete.lengths > checkpoint)
        answers, stopped = np.where(early, stated, answers), stopped or bool(early.any())
        settled |= ending
        alive &= decision.goes_on
        if decision.silent is not None:
            silent = decision.silent
        if not alive.any():
            break
    assert first is not None
    keep = (alive | settled) & ~silent
    launched = np.minimum(complete.lengths, history[0].position)
    cost, seconds = sum((checked.cost for checked in checks), Cost()), sum(checked.seconds for checked in checks)
    return Replay(keep, stopped_at, launched, answers, stopped, first, cost, seconds, checks[0].charges)


def _spread(values: NDArray[Any], rows: NDArray[np.int64], count: int, missing: float) -> NDArray[Any]:
    """(count,): ``values`` at their ``rows``, ``missing`` elsewhere."""
    spread = np.full(count, missing, values.dtype)
    spread[rows] = values
    return spread


def _over_completed(pruner: Pruner, policy: Policy, complete: Complete) -> Replay:
    """Paths are completed in the order of their rows; the policy says how many more to launch."""
    count = len(complete.lengths)
    launched = min(policy.first, count)
    history: list[CheckRecord] = []
    while True:
        lengths = complete.lengths[:launched]
        everything = np.ones(launched, dtype=np.bool_)
        history.append(
            CheckRecord(
                int(lengths.max()), np.zeros(launched), everything, complete.answer_class[:launched], everything
            )
        )
        decision = policy.decide(history)
        if decision.stop_all or launched == count or decision.launch_more < 1:
            break
        launched = min(count, launched + decision.launch_more)
    decoded = np.where(np.arange(count) < launched, complete.lengths, 0)
    keep = np.zeros(count, np.bool_)
    keep[:launched] = decision.keep
    return Replay(
        keep,
        decoded,
        decoded,
        complete.answer_class,
        False,
        np.zeros(count),
        Cost(),
        0.0,
    )


def visible(pool: Pool, pruner: Pruner) -> Pool:
    """The pool as ``pruner`` may see it: privileged signals only for a control, and only those that it declares."""
    hidden = PRIVILEGED - type(pruner).requires if type(pruner).source is Source.CONTROL else PRIVILEGED
    return pool if hidden.isdisjoint(pool.signals) else pool.without(hidden)


@dataclass(frozen=True)
class Check:
    """What one pruner said of one pool, and what that took.

    ``scores`` float64 (N,); ``answer_class`` int64 (N,): what each prefix leads to; ``charges`` path by path, which add
    up to ``cost``; ``seconds`` that an online run would also have spent on the scores (re-made caches are not counted).
    """

    scores: Array
    answer_class: NDArray[np.int64]
    cost: Cost
    charges: Sequence[Charge]
    seconds: float


def check(pruner: Pruner, pool: Pool, answers: bool = False) -> Check:
    """Score a pool, timed and charged. With ``answers`` the pruner says what each prefix leads to, else its text does.

    A path without a single token tells a method nothing: it is not shown, and stands behind all others. Raises
    ValueError for scores of a wrong shape or not finite (naming the path), CrashError for what a plugin raises.
    """
    with crashes_of(pruner, f"on {pool.task}/{pool.problem}"):
        return _check(pruner, pool, answers)


def _check(pruner: Pruner, pool: Pool, answers: bool) -> Check:
    meter = Meter()
    pool = pool.metered(meter)
    replayed = pool.generator.replay_seconds if pool.generator else 0.0
    started = time.perf_counter()
    told = _telling(pruner, pool)
    seen = pool if told is None else pool.take(told)
    scores = np.asarray(pruner.score(seen), dtype=np.float64)
    elapsed = time.perf_counter() - started
    if pool.generator:
        elapsed -= pool.generator.replay_seconds - replayed
    if scores.shape != (len(seen),):
        raise ValueError(f"score() gave shape {scores.shape} for {len(seen)} paths")
    finite = np.isfinite(scores)
    if not finite.all():
        bad = int(np.argmin(finite))
        raise ValueError(f"the score of path {seen.paths[bad]} is {scores[bad]}; scores must be finite")
    if told is not None:
        scores = _spread(scores, told, len(pool), scores.min(initial=0.0) - 1)
    stated = pruner.answers(pool) if answers else pool.answer_class
    return Check(scores, stated, meter.cost, meter.charges, max(elapsed, 0.0))


def _telling(pruner: Pruner, pool: Pool) -> NDArray[np.int64] | None:
    """The rows that have a token; None: all of them, as for a control, which reads none."""
    if pool.lengths.all() or type(pruner).source is Source.CONTROL:
        return None
    return np.flatnonzero(pool.lengths)
