"""Rebuild everything that hangs on a shipped reasoner: weights, labels, learned pruners, test labels, card.

Each step looks at what is there already, so the same command goes on after a stop. All data live in a folder that is
named by the hash of the weights and of the sampling settings: a new reasoner never meets old labels.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from bench.config import RunConfig, preset
from bench.engines.base import NOTHING
from bench.potential import cuts_of, label_cuts
from bench.reasoner.card import Labelled, acceptance, write_card
from bench.reasoner.config import HOME, REASONERS, RECIPES, LabelPlan, Reasoner
from bench.rollouts import sample_rollouts
from bench.store import RolloutStore, StoredProblem
from bench.training import (
    Judges,
    labelled_folder,
    load_method,
    reads_of,
    setting_of,
    train_method,
    training_lengths,
    tunable,
)
from methods.base import Quadrant
from methods.judges.text_classifier import TextClassifier
from methods.registry import PRUNERS
from tasks.synthetic import FAMILIES
from tasks.synthetic.family import Instance
from tasks.synthetic_task import SYNTHETIC_TASKS, SyntheticTask

if TYPE_CHECKING:
    from bench.engines.transformers import TransformersEngine

JUDGES = HOME / "judges"
"""One pair serves every shipped reasoner: they read text."""
Say = Callable[[str], None]
SPLITS = ("train", "validation", "test")
UNTIL = ("weights", "rollouts", "labels", "all")
ROWS_IN_FLIGHT = {"cpu": 512, "cuda": 3072}

LABEL_SEED = 1
TRAIN_SEED = 0


def data_folder(engine: TransformersEngine, config: RunConfig, root: Path, recipe: str) -> Path:
    return root / f"{engine.digest}-{config.sampling.digest}-{recipe}"


def usable(stored: StoredProblem, plan: LabelPlan) -> bool:
    """Neither too easy nor too hard to learn from."""
    return plan.correct_at_least <= sum(path.correct is True for path in stored.paths) <= plan.correct_at_most


def make_train_data(
    engine: TransformersEngine, family: str, folder: Path, config: RunConfig, plan: LabelPlan, label: bool
) -> str:
    """Sample problems until enough are usable, then label the first prefixes of these at L/2, L and 2L."""
    task = task_of(config, family)
    asked, found = 0, list[StoredProblem]()
    while len(found) < plan.train_problems:
        asked += plan.batch
        if asked > 20 * plan.train_problems:
            raise RuntimeError(
                f"{family}: {asked} problems hold too few usable ones; the reasoner is too good or too bad"
            )
        problems = [(task, problem) for problem in task.problems("train", asked, TRAIN_SEED)]
        store = sample_rollouts(
            engine,
            problems,
            folder / "rollouts",
            n=plan.train_paths,
            sampling=config.sampling,
            seed=TRAIN_SEED,
            recording=config.recording if plan.record else NOTHING,
        )
        drawn = {problem.id for _, problem in problems}
        found = [p for p in store.read(hidden=False) if p.problem in drawn and usable(p, plan)]
    chosen = found[: plan.train_problems]
    said = f"{family}: {asked} training problems sampled, {len(chosen)} kept"
    if not label:
        return said
    amounts = zip(training_lengths(config.prefix_tokens), plan.train_prefixes, strict=True)
    cuts = [cut for length, prefixes in amounts for p in chosen for cut in cuts_of(task, p, length, prefixes)]
    labels = label_cuts(
        engine,
        cuts,
        folder / "labels",
        continuations=plan.train_continuations,
        sampling=config.sampling,
        seed=LABEL_SEED,
    )
    return f"{said}, {len(labels)} prefixes labelled"


def make_held_data(
    engine: TransformersEngine, family: str, split: str, folder: Path, config: RunConfig, plan: LabelPlan, label: bool
) -> str:
    """The problems of a comparison on ``split``: all paths, and labels for every distinct prefix of its own paths."""
    task, wide = task_of(config, family), split == "test"
    count, paths = (plan.test_problems, plan.test_paths) if wide else (None, None)
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
    said = f"{family}: {len(problems)} {split} problems"
    if not label:
        return said
    labelled = {problem.id for _, problem in problems[: plan.test_labelled if wide else None]}
    cuts = [
        cut
        for p in store.read(hidden=False)
        if p.problem in labelled
        for cut in cuts_of(task, replace(p, paths=p.paths[: config.n]), config.prefix_tokens)
    ]
    labels = label_cuts(
        engine,
        cuts,
        folder / "labels",
        continuations=plan.test_continuations if wide else plan.validation_continuations,
        sampling=config.sampling,
        seed=LABEL_SEED,
    )
    return f"{said}, {len(labels)} distinct prefixes labelled"


def task_of(config: RunConfig, family: str) -> SyntheticTask:
    """The family at the level of the comparison."""
    (group,) = config.tasks
    return SYNTHETIC_TASKS[f"{group}/{family}"]


def _worker(name: str, root: Path, recipe: str, device: str, label: bool, split: str, family: str) -> str:
    """One family's share, in a process of its own with one thread."""
    import torch

    from bench.engines.transformers import TransformersEngine

    torch.set_num_threads(1)
    engine = TransformersEngine.load(name, device=device, rows_in_flight=ROWS_IN_FLIGHT[device])
    config, plan = preset(REASONERS[name].preset), RECIPES[recipe]
    folder = data_folder(engine, config, root, recipe) / split / family
    if split == "train":
        return make_train_data(engine, family, folder, config, plan, label)
    return make_held_data(engine, family, split, folder, config, plan, label)


def make_data(
    name: str, root: Path, recipe: str, workers: int, say: Say, device: str = "cpu", label: bool = True
) -> None:
    """All rollouts, and labels if wanted; a split of a family per worker."""
    os.environ["OMP_NUM_THREADS"] = "1"
    jobs = [(split, family) for split in SPLITS for family in FAMILIES]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(_worker, name, root, recipe, device, label, split, family) for split, family in jobs]
        for future in as_completed(futures):
            say(future.result())


def _train(reasoner: str, folder: Path, learned: Path, device: str, name: str) -> str:
    """Tune and train one method on the families together, in a process of its own with one thread."""
    import torch

    from bench.engines.transformers import TransformersEngine

    torch.set_num_threads(1)
    engine, config = TransformersEngine.load(reasoner, device=device), preset(REASONERS[reasoner].preset)
    train, validation, _ = labelled_folder(engine, folder, config.prefix_tokens, reads_of([name]))
    said: list[str] = []
    card = train_method(
        name,
        train,
        validation,
        setting_of(engine, config.prefix_tokens),
        learned,
        model_hash=engine.digest,
        sampling_digest=config.sampling.digest,
        judges=Judges({}, learned, device),
        progress=said.append,
    )
    prefixes = f"{len(train.success)} training prefixes of {len(train.problems)} problems"
    said.append(f"{name}: validation AUROC {card.validation_auroc:.3f}; {prefixes}, {len(validation.success)} held out")
    return "\n".join(said)


def train_all(
    reasoner: str, folder: Path, learned: Path, names: Sequence[str], workers: int, say: Say, device: str = "cpu"
) -> None:
    """Tune and train ``names``, a method per worker; ensembles when their members are done."""
    os.environ["OMP_NUM_THREADS"] = "1"
    first = [name for name in names if PRUNERS.get(name).quadrant() is not Quadrant.MIXED]
    for jobs in (first, [name for name in names if name not in first]):
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for future in as_completed([pool.submit(_train, reasoner, folder, learned, device, name) for name in jobs]):
                say(future.result())


def instances(tasks: Iterable[SyntheticTask], split: str, seed: int, limit: int) -> dict[str, Instance]:
    """The synthetic problems behind the ids of a split."""
    found: dict[str, Instance] = {}
    for task in tasks:
        found.update({instance.identity: instance for instance in islice(task.instances(split, seed), limit)})
    return found


def make_card(
    engine: TransformersEngine, folder: Path, config: RunConfig, recipe: str, learned: Path, path: Path
) -> None:
    """Measure the acceptance card on the validation problems and write it."""
    train = {f: list(RolloutStore.open(folder / "train" / f / "rollouts").read()) for f in FAMILIES}
    validation = {f: Labelled.open(folder / "validation" / f) for f in FAMILIES}
    text = load_method("text-classifier", learned, engine.digest, config.prefix_tokens).pruner
    assert isinstance(text, TextClassifier)
    tasks = [task_of(config, family) for family in FAMILIES]
    known = {
        **instances(tasks, "train", TRAIN_SEED, max(map(len, train.values()))),
        **instances(tasks, "validation", config.seed, config.problems),
    }
    cards = acceptance(engine, train, validation, config.prefix_tokens, config.k, text, known)
    settings = {"sampling": asdict(config.sampling), "prefix_tokens": config.prefix_tokens, "recipe": recipe}
    write_card(cards, engine.digest, settings, path)


def ship_test_labels(folder: Path, target: Path) -> None:
    """Copy the labels of the test problems into the package."""
    if target.exists():
        shutil.rmtree(target)
    for family in FAMILIES:
        shutil.copytree(folder / "test" / family / "labels", target / family, ignore=shutil.ignore_patterns("*.lock"))


def build(
    reasoner: Reasoner, root: Path, recipe: str, workers: int, say: Say, device: str = "cpu", until: str = UNTIL[-1]
) -> None:
    """The whole chain, resumable: weights, rollouts and labels, learned pruners, test labels and card.

    ``until`` names the last of :data:`UNTIL` that is wanted.
    """
    from bench.engines.transformers import TransformersEngine
    from bench.reasoner.judges import train_judges
    from bench.reasoner.train import train

    if not (reasoner.weights / "training.json").exists():  # what a training writes last
        say(f"training {reasoner.name}")
        train(reasoner.weights, root / f"training-{reasoner.name}", reasoner.training, reasoner.shape, device)
    if until == "weights":
        return
    train_judges(JUDGES, root / "judges", say)
    make_data(reasoner.name, root, recipe, workers, say, device, label=until != "rollouts")
    if until == "rollouts":
        return
    engine, config = TransformersEngine.load(reasoner.name, device=device), preset(reasoner.preset)
    folder = data_folder(engine, config, root, recipe)
    ship_test_labels(folder, reasoner.labels)
    if until == "labels":
        return
    train_all(reasoner.name, folder, reasoner.learned, tunable(), workers, say, device)
    make_card(engine, folder, config, recipe, reasoner.learned, reasoner.card)
