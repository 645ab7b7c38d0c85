"""Whether two devices tell the same: log-probabilities, sampled paths and STOP's choice on the same problems.

Sums are added in another order on another device, so numbers differ in their last bits, and a draw that falls on the
boundary between two tokens may fall to the other side. Both are counted here, and every divergence is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.base import NOTHING, LocalEngine, Request, Sampling
from prunebench.bench.engines.judge import EngineJudge
from prunebench.bench.engines.noise import noise_key, uniforms
from prunebench.bench.rollouts.pools import pool_of
from prunebench.bench.rollouts.sampling import stored_problem
from prunebench.bench.rollouts.store import StoredProblem
from prunebench.methods.base import Signal
from prunebench.tasks.task import Problem, Task

if TYPE_CHECKING:
    from prunebench.methods.learned.stop import Stop

LOGPROB_BAR = 1e-4
"""Greatest difference of a log-probability in float32, in nats."""
TIE = 1e-5
"""A draw this near to the boundary between two tokens, as a share of all probability, may fall to either side."""
SAME_CHOICE_BAR = 0.95
"""Share of the pools in which both devices keep the same paths."""


@dataclass(frozen=True)
class DeviceAgreement:
    """What two devices have in common, on ``pools`` of ``rows`` prefixes.

    ``logprob_difference``: the greatest one over all tokens, in nats. ``paths`` sampled on both, ``diverged`` of them
    differ somewhere; ``widest_tie``: of the first differing draws, the greatest distance to a boundary (0 without any).
    ``same_choice``: share of the pools in which STOP keeps the same ``kept`` paths.
    """

    device: str
    pools: int
    rows: int
    kept: int
    logprob_difference: float
    paths: int
    diverged: int
    widest_tie: float
    same_choice: float

    @property
    def met(self) -> dict[str, bool]:
        """By claim, whether it holds."""
        return {
            f"log-probabilities differ by at most {LOGPROB_BAR:g}": self.logprob_difference <= LOGPROB_BAR,
            f"every divergent draw is within {TIE:g} of a boundary": self.widest_tie <= TIE,
            f"the same {self.kept} of {self.rows} in {SAME_CHOICE_BAR:.0%} of pools": (
                self.same_choice >= SAME_CHOICE_BAR
            ),
        }


def agreement(
    first: LocalEngine,
    second: LocalEngine,
    stops: tuple[Stop, Stop],
    problems: Sequence[tuple[Task, Problem]],
    position: int,
    rows: int,
    kept: int,
    temperature: float = 0.8,
) -> DeviceAgreement:
    """Sample ``rows`` prefixes of ``position`` tokens of every problem on both; score those of ``first`` on both."""
    sampling = Sampling(temperature=temperature, max_new_tokens=position)
    differences, ties, same = [0.0], [], []
    samples = [_sampled(engine, problems, rows, sampling) for engine in (first, second)]
    for mine, theirs in zip(*samples, strict=True):
        pools = [pool_of(engine, mine, position) for engine in (first, second)]
        logprobs = [
            np.concatenate(engine.reread(pool, {Signal.LOGPROBS})[Signal.LOGPROBS])
            for engine, pool in zip((first, second), pools, strict=True)
        ]
        differences.append(float(np.abs(logprobs[0] - logprobs[1]).max()))
        ties += _ties(first, mine, theirs, sampling)
        chosen = [
            set(np.argsort(-stop.score(pool), kind="stable")[:kept].tolist())
            for stop, pool in zip(stops, pools, strict=True)
        ]
        same.append(chosen[0] == chosen[1])
    return DeviceAgreement(
        device=second.device,
        pools=len(problems),
        rows=rows,
        kept=kept,
        logprob_difference=max(differences),
        paths=len(problems) * rows,
        diverged=len(ties),
        widest_tie=max(ties, default=0.0),
        same_choice=float(np.mean(same)),
    )


SEED = 0


def _sampled(
    engine: LocalEngine, problems: Sequence[tuple[Task, Problem]], rows: int, sampling: Sampling
) -> list[StoredProblem]:
    requests = [
        Request(f"{task.name}/{problem.id}", engine.encode_prompt(problem.prompt), tuple(range(rows)))
        for task, problem in problems
    ]
    rollouts = engine.sample(requests, sampling, SEED, NOTHING)
    return [
        stored_problem(engine, task, problem, request, rollout)
        for (task, problem), request, rollout in zip(problems, requests, rollouts, strict=True)
    ]


def _ties(engine: LocalEngine, mine: StoredProblem, theirs: StoredProblem, sampling: Sampling) -> list[float]:
    """For every path that differs: how far its first differing draw was from the boundary that it fell across."""
    ties: list[float] = []
    for path, twin in zip(mine.paths, theirs.paths, strict=True):
        assert path.token_ids is not None and twin.token_ids is not None, "sampled here"
        key = noise_key(SEED, "rollout", f"{mine.task}/{mine.problem}")
        tie = divergence(engine, mine.prompt_ids, (path.token_ids, twin.token_ids), key, path.path, sampling)
        ties += [] if tie is None else [tie]
    return ties


def divergence(
    engine: LocalEngine,
    prompt_ids: NDArray[np.int64],
    twins: tuple[NDArray[np.int64], NDArray[np.int64]],
    key: int,
    path: int,
    sampling: Sampling,
) -> float | None:
    """How far the first differing draw of ``twins`` was from the boundaries between their tokens; None: none differs.

    ``twins`` are the tokens of one path, sampled twice with the noise of ``key`` and ``path``; the distance is a share
    of all probability, by the distribution that ``engine`` gives.
    """
    shared = min(map(len, twins))
    differing = np.flatnonzero(twins[0][:shared] != twins[1][:shared])
    if not len(differing):
        return None
    step = int(differing[0])
    low, high = sorted(int(twin[step]) for twin in twins)
    cumulative = _cumulative(engine, np.concatenate([prompt_ids, twins[0][:step]]), sampling)
    (point,) = uniforms(*(np.array([number], np.uint64) for number in (key, path, step)))
    return float(np.abs(cumulative[low:high] - point).max())


def _cumulative(engine: LocalEngine, ids: NDArray[np.int64], sampling: Sampling) -> NDArray[np.float64]:
    """(V,) the cumulative distribution of the token after ``ids``, in the order of the ids."""
    import torch

    from prunebench.bench.engines.sampling import filtered_probabilities

    logits = EngineJudge(engine).next_logprobs([ids], range(engine.shape.vocabulary))
    logits[:, engine.banned] = -np.inf
    probabilities = filtered_probabilities(torch.from_numpy(logits), sampling)[0].numpy()
    return np.asarray(np.cumsum(probabilities) / probabilities.sum(), np.float64)
