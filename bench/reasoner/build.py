"""Rebuild everything that hangs on a shipped reasoner: weights, labels, learned pruners, test labels, card.

Each step looks at what is there already, so the same command goes on after a stop. All data live in a folder that is
named by the hash of the weights and of the sampling settings: a new reasoner never meets old labels.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, replace
from pathlib import Path

from prunebench.bench.config import RunConfig, preset
from prunebench.bench.engines.base import LocalEngine
from prunebench.bench.engines.shipped import HOME, REASONERS, Miniature, Reasoner, SyntheticReasoner
from prunebench.bench.processes import process_pool
from prunebench.bench.progress import SILENT, Progress, Spoken
from prunebench.bench.reasoner.card import Labelled, acceptance, task_card, write_card
from prunebench.bench.reasoner.kinds import OneKind, instances, sampled_kinds
from prunebench.bench.rollouts.sampling import tasks_of
from prunebench.bench.rollouts.shards import LOCK
from prunebench.bench.rollouts.store import RolloutStore, StoredProblem
from prunebench.bench.training.data import TRAIN_SEED, make_held_data, make_train_data
from prunebench.bench.training.label_plans import RECIPES
from prunebench.bench.training.loading import Judges, load_method, reads_of, tunable
from prunebench.bench.training.tuning import train_methods
from prunebench.methods.base import Quadrant
from prunebench.methods.judges.text_classifier import TextClassifier
from prunebench.methods.registry import PRUNERS
from prunebench.tasks.synthetic_task import SyntheticTask
from prunebench.tasks.task import Task

JUDGES = HOME / "judges"
"""One pair serves every shipped reasoner: they read text."""
SPLITS = ("train", "validation", "test")
UNTIL = ("weights", "rollouts", "labels", "all")
LARGEST_SHIPPED = 15_000_000
"""Bytes of a file in the repository."""
ROWS_IN_FLIGHT = {"cpu": 512, "cuda": 3072}


def data_folder(engine: LocalEngine, config: RunConfig, root: Path, recipe: str) -> Path:
    return root / f"{engine.digest}-{config.sampling.digest}-{recipe}"


def tasks_for(config: RunConfig) -> dict[str, Task]:
    """The tasks of a comparison by the names of their folders: family or data set."""
    return {task.name.replace(":", "/").rpartition("/")[2]: task for task in tasks_of(config)}


def _loaded(name: str, device: str, rows_in_flight: int = 256) -> tuple[LocalEngine, RunConfig]:
    """The reasoner as its comparison asks for it, and that comparison."""
    from prunebench.bench.engines.load import load_local

    config = preset(REASONERS[name].preset)
    return load_local(name, device, config.model_options, rows_in_flight), config


def _worker(name: str, root: Path, recipe: str, device: str, label: bool, split: str, part: str) -> str:
    """One task's share, in a process of its own, of one thread: a decoding loop uses no more."""
    import torch

    torch.set_num_threads(1)
    engine, config = _loaded(name, device, ROWS_IN_FLIGHT[device])
    plan = RECIPES[recipe]
    folder, task = data_folder(engine, config, root, recipe) / split / part, tasks_for(config)[part]
    if split == "train":
        return make_train_data(engine, task, folder, config, plan, label)
    return make_held_data(engine, task, split, folder, config, plan, label)


def make_data(
    name: str, root: Path, recipe: str, workers: int, progress: Progress, device: str = "cpu", label: bool = True
) -> None:
    """All rollouts, and labels if wanted; a split of a task per worker."""
    os.environ["OMP_NUM_THREADS"] = "1"
    jobs = [(split, part) for split in SPLITS for part in tasks_for(preset(REASONERS[name].preset))]
    with process_pool(workers) as pool:
        futures = [pool.submit(_worker, name, root, recipe, device, label, *job) for job in jobs]
        for future in as_completed(futures):
            progress.say(future.result())


def _train(reasoner: str, folder: Path, learned: Path, device: str, names: Sequence[str]) -> str:
    """Tune and train methods on the families together, in a process of their own with one thread."""
    import torch

    torch.set_num_threads(1)
    engine, config = _loaded(reasoner, device)
    said: list[str] = []
    judges = Judges({}, device)
    for card in train_methods(
        engine, folder, names, learned, config.prefix_tokens, judges=judges, progress=Spoken(said.append)
    ):
        for file in learned.glob(f"{card.method}.*safetensors"):
            halve(file)
        said.append(f"{card.method}: validation AUROC {card.validation_auroc:.3f}")
    return "\n".join(said)


def halve(path: Path, above: int = LARGEST_SHIPPED) -> None:
    """Store the arrays of a learned file in half the bits where it is too large to ship; they load as before."""
    from safetensors.torch import load_file, save_file

    if path.exists() and path.stat().st_size > above:
        temporary = path.with_suffix(".tmp")
        save_file({name: tensor.half() for name, tensor in load_file(path).items()}, temporary)
        temporary.chmod(0o644)
        temporary.replace(path)


def train_all(
    reasoner: str,
    folder: Path,
    learned: Path,
    names: Sequence[str],
    workers: int,
    progress: Progress,
    device: str = "cpu",
) -> None:
    """Tune and train ``names``; ensembles when their members are done.

    A worker takes a method, or all those together for which the model reads the prefixes again: they share the reading.
    """
    from prunebench.bench.engines.base import rereadable

    os.environ["OMP_NUM_THREADS"] = "1"
    members = [name for name in names if PRUNERS.get(name).quadrant() is not Quadrant.MIXED]
    reading = [name for name in members if any(map(rereadable, reads_of([name])))]
    alone = [[name] for name in members if name not in reading]
    ensembles = [[name] for name in names if name not in members]
    for jobs in ([reading, *alone] if reading else alone, ensembles):
        with process_pool(workers) as pool:
            for future in as_completed([pool.submit(_train, reasoner, folder, learned, device, job) for job in jobs]):
                progress.say(future.result())


def make_card(
    engine: LocalEngine,
    folder: Path,
    config: RunConfig,
    recipe: str,
    learned: Path,
    path: Path,
    both_kinds: bool = False,
    progress: Progress = SILENT,
) -> None:
    """Measure the acceptance card on the validation problems and write it; of ``both_kinds`` of errors if asked."""
    families = tasks_for(config)
    validation = {f: Labelled.open(folder / "validation" / f) for f in families}
    settings = {"sampling": asdict(config.sampling), "prefix_tokens": config.prefix_tokens, "recipe": recipe}
    tasks = [task for task in families.values() if isinstance(task, SyntheticTask)]
    if not tasks:
        lines = [task_card(engine, name, data, config.prefix_tokens, config.k) for name, data in validation.items()]
        return write_card(lines, engine.digest, settings, path)
    train = {f: list(RolloutStore.open(folder / "train" / f / "rollouts").read()) for f in families}
    text = load_method("text-classifier", learned, engine.digest, config.prefix_tokens).pruner
    assert isinstance(text, TextClassifier)
    known = {
        **instances(tasks, "train", TRAIN_SEED, max(map(len, train.values()))),
        **instances(tasks, "validation", config.seed, config.problems or 0),
    }
    kinds: list[OneKind] = []
    if both_kinds:
        kinds, more = sampled_kinds(engine, folder / "kinds", config, progress)
        known |= more
    cards = acceptance(engine, train, validation, config.prefix_tokens, config.k, text, known, kinds)
    write_card(cards, engine.digest, settings, path)


def begin_with_shipped(shipped: Path, folder: Path) -> None:
    """Where nothing was made yet, go on from the rollouts and labels that are shipped."""
    if (shipped / folder.name).is_dir() and not folder.exists():
        shutil.copytree(shipped / folder.name, folder)


def ship_data(folder: Path, shipped: Path) -> None:
    """Copy what there is of training and validation data into the package; a build goes on from there."""
    left = shutil.ignore_patterns("*.lock", "*.tmp", "test")
    shutil.copytree(folder, shipped / folder.name, ignore=left, dirs_exist_ok=True)


def ship_test_rollouts(folder: Path, target: Path, parts: Iterable[str]) -> None:
    """Copy the test rollouts of all tasks into the package, as one store; signals that were recorded stay behind."""
    if target.exists():
        shutil.rmtree(target)
    stores = [RolloutStore.open(folder / "test" / part / "rollouts") for part in parts]
    merged = RolloutStore.create_or_open(target, stores[0].manifest)
    with merged.shards:
        for store in stores:
            merged.append([_without_signals(stored) for stored in store.read(hidden=False)])
    (target / LOCK).unlink()


def _without_signals(stored: StoredProblem) -> StoredProblem:
    return replace(stored, paths=[replace(path, signals={}) for path in stored.paths])


def ship_test_labels(folder: Path, target: Path, parts: Iterable[str]) -> None:
    """Copy the labels of the test problems into the package."""
    if target.exists():
        shutil.rmtree(target)
    for part in parts:
        shutil.copytree(folder / "test" / part / "labels", target / part, ignore=shutil.ignore_patterns("*.lock"))


def build(
    reasoner: Reasoner,
    root: Path,
    recipe: str,
    workers: int,
    progress: Progress,
    device: str = "cpu",
    until: str = UNTIL[-1],
) -> None:
    """The whole chain, resumable: weights, rollouts and labels, learned pruners, test labels and card.

    ``until`` names the last of :data:`UNTIL` that is wanted.
    """
    if not (reasoner.weights / "training.json").exists():  # what a training writes last
        progress.say(f"training {reasoner.name}")
        _train_weights(reasoner, root / f"training-{reasoner.name}", device, progress)
    if until == "weights":
        return
    engine, config = _loaded(reasoner.name, device)
    folder, parts = data_folder(engine, config, root, recipe), tasks_for(config)
    begin_with_shipped(reasoner.data, folder)
    make_data(reasoner.name, root, recipe, workers, progress, device, label=until != "rollouts")
    ship_test_rollouts(folder, reasoner.rollouts, parts)
    if reasoner.data.is_dir():  # of this reasoner the data are shipped
        ship_data(folder, reasoner.data)
    if until == "rollouts":
        return
    ship_test_labels(folder, reasoner.labels, parts)
    if until == "labels":
        return
    if isinstance(reasoner, SyntheticReasoner):
        from prunebench.bench.reasoner.train_judges import train_judges

        train_judges(JUDGES, root / "judges", progress)
    train_all(reasoner.name, folder, reasoner.learned, tunable(), workers, progress, device)
    confident = isinstance(reasoner, SyntheticReasoner) and max(share for share, _ in reasoner.training.confident) > 0
    make_card(engine, folder, config, recipe, reasoner.learned, reasoner.card, confident, progress)


def _train_weights(reasoner: Reasoner, work: Path, device: str, progress: Progress) -> None:
    if isinstance(reasoner, SyntheticReasoner):
        from prunebench.bench.reasoner.train import train

        train(reasoner.weights, work, reasoner.training, reasoner.shape, device, progress)
    if isinstance(reasoner, Miniature):
        from prunebench.bench.reasoner.miniature.training import train_miniature

        train_miniature(reasoner.weights, work, reasoner.training, device, progress)
