"""The main job: sample, score with every method, evaluate by replay, and write the results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bench.config import RunConfig
from bench.equal_cost import against_one_check
from bench.errors import UserError
from bench.evaluate import ProblemRecord, compare, play_methods
from bench.labels import LabelStore
from bench.policies import Policy, TopK, parse_policy
from bench.potential import Cut, cuts_of, label_cuts
from bench.procedures import PROCEDURES
from bench.replay import record_of
from bench.results import EqualCostRow, Representative, ResultRow, Results
from bench.rollouts import problems_of, sample_rollouts, versions
from bench.store import RolloutStore, StoredProblem
from bench.training import Chosen, Judges, describe, load_method, parts_of, reads_of, refuse_leak
from methods.base import Quadrant, Signal
from methods.pool import Pool
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
    judged: Mapping[str, str] | None = None,
    plugins: Sequence[Path] = (),
    processes: int = 1,
) -> Results:
    """Results of ``config``; rollouts and finished results that lie in ``out`` are not made again.

    ``learned`` holds tuned methods and their cards; ``labels`` are label stores of these problems (for the
    ``potential`` control and the expected accuracies). ``judged`` names the models of methods that use one;
    ``plugins`` are the files whose pruners were registered for this run. Sampling takes so many ``processes``.
    """
    watch = watch or Unwatched()
    if config.prefix_tokens >= engine.context:
        raise UserError(
            f"prefix_tokens = {config.prefix_tokens}: the context of {engine.name} is {engine.context} tokens"
        )
    policy = parse_policy(config.policy or f"topk:{config.k}")
    problems = problems_of(catalogue.expand(config.tasks), config.split, config.problems, config.seed)
    judges = Judges(judged or {}, learned, str(engine.device))
    chosen, left_out = choose_methods(config, learned, engine.digest, judges)
    members = {
        part: load_method(part, learned, engine.digest, config.prefix_tokens, judges)
        for name in chosen
        for part in parts_of(name)[1:]
    }
    refuse_leak({**members, **chosen}, [problem.id for _, problem in problems])
    store = sample_rollouts(
        engine,
        problems,
        out / "rollouts",
        n=config.n,
        sampling=config.sampling,
        seed=config.seed,
        recording=config.recording,
        progress=watch.stretch(f"sampling {len(problems)} problems x {config.n} paths", len(problems) * config.n),
        processes=processes,
    )
    stores = [LabelStore.open(path) for path in labels]
    hashes = {
        "model": engine.digest,
        "rollouts": store.shards.digest,
        "learned": _digest({name: asdict(c.card) for name, c in chosen.items() if c.card}),
        "judges": _digest(judged or {}),
        "plugins": _digest([hashlib.sha256(path.read_bytes()).hexdigest() for path in plugins]),
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
    reads = frozenset[Signal]().union(*(method.reads for method in chosen.values()))
    records = _records(engine, store, held, config.prefix_tokens, [p.id for _, p in problems], reads)
    if held is None and "potential" in chosen:
        left_out["potential"] = missing
        del chosen["potential"]
    rows, equal_cost, notes, more_left_out = _evaluate(engine, config, records, chosen, policy, watch)
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
        representatives=representatives(chosen),
        equal_cost=equal_cost,
        left_out={**left_out, **more_left_out},
        notes=notes,
    )
    return results


@dataclass(frozen=True)
class Runnable(Chosen):
    """A method with the policy that it runs under (None: that of the comparison), and all that it reads."""

    policy: Policy | None
    reads: frozenset[Signal]


def choose_methods(
    config: RunConfig, learned: Path, model_hash: str, judges: Judges
) -> tuple[dict[str, Runnable], dict[str, str]]:
    """Methods and procedures ready to run, and why others are left out.

    A method that was asked for by name must run: its error is raised. With no names, every registered one is tried.
    """
    chosen: dict[str, Runnable] = {}
    left_out: dict[str, str] = {}
    for name in config.methods or [*PRUNERS.names(), *PROCEDURES]:
        try:
            chosen[name] = _runnable(name, config, learned, model_hash, judges)
        except UserError as error:
            if config.methods:
                raise
            left_out[name] = str(error)
    for control in ("random", "none"):
        if control not in chosen:  # every difference is taken to these two
            chosen = {control: _runnable(control, config, learned, model_hash, judges), **chosen}
    return chosen, left_out


def _runnable(name: str, config: RunConfig, learned: Path, model_hash: str, judges: Judges) -> Runnable:
    procedure = PROCEDURES.get(name)
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
    engine: TransformersEngine,
    store: RolloutStore,
    labels: LabelStore | None,
    position: int,
    order: Sequence[str],
    reads: frozenset[Signal],
) -> list[ProblemRecord]:
    found: dict[str, StoredProblem] = {s.problem: s for s in store.read() if s.problem in set(order)}
    shelf: dict[tuple[str, str, int], Pool] = {}
    return [record_of(engine, found[problem], position, labels, reads, shelf) for problem in order]


def _evaluate(
    engine: TransformersEngine,
    config: RunConfig,
    records: Sequence[ProblemRecord],
    chosen: Mapping[str, Runnable],
    policy: Policy,
    watch: Watch,
) -> tuple[list[ResultRow], list[EqualCostRow], list[str], dict[str, str]]:
    methods = {name: c.pruner for name, c in chosen.items()}
    policies = {name: c.policy or policy for name, c in chosen.items()}
    one_check = policy if policy.checkpoints(config.prefix_tokens) == (config.prefix_tokens,) else TopK(config.k)
    tick = watch.stretch(f"scoring with {len(methods)} methods", len(records) * len(methods))
    scored = play_methods(records, methods, policies, progress=lambda: tick(1))
    rows, notes = compare(
        records,
        scored,
        methods,
        policies,
        one_check,
        model=config.model,
        parameters=engine.parameters,
        configurations={name: describe(c.pruner) for name, c in chosen.items()},
        seed=config.seed,
        prefix_tokens=config.prefix_tokens,
        captions={name: c.note for name, c in chosen.items() if c.note},
    )
    own = {
        name: pruner
        for name, pruner in methods.items()
        if chosen[name].policy is None and pruner.quadrant() is not Quadrant.CONTROL
    }
    equal_cost = [] if one_check is policy else against_one_check(records, scored, own, policies)
    return rows, equal_cost, notes, dict(scored.left_out)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
