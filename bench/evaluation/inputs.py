"""What a comparison is made from: rollouts, labels, what was learned, and the digests that say so."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunebench.bench.config import RunConfig
from prunebench.bench.engines.base import Engine, Sampling
from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.candidates import Candidate
from prunebench.bench.files import file_digest
from prunebench.bench.progress import Progress
from prunebench.bench.rollouts.first_look import FirstLook
from prunebench.bench.rollouts.importers.units import WORDS
from prunebench.bench.rollouts.label_store import Labels, LabelStore
from prunebench.bench.rollouts.labelling import label_prefixes, prefixes_of
from prunebench.bench.rollouts.opening import stored_problems, task_of, too_short
from prunebench.bench.rollouts.pools import PoolCaches, record_of
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.bench.rollouts.sampling import problems_of, sample_configured, tasks_of
from prunebench.bench.rollouts.store import RolloutStore
from prunebench.bench.training.cards import Card, refuse_leak
from prunebench.bench.training.loading import Learned, all_on_engine, home_of, parts_of
from prunebench.methods.base import Signal
from prunebench.tasks.errors import shown
from prunebench.tasks.task import Task

if TYPE_CHECKING:
    from prunebench.bench.engines.ray import Cluster

SAMPLED_ON_THE_SPOT = 0.02
"""Up to this share of missing labels is sampled during a comparison; above it the control has no row."""
SHIPPED, PACKAGE = "shipped:", Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Inputs:
    """What a comparison is made from, beside its configuration.

    ``learned`` holds tuned methods and their cards (of several folders the first that has one); ``labels`` are label
    stores of these problems (for the ``potential`` control and the expected accuracies). ``judges`` name the models of
    methods that use one; ``plugins`` are the files whose pruners were registered for this run. ``store``: rollouts that
    are there already; None: they are sampled.
    """

    learned: Learned
    labels: tuple[Path, ...] = ()
    judges: Mapping[str, str] = field(default_factory=dict)
    plugins: tuple[Path, ...] = ()
    store: Path | None = None

    def described(self) -> dict[str, Any]:
        """As ``results.json`` holds it; what is shipped is named by its place in the package, wherever that lies."""
        return {
            "learned": _named(self.learned) if isinstance(self.learned, Path) else list(map(_named, self.learned)),
            "labels": [_named(path) for path in self.labels],
            "judges": dict(self.judges),
            "plugins": [_named(path.resolve()) for path in self.plugins],
            "store": None if self.store is None else _named(self.store),
        }

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Inputs:
        store, learned = described["store"], described["learned"]
        return cls(
            _located(learned) if isinstance(learned, str) else tuple(map(_located, learned)),
            tuple(map(_located, described["labels"])),
            all_on_engine(described["judges"], described.get("judge_engine")),
            tuple(map(_located, described["plugins"])),
            None if store is None else _located(store),
        )


def _named(path: Path) -> str:
    whole = path.resolve()
    return SHIPPED + whole.relative_to(PACKAGE).as_posix() if whole.is_relative_to(PACKAGE) else str(path)


def _located(name: str) -> Path:
    if not name.startswith(SHIPPED):
        return Path(name)
    inside = (PACKAGE / name.removeprefix(SHIPPED)).resolve()
    if not inside.is_relative_to(PACKAGE):
        raise UserError(f"{shown(name)}: what is shipped lies in {PACKAGE}; this does not")
    return inside


@dataclass(frozen=True)
class Rollouts:
    """A store and what of it is compared, in order: (task, problem id). ``tasks`` read and grade answers.

    ``remarks`` are what the tasks say of their problems, and which ones have too few paths.
    """

    store: RolloutStore
    wanted: list[tuple[str, str]]
    tasks: Mapping[str, Task]
    remarks: list[str]

    def records(self, engine: Engine | None, position: int, reads: frozenset[Signal]) -> list[ProblemRecord]:
        """One reading of the store. Of the paths only what is compared stays in memory; the rest is read again."""
        return list(map(self.reader(engine, position, reads), self.wanted))

    def reader(
        self, engine: Engine | None, position: int, reads: frozenset[Signal]
    ) -> Callable[[tuple[str, str]], ProblemRecord]:
        """Reads one record after another."""
        read, caches = self.store.reader(), PoolCaches()
        return lambda key: record_of(
            engine, read(key), position, None, reads, caches, self.tasks[key[0]], reread=partial(read, key)
        )


def rollouts_for(
    engine: Engine | None,
    config: RunConfig,
    inputs: Inputs,
    out: Path,
    candidates: Mapping[str, Candidate],
    progress: Progress,
    processes: int,
    cluster: Cluster | None,
    look: FirstLook | None = None,
) -> Rollouts:
    """Rollouts that are there, or sampled now. Raises UserError first when a candidate was trained on them."""
    if inputs.store is not None:
        store = RolloutStore.open(inputs.store)
        wanted = stored_problems(store, config.tasks, config.problems, config.n)
        _refuse_leak(candidates, inputs.learned, wanted)
        stored_tasks = {name: task_of(store, name) for name in config.tasks}
        if look is not None:
            look.at_stored(store, wanted, stored_tasks, progress.say)
        remarks = [remark] if (remark := too_short(store, config.tasks, config.n)) else []
        if store.manifest.get("tokens") == WORDS:
            remarks.append("tokens are words here: the source names none of its model's")
        return Rollouts(store, wanted, stored_tasks, remarks)
    problems = problems_of(tasks_of(config), config.split, config.problems, config.seed)
    wanted = [(task.name, problem.id) for task, problem in problems]
    _refuse_leak(candidates, inputs.learned, wanted)
    if engine is None:
        raise ValueError("without an engine nothing can be sampled: name a store")
    store = sample_configured(
        engine, config, problems, out / "rollouts",
        progress=progress, processes=processes, cluster=cluster, look=look,
    )  # fmt: skip
    tasks = {task.name: task for task, _ in problems}
    return Rollouts(store, wanted, tasks, [remark for task in tasks.values() for remark in task.remarks()])


def _refuse_leak(candidates: Mapping[str, Candidate], learned: Learned, wanted: Sequence[tuple[str, str]]) -> None:
    """Of the candidates and of the members of ensembles."""
    paths = {part: home_of(part, learned) / f"{part}.json" for name in candidates for part in parts_of(name)[1:]}
    cards = {name: Card.read(path) for name, path in paths.items() if path.exists()}
    refuse_leak(
        {**cards, **{name: candidate.card for name, candidate in candidates.items()}},
        [problem for _, problem in wanted],
    )


def labels_for(
    engine: Engine | None,
    rollouts: Rollouts,
    records: Sequence[ProblemRecord],
    stores: Sequence[LabelStore],
    out: Path,
) -> tuple[Labels | None, str]:
    """The labels of every prefix, a few of them made now; or None and the reason."""
    if engine is None or not engine.reads:
        return None, "Monte Carlo labels need the model that sampled the rollouts"
    manifest = rollouts.store.manifest
    for label_store in stores:
        label_store.require(engine.digest, str(manifest["sampling_digest"]))
    labels = Labels(label for store in stores for label in store)
    distinct = [{ids.tobytes(): ids for ids in record.pool.token_ids}.values() for record in records]
    missing = [
        sum(labels.get(record.task, record.problem, ids) is None for ids in prefixes)
        for record, prefixes in zip(records, distinct, strict=True)
    ]
    count = sum(map(len, distinct))
    if sum(missing) / max(1, count) > SAMPLED_ON_THE_SPOT or not stores:
        make = ["prunebench", "label", str(rollouts.store.shards.folder), "--prefix", str(records[0].pool.position)]
        command = f"{shlex.join(make)} --out runs/labels, and name them: --labels runs/labels"
        return None, f"{sum(missing)} of {count} prefixes have no Monte Carlo label; make them with: {command}"
    if not any(missing):
        return labels, ""
    read = rollouts.store.reader()
    unlabelled = [
        prefix
        for record, number in zip(records, missing, strict=True)
        if number
        for prefix in prefixes_of(
            rollouts.tasks[record.task], read((record.task, record.problem)), record.pool.position
        )
        if labels.get(record.task, record.problem, prefix.token_ids) is None
    ]
    extra = label_prefixes(
        engine,
        unlabelled,
        out / "labels",
        continuations=int(stores[0].manifest["continuations"]),
        sampling=Sampling(**manifest["sampling"]),
        seed=int(stores[0].manifest["seed"]),
    )
    return Labels([*labels, *extra]), ""


def digest_of(value: object) -> str:
    """16 hex digits over anything that JSON can hold; what it cannot is taken by its text."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def identity(name: str, candidate: Candidate, learned: Learned, judges: Mapping[str, str]) -> str:
    """What a candidate is: its settings, its card, the files that it and its members learned, their judges."""
    parts = parts_of(candidate.procedure.method if candidate.procedure and candidate.procedure.method else name)
    files = {part: sorted(home_of(part, learned).glob(f"{part}.*safetensors")) for part in parts}
    return digest_of(
        [
            candidate.pruner.name,
            candidate.pruner.hyperparameters(),
            candidate.card.content() if candidate.card else None,
            {file.name: file_digest(file) for part in parts for file in files[part]},
            {part: judges[part] for part in parts if part in judges},
        ]
    )
