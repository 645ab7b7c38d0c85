"""Rebuild everything that hangs on the embedded reasoner: weights, labels, learned pruners, test labels, card.

Each step looks at what is there already, so the same command goes on after a stop. All data live in a folder that is
named by the hash of the weights and of the sampling settings: a new reasoner never meets old labels.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from bench.config import RunConfig, preset
from bench.potential import cuts_of, label_cuts
from bench.reasoner.card import CARD, Labelled, acceptance, write_card
from bench.reasoner.config import RECIPES, LabelPlan, ReasonerShape, TrainingPlan
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
from tasks.synthetic_task import SYNTHETIC_TASKS

if TYPE_CHECKING:
    from bench.engines.transformers import TransformersEngine

HOME = Path(__file__).parent
WEIGHTS, LEARNED, LABELS, JUDGES = HOME / "weights", HOME / "learned", HOME / "labels", HOME / "judges"
Say = Callable[[str], None]


LABEL_SEED = 1
TRAIN_SEED = 0


def data_folder(engine: TransformersEngine, config: RunConfig, root: Path, recipe: str) -> Path:
    return root / f"{engine.digest}-{config.sampling.digest}-{recipe}"


def usable(stored: StoredProblem, plan: LabelPlan) -> bool:
    """Neither too easy nor too hard to learn from."""
    return plan.correct_at_least <= sum(path.correct is True for path in stored.paths) <= plan.correct_at_most


def make_train_data(engine: TransformersEngine, family: str, folder: Path, config: RunConfig, plan: LabelPlan) -> str:
    """Sample problems until enough are usable, then label the first prefixes of these at L/2, L and 2L."""
    task = SYNTHETIC_TASKS[f"synthetic/{family}"]
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
            recording=config.recording,
        )
        drawn = {problem.id for _, problem in problems}
        found = [p for p in store.read(hidden=False) if p.problem in drawn and usable(p, plan)]
    chosen = found[: plan.train_problems]
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
    return f"{family}: {asked} training problems sampled, {len(chosen)} kept, {len(labels)} prefixes labelled"


def make_held_data(
    engine: TransformersEngine, family: str, split: str, folder: Path, config: RunConfig, plan: LabelPlan
) -> str:
    """The problems of a comparison on ``split``: all paths, and labels for every distinct prefix."""
    task = SYNTHETIC_TASKS[f"synthetic/{family}"]
    problems = [(task, problem) for problem in task.problems(split, config.problems, config.seed)]
    store = sample_rollouts(
        engine,
        problems,
        folder / "rollouts",
        n=config.n,
        sampling=config.sampling,
        seed=config.seed,
        recording=config.recording,
    )
    cuts = [cut for p in store.read(hidden=False) for cut in cuts_of(task, p, config.prefix_tokens)]
    labels = label_cuts(
        engine,
        cuts,
        folder / "labels",
        continuations=plan.test_continuations if split == "test" else plan.validation_continuations,
        sampling=config.sampling,
        seed=LABEL_SEED,
    )
    return f"{family}: {len(problems)} {split} problems, {len(labels)} distinct prefixes labelled"


def _worker(weights: str, root: Path, recipe: str, split: str, family: str) -> str:
    """One family's share, in a process of its own with one thread."""
    import torch

    from bench.engines.transformers import TransformersEngine

    torch.set_num_threads(1)
    engine = TransformersEngine.load(weights, rows_in_flight=512)
    config, plan = preset("demo"), RECIPES[recipe]
    folder = data_folder(engine, config, root, recipe) / split / family
    if split == "train":
        return make_train_data(engine, family, folder, config, plan)
    return make_held_data(engine, family, split, folder, config, plan)


def make_data(weights: str, root: Path, recipe: str, splits: Sequence[str], workers: int, say: Say) -> None:
    """All rollouts and labels of the given splits, a family per worker."""
    os.environ["OMP_NUM_THREADS"] = "1"
    jobs = [(split, family) for split in splits for family in FAMILIES]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(_worker, weights, root, recipe, split, family) for split, family in jobs]
        for future in as_completed(futures):
            say(future.result())


def _train(weights: str, folder: Path, learned: Path, name: str) -> str:
    """Tune and train one method on the families together, in a process of its own with one thread."""
    import torch

    from bench.engines.transformers import TransformersEngine

    torch.set_num_threads(1)
    engine, config = TransformersEngine.load(weights), preset("demo")
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
        judges=Judges({}, learned),
        progress=said.append,
    )
    prefixes = f"{len(train.success)} training prefixes of {len(train.problems)} problems"
    said.append(f"{name}: validation AUROC {card.validation_auroc:.3f}; {prefixes}, {len(validation.success)} held out")
    return "\n".join(said)


def train_all(weights: str, folder: Path, learned: Path, names: Sequence[str], workers: int, say: Say) -> None:
    """Tune and train ``names``, a method per worker; ensembles when their members are done."""
    os.environ["OMP_NUM_THREADS"] = "1"
    first = [name for name in names if PRUNERS.get(name).quadrant() is not Quadrant.MIXED]
    for jobs in (first, [name for name in names if name not in first]):
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for future in as_completed([pool.submit(_train, weights, folder, learned, name) for name in jobs]):
                say(future.result())


def instances(split: str, seed: int, limit: int) -> dict[str, Instance]:
    """The synthetic problems behind the ids of a split."""
    found: dict[str, Instance] = {}
    for task in SYNTHETIC_TASKS.values():
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
    known = {
        **instances("train", TRAIN_SEED, max(map(len, train.values()))),
        **instances("validation", config.seed, config.problems),
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


def build(root: Path, recipe: str, workers: int, say: Say, plan: TrainingPlan | None = None) -> None:
    """The whole chain, resumable: weights, rollouts and labels, learned pruners, test labels, card."""
    from bench.engines.transformers import TransformersEngine
    from bench.reasoner.judges import train_judges
    from bench.reasoner.train import train

    if not (WEIGHTS / "model.safetensors").exists():
        say("training the reasoner")
        train(WEIGHTS, root / "training", plan or TrainingPlan(), ReasonerShape())
    train_judges(JUDGES, root / "judges", say)
    make_data(str(WEIGHTS), root, recipe, ("train", "test", "validation"), workers, say)
    engine, config = TransformersEngine.load(str(WEIGHTS)), preset("demo")
    folder = data_folder(engine, config, root, recipe)
    train_all(str(WEIGHTS), folder, LEARNED, tunable(), workers, say)
    ship_test_labels(folder, LABELS)
    make_card(engine, folder, config, recipe, LEARNED, CARD)
