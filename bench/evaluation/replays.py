"""What every method did on every problem: each prunes every pool under its policy."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.candidates import Candidate
from prunebench.bench.evaluation.replay import Replay, replay, visible
from prunebench.bench.evaluation.replay_store import ReplayStore
from prunebench.bench.progress import Tick, uncounted
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.methods.base import Pruner, Signal, Source
from prunebench.methods.signals import PRIVILEGED


@dataclass(frozen=True)
class Replays:
    """What every method did on every problem: ``of[name][i]`` holds the draws on record ``i``.

    ``left_out`` says why a method has none.
    """

    of: dict[str, list[list[Replay]]]
    left_out: dict[str, str]


def replay_methods(
    records: Sequence[ProblemRecord],
    candidates: Mapping[str, Candidate],
    progress: Tick = uncounted,
    held: ReplayStore | None = None,
) -> Replays:
    """Let every method prune every problem under its policy; ``progress`` is called once per problem and method.

    What is ``held`` is not done again, and what is done is held from then on. A method sees no privileged signal,
    unless it is a control that declares it. One that lacks a signal or raises ValueError on any problem is left out
    with a sentence; the others go on. Any other exception is a defect and passes, and so does what a plugin raises.
    """
    left_out = {
        name: reason
        for name, candidate in candidates.items()
        if (reason := missing_signal(name, candidate.pruner, records))
    }
    replays: dict[str, list[list[Replay]]] = {name: [] for name in candidates}
    # Problems outside, methods inside: what the engine caches for a pool serves all methods and can then go.
    for record in records:
        for name, candidate in candidates.items():
            if name not in left_out:
                try:
                    replays[name].append(_draws(candidate, record, held))
                except ValueError as error:
                    left_out[name] = f"{name} failed on {record.task}/{record.problem}: {error}"
            progress(1)
    return Replays({name: draws for name, draws in replays.items() if name not in left_out}, left_out)


def _draws(candidate: Candidate, record: ProblemRecord, held: ReplayStore | None) -> list[Replay]:
    """What is drawn is declared with a hyper-parameter `seed`; see Pruner.draws. Draws are cheap and never held.

    Of what was trained with several seeds every training is a draw.
    """
    pruner, position = candidate.pruner, record.pool.position
    if pruner.draws > 1:
        pruners = [replace(pruner, seed=seed) for seed in range(pruner.draws)]  # type: ignore[call-arg]
        seen = replace(record.complete, at=cache(lambda position: visible(record.at(position), pruner)))
        return [replay(drawn, candidate.policy, seen, position) for drawn in pruners]
    found = []
    for number, trained in enumerate((pruner, *candidate.members)):
        known = None if held is None else held.get(candidate, record, number)
        if known is None:
            known = replay(trained, candidate.policy, record.complete, position)
            if held is not None:
                held.put(candidate, record, known, number)
        found.append(known)
    return found


def competing(candidates: Mapping[str, Candidate], replays: Replays) -> list[str]:
    """The methods that Holm counts: those that compete, but for one that scores all paths of every problem alike.

    What such a method keeps is an accident of the order of the paths.
    """
    return [
        name
        for name, draws in replays.of.items()
        if candidates[name].competes
        and any(np.ptp(replay.scores) > 0 for problem in draws for replay in problem if len(replay.scores))
    ]


def require_rows(candidates: Mapping[str, Candidate], records: Sequence[ProblemRecord], asked: Collection[str]) -> None:
    """Raises UserError where a method that was ``asked`` for by name cannot score these pools."""
    for name in asked:
        reason = missing_signal(name, candidates[name].pruner, records) if name in candidates else None
        if reason is not None:
            raise UserError(f"{name} has no row: {reason}; or leave it out of --methods")


def missing_signal(name: str, pruner: Pruner, records: Sequence[ProblemRecord]) -> str | None:
    """Why ``pruner`` cannot score these pools, or None."""
    required = sorted(type(pruner).requires, key=lambda signal: signal.name)
    for record in records:
        pool, where = visible(record.pool, pruner), f"{record.task}/{record.problem}"
        for signal in required:
            if pool.has(signal):
                continue
            if signal in PRIVILEGED and type(pruner).source is not Source.CONTROL:
                return f"{name} needs the privileged signal '{signal.name}', which only controls are given"
            if signal is Signal.POTENTIAL:
                return f"{name} needs Monte Carlo labels, and {where} has none; make them with: prunebench label"
            if pool.generator is None:
                return (
                    f"{name} needs the signal '{signal.name}'{pool.lack(signal)}, which {where} does not hold for all "
                    "of its paths"
                )
            return (
                f"{name} needs the signal '{signal.name}', which was not recorded for {where}; "
                f"record it with: prunebench rollouts --set record={signal.name}"
            )
    return None
