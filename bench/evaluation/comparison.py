"""The main job: sample or open rollouts, score with every method, evaluate by replay, and write the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunebench.bench.config import RunConfig
from prunebench.bench.engines.arithmetic import Arithmetic
from prunebench.bench.engines.base import Engine
from prunebench.bench.engines.shipped import SYNTHETIC
from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.analysis import Analysis, analyse, one_check, timings_csv
from prunebench.bench.evaluation.candidates import Candidate, choose, comparison_policy
from prunebench.bench.evaluation.decisions import write_decisions
from prunebench.bench.evaluation.inputs import Inputs, Rollouts, digest_of, identity, labels_for, rollouts_for
from prunebench.bench.evaluation.ledger import ledger_csv
from prunebench.bench.evaluation.paths_file import write_paths
from prunebench.bench.evaluation.replay_store import ReplayStore
from prunebench.bench.evaluation.replays import competing, require_rows
from prunebench.bench.evaluation.results import Note, Results
from prunebench.bench.evaluation.scoring import Scorers
from prunebench.bench.evaluation.tables.main import Setting
from prunebench.bench.evaluation.tables.representatives import ranked_elsewhere, representatives
from prunebench.bench.evaluation.tables.versus import pairs_of, versus
from prunebench.bench.files import file_digest, write_atomically
from prunebench.bench.policies.votes import VOTES
from prunebench.bench.progress import SILENT, Progress
from prunebench.bench.provenance import code_digest, environment, own_files, versions
from prunebench.bench.rollouts.first_look import FirstLook
from prunebench.bench.rollouts.label_store import LabelStore
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.bench.rollouts.store import IMPORTED
from prunebench.bench.training.cards import learned_problems
from prunebench.bench.training.loading import Judges, Learned
from prunebench.methods.base import Signal
from prunebench.tasks.near_duplicates import near_duplicates, note

if TYPE_CHECKING:
    from prunebench.bench.engines.ray import Cluster

RESULTS = "results.json"
"""Written last: a folder that holds it holds a finished comparison."""
ARITHMETIC = "arithmetic"
"""Where the set-up of results says what the model's tokens cost; earlier results do not."""
CONTEXT = ("model", "plugins", "tasks", "code", "versions")
"""The hashes of what every replay depends on."""


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
    look: FirstLook | None = None,
) -> Results:
    """Results of ``config``, written to ``out``; rollouts, replays and finished results there are not made again.

    Without an engine the rollouts come from elsewhere: what needs the model is left out. Sampling and scoring take so
    many ``processes``, or sampling the workers of a ``cluster``. ``look``: at the first problem of the rollouts.
    """
    device = engine.device if engine else "none"
    judges, candidates, left_out = chosen(engine, config, inputs)
    rollouts = rollouts_for(engine, config, inputs, out, candidates, progress, processes, cluster, look)
    stores = [LabelStore.open(path) for path in inputs.labels]
    hashes = {
        "model": engine.digest if engine else IMPORTED,
        "judges": digest_of(judges.digests),
        "labels": digest_of([label_store.shards.digest for label_store in stores]),
        "left_out": digest_of(left_out),
        **_hashes(config, inputs, rollouts, candidates),
    }
    finished = Results.held(out / RESULTS)
    if finished is not None and finished.hashes == hashes:
        return finished
    (out / RESULTS).unlink(missing_ok=True)
    records, candidates, unlabelled = _records(engine, config, rollouts, candidates, stores, out)
    identities = {
        name: identity(name, candidate, inputs.learned, judges.digests) for name, candidate in candidates.items()
    }
    held = ReplayStore(out, digest_of([hashes[name] for name in CONTEXT]), identities)
    arithmetic = arithmetic_of(engine)
    setting = setting_of(arithmetic, config)
    with Scorers.of(engine, config, inputs, rollouts, candidates, processes) or nullcontext() as crew:
        analysis = analyse(records, config, candidates, setting, progress, held, crew)
    _require_rows(config, analysis.replays.left_out)
    results = Results(
        command=command,
        seed=config.seed,
        hashes=hashes,
        device=device,
        environment=environment(device),
        sampling=dict(rollouts.store.manifest["sampling"] or {}),
        setup=_setup(config, arithmetic, inputs),
        left_out={**left_out, **unlabelled, **analysis.replays.left_out},
        **_made_of(analysis, candidates, setting, inputs, rollouts.remarks),
    )
    _write(analysis, results, out)
    return results


def chosen(
    engine: Engine | None, config: RunConfig, inputs: Inputs
) -> tuple[Judges, dict[str, Candidate], dict[str, str]]:
    """Judges, candidates, and why others are left out; see :func:`choose`. No path is sampled for it."""
    _require_context(engine, config)
    shipped = engine is not None and engine.name in SYNTHETIC
    judges = Judges(inputs.judges, engine.device if engine else "cpu", shipped=shipped)
    model_hash, readable = engine.digest if engine else IMPORTED, engine is None or engine.reads
    return judges, *choose(config, inputs.learned, model_hash, judges, readable)


def _records(
    engine: Engine | None,
    config: RunConfig,
    rollouts: Rollouts,
    candidates: Mapping[str, Candidate],
    stores: Sequence[LabelStore],
    out: Path,
) -> tuple[list[ProblemRecord], dict[str, Candidate], dict[str, str]]:
    """The problems with their labels, and the candidates; without labels ``potential`` is left out, with the reason.

    Raises UserError where that, or any other method that was asked for by name, cannot score these problems.
    """
    reads = frozenset[Signal]().union(*(candidate.reads for candidate in candidates.values()))
    records = rollouts.records(engine, config.prefix_tokens, reads)
    labels, missing = labels_for(engine, rollouts, records, stores, out)
    unlabelled: dict[str, str] = {}
    if labels is not None:
        records = [record.labelled(labels) for record in records]
    elif "potential" in candidates:
        candidates = {name: candidate for name, candidate in candidates.items() if name != "potential"}
        unlabelled = {"potential": missing}
    _require_rows(config, unlabelled)
    require_rows(candidates, records, config.methods)
    return records, dict(candidates), unlabelled


def _require_rows(config: RunConfig, left_out: Mapping[str, str]) -> None:
    """Raises UserError where a method that was asked for by name has no row."""
    for name in config.methods:
        if name in left_out:
            raise UserError(f"{name} has no row: {left_out[name]}; or leave it out of --methods")


def _setup(config: RunConfig, arithmetic: Arithmetic | None, inputs: Inputs) -> dict[str, Any]:
    """From which the comparison can be repeated, and its tables made again without the model."""
    told = asdict(arithmetic) if arithmetic else None
    return {"config": config.model_dump(mode="json"), ARITHMETIC: told, **inputs.described()}


def arithmetic_of(engine: Engine | None) -> Arithmetic | None:
    """That of the generating model; None where nobody knows it."""
    return engine.arithmetic if engine and engine.reads else None


def setting_of(arithmetic: Arithmetic | None, config: RunConfig) -> Setting:
    """What the rows of a comparison have in common; ``arithmetic`` is that of the generating model, if it is known."""
    return Setting(
        config.model,
        config.prefix_tokens,
        config.seed,
        one_check(comparison_policy(config), config),
        arithmetic,
        VOTES.get(config.vote)(),
    )


def _require_context(engine: Engine | None, config: RunConfig) -> None:
    if engine is not None and config.prefix_tokens >= engine.context:
        raise UserError(
            f"prefix_tokens = {config.prefix_tokens}: the context of {engine.name} is {engine.context} tokens"
        )


def _hashes(
    config: RunConfig, inputs: Inputs, rollouts: Rollouts, candidates: Mapping[str, Candidate]
) -> dict[str, str]:
    """Of what went in: data, what was learned, plugins, settings, tasks, code and packages."""
    return {
        "rollouts": rollouts.store.digest(),
        "learned": digest_of({name: chosen.card.content() for name, chosen in candidates.items() if chosen.card}),
        "plugins": digest_of([file_digest(file) for path in inputs.plugins for file in own_files(path)]),
        "config": digest_of(config.model_dump()),
        "tasks": digest_of(
            [[name, task.answer_type, task.described(), rollouts.wanted] for name, task in rollouts.tasks.items()]
        ),
        "code": code_digest(),
        "versions": digest_of(versions()),
    }


def _made_of(
    analysis: Analysis,
    candidates: Mapping[str, Candidate],
    setting: Setting,
    inputs: Inputs,
    remarks: Sequence[str],
) -> dict[str, Any]:
    """The tables of a comparison, and the problems behind them."""
    records = analysis.records
    cards = [candidate.card for candidate in candidates.values() if candidate.card]
    splits = {
        "train": sorted({problem for card in cards for problem in card.train_problems}),
        "validation": sorted({problem for card in cards for problem in card.validation_problems}),
    }
    alike = _near_duplicates(records, inputs.learned, splits)
    ours = competing(candidates, analysis.replays)
    chosen, elsewhere = representatives(candidates, ours), ranked_elsewhere(candidates, ours)
    return {
        "problems": {
            task: [record.problem for record in records if record.task == task]
            for task in dict.fromkeys(record.task for record in records)
        },
        "splits": splits,
        "versions": versions(),
        "rows": analysis.rows,
        "repeated": analysis.repeated,
        "representatives": chosen,
        "pairs": versus(records, analysis.replays, candidates, setting, pairs_of(chosen)),
        "equal_cost": analysis.equal_cost,
        "frontier": analysis.frontier,
        "votes": analysis.votes,
        "calibration": analysis.calibration,
        "notes": [
            *analysis.notes,
            *([Note(table="representatives", text=elsewhere)] if elsewhere else []),
            *([Note(table="near_duplicates", text=alike)] if alike else []),
            *([Note(table="learned", text=_learned_from(candidates))] if splits["train"] else []),
            *(Note(table="tasks", text=remark) for remark in remarks),
        ],
    }


def _learned_from(candidates: Mapping[str, Candidate]) -> str:
    """On how many problems each method was trained: those of one number together, the most first."""
    counts: dict[int, list[str]] = {}
    for name, candidate in candidates.items():
        if candidate.card and candidate.card.train_problems:
            counts.setdefault(len(candidate.card.train_problems), []).append(name)
    return "trained on " + "; on ".join(
        f"{count} problems: {', '.join(counts[count])}" for count in sorted(counts)[::-1]
    )


def _near_duplicates(
    records: Sequence[ProblemRecord], learned: Learned, splits: Mapping[str, Sequence[str]]
) -> str | None:
    """The sentence about evaluated problems that nearly repeat one that methods learned from."""
    seen = {problem for split in splits.values() for problem in split}
    folders = (learned,) if isinstance(learned, Path) else learned
    known = {problem: prompt for folder in folders for problem, prompt in learned_problems(folder).items()}
    prompts = {problem: prompt for problem, prompt in known.items() if problem in seen}
    evaluated = {record.problem: record.pool.prompt for record in records}
    return note(near_duplicates(evaluated, prompts), len(evaluated))


def _write(analysis: Analysis, results: Results, out: Path) -> None:
    """Decisions, paths, ledger and timings, and last the results."""
    write_decisions(analysis.records, analysis.replays, out)
    write_paths(analysis.records, out)
    write_atomically(out / "ledger.csv", ledger_csv(analysis.ledger).encode())
    write_atomically(out / "timings.csv", timings_csv(analysis).encode())
    results.write(out / RESULTS)
