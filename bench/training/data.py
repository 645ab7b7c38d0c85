"""Labelled data for methods that learn: sampled problems of a split, and success rates of their prefixes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from prunebench.bench.config import RunConfig
from prunebench.bench.engines.base import NOTHING, Engine
from prunebench.bench.errors import UserError
from prunebench.bench.progress import SILENT, Progress
from prunebench.bench.rollouts.first_look import FirstLook
from prunebench.bench.rollouts.generator import PoolGenerator
from prunebench.bench.rollouts.label_store import KIND as LABELS
from prunebench.bench.rollouts.label_store import Label, Labels, LabelStore
from prunebench.bench.rollouts.labelling import label_prefixes, prefixes_of
from prunebench.bench.rollouts.opening import task_of
from prunebench.bench.rollouts.pools import pool_of, record_of
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.bench.rollouts.sampling import sample_rollouts, tasks_of
from prunebench.bench.rollouts.shards import Shards
from prunebench.bench.rollouts.store import KIND as ROLLOUTS
from prunebench.bench.rollouts.store import RolloutStore, StoredProblem
from prunebench.bench.training.label_plans import LabelPlan
from prunebench.methods.base import Signal
from prunebench.methods.pool import LabelledPool, PrefixDataset
from prunebench.tasks import catalogue
from prunebench.tasks.task import Task

SPLITS = ("train", "validation")
"""Of what is learned from."""
LABEL_SEED = 1
SMALL_BYTES = 40_000_000
"""Weights below which prefixes are read by one thread."""
TRAIN_SEED = 0


def training_lengths(prefix_tokens: int) -> tuple[int, int, int]:
    """L/2, L and 2L: the prefix lengths that a method for checkpoint L learns from (protocol, fair tuning)."""
    return max(1, prefix_tokens // 2), prefix_tokens, 2 * prefix_tokens


# --- making -------------------------------------------------------------------------------------------------------


def why_dropped(right: int, plan: LabelPlan) -> str | None:
    """Why a problem is not learned from of whose paths so many are right; None where it is."""
    if plan.correct_at_least <= right <= plan.correct_at_most:
        return None
    if right in (0, plan.train_paths):
        return "always solved" if right else "never solved"
    if right < plan.correct_at_least:
        return f"too hard (right in fewer than {plan.correct_at_least} of {plan.train_paths} paths)"
    return f"too easy (right in more than {plan.correct_at_most} of {plan.train_paths} paths)"


def make_train_data(
    engine: Engine,
    task: Task,
    folder: Path,
    config: RunConfig,
    plan: LabelPlan,
    label: bool,
    *,
    progress: Progress = SILENT,
    look: FirstLook | None = None,
) -> str:
    """Sample problems until enough are usable, then label the first prefixes of these at L/2, L and 2L."""
    usable, dropped = _drawn(engine, task, folder, config, plan, progress, look)
    chosen = usable[: plan.train_problems]
    said = f"{task.name}: {len(usable) + dropped.total()} training problems sampled, {len(chosen)} kept"
    dropped += Counter({"more than are wanted": len(usable) - len(chosen)})
    if dropped:
        said += ": " + ", ".join(f"{count} {reason}" for reason, count in dropped.items())
    if not chosen:
        raise UserError(f"{said}; there is nothing to learn")
    if not label:
        return said
    amounts = zip(training_lengths(config.prefix_tokens), plan.train_prefixes, strict=True)
    prefixes = [
        prefix for length, most in amounts for stored in chosen for prefix in prefixes_of(task, stored, length, most)
    ]
    labels = label_prefixes(
        engine,
        prefixes,
        folder / "labels",
        continuations=plan.train_continuations,
        sampling=config.sampling,
        seed=LABEL_SEED,
        progress=progress,
    )
    return f"{said}; {len(labels)} prefixes labelled"


def _drawn(
    engine: Engine,
    task: Task,
    folder: Path,
    config: RunConfig,
    plan: LabelPlan,
    progress: Progress,
    look: FirstLook | None,
) -> tuple[list[StoredProblem], Counter[str]]:
    """The usable training problems of as many as it takes, or of all that there are; why how many others are dropped.

    Raises UserError where too many would have to be sampled.
    """
    asked, usable, dropped = 0, list[StoredProblem](), Counter[str]()
    while len(usable) < plan.train_problems and len(usable) + dropped.total() == asked:  # fewer: that is all there is
        asked += plan.batch
        if asked > 20 * plan.train_problems:
            raise UserError(
                f"task {task.name}: {asked - plan.batch} training problems hold too few usable ones "
                f"({', '.join(f'{count} {reason}' for reason, count in dropped.items())})"
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
            progress=progress,
            look=look,
        )
        named = {problem.id for _, problem in problems}
        usable, dropped = [], Counter()
        for stored in store.read(hidden=False):
            if stored.problem in named:
                reason = why_dropped(sum(path.correct is True for path in stored.paths), plan)
                usable += [stored] if reason is None else []
                dropped += Counter([reason] if reason else [])
    return usable, dropped


def make_held_data(
    engine: Engine,
    task: Task,
    split: str,
    folder: Path,
    config: RunConfig,
    plan: LabelPlan,
    label: bool,
    *,
    progress: Progress = SILENT,
    look: FirstLook | None = None,
) -> str:
    """The problems of a comparison on ``split``: all paths, and labels for every distinct prefix of its own paths."""
    wide = split == "test"
    chosen = (plan.test_problems, plan.test_paths), (plan.validation_problems, plan.validation_paths)
    count, paths = chosen[0] if wide else chosen[1]
    problems = [(task, problem) for problem in task.problems(split, count or config.problems, config.seed)]
    store = sample_rollouts(
        engine,
        problems,
        folder / "rollouts",
        n=paths or config.n,
        sampling=config.sampling,
        seed=config.seed,
        recording=config.recording if plan.record else NOTHING,
        progress=progress,
        look=look,
    )
    said = f"{task.name}: {len(problems)} {split} problems"
    if not label:
        return said
    labelled = {problem.id for _, problem in problems[: plan.test_labelled if wide else None]}
    prefixes = [
        prefix
        for p in store.read(hidden=False)
        if p.problem in labelled
        for prefix in prefixes_of(task, replace(p, paths=p.paths[: config.n]), config.prefix_tokens)
    ]
    labels = label_prefixes(
        engine,
        prefixes,
        folder / "labels",
        continuations=plan.test_continuations if wide else plan.validation_continuations,
        sampling=config.sampling,
        seed=LABEL_SEED,
        progress=progress,
    )
    return f"{said}, {len(labels)} distinct prefixes labelled"


def label_test_prefixes(
    engine: Engine,
    config: RunConfig,
    plan: LabelPlan,
    store: RolloutStore,
    folder: Path,
    *,
    progress: Progress = SILENT,
) -> Path:
    """Labels of every prefix at the checkpoint, for the potential control, in ``folder``."""
    tasks = {task.name: task for task in tasks_of(config)}
    prefixes = [
        prefix
        for stored in store.read(hidden=False)
        for prefix in prefixes_of(tasks[stored.task], stored, config.prefix_tokens)
    ]
    label_prefixes(
        engine,
        prefixes,
        folder,
        continuations=plan.test_continuations,
        sampling=config.sampling,
        seed=LABEL_SEED,
        progress=progress,
    )
    return folder


# --- reading ------------------------------------------------------------------------------------------------------


def labelled_folder(
    engine: Engine,
    folder: Path,
    prefix_tokens: int,
    reads: Collection[Signal] = (),
    progress: Progress = SILENT,
    learns: Collection[Signal] | None = None,
) -> tuple[PrefixDataset, PrefixDataset, str]:
    """(train, validation, sampling digest) from ``folder/{train,validation}/<any name>/{rollouts,labels}``.

    The training data hold the labelled prefixes at L/2, L and 2L, whichever there are; validation is at L. ``reads``
    are the signals that the methods want, ``learns`` those of them that are learned from (None: all). Raises UserError
    when a part is missing or was made by another model.
    """
    parts, digests = [], set()
    plans = (training_lengths(prefix_tokens), reads if learns is None else learns), ((prefix_tokens,), reads)
    count = sum(
        len(RolloutStore.open(path / "rollouts").problems()) * len(lengths)
        for split, (lengths, _) in zip(SPLITS, plans, strict=True)
        for path in _labelled_in(folder / split)
    )
    tick = progress.stretch("reading labelled prefixes: problems and lengths", count)
    for split, (lengths, wanted) in zip(SPLITS, plans, strict=True):
        pools: list[LabelledPool] = []
        for path in _labelled_in(folder / split):
            rollouts, labels = RolloutStore.open(path / "rollouts"), LabelStore.open(path / "labels")
            labels.require(engine.digest, str(rollouts.manifest["sampling_digest"]))
            digests.add(str(rollouts.manifest["sampling_digest"]))
            stored = list(rollouts.read())
            for length in lengths:
                named, distinct = partial(task_of, rollouts), split == "train"
                for problem in stored:
                    with _threads_for(engine):
                        pools += labelled_pools(engine, [problem], labels, length, wanted, named, distinct).pools
                    tick(1)
        if not pools:
            raise UserError(_no_labels(folder / split, _labelled_in(folder / split), prefix_tokens))
        parts.append(PrefixDataset(tuple(pools)))
    if len(digests) != 1:
        raise UserError(f"{folder}: its stores were sampled with different settings; use one folder per setting")
    return parts[0], parts[1], digests.pop()


@contextmanager
def _threads_for(engine: Engine) -> Iterator[None]:
    """One thread for a small model: several would wait for one another more than they compute."""
    from prunebench.bench.engines.transformers.decoding import one_thread

    with one_thread() if engine.weight_bytes < SMALL_BYTES else nullcontext():
        yield


def require_labels(folder: Path, prefix_tokens: int) -> None:
    """Raises UserError where a split has no labels of the lengths that :func:`labelled_folder` takes; no path is read.

    A path that ended before a length is its prefix there: such alone are no labels of that length.
    """
    for split, lengths in (("train", training_lengths(prefix_tokens)), ("validation", (prefix_tokens,))):
        stores = _labelled_in(folder / split)
        found = [label for path in stores for label in LabelStore.open(path / "labels")]
        cut = Counter(label.prefix_tokens for label in found if label.continuations)
        if not any(cut[length] for length in lengths):
            there = ", ".join(map(str, sorted(cut))) or "no length"
            raise UserError(f"{_no_labels(folder / split, stores, prefix_tokens)} (there are some of {there})")


def _no_labels(folder: Path, stores: list[Path], prefix_tokens: int) -> str:
    """The sentence about missing labels, with the command that makes those of the first store."""
    place = stores[0]
    return (
        f"{folder}: no labels of prefixes of {prefix_tokens} tokens; make them with: prunebench label "
        f"{place / 'rollouts'} --prefix {prefix_tokens} --out {place / 'labels'}"
    )


def _labelled_in(folder: Path) -> list[Path]:
    """Raises UserError where nothing is labelled."""
    stores = sorted(path for path in folder.glob("*") if (path / "labels").is_dir())
    if not stores:
        place = next((path.parent for path in sorted(folder.glob("*/rollouts"))), folder / "NAME")
        first = "" if (place / "rollouts").is_dir() else (
            f"prunebench rollouts --task TASK --set split={folder.name} --out {place / 'rollouts'}, then "
        )  # fmt: skip
        raise UserError(
            f"{folder}: nothing is labelled there; make labels with: {first}prunebench label {place / 'rollouts'} "
            f"--prefix L --out {place / 'labels'}"
        )
    return stores


def stores_digest(folder: Path) -> str:
    """16 hex digits over all that :func:`labelled_folder` reads, by the checksums that the stores list."""
    digest = hashlib.sha256()
    for split in SPLITS:
        for path in _labelled_in(folder / split):
            for kind, shards in (("rollouts", ROLLOUTS), ("labels", LABELS)):
                digest.update(f"{split}/{path.name}/{Shards.open(path / kind, shards).digest}".encode())
    return digest.hexdigest()[:16]


def test_records(
    engine: Engine, folder: Path, prefix_tokens: int, reads: Collection[Signal] = ()
) -> list[ProblemRecord]:
    """The problems in ``folder/test/<any name>/rollouts``, with their labels where there are any.

    Raises UserError when there are none.
    """
    stores = sorted(path for path in (folder / "test").glob("*") if (path / "rollouts").is_dir())
    if not stores:
        raise UserError(f"{folder / 'test'}: no <name>/rollouts; see prunebench rollouts --help")
    records = []
    for path in stores:
        labels = LabelStore.open(path / "labels") if (path / "labels").is_dir() else None
        store = RolloutStore.open(path / "rollouts")
        for stored in store.read():
            task = task_of(store, stored.task)
            records.append(record_of(engine, stored, prefix_tokens, labels, reads, task=task))
    return records


def labelled_pools(
    engine: Engine,
    problems: Iterable[StoredProblem],
    labels: Labels,
    position: int,
    reads: Collection[Signal] = (),
    task_named: Callable[[str], Task] = catalogue.get,
    distinct: bool = True,
) -> PrefixDataset:
    """Pools of the labelled prefixes of every problem; problems without any are left out.

    To learn from, every ``distinct`` prefix stands once, beside all paths with the one signal that is related to them,
    the last states. To choose by, every path stands as often as it was sampled, as in a test.
    """
    pools = []
    for stored in problems:
        there = {row: path.token_ids for row, path in enumerate(stored.paths) if path.token_ids is not None}
        marked: dict[int, Label] = {}
        seen = set[str]()
        for row, token_ids in there.items():
            label = labels.get(stored.task, stored.problem, token_ids[:position])
            if label is not None and not (distinct and label.prefix in seen):
                seen.add(label.prefix)
                marked[row] = label
        if marked:
            grading = PoolGenerator.of(engine, task_named(stored.task), stored)
            made = partial(pool_of, engine, stored, position, generator=grading)
            rows, whole = list(marked), None
            if len(rows) < len(there):
                beside = frozenset(reads) & {Signal.HIDDEN_STATE} if distinct else frozenset(reads)
                whole = made(list(there), beside) if beside or not distinct else None
            labelled = LabelledPool(
                made(rows, reads),
                np.array([label.success for label in marked.values()]),
                max(label.continuations for label in marked.values()),
                np.array([float(stored.paths[row].correct is True) for row in rows]),
                grading.classes([stored.paths[row].answer for row in rows]),
                whole,
                None if whole is None else np.searchsorted(list(there), rows),
            )
            pools.append(labelled)
    return PrefixDataset(tuple(pools))


def data_digest(dataset: PrefixDataset) -> str:
    """16 hex digits over problems, prefixes and labels."""
    digest = hashlib.sha256()
    for labelled in dataset:
        digest.update(labelled.pool.problem.encode())
        for ids in labelled.pool.token_ids:
            digest.update(ids.tobytes())
        digest.update(labelled.success.tobytes())
    return digest.hexdigest()[:16]
