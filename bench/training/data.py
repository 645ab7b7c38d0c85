"""Labelled data for methods that learn: sampled problems of a split, and success rates of their prefixes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from prunebench.bench.config import RunConfig
from prunebench.bench.engines.base import NOTHING, Engine
from prunebench.bench.engines.shipped import LabelPlan
from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.labelling import label_prefixes, prefixes_of
from prunebench.bench.rollouts.sampling import sample_rollouts
from prunebench.bench.rollouts.store import StoredProblem
from prunebench.bench.training.training import training_lengths
from prunebench.tasks.task import Task

LABEL_SEED = 1
TRAIN_SEED = 0


def usable(stored: StoredProblem, plan: LabelPlan) -> bool:
    """Neither too easy nor too hard to learn from."""
    return plan.correct_at_least <= sum(path.correct is True for path in stored.paths) <= plan.correct_at_most


def make_train_data(engine: Engine, task: Task, folder: Path, config: RunConfig, plan: LabelPlan, label: bool) -> str:
    """Sample problems until enough are usable, then label the first prefixes of these at L/2, L and 2L."""
    asked, drawn, found = 0, 0, list[StoredProblem]()
    while len(found) < plan.train_problems and drawn == asked:  # fewer came than were asked for: that is all there is
        asked += plan.batch
        if asked > 20 * plan.train_problems:
            raise UserError(
                f"task {task.name}: {asked} training problems hold too few usable ones; it is too easy or too hard"
            )
        problems = [(task, problem) for problem in task.problems("train", asked, TRAIN_SEED)]
        drawn = len(problems)
        store = sample_rollouts(
            engine,
            problems,
            folder / "rollouts",
            n=plan.train_paths,
            sampling=config.sampling,
            seed=TRAIN_SEED,
            recording=config.recording if plan.record else NOTHING,
        )
        named = {problem.id for _, problem in problems}
        found = [p for p in store.read(hidden=False) if p.problem in named and usable(p, plan)]
    if not found:
        raise UserError(
            f"task {task.name}: none of {drawn} training problems is neither too easy nor too hard (right in "
            f"{plan.correct_at_least} to {plan.correct_at_most} of {plan.train_paths} paths); there is nothing to learn"
        )
    chosen = found[: plan.train_problems]
    said = f"{task.name}: {drawn} training problems sampled, {len(chosen)} kept"
    if not label:
        return said
    amounts = zip(training_lengths(config.prefix_tokens), plan.train_prefixes, strict=True)
    cuts = [cut for length, prefixes in amounts for p in chosen for cut in prefixes_of(task, p, length, prefixes)]
    labels = label_prefixes(
        engine,
        cuts,
        folder / "labels",
        continuations=plan.train_continuations,
        sampling=config.sampling,
        seed=LABEL_SEED,
    )
    return f"{said}, {len(labels)} prefixes labelled"


def make_held_data(
    engine: Engine, task: Task, split: str, folder: Path, config: RunConfig, plan: LabelPlan, label: bool
) -> str:
    """The problems of a comparison on ``split``: all paths, and labels for every distinct prefix of its own paths."""
    wide = split == "test"
    count, paths = (plan.test_problems, plan.test_paths) if wide else (plan.validation_problems, None)
    problems = [(task, problem) for problem in task.problems(split, count or config.problems, config.seed)]
    store = sample_rollouts(
        engine,
        problems,
        folder / "rollouts",
        n=paths or config.n,
        sampling=config.sampling,
        seed=config.seed,
        recording=config.recording if plan.record else NOTHING,
    )
    said = f"{task.name}: {len(problems)} {split} problems"
    if not label:
        return said
    labelled = {problem.id for _, problem in problems[: plan.test_labelled if wide else None]}
    cuts = [
        cut
        for p in store.read(hidden=False)
        if p.problem in labelled
        for cut in prefixes_of(task, replace(p, paths=p.paths[: config.n]), config.prefix_tokens)
    ]
    labels = label_prefixes(
        engine,
        cuts,
        folder / "labels",
        continuations=plan.test_continuations if wide else plan.validation_continuations,
        sampling=config.sampling,
        seed=LABEL_SEED,
    )
    return f"{said}, {len(labels)} distinct prefixes labelled"
