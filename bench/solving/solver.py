"""One group of problems after another: N prefixes launched, scored while their caches live, the best k resumed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.config import RunConfig
from prunebench.bench.engines.base import Engine, LivePool, Path, Phases, Recording, Request, Rollout
from prunebench.bench.evaluation.replay import Check, check
from prunebench.bench.files import in_groups
from prunebench.bench.policies import CheckRecord, Policy
from prunebench.bench.policies.votes import VOTES, Vote
from prunebench.bench.rollouts.generator import PoolGenerator
from prunebench.bench.rollouts.pools import pool_of
from prunebench.bench.rollouts.store import StoredPath, StoredProblem
from prunebench.methods.base import Pruner
from prunebench.methods.pool import Pool
from prunebench.methods.signals import Signal
from prunebench.tasks.task import Problem, Task

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Ledger(Phases):
    """What one problem took. ``check_tokens``: what was read and written to score the prefixes.

    ``whole_tokens`` and ``whole_seconds`` are *estimated*: what all N paths would have taken to their ends, if those
    that were dropped are as long as those that went on, and a token takes as long.
    """

    whole_tokens: float
    whole_seconds: float


@dataclass(frozen=True)
class Solution:
    """The answer to one problem (None: no kept path states one).

    ``share`` of the vote that it got, 0 to 1; ``votes``: the weight of every answer; ``kept``: ids of the paths that
    voted, with their ``answers``; ``scores``: of all N prefixes, higher = keep; ``text``: the best-scored path that
    states the answer.
    """

    task: str
    problem: str
    prompt: str
    answer: str | None
    share: float
    votes: dict[str, float]
    kept: tuple[int, ...]
    answers: tuple[str | None, ...]
    scores: tuple[float, ...]
    text: str
    ledger: Ledger

    @property
    def tokens_saved(self) -> float:
        """Share of the estimated tokens of N whole paths that were not spent; below 0 where the check cost more."""
        return 1 - self.ledger.tokens / self.ledger.whole_tokens

    @property
    def seconds_saved(self) -> float:
        """As :attr:`tokens_saved`, of the seconds."""
        return 1 - self.ledger.seconds / self.ledger.whole_seconds if self.ledger.whole_seconds else 0.0


@dataclass(frozen=True)
class Solver:
    """``pruner`` scores the prefixes of ``config.prefix_tokens``, ``policy`` says which go on, ``config.vote`` elects.

    ``reads``: the signals that the pruner needs.
    """

    engine: Engine
    pruner: Pruner
    policy: Policy
    config: RunConfig
    reads: frozenset[Signal]

    @property
    def together(self) -> int:
        """So many problems are in flight at once."""
        return max(1, self.engine.rows_in_flight // self.config.n)

    def solutions(self, problems: Iterable[tuple[Task, Problem]]) -> Iterator[Solution]:
        """In the order of the ``problems``, as soon as a group is through."""
        for group in in_groups(problems, self.together):
            yield from self._solved(group)

    def _solved(self, group: Sequence[tuple[Task, Problem]]) -> Iterator[Solution]:
        config, position = self.config, self.config.prefix_tokens
        requests = [
            Request(f"{task.name}/{problem.id}", self.engine.encode_prompt(problem.prompt), tuple(range(config.n)))
            for task, problem in group
        ]
        started = time.perf_counter()
        live = list(self.engine.launch(requests, config.sampling, config.seed, self._recording, position))
        launched = time.perf_counter()
        pools = [self._pool(task, problem, pool) for (task, problem), pool in zip(group, live, strict=True)]
        checked = [self._checked(pool) for pool in pools]
        decided = time.perf_counter()
        prefixes = [[len(path.token_ids) for path in pool.paths] for pool in live]
        keeps = [keep for _, keep in checked]
        rollouts = list(self.engine.resume(zip(live, keeps, strict=True)))
        seconds = np.diff([started, launched, decided, time.perf_counter()]) / len(group)
        for (task, problem), pool, (scored, keep), lengths, rollout in zip(
            group, pools, checked, prefixes, rollouts, strict=True
        ):
            ledger = _ledger(np.array(lengths), keep, scored, rollout, position, seconds)
            yield self._elected(task, problem, pool, scored, keep, rollout, ledger)

    @property
    def _vote(self) -> Vote:
        return VOTES.get(self.config.vote)()

    @property
    def _recording(self) -> Recording:
        """What the pruner and the vote read of every token, and the states at the checkpoint where they are wanted."""
        wanted = self.reads | ({Signal.ENTROPY} if self._vote.reads == "entropy" else frozenset())
        position = self.config.prefix_tokens
        states = bool(wanted & {Signal.HIDDEN_STATE, Signal.ALL_LAYERS})
        return self.engine.recordable(
            Recording(
                tuple(signal for signal in wanted if signal.formula is not None),
                topk_tokens=position if any(signal.wide for signal in wanted) else 0,
                checkpoints=(position,) if states else (),
                launch_tokens=position,
            )
        )

    def _pool(self, task: Task, problem: Problem, live: LivePool) -> Pool:
        """The live prefixes as every method sees them; what it asks is answered by their caches."""
        position = self.config.prefix_tokens
        stored = StoredProblem(
            task.name, problem.id, problem.prompt, live.request.prompt_ids, "",
            [_stored(path, position) for path in live.paths],
        )  # fmt: skip
        if all(position in path.hidden for path in live.paths):
            stored.hidden[position] = np.stack([path.hidden[position] for path in live.paths])
        engine = cast(Engine, _WithCaches(self.engine, live))
        generator = PoolGenerator(engine, task, [])
        return pool_of(engine, stored, position, reads=self.reads, generator=generator)

    def _checked(self, pool: Pool) -> tuple[Check, Flags]:
        scored = check(self.pruner, pool)
        record = CheckRecord(pool.position, scored.scores, pool.finished, pool.answer_class)
        return scored, self.policy.decide([record]).keep

    def _elected(
        self, task: Task, problem: Problem, pool: Pool, scored: Check, keep: Flags, rollout: Rollout, ledger: Ledger
    ) -> Solution:
        texts = [self.engine.decode(path.token_ids) for path in rollout.paths]
        answers = [found.answer if (found := task.found_in(text)) else None for text in texts]
        assert isinstance(pool.generator, PoolGenerator)
        classes, scores = pool.generator.classes(answers), scored.scores[keep]
        evidence = None
        if self._vote.reads == "score":
            evidence = scores
        elif self._vote.reads == "entropy":
            evidence = np.array([float(path.signals["entropy"].mean()) for path in rollout.paths])
        weights = np.ones(len(classes)) if evidence is None else self._vote.weights(evidence)
        winners = np.isin(classes, self._vote.elect(classes, evidence).winners)
        best = int(np.argmax(np.where(winners, scores, -np.inf))) if winners.any() else int(np.argmax(scores))
        stated = dict(zip(classes[::-1].tolist(), answers[::-1], strict=True))  # the first spelling of each class
        votes = {str(stated[c]): float(weights[classes == c].sum()) for c in dict.fromkeys(classes.tolist()) if c >= 0}
        won = float(weights[classes == classes[best]].sum()) if winners.any() else 0.0
        return Solution(
            task.name,
            problem.id,
            problem.prompt,
            answers[best] if winners.any() else None,
            won / float(weights.sum()) if weights.sum() else 0.0,
            votes,
            tuple(path.path for path in rollout.paths),
            tuple(answers),
            tuple(scored.scores.tolist()),
            texts[best],
            ledger,
        )


def _stored(path: Path, position: int) -> StoredPath:
    """A path at its checkpoint; one that has not ended gets a token more, so that nobody takes its prefix for it."""
    open_ = path.finish == "length" and len(path.token_ids) == position
    ids = np.append(path.token_ids, 0) if open_ else path.token_ids
    return StoredPath(path.path, ids, None, path.finish, None, None, "", path.signals, tool_spans=path.tool_spans)


def _ledger(
    lengths: NDArray[np.int64],
    keep: Flags,
    scored: Check,
    rollout: Rollout,
    position: int,
    seconds: NDArray[np.float64],
) -> Ledger:
    """``lengths`` (N,) at the checkpoint; ``seconds`` of Launch, Check and Resume."""
    whole = lengths.astype(np.float64)
    whole[keep] = [len(path.token_ids) for path in rollout.paths]
    known = keep | (lengths < position)
    whole[~known] = whole[keep & (lengths >= position)].mean() if (keep & (lengths >= position)).any() else position
    launched, resumed = int(lengths.sum()), int(whole[keep].sum() - lengths[keep].sum())
    cost, decoding = scored.cost, float(seconds[0] + seconds[2])
    return Ledger(
        launched,
        cost.check_tokens + cost.probe_tokens + cost.reencoded_tokens,
        resumed,
        float(seconds[0]),
        float(seconds[1]),
        float(seconds[2]),
        float(whole.sum()),
        decoding * float(whole.sum()) / max(1, launched + resumed),
    )


class _WithCaches:
    """An engine of which a live pool's caches answer what is asked behind its prefixes."""

    def __init__(self, engine: Engine, live: LivePool) -> None:
        self._engine = engine
        self.kv, self.behind = live.kv, live.behind
        self.probe, self.next_logprobs = live.probe, live.next_logprobs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)
