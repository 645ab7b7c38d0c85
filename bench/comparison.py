"""The main job: sample, score with every method, evaluate by replay, and write the results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bench.config import RunConfig
from bench.errors import UserError
from bench.evaluate import ProblemRecord, compare, score_methods
from bench.labels import LabelStore
from bench.policies import Policy, parse_policy
from bench.potential import Cut, cuts_of, label_cuts
from bench.replay import record_of
from bench.results import ResultRow, Results
from bench.rollouts import problems_of, sample_rollouts, versions
from bench.store import RolloutStore, StoredProblem
from bench.training import Chosen, describe, load_method, refuse_leak
from methods.registry import PRUNERS
from tasks import catalogue

if TYPE_CHECKING:
    from bench.engines.transformers import TransformersEngine

SAMPLED_ON_THE_SPOT = 0.02
"""Up to this share of missing labels is sampled during a comparison; above it the control has no row."""


class Watch(Protocol):
    """Shows progress: a named stretch of work of a known size."""

    def stretch(self, name: str, total: int) -> Callable[[int], None]: ...


class Unwatched:
    """Nobody looks."""

    def stretch(self, name: str, total: int) -> Callable[[int], None]:
        return lambda _: None


def run_comparison(
    engine: TransformersEngine,
    config: RunConfig,
    out: Path,
    *,
    learned: Path,
    labels: Sequence[Path] = (),
    command: str = "",
    watch: Watch | None = None,
) -> Results:
    """Results of ``config``; rollouts and finished results that lie in ``out`` are not made again.

    ``learned`` holds tuned methods and their cards; ``labels`` are label stores of these problems (for the
    ``potential`` control and the expected accuracies).
    """
    watch = watch or Unwatched()
    if config.prefix_tokens >= engine.context:
        raise UserError(
            f"prefix_tokens = {config.prefix_tokens}: the context of {engine.name} is {engine.context} tokens"
        )
    policy = parse_policy(config.policy or f"topk:{config.k}")
    problems = problems_of(catalogue.expand(config.tasks), config.split, config.problems, config.seed)
    store = sample_rollouts(
        engine,
        problems,
        out / "rollouts",
        n=config.n,
        sampling=config.sampling,
        seed=config.seed,
        recording=config.recording,
        progress=watch.stretch(f"sampling {len(problems)} problems x {config.n} paths", len(problems) * config.n),
    )
    chosen, left_out = choose_methods(config.methods, learned, engine.digest, config.prefix_tokens)
    refuse_leak(chosen, [problem.id for _, problem in problems])
    stores = [LabelStore.open(path) for path in labels]
    hashes = {
        "model": engine.digest,
        "rollouts": store.shards.digest,
        "learned": _digest({name: asdict(c.card) for name, c in chosen.items() if c.card}),
        "labels": _digest([label_store.shards.digest for label_store in stores]),
        "config": _digest(config.model_dump()),
        "left_out": _digest(left_out),
        "code": _digest(versions()),
    }
    finished = out / "results.json"
    if finished.exists():
        results = Results.read(finished)
        if results.hashes == hashes:
            return results
    wanted = {(task.name, problem.id) for task, problem in problems}
    held, missing = _labels_at_hand(engine, store, stores, config, out, wanted)
    records = _records(engine, store, held, config.prefix_tokens, [p.id for _, p in problems])
    if held is None and "potential" in chosen:
        left_out["potential"] = missing
        del chosen["potential"]
    rows, notes, more_left_out = _evaluate(engine, config, records, chosen, policy, watch)
    results = Results(
        command=command,
        seed=config.seed,
        versions=versions(),
        hashes=hashes,
        device=str(engine.device),
        sampling=asdict(config.sampling),
        problems={
            task: [r.problem for r in records if r.task == task] for task in dict.fromkeys(r.task for r in records)
        },
        rows=rows,
        left_out={**left_out, **more_left_out},
        notes=notes,
    )
    return results


def choose_methods(
    names: Sequence[str], learned: Path, model_hash: str, prefix_tokens: int
) -> tuple[dict[str, Chosen], dict[str, str]]:
    """Methods ready to score, and why others are left out.

    A method that was asked for by name must run: its error is raised. With no names, every registered one is tried.
    """
    chosen: dict[str, Chosen] = {}
    left_out: dict[str, str] = {}
    for name in names or PRUNERS.names():
        try:
            chosen[name] = load_method(name, learned, model_hash, prefix_tokens)
        except UserError as error:
            if names:
                raise
            left_out[name] = str(error)
    for control in ("random", "none"):
        if control not in chosen:  # every difference is taken to these two
            chosen = {control: load_method(control, learned, model_hash, prefix_tokens), **chosen}
    return chosen, left_out


def _labels_at_hand(
    engine: TransformersEngine,
    store: RolloutStore,
    stores: Sequence[LabelStore],
    config: RunConfig,
    out: Path,
    wanted: set[tuple[str, str]],
) -> tuple[Labels | None, str]:
    """The labels of every prefix, a few of them made now; or None and the reason."""
    for label_store in stores:
        label_store.require(engine.digest, config.sampling.digest)
    cuts = [
        cut
        for stored in store.read(hidden=False)
        if (stored.task, stored.problem) in wanted
        for cut in cuts_of(catalogue.get(stored.task), stored, config.prefix_tokens)
    ]
    labels = Labels(list(stores))
    missing = [cut for cut in cuts if not labels.has(cut)]
    share = len(missing) / max(1, len(cuts))
    if share > SAMPLED_ON_THE_SPOT or not stores:
        return None, (
            f"{len(missing)} of {len(cuts)} prefixes have no Monte Carlo label; make them with: prunebench label"
        )
    if missing:
        manifest = stores[0].manifest
        extra = label_cuts(
            engine,
            missing,
            out / "labels",
            continuations=int(manifest["continuations"]),
            sampling=config.sampling,
            seed=int(manifest["seed"]),
        )
        labels = Labels([*stores, extra])
    return labels, ""


class Labels(LabelStore):
    """Several label stores read as one."""

    def __init__(self, stores: Sequence[LabelStore]) -> None:
        self._labels = {key: label for store in stores for key, label in store._labels.items()}

    def has(self, cut: Cut) -> bool:
        return self.get(cut.task.name, cut.problem, cut.prefix) is not None


def _records(
    engine: TransformersEngine, store: RolloutStore, labels: LabelStore | None, position: int, order: Sequence[str]
) -> list[ProblemRecord]:
    found: dict[str, StoredProblem] = {s.problem: s for s in store.read() if s.problem in set(order)}
    return [record_of(engine, found[problem], position, labels) for problem in order]


def _evaluate(
    engine: TransformersEngine,
    config: RunConfig,
    records: Sequence[ProblemRecord],
    chosen: Mapping[str, Chosen],
    policy: Policy,
    watch: Watch,
) -> tuple[list[ResultRow], list[str], dict[str, str]]:
    methods = {name: c.pruner for name, c in chosen.items()}
    tick = watch.stretch(f"scoring with {len(methods)} methods", len(records) * len(methods))
    scored = score_methods(records, methods, progress=lambda: tick(1))
    rows, notes = compare(
        records,
        scored,
        methods,
        policy,
        model=config.model,
        parameters=engine.parameters,
        configurations={name: describe(c.pruner) for name, c in chosen.items()},
        seed=config.seed,
        prefix_tokens=config.prefix_tokens,
        captions={name: c.note for name, c in chosen.items() if c.note},
    )
    return rows, notes, dict(scored.left_out)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
