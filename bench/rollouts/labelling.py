"""Monte Carlo labels: the success rate of a prefix's continuations (STOP paper, Appendix B)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.base import Engine, Request, Sampling
from prunebench.bench.errors import UserError
from prunebench.bench.files import in_groups
from prunebench.bench.progress import SILENT, Progress, Tick, TokenCount, uncounted
from prunebench.bench.rollouts.label_store import Label, LabelStore, prefix_hash
from prunebench.bench.rollouts.store import StoredProblem
from prunebench.tasks.task import Task

if TYPE_CHECKING:
    from prunebench.bench.engines.ray import Cluster

PURPOSE = "label"
"""Names the noise of continuations: never that of the paths whose prefixes they explain."""

_ROWS = 128
"""The fewest rows of a request, where there are so many continuations."""
_SHARD_LABELS = 32
"""So many labels are lost at most when a run is stopped."""
_JOB_GROUPS = 8


@dataclass(frozen=True)
class Prefix:
    """A distinct prefix of one problem. ``verdict`` is set for a path that ended before or at the checkpoint."""

    task: Task
    problem: str
    gold: str
    prompt_ids: NDArray[np.int64]
    token_ids: NDArray[np.int64]
    verdict: bool | None

    @property
    def hash(self) -> str:
        return prefix_hash(self.token_ids)

    def label(self, continuations: int, correct_even: int, correct_odd: int) -> Label:
        return Label(
            self.task.name, self.problem, self.hash, len(self.token_ids), continuations, correct_even, correct_odd
        )


def label_manifest(engine: Engine, sampling: Sampling, seed: int, continuations: int) -> dict[str, Any]:
    return {
        "model_hash": engine.digest,
        "sampling_digest": sampling.digest,
        "seed": seed,
        "continuations": continuations,
    }


def prefixes_of(task: Task, stored: StoredProblem, position: int, limit: int | None = None) -> list[Prefix]:
    """The distinct prefixes of ``position`` tokens, in path order; at most ``limit`` of them."""
    prefixes: dict[str, Prefix] = {}
    for path in stored.paths:
        if path.token_ids is None:
            raise UserError(
                f"{stored.task}/{stored.problem}: path {path.path} has no token ids, so nothing goes on from it"
            )
        finished = path.length <= position
        prefix = Prefix(
            task,
            stored.problem,
            stored.gold,
            stored.prompt_ids,
            path.token_ids[:position],
            bool(path.correct) if finished else None,
        )
        prefixes.setdefault(prefix.hash, prefix)
    return list(prefixes.values())[:limit]


def label_prefixes(
    engine: Engine,
    prefixes: Sequence[Prefix],
    folder: Path,
    *,
    continuations: int,
    sampling: Sampling,
    seed: int,
    progress: Progress = SILENT,
    cluster: Cluster | None = None,
) -> LabelStore:
    """Label every prefix that the store in ``folder`` does not hold yet; ``progress`` counts the prefixes.

    By the workers of a ``cluster`` where there is one.

    The noise of a continuation is addressed by problem, prefix and number: a label does not depend on what else is
    labelled.
    """
    store = LabelStore.create_or_open(folder, label_manifest(engine, sampling, seed, continuations))
    missing = [prefix for prefix in prefixes if store.get(prefix.task.name, prefix.problem, prefix.token_ids) is None]
    tick = progress.stretch("labelling prefixes", len(prefixes))
    tick(len(prefixes) - len(missing))
    if not missing:
        return store
    work = Continued(continuations, sampling, seed)
    groups = work.groups(missing, engine.rows_in_flight)
    if cluster is None:
        sampled = work.stream(engine, groups, progress.tokens())
    else:
        sampled = cluster.run(engine, list(in_groups(groups, _JOB_GROUPS)), work)
    with store.shards:
        for chunk in in_groups(_counted(chain(_finished(missing), sampled), tick), _SHARD_LABELS):
            store.append(chunk)
    return store


def _finished(prefixes: Sequence[Prefix]) -> Iterator[Label]:
    """A path that has ended needs no continuation: its verdict is its label."""
    for prefix in prefixes:
        if prefix.verdict is not None:
            yield prefix.label(0, int(prefix.verdict), int(prefix.verdict))


def _counted(labels: Iterable[Label], tick: Tick) -> Iterator[Label]:
    for label in labels:
        yield label
        tick(1)


@dataclass(frozen=True)
class Continued:
    """How prefixes are continued and judged, wherever that is done."""

    continuations: int
    sampling: Sampling
    seed: int

    def groups(self, prefixes: Sequence[Prefix], rows_in_flight: int) -> list[list[Prefix]]:
        """Prefixes that are continued together."""
        rows = max(_ROWS, rows_in_flight // 4)
        unfinished = [prefix for prefix in prefixes if prefix.verdict is None]
        return list(_groups(unfinished, max(1, rows // self.continuations)))

    def __call__(self, engine: Engine, job: Sequence[list[Prefix]]) -> list[Label]:
        return list(self.stream(engine, job))

    def stream(self, engine: Engine, groups: Sequence[list[Prefix]], tokens: Tick = uncounted) -> Iterator[Label]:
        """Label by label, as soon as a group's continuations are there; ``tokens`` counts them as they are drawn."""
        count = self.continuations
        counts = [TokenCount(tokens) for _ in groups]
        requests = (_request(group, count, tick) for group, tick in zip(groups, counts, strict=True))
        rollouts = engine.sample(requests, self.sampling, self.seed, purpose=PURPOSE)
        for group, rollout, told in zip(groups, rollouts, counts, strict=True):
            told.ended(sum(len(path.token_ids) for path in rollout.paths))
            for number, prefix in enumerate(group):
                paths = rollout.paths[number * count : (number + 1) * count]
                verdicts = [_verdict(engine, prefix, path.token_ids) for path in paths]
                halves = sum(verdicts[0::2]), sum(verdicts[1::2])
                yield prefix.label(count, *halves)


def _groups(prefixes: Sequence[Prefix], size: int) -> Iterator[list[Prefix]]:
    """Neighbouring prefixes of one problem and one length, at most ``size`` together."""
    for _, alike in groupby(prefixes, key=lambda prefix: (prefix.problem, len(prefix.token_ids))):
        yield from in_groups(alike, size)


def _request(group: Sequence[Prefix], continuations: int, tick: Tick) -> Request:
    first = group[0]
    starts = np.repeat(np.stack([prefix.token_ids for prefix in group]), continuations, axis=0)
    paths = tuple((int(prefix.hash[:12], 16) << 16) + k for prefix in group for k in range(continuations))
    return Request(f"{first.task.name}/{first.problem}", first.prompt_ids, paths, starts, tick=tick)


def _verdict(engine: Engine, prefix: Prefix, continuation: NDArray[np.int64]) -> bool:
    answer = prefix.task.answer_of(engine.decode(np.concatenate([prefix.token_ids, continuation])))
    return bool(prefix.task.verdict(prefix.problem, answer, prefix.gold).correct)
