"""Rebuild everything that hangs on a shipped reasoner: weights, labels, learned pruners, test labels, card.

Each step looks at what is there already, so the same command goes on after a stop. All data live in a folder that is
named by the hash of the weights and of the sampling settings: a new reasoner never meets old labels.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, replace
from pathlib import Path

from prunebench.bench.config import RunConfig, preset
from prunebench.bench.engines.base import LocalEngine
from prunebench.bench.engines.shipped import HOME, REASONERS, Reasoner
from prunebench.bench.processes import process_pool
from prunebench.bench.progress import SILENT, Progress, Spoken
from prunebench.bench.reasoner.card import Labelled, acceptance, write_card
from prunebench.bench.reasoner.kinds import OneKind, instances, sampled_kinds
from prunebench.bench.rollouts.shards import LOCK
from prunebench.bench.rollouts.store import RolloutStore, StoredProblem
from prunebench.bench.training.data import TRAIN_SEED, make_held_data, make_train_data
from prunebench.bench.training.label_plans import RECIPES
from prunebench.bench.training.loading import Judges, load_method, reads_of, tunable
from prunebench.bench.training.tuning import train_methods
from prunebench.methods.base import Quadrant
from prunebench.methods.judges.text_classifier import TextClassifier
from prunebench.methods.registry import PRUNERS
from prunebench.tasks.synthetic import FAMILIES
from prunebench.tasks.synthetic_task import SYNTHETIC_TASKS, SyntheticTask

JUDGES = HOME / "judges"
"""One pair serves every shipped reasoner: they read text."""
SPLITS = ("train", "validation", "test")
UNTIL = ("weights", "rollouts", "labels", "all")
LARGEST_SHIPPED = 15_000_000
"""Bytes of a file in the repository."""
ROWS_IN_FLIGHT = {"cpu": 512, "cuda": 3072}


def data_folder(engine: LocalEngine, config: RunConfig, root: Path, recipe: str) -> Path:
    return root / f"{engine.digest}-{config.sampling.digest}-{recipe}"


def task_of(config: RunConfig, family: str) -> SyntheticTask:
    """The family at the level of the comparison."""
    (group,) = config.tasks
    return SYNTHETIC_TASKS[f"{group}/{family}"]


def _worker(name: str, root: Path, recipe: str, device: str, label: bool, split: str, family: str) -> str:
    """One family's share, in a process of its own with one thread."""
    import torch

    from prunebench.bench.engines.load import load_local

    torch.set_num_threads(1)
    engine = load_local(name, device, rows_in_flight=ROWS_IN_FLIGHT[device])
    config, plan = preset(REASONERS[name].preset), RECIPES[recipe]
    folder = data_folder(engine, config, root, recipe) / split / family
    if split == "train":
        return make_train_data(engine, task_of(config, family), folder, config, plan, label)
    return make_held_data(engine, task_of(config, family), split, folder, config, plan, label)


def make_data(
    name: str, root: Path, recipe: str, workers: int, progress: Progress, device: str = "cpu", label: bool = True
) -> None:
    """All rollouts, and labels if wanted; a split of a family per worker."""
    os.environ["OMP_NUM_THREADS"] = "1"
    jobs = [(split, family) for split in SPLITS for family in FAMILIES]
    with process_pool(workers) as pool:
        futures = [pool.submit(_worker, name, root, recipe, device, label, split, family) for split, family in jobs]
        for future in as_completed(futures):
            progress.say(future.result())


def _train(reasoner: str, folder: Path, learned: Path, device: str, names: Sequence[str]) -> str:
    """Tune and train methods on the families together, in a process of their own with one thread."""
    import torch

    from prunebench.bench.engines.load import load_local

    torch.set_num_threads(1)
    engine, config = load_local(reasoner, device), preset(REASONERS[reasoner].preset)
    said: list[str] = []
    judges = Judges({}, device)
    for card in train_methods(
        engine, folder, names, learned, config.prefix_tokens, judges=judges, progress=Spoken(said.append)
    ):
        halve(learned / f"{card.method}.safetensors")
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
    train = {f: list(RolloutStore.open(folder / "train" / f / "rollouts").read()) for f in FAMILIES}
    validation = {f: Labelled.open(folder / "validation" / f) for f in FAMILIES}
    text = load_method("text-classifier", learned, engine.digest, config.prefix_tokens).pruner
    assert isinstance(text, TextClassifier)
    tasks = [task_of(config, family) for family in FAMILIES]
    known = {
        **instances(tasks, "train", TRAIN_SEED, max(map(len, train.values()))),
        **instances(tasks, "validation", config.seed, config.problems or 0),
    }
    kinds: list[OneKind] = []
    if both_kinds:
        kinds, more = sampled_kinds(engine, folder / "kinds", config, progress)
        known |= more
    cards = acceptance(engine, train, validation, config.prefix_tokens, config.k, text, known, kinds)
    settings = {"sampling": asdict(config.sampling), "prefix_tokens": config.prefix_tokens, "recipe": recipe}
    write_card(cards, engine.digest, settings, path)


def begin_with_shipped(shipped: Path, folder: Path) -> None:
    """Where nothing was made yet, go on from the rollouts and labels that are shipped."""
    if (shipped / folder.name).is_dir() and not folder.exists():
        shutil.copytree(shipped / folder.name, folder)


def ship_data(folder: Path, shipped: Path) -> None:
    """Copy what there is of training and validation data into the package; a build goes on from there."""
    left = shutil.ignore_patterns("*.lock", "*.tmp", "test")
    shutil.copytree(folder, shipped / folder.name, ignore=left, dirs_exist_ok=True)


def ship_test_rollouts(folder: Path, target: Path) -> None:
    """Copy the test rollouts of all families into the package, as one store; signals that were recorded stay behind."""
    if target.exists():
        shutil.rmtree(target)
    stores = [RolloutStore.open(folder / "test" / family / "rollouts") for family in FAMILIES]
    merged = RolloutStore.create_or_open(target, stores[0].manifest)
    with merged.shards:
        for store in stores:
            merged.append([_without_signals(stored) for stored in store.read(hidden=False)])
    (target / LOCK).unlink()


def _without_signals(stored: StoredProblem) -> StoredProblem:
    return replace(stored, paths=[replace(path, signals={}) for path in stored.paths])


def ship_test_labels(folder: Path, target: Path) -> None:
    """Copy the labels of the test problems into the package."""
    if target.exists():
        shutil.rmtree(target)
    for family in FAMILIES:
        shutil.copytree(folder / "test" / family / "labels", target / family, ignore=shutil.ignore_patterns("*.lock"))


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
    from prunebench.bench.engines.load import load_local
    from prunebench.bench.reasoner.train import train
    from prunebench.bench.reasoner.train_judges import train_judges

    if not (reasoner.weights / "training.json").exists():  # what a training writes last
        progress.say(f"training {reasoner.name}")
        train(reasoner.weights, root / f"training-{reasoner.name}", reasoner.training, reasoner.shape, device, progress)
    if until == "weights":
        return
    train_judges(JUDGES, root / "judges", progress)
    engine, config = load_local(reasoner.name, device), preset(reasoner.preset)
    folder = data_folder(engine, config, root, recipe)
    begin_with_shipped(reasoner.data, folder)
    make_data(reasoner.name, root, recipe, workers, progress, device, label=until != "rollouts")
    ship_test_rollouts(folder, reasoner.rollouts)
    if reasoner.data.is_dir():  # of this reasoner the data are shipped
        ship_data(folder, reasoner.data)
    if until == "rollouts":
        return
    ship_test_labels(folder, reasoner.labels)
    if until == "labels":
        return
    train_all(reasoner.name, folder, reasoner.learned, tunable(), workers, progress, device)
    both = max(share for share, _ in reasoner.training.confident) > 0
    make_card(engine, folder, config, recipe, reasoner.learned, reasoner.card, both, progress)
