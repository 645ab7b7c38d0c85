"""The tables of a comparison again from what every method did: no model reads or writes a token."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from prunebench.bench.config import RunConfig, configured
from prunebench.bench.engines.arithmetic import Arithmetic
from prunebench.bench.engines.base import Engine
from prunebench.bench.engines.load import load_engine
from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.analysis import tables
from prunebench.bench.evaluation.candidates import Candidate, comparison_policy
from prunebench.bench.evaluation.columns import METRICS
from prunebench.bench.evaluation.comparison import ARITHMETIC, RESULTS, arithmetic_of, setting_of
from prunebench.bench.evaluation.decisions import FILE as DECISIONS
from prunebench.bench.evaluation.decisions import read_decisions
from prunebench.bench.evaluation.inputs import Inputs, digest_of
from prunebench.bench.evaluation.ledger import ledger_csv
from prunebench.bench.evaluation.paths_file import FILE as PATHS
from prunebench.bench.evaluation.paths_file import read_paths
from prunebench.bench.evaluation.replays import Replays, replay_methods
from prunebench.bench.evaluation.reproduce import read_results, require_named
from prunebench.bench.evaluation.results import PairRow, ResultRow, Results
from prunebench.bench.evaluation.tables.main import TABLE, Setting
from prunebench.bench.evaluation.tables.versus import pairs_of, versus
from prunebench.bench.files import write_atomically
from prunebench.bench.policies.procedures import NONE, PROCEDURES
from prunebench.bench.policies.votes import VOTES
from prunebench.bench.progress import SILENT, Progress
from prunebench.bench.rollouts.label_store import Labels, LabelStore
from prunebench.bench.rollouts.opening import task_of
from prunebench.bench.rollouts.pools import record_of
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.bench.rollouts.store import IMPORTED, RolloutStore
from prunebench.methods.base import Pruner, Quadrant, Scores, Source
from prunebench.methods.pool import Pool
from prunebench.methods.registry import PRUNERS

TAKEN_OVER = ("repeated", "equal_cost")
"""Tables for which methods score other pools than the N prefixes: they stand as the comparison left them."""


@dataclass(frozen=True)
class WrittenRun:
    """A comparison as it was written down: its results, and what every method did with the first N paths."""

    results: Results
    config: RunConfig
    setting: Setting
    candidates: Mapping[str, Candidate]
    records: Sequence[ProblemRecord]
    replays: Replays
    folder: Path
    store: Path


def reopened(
    folder: Path,
    store: Path | None = None,
    code: Collection[str] = (),
    progress: Progress = SILENT,
) -> WrittenRun:
    """The comparison in ``folder``: ``results.json``, ``decisions.parquet``, and its rollouts in ``store``.

    Without a ``store`` ``paths.parquet`` stands in for them, which has all of them that tables need: then the model
    need not be there either; without that file they are those that the results name. Scores, kept paths and what was
    charged are read; only controls are run, so no plugin is asked for. ``code`` names what else of other people's the
    results may start, as :func:`prunebench.bench.evaluation.reproduce.code_in` lists it. Raises UserError for more, and
    for files that are missing or do not belong together.
    """
    results = read_results(folder / RESULTS)
    if not (folder / DECISIONS).exists():
        raise UserError(
            f"{folder}: holds tables, but no {DECISIONS}, which says what every method did with every path; a run in a "
            f"folder of its own makes it: {results.command}"
        )
    config = configured(str(folder / RESULTS), results.setup["config"], {})
    inputs = replace(Inputs.of(results.setup), plugins=())
    require_named(folder / RESULTS, config, inputs, code)
    place = store or inputs.store or folder / "rollouts"
    by_paths = store is None and (folder / PATHS).exists()
    told = by_paths and ARITHMETIC in results.setup
    away = told or config.model == IMPORTED
    engine = None if away else load_engine(config.model, "cpu", config.model_options)
    first = {row.method: row for row in reversed(results.rows)}
    calibrated = {row.method for row in results.calibration}
    candidates = {
        row.method: _candidate(row, config, row.method in calibrated)
        for row in results.rows
        if row is first[row.method]
    }
    if by_paths:
        records: Sequence[ProblemRecord] = _written_paths(folder, results)
    else:
        stored = _stored(place, engine, results, config, folder, progress)
        records = [record.first(config.n) for record in _labelled(stored, results, inputs, folder)]
    replays = _replays(records, candidates, folder, progress)
    known = results.setup[ARITHMETIC] if told else None
    arithmetic = Arithmetic(**known) if known else arithmetic_of(engine)
    setting = setting_of(arithmetic, config)
    return WrittenRun(results, config, setting, candidates, records, replays, folder, place)


def require_of_results(written: WrittenRun, rows: Sequence[PairRow]) -> None:
    """Raises UserError where what methods did with the paths is not what the results say of them."""
    avg = {(row.task, row.method): row["avg_at_k"].mean for row in written.results.rows}
    for row in rows:
        told = avg[row.task, row.method] - avg[row.task, row.other]
        if not np.isclose(row.avg.mean, told, atol=1e-6, equal_nan=True):
            raise UserError(
                f"{written.folder / DECISIONS}: {row.method} minus {row.other} on {row.task} is {row.avg.mean:.3f} "
                f"points, and {told:.3f} by {RESULTS}: the files are not of one comparison; run it again"
            )


def _written_paths(folder: Path, results: Results) -> list[ProblemRecord]:
    """The compared problems as ``paths.parquet`` tells them. Raises UserError where they are those of another run."""
    records = read_paths(folder)
    if {(record.task, record.problem) for record in records} != results.compared:
        raise UserError(f"{folder / PATHS}: not the paths of {folder / RESULTS}; both come of one comparison")
    return records


def _stored(
    place: Path, engine: Engine | None, results: Results, config: RunConfig, folder: Path, progress: Progress
) -> Sequence[ProblemRecord]:
    """The compared problems as their rollouts tell them. Raises UserError where these are others."""
    rollouts = RolloutStore.open(place)
    if rollouts.digest() != results.hashes["rollouts"]:
        raise UserError(f"{rollouts.shards.folder}: not the rollouts of {folder}; name them with --store")
    read, records = rollouts.reader(), []
    tick = progress.stretch("reading paths", sum(map(len, results.problems.values())))
    for name, problems in results.problems.items():
        for problem in problems:
            found = read((name, problem))
            records.append(record_of(engine, found, config.prefix_tokens, None, task=task_of(rollouts, name)))
            tick(1)
    return records


@dataclass
class WrittenPruner(Pruner):
    """A method that has scored: what it was is read, and it is never run."""

    def score(self, pool: Pool) -> Scores:
        raise NotImplementedError(f"{self.name}: its scores are read")


def _candidate(row: ResultRow, config: RunConfig, calibrated: bool) -> Candidate:
    """Who took part, by its row."""
    procedure = NONE if row.method == "none" else PROCEDURES.get(row.method)
    policy = procedure.policy(config.n, config.k, config.prefix_tokens) if procedure else comparison_policy(config)
    if row.quadrant == Quadrant.CONTROL.value:
        return Candidate(row.method, PRUNERS.get(row.method)(), policy, note=row.note, procedure=procedure)
    declared = {"name": row.method, "requires": frozenset(), "paper": "", "probability": calibrated}
    kind = type("Written", (WrittenPruner,), declared | _declared(row.quadrant))
    return Candidate(row.method, kind(), policy, note=row.note, procedure=procedure)


def _declared(quadrant: str) -> dict[str, Any]:
    """The source and learnability that give a quadrant."""
    return next(
        {"source": source, "learnable": learnable}
        for source in Source
        for learnable in (False, True)
        if Quadrant.of(source, learnable).value == quadrant
    )


def _labelled(
    records: Sequence[ProblemRecord], results: Results, inputs: Inputs, folder: Path
) -> Sequence[ProblemRecord]:
    """The records with their labels, if the comparison had those of all prefixes; ``potential`` need not take part.

    Raises UserError for labels that have changed since.
    """
    stores = [LabelStore.open(path) for path in inputs.labels]
    if digest_of([store.shards.digest for store in stores]) != results.hashes.get("labels"):
        raise UserError(f"{', '.join(map(str, inputs.labels))}: not the labels that {folder} was made with")
    extra = [LabelStore.open(folder / "labels")] if (folder / "labels").is_dir() else []
    labels = Labels(label for store in (*stores, *extra) for label in store)
    labelled = [record.labelled(labels) for record in records]
    return labelled if all(record.halves is not None for record in labelled) else records


def rebuilt(run: WrittenRun, out: Path | None = None) -> Results:
    """The results with rows, pairs, frontier, votes and calibration computed anew.

    What was measured, and :data:`TAKEN_OVER`, is kept.

    So is what a plugin computed that is not loaded. In ``out`` is left what else a run folder holds, and what its
    results name: they can be rebuilt again.
    """
    before = {(row.task, row.method): row for row in run.results.rows}
    spreads = {key: row["draw_spread"].mean for key, row in before.items()}
    made = tables(run.records, run.replays, run.candidates, replace(run.setting, spreads=spreads))
    rows = [_with_kept(row, before[row.task, row.method]) for row in made.rows]
    votes = [*made.votes, *(row for row in run.results.votes if row.vote not in VOTES.names())]
    notes = [*made.notes, *(note for note in run.results.notes if note.table != TABLE)]
    chosen = [one for one in run.results.representatives if one.method in run.replays.of]
    results = run.results.model_copy(
        update={
            "rows": rows,
            "pairs": versus(run.records, run.replays, run.candidates, run.setting, pairs_of(chosen)),
            "frontier": made.frontier,
            "votes": votes,
            "calibration": made.calibration,
            "notes": notes,
        }
    )
    if out is None:
        return results
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "ledger.csv", ledger_csv(made.ledger).encode())
    for file in filter(Path.exists, (run.folder / name for name in (DECISIONS, PATHS, "timings.csv"))):
        shutil.copyfile(file, out / file.name)
    if (run.folder / "labels").is_dir():
        shutil.copytree(run.folder / "labels", out / "labels", dirs_exist_ok=True)
    inputs = replace(Inputs.of(results.setup), store=run.store.resolve() if run.store.exists() else run.store)
    return results.model_copy(update={"setup": results.setup | inputs.described()})


def _with_kept(row: ResultRow, before: ResultRow) -> ResultRow:
    kept = {
        name: value
        for name, value in before.metrics.items()
        if name not in METRICS.names() or METRICS.get(name).measured
    }
    return row.model_copy(update={"metrics": row.metrics | kept, "configuration": before.configuration})


def _replays(
    records: Sequence[ProblemRecord], candidates: Mapping[str, Candidate], folder: Path, progress: Progress
) -> Replays:
    """What the methods did, as it was written down; controls do it again. Raises UserError where something is missing.

    Of what is drawn only the first draw was written, and the others cost nothing: hence the controls. One that reads
    what is not here, as ``length`` reads texts, is not drawn either.
    """
    written = {(decision.task, decision.problem, decision.method): decision for decision in read_decisions(folder)}
    controls = {name: candidate for name, candidate in candidates.items() if candidate.is_control}
    replays = replay_methods(records, controls, progress.stretch("controls", len(records) * len(controls))).of
    for name in candidates.keys() - replays.keys():
        replays[name] = []
        for record in records:
            decision = written.get((record.task, record.problem, name))
            if decision is None or decision.paths.tolist() != record.pool.paths.tolist():
                raise UserError(
                    f"{folder}: what {name} did with the paths of {record.task}/{record.problem} is not there; run the "
                    "comparison again"
                )
            replays[name].append([decision.replay, *decision.others])
    return Replays({name: replays[name] for name in candidates}, {})
