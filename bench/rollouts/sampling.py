"""Sampling complete paths into a store: graded, sealed shard by shard, resumed by the same call."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prunebench.bench.engines.base import Engine, Recording, Request, Rollout, Sampling
from prunebench.bench.engines.base import Path as SampledPath
from prunebench.bench.engines.load import load_engine, require_digest
from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.errors import UserError
from prunebench.bench.files import in_groups
from prunebench.bench.processes import count, crew_of
from prunebench.bench.progress import SILENT, Progress, Tick, TokenCount, uncounted
from prunebench.bench.rollouts.first_look import FirstLook
from prunebench.bench.rollouts.store import RolloutStore, StoredPath, StoredProblem
from prunebench.tasks import catalogue
from prunebench.tasks.catalogue import UnknownTaskError
from prunebench.tasks.task import Problem, Task

if TYPE_CHECKING:
    from prunebench.bench.config import RunConfig
    from prunebench.bench.engines.ray import Cluster

SHARD_PROBLEMS = 4
"""What is sealed together, and the least that one of several processes samples before it hands the paths over."""
_REFILLS = 2
"""So many times the rows in flight are handed to a process: the next problems start where paths have ended."""


def rollout_manifest(engine: Engine, sampling: Sampling, recording: Recording, seed: int, n: int) -> dict[str, Any]:
    """What must be equal for two calls to write into one store."""
    return {
        "model": engine.name,
        "model_hash": engine.digest,
        "sampling": asdict(sampling),
        "sampling_digest": sampling.digest,
        "recording": recording.described(),
        "seed": seed,
        "n": n,
        "device": engine.device,
        "versions": {name: version(name) for name in ("torch", "transformers")},
        **({"model_options": engine.options.changes} if engine.options.changes else {}),
        **({"engine": engine.backend} if engine.backend else {}),
    }


def sample_rollouts(
    engine: Engine,
    problems: Sequence[tuple[Task, Problem]],
    folder: Path,
    *,
    n: int,
    sampling: Sampling,
    seed: int,
    recording: Recording,
    progress: Progress = SILENT,
    processes: int = 1,
    cluster: Cluster | None = None,
    look: FirstLook | None = None,
) -> RolloutStore:
    """Sample ``n`` paths of every problem that the store in ``folder`` does not hold yet.

    ``progress`` counts the paths. A kill loses at most the shard that is being filled, or one of each of
    several ``processes`` or workers of a ``cluster``. The paths do not depend on their number. ``look``: at the first
    problem, before anything is stored; it raises UserError where nothing can come of the others.
    """
    recording = engine.recordable(recording)
    store = RolloutStore.create_or_open(folder, rollout_manifest(engine, sampling, recording, seed, n))
    tasks = {task.name: task for task, _ in problems}
    store.keep_tasks(tasks.values())
    done = store.problems()
    missing = [(task, problem) for task, problem in problems if (task.name, problem.id) not in done]
    held = [(task.name, problem.id) for task, problem in problems if (task.name, problem.id) in done]
    if look is not None and held:
        look.at_stored(store, held, tasks, progress.say)
    tick = progress.stretch(f"sampling {len(problems)} problems x {n} paths", n * len(problems))
    tick(n * len(held))
    if not missing:
        return store
    require_room(engine, missing)
    work, looked_at = Sampled(n, sampling, seed, recording), look if not held else None
    sampled = _sampled(engine, missing, work, processes, cluster, progress.tokens(), alone=looked_at is not None)
    with store.shards, closing(sampled):
        finished = sampled if looked_at is None else looked_at.through(sampled, tasks, progress.say)
        for chunk in in_groups(_counted(finished, tick), SHARD_PROBLEMS):
            store.append(chunk)
    return store


def require_room(engine: Engine, problems: Iterable[tuple[Task, Problem]]) -> None:
    """Raises UserError where a prompt fills the context, before anything is sampled."""
    tokens = ((task.where(problem.id), len(engine.encode_prompt(problem.prompt))) for task, problem in problems)
    if long := [(where, count) for where, count in tokens if count >= engine.context]:
        (where, count), more = long[0], f" and {len(long) - 1} more" if len(long) > 1 else ""
        raise UserError(
            f"{where}{more}: a prompt of {count} tokens leaves no room in the context of {engine.context} tokens of "
            f"{engine.name}; shorten it, take it out of the data, or name a model with a longer context"
        )


def _sampled(
    engine: Engine,
    problems: Sequence[tuple[Task, Problem]],
    work: Sampled,
    processes: int,
    cluster: Cluster | None,
    tokens: Tick,
    *,
    alone: bool,
) -> Generator[StoredProblem]:
    """Problem by problem; the first one ``alone`` before all that are handed over together, to be looked at early."""
    first = 1 if alone else 0
    jobs = [*([list(problems[:1])] if alone else []), *in_groups(problems[first:], SHARD_PROBLEMS)]
    if cluster is not None:
        yield from _told(cluster.run(engine, jobs, work), tokens)
    elif processes > 1 and not engine.backend and len(problems) > SHARD_PROBLEMS:
        size = job_problems(len(problems), work.n, engine.rows_in_flight, processes)
        jobs = [*jobs[:first], *in_groups(problems[first:], size)]
        yield from _sampled_by(processes, engine, jobs, work, tokens)
    else:
        first = first if engine.backend else 0  # a backend gets many together, and gives them back so
        for part in (problems[:first], problems[first:]):
            yield from work.stream(engine, part, tokens)


def sample_configured(
    engine: Engine,
    config: RunConfig,
    problems: Sequence[tuple[Task, Problem]],
    folder: Path,
    *,
    progress: Progress = SILENT,
    processes: int = 1,
    cluster: Cluster | None = None,
    look: FirstLook | None = None,
) -> RolloutStore:
    """Sample ``problems`` as the configuration says; see :func:`sample_rollouts`."""
    return sample_rollouts(
        engine,
        problems,
        folder,
        n=config.n,
        sampling=config.sampling,
        seed=config.seed,
        recording=config.recording,
        progress=progress,
        processes=processes,
        cluster=cluster,
        look=look,
    )


def sample_split(
    engine: Engine,
    config: RunConfig,
    folder: Path,
    *,
    progress: Progress = SILENT,
    processes: int = 1,
    look: FirstLook | None = None,
) -> RolloutStore:
    """Sample the problems of the configuration's split."""
    problems = problems_of(tasks_of(config), config.split, config.problems, config.seed)
    return sample_configured(engine, config, problems, folder, progress=progress, processes=processes, look=look)


def _counted(problems: Iterable[StoredProblem], tick: Tick) -> Iterator[StoredProblem]:
    for stored in problems:
        yield stored
        tick(len(stored.paths))


def _told(problems: Iterable[StoredProblem], tokens: Tick) -> Iterator[StoredProblem]:
    """From elsewhere tokens are known when their problem is."""
    for stored in problems:
        tokens(sum(path.length for path in stored.paths))
        yield stored


@dataclass(frozen=True)
class Sampled:
    """How problems are sampled, wherever that is done: here, in another process, on another machine."""

    n: int
    sampling: Sampling
    seed: int
    recording: Recording

    def __call__(self, engine: Engine, job: Sequence[tuple[Task, Problem]]) -> list[StoredProblem]:
        return list(self.stream(engine, job))

    def stream(
        self, engine: Engine, problems: Sequence[tuple[Task, Problem]], tokens: Tick = uncounted
    ) -> Iterator[StoredProblem]:
        """Problem by problem, as soon as its paths are there; ``tokens`` counts them as they are drawn."""
        counts = [TokenCount(tokens) for _ in problems]
        requests = [
            Request(f"{task.name}/{problem.id}", engine.encode_prompt(problem.prompt), tuple(range(self.n)), tick=tick)
            for (task, problem), tick in zip(problems, counts, strict=True)
        ]
        rollouts = engine.sample(requests, self.sampling, self.seed, self.recording)
        for (task, problem), request, rollout, told in zip(problems, requests, rollouts, counts, strict=True):
            told.ended(sum(len(path.token_ids) for path in rollout.paths))
            yield stored_problem(engine, task, problem, request, rollout)


def job_problems(problems: int, n: int, rows_in_flight: int, processes: int) -> int:
    """So many problems of ``n`` paths one of several processes samples at a time: enough to keep its products wide,
    and no more than its share."""
    return max(SHARD_PROBLEMS, min(-(-problems // processes), _REFILLS * rows_in_flight // n))


def _sampled_by(
    processes: int, engine: Engine, jobs: Sequence[Sequence[tuple[Task, Problem]]], work: Sampled, tokens: Tick
) -> Iterator[StoredProblem]:
    """Sampling takes one CPU thread (see the engine), so more cores are used by more processes."""
    with crew_of(processes, tokens) as crew:
        asked = [crew.submit(_job, engine.name, engine.options, engine.digest, job, work) for job in jobs]
        for problems in crew.results(asked):
            yield from problems


def _job(
    model: str, options: ModelOptions, digest: str, problems: Sequence[tuple[Task, Problem]], work: Sampled
) -> list[StoredProblem]:
    """One process's share. The model is loaded once per process."""
    engine = engine_in_process(model, options)
    require_digest(engine, digest)
    return list(work.stream(engine, problems, count))


@cache
def engine_in_process(model: str, options: ModelOptions) -> Engine:
    """The engine of a process that was started for sampling, loaded once."""
    return load_engine(model, "cpu", options)


def stored_problem(engine: Engine, task: Task, problem: Problem, request: Request, rollout: Rollout) -> StoredProblem:
    """A rollout with its texts, answers and verdicts."""
    hidden = {
        checkpoint: np.stack([path.hidden[checkpoint] for path in rollout.paths])
        for checkpoint in (rollout.paths[0].hidden if rollout.paths else {})
    }
    return StoredProblem(
        task=task.name,
        problem=problem.id,
        prompt=problem.prompt,
        prompt_ids=request.prompt_ids,
        gold=problem.answer,
        paths=[_stored_path(engine, task, problem, path) for path in rollout.paths],
        launch_seconds=rollout.launch_seconds,
        hidden=hidden,
    )


def _stored_path(engine: Engine, task: Task, problem: Problem, path: SampledPath) -> StoredPath:
    text = engine.decode(path.token_ids)
    found = task.found_in(text)
    answer = found.answer if found else None
    verdict = task.verdict(problem.id, answer, problem.answer)
    return StoredPath(
        path=path.path,
        token_ids=path.token_ids,
        text=text,
        finish=path.finish,
        answer=answer,
        correct=verdict.correct,
        grader=verdict.grader,
        signals=path.signals,
        tool_spans=path.tool_spans,
        rule=found.rule if found else None,
    )


def tasks_of(config: RunConfig) -> list[Task]:
    """The tasks of a configuration. Raises UserError for one that is not known or does not serve."""
    try:
        return catalogue.expand(config.tasks, {name: Path(place) for name, place in config.data.items()})
    except UnknownTaskError as error:
        raise UserError(str(error)) from error


def problems_of(tasks: Sequence[Task], split: str, limit: int | None, seed: int) -> list[tuple[Task, Problem]]:
    """The problems of a comparison, task by task; all of a split without a ``limit``.

    Raises UserError for a task that has none, or that has no end where there is no limit.
    """
    chosen = []
    for task in tasks:
        if limit is None and task.endless:
            raise UserError(f"task {task.name} has no end: say how many problems are wanted: --set problems=20")
        problems = task.problems(split, limit, seed)
        if not problems:
            raise UserError(f"task {task.name}: split '{split}' is empty; choose another split")
        chosen += [(task, problem) for problem in problems]
    return chosen
