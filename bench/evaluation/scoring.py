"""Scoring by several processes: each makes the methods anew and replays problems of its own; the replays come back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Self

from prunebench.bench.config import RunConfig
from prunebench.bench.engines.base import Engine
from prunebench.bench.engines.load import require_digest
from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.engines.shipped import SYNTHETIC
from prunebench.bench.evaluation.candidates import Candidate, choose, reads_again
from prunebench.bench.evaluation.inputs import Inputs, Rollouts
from prunebench.bench.evaluation.replay import Replay, replay
from prunebench.bench.evaluation.replay_store import ReplayStore
from prunebench.bench.evaluation.replays import Replays, missing_signal
from prunebench.bench.evaluation.subsampling import subsamples_of
from prunebench.bench.evaluation.tables.equal_cost import Budget, Point, affordable
from prunebench.bench.policies.votes import VOTES
from prunebench.bench.processes import Crew, count, crew_of, given
from prunebench.bench.progress import Tick
from prunebench.bench.rollouts.generator import Memory, PoolGenerator
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.bench.rollouts.sampling import engine_in_process
from prunebench.bench.training.loading import PLUGIN, Judges
from prunebench.methods.base import Signal
from prunebench.methods.ensembles.mean_rank import MeanRank
from prunebench.methods.entries import load_module
from prunebench.methods.signals import PRIVILEGED

FEWEST = 4
"""Problems; fewer are scored before another process has started."""
_ASKED = frozenset({Signal.PROBE, Signal.FORCED_ANSWERS})
"""What the model was asked for is remembered by the process that began; so is what members of ensembles said."""
Key = tuple[str, str]
"""A task and a problem of it."""


@dataclass(frozen=True)
class Work:
    """What a process makes its methods and problems from; ``processes`` share the threads of this machine."""

    processes: int
    model: str
    options: ModelOptions
    digest: str
    config: RunConfig
    inputs: Inputs
    rollouts: Rollouts
    plugins: tuple[tuple[str, str], ...]


class Scorers:
    """Processes that replay methods; they are started when there is work for them, and end with the block."""

    def __init__(self, work: Work, candidates: Mapping[str, Candidate]) -> None:
        self._work, self._candidates = work, candidates
        self._open = ExitStack()
        self._started: Crew | None = None

    @classmethod
    def of(
        cls,
        engine: Engine | None,
        config: RunConfig,
        inputs: Inputs,
        rollouts: Rollouts,
        candidates: Mapping[str, Candidate],
        processes: int,
    ) -> Scorers | None:
        """None where one process does it: a model that is elsewhere, on an accelerator, or few problems.

        So it is with judges that are named: they are as large as they like, and every process would hold its own; and
        where no method reads prefixes again.
        """
        if engine is None or engine.backend or engine.device != "cpu" or inputs.judges or processes < 2:
            return None
        if len(rollouts.wanted) < FEWEST or not any(map(reads_again, candidates)):
            return None
        chosen = {
            name: candidate
            for name, candidate in candidates.items()
            if candidate.pruner.draws == 1 and not candidate.reads & PRIVILEGED
        }
        config = config.model_copy(update={"methods": tuple(chosen)})
        files = {str(path.resolve()) for path in inputs.plugins}
        plugins = ((name, str(module.__file__)) for name, module in sys.modules.items() if name.startswith(PLUGIN))
        loaded = tuple(plugin for plugin in plugins if plugin[1] in files)
        work = Work(processes, engine.name, engine.options, engine.digest, config, inputs, rollouts, loaded)
        return cls(work, chosen)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def replay(self, records: Sequence[ProblemRecord], held: ReplayStore, tick: Tick) -> int:
        """Have what is not ``held`` replayed, and held from then on, problem by problem; how often ``tick`` was told.

        Left out is what costs nothing (draws), what reads labels, and a method that raises ValueError.
        """
        able = {n: c for n, c in self._candidates.items() if missing_signal(n, c.pruner, records) is None}
        jobs = [(record, [n for n, c in able.items() if not held.holds(c, record)]) for record in records]
        jobs = [(record, missing) for record, missing in jobs if any(map(reads_again, missing))]
        if len(jobs) < FEWEST:
            return 0
        self._started = self._open.enter_context(crew_of(min(self._work.processes, len(jobs)), tick, self._work))
        asked = [self._started.submit(_replayed, (record.task, record.problem), missing) for record, missing in jobs]
        for (record, _), (replays, told) in zip(jobs, self._started.results(asked), strict=True):
            for name, draws in replays.items():
                for number, made in enumerate(draws):
                    held.put(able[name], record, made, number)
            assert isinstance(record.pool.generator, PoolGenerator)
            record.pool.generator.recall(told)
        return sum(len(missing) for _, missing in jobs)

    def affordable(
        self, replays: Replays, names: Collection[str], budget: float, full: Mapping[str, float]
    ) -> dict[str, Callable[[], Point | None]]:
        """Have the points at equal cost found of those methods that nobody here remembers more of; none if it rests.

        The method that took longest begins, so that no process is left alone with it at the end.
        """
        if self._started is None:
            return {}
        chosen = [
            name
            for name, candidate in self._candidates.items()
            if name in names and not (candidate.reads & _ASKED or isinstance(candidate.pruner, MeanRank))
        ]
        chosen.sort(key=lambda name: -sum(made.seconds for draws in replays.of[name] for made in draws))
        asked = {
            name: self._started.submit(_affordable, name, replays.of[name], budget, full.get(name)) for name in chosen
        }
        return {name: future.result for name, future in asked.items()}


class _Opened(NamedTuple):
    """What a process of a crew works with."""

    work: Work
    engine: Engine
    candidates: Mapping[str, Candidate]
    record_of: Callable[[Key], ProblemRecord]


@cache
def _opened() -> _Opened:
    import torch

    work: Work = given()
    torch.set_num_threads(max(1, torch.get_num_threads() // work.processes))
    for module, file in work.plugins:
        load_module(module, file)
    engine = engine_in_process(work.model, work.options)
    require_digest(engine, work.digest)
    judges = Judges({}, engine.device, shipped=engine.name in SYNTHETIC)
    candidates, _ = choose(work.config, work.inputs.learned, engine.digest, judges)
    reads = frozenset[Signal]().union(*(candidate.reads for candidate in candidates.values()))
    return _Opened(work, engine, candidates, work.rollouts.reader(engine, work.config.prefix_tokens, reads))


@cache
def _stored() -> list[ProblemRecord]:
    """All problems."""
    opened = _opened()
    return list(map(opened.record_of, opened.work.rollouts.wanted))


def _replayed(problem: Key, names: Sequence[str]) -> tuple[dict[str, list[Replay]], Memory]:
    """What these methods do on a problem, and what the model told them, which nobody has to ask again.

    A ValueError is left to who asked, who meets it again and says so.
    """
    opened = _opened()
    record = opened.record_of(problem).first(opened.work.config.n)
    replays: dict[str, list[Replay]] = {}
    for name in names:
        candidate = opened.candidates[name]
        with suppress(ValueError):
            replays[name] = [
                replay(trained, candidate.policy, record.complete, record.pool.position)
                for trained in (candidate.pruner, *candidate.members)
            ]
        count(1)
    assert isinstance(record.pool.generator, PoolGenerator)
    return replays, record.pool.generator.memory


def _affordable(name: str, replays: list[list[Replay]], tokens: float, full: float | None) -> Point | None:
    """The point of a method at equal cost; ``replays`` are what it did with the first paths of each problem."""
    opened, stored = _opened(), _stored()
    config, candidate = opened.work.config, opened.candidates[name]
    records = [record.first(config.n) for record in stored]
    budget = Budget(tokens, config.draws, config.seed, opened.engine.arithmetic, VOTES.get(config.vote)())
    subsamples = subsamples_of(stored, records, Replays({name: replays}, {}), {name: candidate}, config.seed)[name]
    return affordable(stored, candidate, lambda paths: candidate.policy_for(paths, config), subsamples, budget, full)
