"""The tables of a comparison again from what every method did: no model reads or writes a token."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prunebench.bench.config import RunConfig, configured
from prunebench.bench.engines.load import load_engine
from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.analysis import first_paths, tables
from prunebench.bench.evaluation.candidates import Candidate, choose
from prunebench.bench.evaluation.columns import METRICS
from prunebench.bench.evaluation.comparison import RESULTS, setting_of
from prunebench.bench.evaluation.decisions import read_decisions
from prunebench.bench.evaluation.inputs import Inputs
from prunebench.bench.evaluation.replays import Replays, replay_methods
from prunebench.bench.evaluation.reproduce import read_results, require_named
from prunebench.bench.evaluation.results import Results
from prunebench.bench.evaluation.tables.main import TABLE, Setting
from prunebench.bench.rollouts.label_store import Labels, LabelStore
from prunebench.bench.rollouts.opening import task_of
from prunebench.bench.rollouts.pools import record_of
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.bench.rollouts.store import IMPORTED, RolloutStore
from prunebench.bench.training.loading import Judges

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


def reopened(folder: Path, store: Path | None = None, code: Collection[str] = ()) -> WrittenRun:
    """The comparison in ``folder``: ``results.json``, ``decisions.parquet``, and its rollouts in ``store``.

    Without a ``store`` these are the rollouts that the results name. Scores, kept paths and what was charged are read;
    only controls are run. ``code`` names what of other people's the results may start, as
    :func:`prunebench.bench.evaluation.reproduce.code_in` lists it. Raises UserError for more, and for files that are
    missing or do not belong together.
    """
    results = read_results(folder / RESULTS)
    config = configured(str(folder / RESULTS), results.setup["config"], {})
    inputs = Inputs.of(results.setup)
    require_named(folder / RESULTS, config, inputs, code)
    rollouts = RolloutStore.open(store or inputs.store or folder / "rollouts")
    if rollouts.digest() != results.hashes["rollouts"]:
        raise UserError(f"{rollouts.shards.folder}: not the rollouts of {folder}; name them with --store")
    engine = None if config.model == IMPORTED else load_engine(config.model, "cpu", config.model_options)
    known, _ = choose(config, inputs.learned, engine.digest if engine else IMPORTED, Judges(inputs.judges))
    shown = {row.method for row in results.rows}
    candidates = {name: candidate for name, candidate in known.items() if name in shown}
    read = rollouts.reader()
    stored = [
        record_of(engine, read((name, problem)), config.prefix_tokens, None, task=task_of(rollouts, name))
        for name, problems in results.problems.items()
        for problem in problems
    ]
    records = first_paths(stored, config.n)
    if "potential" in candidates:
        labels = Labels(
            label for path in (*inputs.labels, folder / "labels") if path.is_dir() for label in LabelStore.open(path)
        )
        records = [record.labelled(labels) for record in records]
    return WrittenRun(
        results, config, setting_of(engine, config), candidates, records, _replays(records, candidates, folder)
    )


def rebuilt(run: WrittenRun) -> Results:
    """The results with rows, votes and calibration computed anew; what was measured and :data:`TAKEN_OVER` is kept."""
    before = {(row.task, row.method): row for row in run.results.rows}
    spreads = {key: row["draw_spread"].mean for key, row in before.items()}
    made = tables(run.records, run.replays, run.candidates, replace(run.setting, spreads=spreads))
    measured = [name for name, metric in METRICS.items() if metric.measured]
    rows = [
        row.model_copy(
            update={"metrics": row.metrics | {name: before[row.task, row.method][name] for name in measured}}
        )
        for row in made.rows
    ]
    notes = [*made.notes, *(note for note in run.results.notes if note.table != TABLE)]
    return run.results.model_copy(
        update={"rows": rows, "votes": made.votes, "calibration": made.calibration, "notes": notes}
    )


def _replays(records: Sequence[ProblemRecord], candidates: Mapping[str, Candidate], folder: Path) -> Replays:
    """What the methods did, as it was written down; controls do it again. Raises UserError where something is missing.

    Of what is drawn only the first draw was written, and the others cost nothing: hence the controls.
    """
    written = {(decision.task, decision.problem, decision.method): decision for decision in read_decisions(folder)}
    controls = {name: candidate for name, candidate in candidates.items() if candidate.is_control}
    replays = replay_methods(records, controls).of
    for name in candidates.keys() - controls.keys():
        replays[name] = []
        for record in records:
            decision = written.get((record.task, record.problem, name))
            if decision is None or decision.paths.tolist() != record.pool.paths.tolist():
                raise UserError(
                    f"{folder}: what {name} did with the paths of {record.task}/{record.problem} is not there; run the "
                    "comparison again"
                )
            replays[name].append([decision.replay])
    return Replays({name: replays[name] for name in candidates}, {})
