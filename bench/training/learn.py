"""From tasks to learned methods: label what their training splits hold, then tune and train. Every step resumes."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import as_completed
from pathlib import Path

from prunebench.bench.config import RunConfig
from prunebench.bench.engines.base import Engine
from prunebench.bench.processes import process_pool
from prunebench.bench.progress import SILENT, Progress
from prunebench.bench.rollouts.sampling import engine_in_process, tasks_of
from prunebench.bench.training.data import make_held_data, make_train_data
from prunebench.bench.training.label_plans import LabelPlan
from prunebench.bench.training.loading import Judges
from prunebench.bench.training.tuning import train_methods
from prunebench.tasks.errors import NoProblemsError
from prunebench.tasks.task import Task

FEWEST_TO_LEARN_FROM = 8
"""Training problems; with fewer a method learns the problems."""


def training_tasks(config: RunConfig) -> list[Task]:
    """The tasks whose splits train and validation methods learn from."""
    return tasks_of(config.model_copy(update={"tasks": config.train_tasks or config.tasks}))


def nothing_to_learn_from(config: RunConfig) -> str | None:
    """Why nothing can be trained, or None."""
    count = 0
    for task in training_tasks(config):
        try:
            count += len(task.problems("train", FEWEST_TO_LEARN_FROM)) if task.problems("validation", 1) else 0
        except NoProblemsError as error:
            return str(error)
    return f"{count} training problems are too few to learn from" if count < FEWEST_TO_LEARN_FROM else None


def learn(
    engine: Engine,
    config: RunConfig,
    plan: LabelPlan,
    names: Sequence[str],
    work: Path,
    *,
    judges: Judges,
    processes: int = 1,
    progress: Progress = SILENT,
) -> Path:
    """Label what :func:`training_tasks` hold and train ``names``; the folder of learned files.

    Everything lies in ``work``, by model and sampling settings, and what is there is not made again.
    """
    data = work / f"{engine.digest}-{config.sampling.digest}-{config.prefix_tokens}"
    learned = data / "learned"
    jobs = [(task, split, data / split / task.name.replace("/", "-")) for task in training_tasks(config)
            for split in ("train", "validation")]  # fmt: skip
    if processes > 1 and len(jobs) > 1:
        with process_pool(min(processes, len(jobs))) as pool:
            futures = [pool.submit(_make_in_process, config, plan, *job) for job in jobs]
            for future in as_completed(futures):
                progress.say(future.result())
    else:
        for job in jobs:
            progress.say(_make(engine, config, plan, *job))
    for card in train_methods(engine, data, names, learned, config.prefix_tokens, seed=config.seed, judges=judges):
        progress.say(f"{card.method}: validation AUROC {card.validation_auroc:.3f}")
    return learned


def _make(engine: Engine, config: RunConfig, plan: LabelPlan, task: Task, split: str, folder: Path) -> str:
    if split == "train":
        return make_train_data(engine, task, folder, config, plan, label=True)
    return make_held_data(engine, task, split, folder, config, plan, label=True)


def _make_in_process(config: RunConfig, plan: LabelPlan, task: Task, split: str, folder: Path) -> str:
    import torch

    torch.set_num_threads(1)
    return _make(engine_in_process(config.model, config.model_options), config, plan, task, split, folder)
