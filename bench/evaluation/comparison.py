"""The main job: sample or open rollouts, score with every method, evaluate by replay, and write the results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunebench.bench.config import RunConfig
from prunebench.bench.engines.base import Engine, Sampling
from prunebench.bench.engines.openai import refusal
from prunebench.bench.engines.shipped import REASONERS
from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.analysis import Candidate, analyse, timings_csv
from prunebench.bench.evaluation.decisions import write_decisions
from prunebench.bench.evaluation.ledger import ledger_csv
from prunebench.bench.evaluation.results import Representative, Results
from prunebench.bench.files import write_atomically
from prunebench.bench.policies import Policy, parse_policy
from prunebench.bench.policies.procedures import NONE, PROCEDURES
from prunebench.bench.progress import SILENT, Progress
from prunebench.bench.provenance import code_digest, environment, versions
from prunebench.bench.rollouts.label_store import Labels, LabelStore
from prunebench.bench.rollouts.labelling import label_prefixes, prefixes_of
from prunebench.bench.rollouts.opening import stored_problems, task_of
from prunebench.bench.rollouts.pools import PoolCaches, record_of
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.bench.rollouts.sampling import problems_of, sample_configured, tasks_of
from prunebench.bench.rollouts.store import IMPORTED, RolloutStore
from prunebench.bench.training.cards import describe, learned_problems, refuse_leak
from prunebench.bench.training.loading import Judges, Loaded, all_on_engine, load_method, parts_of, reads_of
from prunebench.methods.base import LearnablePruner, Quadrant, Signal
from prunebench.methods.registry import PRUNERS
from prunebench.tasks.errors import shown
from prunebench.tasks.near_duplicates import near_duplicates, note
from prunebench.tasks.task import Task

if TYPE_CHECKING:
    from prunebench.bench.engines.ray import Cluster

SAMPLED_ON_THE_SPOT = 0.02
"""Up to this share of missing labels is sampled during a comparison; above it the control has no row."""


@dataclass(frozen=True)
class Inputs:
    """What a comparison is made from, beside its configuration.

    ``learned`` holds tuned methods and their cards; ``labels`` are label stores of these problems (for the
    ``potential`` control and the expected accuracies). ``judges`` name the models of methods that use one; ``plugins``
    are the files whose pruners were registered for this run. ``store``: rollouts that are there already; None: they are
    sampled.
    """

    learned: Path
    labels: tuple[Path, ...] = ()
    judges: Mapping[str, str] = field(default_factory=dict)
    plugins: tuple[Path, ...] = ()
    store: Path | None = None

    def described(self) -> dict[str, Any]:
        """As ``results.json`` holds it; what is shipped is named by its place in the package, wherever that lies."""
        return {
            "learned": _named(self.learned),
            "labels": [_named(path) for path in self.labels],
            "judges": dict(self.judges),
            "plugins": [_named(path) for path in self.plugins],
            "store": None if self.store is None else _named(self.store),
        }

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Inputs:
        store = described["store"]
        return cls(
            _found(described["learned"]),
            tuple(map(_found, described["labels"])),
            all_on_engine(described["judges"], described.get("judge_engine")),
            tuple(map(_found, described["plugins"])),
            None if store is None else _found(store),
        )


SHIPPED, PACKAGE = "shipped:", Path(__file__).resolve().parents[1]


def _named(path: Path) -> str:
    whole = path.resolve()
    return SHIPPED + whole.relative_to(PACKAGE).as_posix() if whole.is_relative_to(PACKAGE) else str(path)


def _found(name: str) -> Path:
    if not name.startswith(SHIPPED):
        return Path(name)
    inside = (PACKAGE / name.removeprefix(SHIPPED)).resolve()
    if not inside.is_relative_to(PACKAGE):
        raise UserError(f"{shown(name)}: what is shipped lies in {PACKAGE}; this does not")
    return inside


def run_comparison(
    engine: Engine | None,
    config: RunConfig,
    out: Path,
    inputs: Inputs,
    *,
    command: str = "",
    progress: Progress = SILENT,
    processes: int = 1,
    cluster: Cluster | None = None,
) -> Results:
    """Results of ``config``; rollouts and finished results that lie in ``out`` are not made again.

    Without an engine the rollouts come from elsewhere: what needs the model is left out. Sampling takes so many
    ``processes``, or the workers of a ``cluster``. The ledger and the measured seconds are written to ``out`` as CSV.
    """
    if engine is not None and config.prefix_tokens >= engine.context:
        raise UserError(
            f"prefix_tokens = {config.prefix_tokens}: the context of {engine.name} is {engine.context} tokens"
        )
    policy = parse_policy(config.policy or f"topk:{config.k}")
    model_hash = engine.digest if engine else IMPORTED
    device = engine.device if engine else "cpu"
    shipped = engine is not None and engine.name in REASONERS
    judges = Judges(inputs.judges, device, shipped=shipped)
    chosen, left_out = choose_methods(config, inputs.learned, model_hash, judges, engine is None or engine.reads)
    members = {
        part: load_method(part, inputs.learned, model_hash, config.prefix_tokens, judges)
        for name in chosen
        for part in parts_of(name)[1:]
    }
    rollouts = _rollouts(engine, config, inputs, out, {**members, **chosen}, progress, processes, cluster)
    stores = [LabelStore.open(path) for path in inputs.labels]
    hashes = {
        "model": model_hash,
        "judges": _digest(judges.digests),
        "labels": _digest([label_store.shards.digest for label_store in stores]),
        "left_out": _digest(left_out),
        **_hashes(config, inputs, rollouts, chosen),
    }
    finished = Results.held(out / "results.json")
    if finished is not None and finished.hashes == hashes:
        return finished
    held, missing = _labels_at_hand(engine, rollouts, stores, config, out)
    if held is None and "potential" in chosen:
        left_out["potential"] = missing
        del chosen["potential"]
    reads = frozenset[Signal]().union(*(method.reads for method in chosen.values()))
    records = _records(engine, rollouts, held, config.prefix_tokens, reads)
    found = analyse(
        records,
        config,
        {name: Candidate(c.pruner, c.policy, describe(c.pruner), c.note) for name, c in chosen.items()},
        policy,
        config.model,
        engine.arithmetic if engine else None,
        progress,
    )
    write_decisions(found.records, found.scored, out)
    _write(out / "ledger.csv", ledger_csv(found.ledger))
    _write(out / "timings.csv", timings_csv(found, {(r.task, r.problem): r.launch_seconds for r in records}))
    alike = _near_duplicates(records, inputs.learned, chosen)
    return Results(
        command=command,
        seed=config.seed,
        versions=versions(),
        hashes=hashes,
        device=engine.device if engine else "none",
        sampling=dict(rollouts.store.manifest["sampling"] or {}),
        problems={
            task: [r.problem for r in records if r.task == task] for task in dict.fromkeys(r.task for r in records)
        },
        splits=_splits(chosen),
        setup={"config": config.model_dump(mode="json"), **inputs.described()},
        environment=environment(engine.device if engine else "none"),
        rows=found.rows,
        repeated=found.repeated,
        representatives=representatives(chosen),
        policies=found.policies,
        equal_cost=found.equal_cost,
        votes=found.votes,
        calibration=found.calibration,
        left_out={**left_out, **found.left_out},
        notes=[*found.notes, *([alike] if alike else []), *rollouts.remarks],
    )


@dataclass(frozen=True)
class Rollouts:
    """A store and what of it is compared, in order: (task, problem id). ``tasks`` read and grade answers.

    ``remarks`` are what the tasks say of their problems.
    """

    store: RolloutStore
    wanted: list[tuple[str, str]]
    tasks: Mapping[str, Task]
    remarks: list[str]


def _rollouts(
    engine: Engine | None,
    config: RunConfig,
    inputs: Inputs,
    out: Path,
    learned: Mapping[str, Loaded],
    progress: Progress,
    processes: int,
    cluster: Cluster | None,
) -> Rollouts:
    """Rollouts that are there, or sampled now. Raises UserError first when one of ``learned`` was trained on them."""
    if inputs.store is not None:
        store = RolloutStore.open(inputs.store)
        wanted = stored_problems(store, config.tasks, config.problems)
        tasks = {name: task_of(store, name) for name in config.tasks}
    else:
        problems = problems_of(tasks_of(config), config.split, config.problems, config.seed)
        wanted = [(task.name, problem.id) for task, problem in problems]
        tasks = {task.name: task for task, _ in problems}
    refuse_leak({name: method.card for name, method in learned.items()}, [problem for _, problem in wanted])
    if inputs.store is None:
        if engine is None:
            raise ValueError("without an engine nothing can be sampled: name a store")
        store = sample_configured(
            engine,
            config,
            problems,
            out / "rollouts",
            progress=progress,
            processes=processes,
            cluster=cluster,
        )
    remarks = [remark for task in tasks.values() for remark in task.remarks()] if inputs.store is None else []
    return Rollouts(store, wanted, tasks, remarks)


def _hashes(config: RunConfig, inputs: Inputs, rollouts: Rollouts, chosen: Mapping[str, Runnable]) -> dict[str, str]:
    """Of what went in: data, what was learned, plugins, settings, tasks, code and packages."""
    return {
        "rollouts": rollouts.store.digest(),
        "learned": _digest({name: asdict(c.card) for name, c in chosen.items() if c.card}),
        "plugins": _digest([hashlib.sha256(path.read_bytes()).hexdigest() for path in inputs.plugins]),
        "config": _digest(config.model_dump()),
        "tasks": _digest(
            [[name, task.answer_type, task.described(), rollouts.wanted] for name, task in rollouts.tasks.items()]
        ),
        "code": code_digest(),
        "versions": _digest(versions()),
    }


def _splits(chosen: Mapping[str, Runnable]) -> dict[str, list[str]]:
    """The problems that the methods were trained and tuned on."""
    cards = [one.card for one in chosen.values() if one.card]
    return {
        "train": sorted({problem for card in cards for problem in card.train_problems}),
        "validation": sorted({problem for card in cards for problem in card.validation_problems}),
    }


def _near_duplicates(records: Sequence[ProblemRecord], learned: Path, chosen: Mapping[str, Runnable]) -> str | None:
    """The sentence about evaluated problems that nearly repeat one that methods learned from."""
    seen = {problem for split in _splits(chosen).values() for problem in split}
    prompts = {problem: prompt for problem, prompt in learned_problems(learned).items() if problem in seen}
    evaluated = {record.problem: record.pool.prompt for record in records}
    return note(near_duplicates(evaluated, prompts), len(evaluated))


@dataclass(frozen=True)
class Runnable(Loaded):
    """A method with the policy that it runs under (None: that of the comparison), and all that it reads."""

    policy: Policy | None
    reads: frozenset[Signal]


def choose_methods(
    config: RunConfig, learned: Path, model_hash: str, judges: Judges, readable: bool = True
) -> tuple[dict[str, Runnable], dict[str, str]]:
    """Methods and procedures ready to run, and why others are left out.

    Where prefixes are not ``readable``, the model being on a server, these are the methods that look from outside.

    A method that was asked for by name must run: its error is raised. With no names, every registered one is tried.
    """
    chosen: dict[str, Runnable] = {}
    left_out: dict[str, str] = {}
    for name in config.methods or [*PRUNERS.names(), *PROCEDURES]:
        try:
            if model_hash == IMPORTED:
                _refuse_learned(name)
            if not readable and (reason := refusal(name, _all_reads(name))):
                raise UserError(reason)
            chosen[name] = _runnable(name, config, learned, model_hash, judges)
        except UserError as error:
            if config.methods:
                raise
            left_out[name] = str(error)
    for control in ("random", "none"):
        if control not in chosen:  # every difference is taken to these two
            chosen = {control: _runnable(control, config, learned, model_hash, judges), **chosen}
    return chosen, left_out


def _all_reads(name: str) -> frozenset[Signal]:
    """What a method or procedure reads."""
    base = PROCEDURES[name].method if name in PROCEDURES else name
    return reads_of([base]) if base else frozenset()


def _refuse_learned(name: str) -> None:
    """Raises UserError for what is fitted to labels of the generating model, which imported rollouts lack."""
    base = PROCEDURES[name].method if name in PROCEDURES else name
    for part in parts_of(base) if base else ():
        if part in PRUNERS.names() and issubclass(PRUNERS.get(part), LearnablePruner):
            raise UserError(
                f"method '{part}' learns from continuations of labelled prefixes; the model of imported rollouts is "
                "not at hand"
            )


def _runnable(name: str, config: RunConfig, learned: Path, model_hash: str, judges: Judges) -> Runnable:
    procedure = NONE if name == "none" else PROCEDURES.get(name)
    if procedure is None:
        found = load_method(name, learned, model_hash, config.prefix_tokens, judges)
        return Runnable(found.pruner, found.card, found.note, None, reads_of([name]))
    policy = procedure.policy(config.n, config.k, config.prefix_tokens)
    if procedure.method is None:
        return Runnable(procedure.pruner(None), None, "", policy, frozenset())
    found = load_method(procedure.method, learned, model_hash, config.prefix_tokens, judges)
    return Runnable(procedure.pruner(found.pruner), found.card, found.note, policy, reads_of([procedure.method]))


def representatives(chosen: Mapping[str, Runnable]) -> list[Representative]:
    """Per quadrant the tuned method that ranks the validation problems best. Procedures and controls stand for none."""
    tuned = {name: c for name, c in chosen.items() if c.card is not None and name not in PROCEDURES}
    found = []
    for quadrant in Quadrant:
        rivals = {
            name: c.card.validation_auroc for name, c in tuned.items() if c.card and c.pruner.quadrant() is quadrant
        }
        if rivals:
            best = max(rivals, key=lambda name: rivals[name])
            found.append(
                Representative(
                    quadrant=quadrant.value, method=best, validation_auroc=rivals[best], candidates=len(rivals)
                )
            )
    return found


def _labels_at_hand(
    engine: Engine | None,
    rollouts: Rollouts,
    stores: Sequence[LabelStore],
    config: RunConfig,
    out: Path,
) -> tuple[Labels | None, str]:
    """The labels of every prefix, a few of them made now; or None and the reason."""
    if engine is None or not engine.reads:
        return None, "Monte Carlo labels need the model that sampled the rollouts"
    digest = str(rollouts.store.manifest["sampling_digest"])
    for label_store in stores:
        label_store.require(engine.digest, digest)
    wanted = set(rollouts.wanted)
    cuts = [
        cut
        for stored in rollouts.store.read(hidden=False)
        if (stored.task, stored.problem) in wanted
        for cut in prefixes_of(rollouts.tasks[stored.task], stored, config.prefix_tokens)
    ]
    labels = Labels(chain.from_iterable(stores))
    missing = [cut for cut in cuts if labels.get(cut.task.name, cut.problem, cut.prefix) is None]
    share = len(missing) / max(1, len(cuts))
    if share > SAMPLED_ON_THE_SPOT or not stores:
        return None, (
            f"{len(missing)} of {len(cuts)} prefixes have no Monte Carlo label; make them with: prunebench label"
        )
    if missing:
        manifest = stores[0].manifest
        extra = label_prefixes(
            engine,
            missing,
            out / "labels",
            continuations=int(manifest["continuations"]),
            sampling=Sampling(**rollouts.store.manifest["sampling"]),
            seed=int(manifest["seed"]),
        )
        labels = Labels(chain(*stores, extra))
    return labels, ""


def _records(
    engine: Engine | None,
    rollouts: Rollouts,
    labels: Labels | None,
    position: int,
    reads: frozenset[Signal],
) -> list[ProblemRecord]:
    """Of the paths only what is compared stays in memory; the rest is read again where it is wanted."""
    read, shelves = rollouts.store.reader(), PoolCaches()
    return [
        record_of(engine, read(key), position, labels, reads, shelves, rollouts.tasks[key[0]], again=partial(read, key))
        for key in rollouts.wanted
    ]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode())


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
