"""Whole ways: from tasks to learned methods, to a swept store, to a recommendation. Every step resumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prunebench.bench.cli.planning import Extent
from prunebench.bench.config import RunConfig
from prunebench.bench.engines.base import Engine, Request, Sampling
from prunebench.bench.engines.shipped import REASONERS
from prunebench.bench.errors import UserError
from prunebench.bench.guideline.recommendation import Recommendation, recommend
from prunebench.bench.guideline.sweep import Grid, Sweep, playable_of, sweep
from prunebench.bench.perf.clock import seconds_of
from prunebench.bench.progress import SILENT, Progress
from prunebench.bench.rollouts.labelling import label_prefixes, prefixes_of
from prunebench.bench.rollouts.opening import first_problems
from prunebench.bench.rollouts.sampling import problems_of, sample_configured, tasks_of
from prunebench.bench.rollouts.store import IMPORTED, RolloutStore
from prunebench.bench.training.cards import refuse_leak
from prunebench.bench.training.data import LABEL_SEED
from prunebench.bench.training.label_plans import RECIPES, LabelPlan
from prunebench.bench.training.learn import learn, training_tasks
from prunebench.bench.training.loading import Judges, entry_of, load_method
from prunebench.tasks.errors import NoProblemsError
from prunebench.tasks.task import Task

FEWEST_TO_LEARN_FROM = 8
"""Training problems; with fewer a method learns the problems."""
TRIAL_PROBLEMS, TRIAL_PATHS = 4, 8
GAMMAS = (1.0, 1 / 2, 1 / 4, 1 / 8)


@dataclass(frozen=True)
class Trial:
    """A few paths of a few problems, to plan by: tokens per second and per path, and of the longest prompt."""

    speed: float
    mean_tokens: int
    prompt_tokens: int

    @classmethod
    def of(cls, engine: Engine, config: RunConfig) -> Trial:
        """Sample the first paths of the first problems. Raises UserError for a prompt that the model cannot take."""
        chosen = problems_of(tasks_of(config), config.split, TRIAL_PROBLEMS, config.seed)[:TRIAL_PROBLEMS]
        prompts = [engine.encode_prompt(problem.prompt) for _, problem in chosen]
        longest = max(map(len, prompts))
        if longest + 1 >= engine.context:
            raise UserError(
                f"a prompt has {longest} tokens, and the context of {engine.name} is {engine.context} tokens"
            )
        sampling = Sampling(
            config.temperature,
            config.top_p,
            config.top_k,
            config.min_p,
            min(config.max_new_tokens, engine.context - longest),
        )
        requests = [Request(p.id, ids, tuple(range(TRIAL_PATHS))) for (_, p), ids in zip(chosen, prompts, strict=True)]
        lengths: list[int] = []
        seconds = seconds_of(
            lambda: lengths.extend(
                len(path.token_ids)
                for rollout in engine.sample(requests, sampling, config.seed)
                for path in rollout.paths
            )
        )
        return cls(sum(lengths) / seconds, max(1, round(float(np.mean(lengths)))), longest)

    def fitted(self, config: RunConfig, engine: Engine, prefix: int | None) -> RunConfig:
        """``config`` with a cap that the context allows, and a checkpoint inside the paths."""
        cap = min(config.max_new_tokens, engine.context - self.prompt_tokens)
        position = prefix or (
            config.prefix_tokens if 2 * config.prefix_tokens <= self.mean_tokens else max(1, self.mean_tokens // 8)
        )
        if position >= cap:
            raise UserError(f"--prefix {position}: paths end at {cap} tokens at the latest; check earlier")
        return config.model_copy(update={"max_new_tokens": cap, "prefix_tokens": position})


def extent_of(
    config: RunConfig,
    engine: Engine | None,
    speed: float | None = None,
    mean_tokens: int | None = None,
    learning: bool = True,
) -> Extent:
    """What a plan counts with; the number of problems is the benchmark's where the data are not at hand.

    Training takes the recipe's number of problems, or all of a task that has fewer; none without ``learning``.

    Raises UserError for data that cannot be had or do not serve.
    """
    from prunebench.bench.perf.clock import tokens_per_second

    count = sum(_count(task, config.split, config.problems, task.expected) for task in tasks_of(config))
    most = RECIPES[config.recipe].train_problems
    learned_from = [task for task in training_tasks(config) if "train" in task.splits] if learning else []
    taught = sum(_count(task, "train", most, most) for task in learned_from)
    if speed is None:
        assert engine is not None
        ((_, first), *_rest) = problems_of(tasks_of(config)[:1], config.split, 1, config.seed)
        speed = tokens_per_second(engine, first.prompt)
    arithmetic = engine.arithmetic if engine else None
    kv = config.kv_bytes_per_token or (arithmetic.kv_bytes if arithmetic else None)
    return Extent(count, taught, speed, mean_tokens, kv)


def _count(task: Task, split: str, limit: int | None, otherwise: int | None) -> int:
    """How many problems of a split there are, up to ``limit``; ``otherwise`` where that would have to be fetched."""
    if task.remote and otherwise is not None:
        return min(otherwise, limit or otherwise)
    return len(problems_of([task], split, limit, 0))


def sampled(engine: Engine, config: RunConfig, folder: Path, processes: int, progress: Progress) -> RolloutStore:
    """The rollouts of the configuration's problems, in ``folder``."""
    chosen = problems_of(tasks_of(config), config.split, config.problems, config.seed)
    return sample_configured(engine, config, chosen, folder, progress=progress, processes=processes)


def labelled(
    engine: Engine, config: RunConfig, plan: LabelPlan, store: RolloutStore, folder: Path, progress: Progress
) -> Path:
    """Labels of every prefix at the checkpoint, for the potential control, in ``folder``."""
    named = {task.name: task for task in tasks_of(config)}
    cuts = [cut for s in store.read(hidden=False) for cut in prefixes_of(named[s.task], s, config.prefix_tokens)]
    label_prefixes(
        engine,
        cuts,
        folder,
        continuations=plan.test_continuations,
        sampling=config.sampling,
        seed=LABEL_SEED,
        progress=progress,
    )
    return folder


def swept(
    engine: Engine | None,
    store: Path,
    names: Sequence[str],
    learned: Path,
    trained_for: int,
    grid: Grid,
    out: Path,
    *,
    judges: Judges,
    problems: int | None = None,
    command: str = "",
    progress: Progress,
) -> Sweep:
    """The sweep of named methods over stored rollouts. Raises UserError where one was trained on these problems."""
    digest = engine.digest if engine else IMPORTED
    loaded = {name: load_method(name, learned, digest, trained_for, judges) for name in names}
    refuse_leak(
        {name: method.card for name, method in loaded.items()},
        [problem for _, problem in first_problems(RolloutStore.open(store), problems)],
    )
    return sweep(
        engine,
        store,
        {name: one.pruner for name, one in loaded.items()},
        grid,
        out,
        arithmetic=engine.arithmetic if engine else None,
        problems=problems,
        command=command,
        progress=progress,
    )


def advice(
    engine: Engine,
    config: RunConfig,
    plan: LabelPlan,
    taught: Sequence[str],
    untaught: Sequence[str],
    out: Path,
    *,
    budget: float | None = None,
    processes: int = 1,
    command: str = "",
    progress: Progress = SILENT,
) -> Recommendation:
    """Train ``taught``, sample the test problems, sweep all methods at one budget and less, and recommend.

    Without a ``budget`` it is what keeping all of a quarter of the paths costs. Too few problems to learn from train
    nothing, and ``progress`` says so.
    """
    judges = Judges({}, engine.device, shipped=engine.name in REASONERS)
    learned = out / "training"
    playable, left_out = playable_of({name: entry_of(name) for name in [*taught, *untaught]})
    for name, why in left_out.items():
        progress.say(f"left out: {name}: {why}")
    taught, untaught = ([name for name in names if name in playable] for names in (taught, untaught))
    reason = _nothing_to_learn_from(config) if taught else None
    if reason is not None:
        progress.say(f"{reason}; not trained: {', '.join(taught)}")
        taught = ()
    if taught:
        learned = learn(
            engine, config, plan, taught, out / "training", judges=judges, processes=processes, progress=progress
        )
    store = sampled(engine, config, out / "rollouts", processes, progress)
    lengths = [length for paths in store.lengths().values() for length in paths]
    whole = float(np.mean(lengths)) * max(1, config.n // 4) if budget is None else budget
    grid = Grid((config.prefix_tokens,), (whole / 4, whole / 2, whole), GAMMAS, seed=config.seed)
    found = swept(
        engine,
        out / "rollouts",
        [*taught, *untaught],
        learned,
        config.prefix_tokens,
        grid,
        out / "sweep",
        judges=judges,
        command=command,
        progress=progress,
    )
    made = recommend(found, whole, command)
    made.save(out / "recommendation.json", indent=1)
    return made


def budgets_of(store: Path) -> tuple[float, ...]:
    """What keeping all of a sixteenth to a half of the stored paths costs, in generator tokens per problem."""
    lengths = list(RolloutStore.open(store).lengths().values())
    most, mean = min(map(len, lengths)), float(np.mean([length for paths in lengths for length in paths]))
    return tuple(mean * most / part for part in (16, 8, 4, 2) if most >= part)


def _nothing_to_learn_from(config: RunConfig) -> str | None:
    """Why nothing can be trained, or None."""
    count = 0
    for task in training_tasks(config):
        try:
            count += len(task.problems("train", FEWEST_TO_LEARN_FROM)) if task.problems("validation", 1) else 0
        except NoProblemsError as error:
            return str(error)
    return f"{count} training problems are too few to learn from" if count < FEWEST_TO_LEARN_FROM else None
