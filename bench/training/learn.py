"""From tasks to learned methods: label what their training splits hold, then tune and train. Every step resumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from prunebench.bench.config import RunConfig
from prunebench.bench.engines.base import Engine
from prunebench.bench.processes import count, crew_of
from prunebench.bench.progress import SILENT, Progress, Spoken
from prunebench.bench.rollouts.first_look import FirstLook
from prunebench.bench.rollouts.sampling import engine_in_process, tasks_of
from prunebench.bench.training.data import make_held_data, make_train_data
from prunebench.bench.training.label_plans import LabelPlan
from prunebench.bench.training.loading import Judges
from prunebench.bench.training.tuning import FEWEST_TO_LEARN_FROM, train_methods
from prunebench.tasks.errors import NoProblemsError
from prunebench.tasks.task import Task


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
    look: FirstLook | None = None,
) -> Path:
    """Label what :func:`training_tasks` hold and train ``names``; the folder of learned files.

    Everything lies in ``work``, by model and sampling settings, and what is there is not made again. ``look``: at the
    first problem of every split.
    """
    data = training_folder(engine, config, work)
    learned = data / "learned"
    jobs = [
        _Job(task, split, data / split / task.name.replace("/", "-"), config, plan, look)
        for task in training_tasks(config)
        for split in ("train", "validation")
    ]
    if processes > 1 and len(jobs) > 1:
        tick = progress.stretch("sampling and labelling training data", len(jobs))
        with crew_of(min(processes, len(jobs)), progress.tokens()) as crew:
            for said in crew.results([crew.submit(_in_process, job) for job in jobs]):
                tick(1)
                for sentence in said:
                    progress.say(sentence)
    else:
        for job in jobs:
            progress.say(job.done_by(engine, progress))
    for card in train_methods(engine, data, names, learned, config.prefix_tokens, seed=config.seed, judges=judges):
        progress.say(f"{card.method}: validation AUROC {card.validation_auroc:.3f}")
    return learned


def training_folder(engine: Engine, config: RunConfig, work: Path) -> Path:
    """Where in ``work`` the data lie from which methods learn for this model and these settings."""
    return work / f"{engine.digest}-{config.sampling.digest}-{config.prefix_tokens}"


@dataclass(frozen=True)
class _Job:
    """A split of a task that is sampled and labelled; it may be another process that does it."""

    task: Task
    split: str
    folder: Path
    config: RunConfig
    plan: LabelPlan
    look: FirstLook | None

    def done_by(self, engine: Engine, progress: Progress) -> str:
        """What came of it, in a sentence."""
        make = make_train_data if self.split == "train" else partial(make_held_data, split=self.split)
        return make(
            engine, self.task, folder=self.folder, config=self.config, plan=self.plan, label=True, progress=progress,
            look=self.look,
        )  # fmt: skip


def _in_process(job: _Job) -> list[str]:
    """All that is said of a job."""
    import torch

    torch.set_num_threads(1)
    said: list[str] = []
    engine = engine_in_process(job.config.model, job.config.model_options)
    said.append(job.done_by(engine, Spoken(said.append, count)))
    return said
