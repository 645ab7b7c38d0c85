"""Smaller pools drawn from the stored paths: which N of M was luck, and what another N would have cost."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.judge import EngineJudge
from prunebench.bench.evaluation.candidates import Candidate
from prunebench.bench.evaluation.replay import Replay, replay
from prunebench.bench.evaluation.replays import Replays
from prunebench.bench.policies import Policy
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.methods.base import Pruner, Scores, Signal
from prunebench.methods.ensembles.mean_rank import MeanRank, signals_read
from prunebench.methods.meter import Charge, Meter
from prunebench.methods.pool import Pool


@dataclass
class Memory:
    """What one pruner said of the paths of one problem at one checkpoint, and what it was charged for each."""

    scores: dict[int, float] = field(default_factory=dict)
    charges: list[Charge] = field(default_factory=list)

    def keep(self, paths: NDArray[np.int64], scores: Scores, charges: Iterable[Charge]) -> None:
        """Remember the ``paths`` that are new, with their ``scores`` and that part of the ``charges``."""
        new = np.array([int(path) not in self.scores for path in paths], np.bool_)
        self.charges += [charge.of(paths[new]) for charge in charges]
        self.scores.update(zip(paths[new].tolist(), scores[new].tolist(), strict=True))


Memories = dict[tuple[str, str, int], Memory]
"""By task, problem and checkpoint."""


BALANCED = 4
"""So many draws in a row begin at even distances of one order: pools of a quarter of the paths hold each path once."""


def subsample_order(task: str, problem: str, paths: int, draw: int, seed: int) -> NDArray[np.int64]:
    """int64 (paths,): the order in which a draw takes the stored ``paths`` of a problem; the first N are its pool.

    Keyed by seed, task, problem and draw: every method sees the same pools, and a larger pool holds the smaller one.
    Each is a fair draw; :data:`BALANCED` of them together hold every path about equally often.
    """
    block, turn = divmod(draw, BALANCED)
    key = hashlib.sha256(f"{seed}\x1f{task}\x1f{problem}\x1f{block}".encode()).digest()
    order = np.random.default_rng(int.from_bytes(key[:8], "big")).permutation(paths)
    return np.roll(order, -(turn * paths // BALANCED))


POOLS_HELD = 128
"""So many pools at other checkpoints are held while methods are replayed on subsamples."""


def without_states(records: Sequence[ProblemRecord]) -> list[ProblemRecord]:
    """The same records without the states of every token, the one signal too large to hold for many pools at a time.

    Their pools at other checkpoints are built once for all methods and draws, which come back to every problem.
    """
    pools: dict[tuple[int, int], Pool] = {}

    def held(index: int, position: int) -> Pool:
        if (index, position) not in pools:
            if len(pools) >= POOLS_HELD:
                del pools[next(iter(pools))]
            pools[index, position] = records[index].at(position).without({Signal.STATES})
        return pools[index, position]

    return [
        replace(record, pool=record.pool.without({Signal.STATES}), elsewhere=partial(held, index))
        for index, record in enumerate(records)
    ]


class Subsamples:
    """One method, as each of its ``trainings`` has it, on pools drawn from the stored paths of whole ``records``."""

    def __init__(self, records: Sequence[ProblemRecord], trainings: Sequence[Pruner], seed: int) -> None:
        self._records, self.trainings, self._seed = records, tuple(trainings), seed

    def replay(self, policy: Policy, count: int, draws: int) -> list[list[tuple[ProblemRecord, Replay]]]:
        """Per record ``draws`` pools of ``count`` paths, each with what every training of the method did on it."""
        return [
            [made for draw in range(draws) for made in self._drawn(record, policy, count, draw)]
            for record in self._records
        ]

    def _drawn(self, whole: ProblemRecord, policy: Policy, count: int, draw: int) -> list[tuple[ProblemRecord, Replay]]:
        record = whole.take(subsample_order(whole.task, whole.problem, len(whole.pool), draw, self._seed)[:count])
        made = []
        for pruner in self.trainings:
            if type(pruner).draws > 1:  # what the method draws is drawn with the pool
                pruner = replace(pruner, seed=draw)  # type: ignore[call-arg]
            made.append((record, replay(pruner, policy, record.complete, record.pool.position)))
        return made


class ScoreCache:
    """Lets pointwise pruners score each path once per checkpoint. Equal pruners, alone or as members, share a memory.

    The trainings of a method, by their number, do not. Where seconds are measured the pruners themselves are used, not
    those that remember.
    """

    def __init__(self) -> None:
        self._of: dict[str, Memories] = {}

    def of(self, pruner: Pruner, training: int = 0) -> Memories:
        """The memories of all pruners of this name, these hyper-parameters and this training."""
        return self._of.setdefault(json.dumps([pruner.name, pruner.hyperparameters(), training], sort_keys=True), {})

    def remembering(self, pruner: Pruner, training: int = 0) -> Pruner:
        """The same pruner with a memory, if it is pointwise; of an ensemble the members remember."""
        twin = copy.copy(pruner)
        if isinstance(twin, MeanRank):
            twin.join([self.remembering(member) for member in twin.pruners_])
        if pruner.pointwise:
            twin.score = _Remembered(pruner, self.of(pruner, training))  # type: ignore[method-assign]
        return twin


class _Remembered:
    """Stands for ``score`` of a pointwise pruner: paths that were never scored are scored now."""

    def __init__(self, pruner: Pruner, memories: Memories) -> None:
        self._pruner, self._memories = pruner, memories

    def __call__(self, pool: Pool) -> Scores:
        memory = self._memories.setdefault((pool.task, pool.problem, pool.position), Memory())
        new = [row for row, path in enumerate(pool.paths) if int(path) not in memory.scores]
        if new:
            part, meter = pool if len(new) == len(pool) else pool.take(new), Meter()
            memory.keep(part.paths, self._pruner.score(part.metered(meter)), meter.charges)
        if pool.meter is not None:
            pool.meter.add(charge.of(pool.paths) for charge in memory.charges)
        return np.array([memory.scores[int(path)] for path in pool.paths])


def subsamples_of(
    stored: Sequence[ProblemRecord],
    records: Sequence[ProblemRecord],
    replays: Replays,
    candidates: Mapping[str, Candidate],
    seed: int,
) -> dict[str, Subsamples]:
    """Every candidate on pools drawn from the ``stored`` paths, where what was computed is not computed again.

    ``replays``: what they did on ``records``, the first paths of each. Nothing is timed here: probes and judges answer
    from memory, and a path that a pointwise pruner scored is not scored again.
    """
    light_records, cache = without_states(stored), ScoreCache()
    judges: dict[int, EngineJudge] = {}
    subsamples = {}
    for name, candidate in candidates.items():
        trainings = []
        for number, pruner in enumerate((candidate.pruner, *candidate.members)):
            if pruner.pointwise:
                memories = cache.of(pruner, number)
                for record, draws in zip(records, replays.of[name], strict=True):
                    _keep(memories, record, draws[number])
            judge = getattr(pruner, "generate_", None)
            if isinstance(judge, EngineJudge):
                pruner = copy.copy(pruner)
                pruner.generate_ = judges.setdefault(id(judge), judge.recalling())  # type: ignore[attr-defined]
            trainings.append(cache.remembering(pruner, number))
        drawn_from = stored if Signal.STATES in signals_read(candidate.pruner) else light_records
        subsamples[name] = Subsamples(drawn_from, trainings, seed)
    return subsamples


def _keep(memories: Memories, record: ProblemRecord, replay: Replay) -> None:
    """Remember a first check at the record's own checkpoint."""
    at_checkpoint = int(replay.launched.max(initial=0)) <= record.pool.position and replay.launched.all()
    if at_checkpoint and replay.charges is not None:
        pool = record.pool
        memory = memories.setdefault((pool.task, pool.problem, pool.position), Memory())
        memory.keep(pool.paths, replay.scores, replay.charges)
