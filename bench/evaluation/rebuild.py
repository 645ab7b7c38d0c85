"""The tables of a comparison again from what every method did: no model reads or writes a token."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from prunebench.bench.config import RunConfig, configured
from prunebench.bench.engines.arithmetic import Arithmetic
from prunebench.bench.engines.load import load_engine
from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.analysis import Candidate, analyse_played
from prunebench.bench.evaluation.comparison import Inputs, Runnable, choose_methods
from prunebench.bench.evaluation.decisions import read_decisions
from prunebench.bench.evaluation.reproduce import SECONDS, read_results, require_named
from prunebench.bench.evaluation.results import Results
from prunebench.bench.evaluation.tables.main import Replays, is_control, replay_methods
from prunebench.bench.policies import Policy, parse_policy
from prunebench.bench.rollouts.label_store import Labels, LabelStore
from prunebench.bench.rollouts.opening import task_of
from prunebench.bench.rollouts.pools import record_of
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.bench.rollouts.store import IMPORTED, RolloutStore
from prunebench.bench.training.cards import describe
from prunebench.bench.training.loading import Judges

TAKEN_OVER = ("repeated", "policies", "equal_cost")
"""Tables for which methods score other pools than the N prefixes: they stand as the comparison left them."""


@dataclass(frozen=True)
class Reopened:
    """A comparison as it was written down: its results, and what every method did with the first N paths."""

    results: Results
    config: RunConfig
    policy: Policy
    methods: Mapping[str, Runnable]
    records: Sequence[ProblemRecord]
    scored: Replays
    arithmetic: Arithmetic | None


def reopened(folder: Path, store: Path | None = None, code: Collection[str] = ()) -> Reopened:
    """The comparison in ``folder``: ``results.json``, ``decisions.parquet``, and its rollouts in ``store``.

    Without a ``store`` these are the rollouts that the results name. Scores, kept paths and what was charged are read;
    only controls are run. ``code`` names what of other people's the results may start, as
    :func:`code_in` lists it. Raises UserError for more, and for files that are missing or do not belong
    together.
    """
    results = read_results(folder / "results.json")
    config = configured(str(folder / "results.json"), results.setup["config"], {})
    inputs = Inputs.of(results.setup)
    require_named(folder / "results.json", config, inputs, code)
    rollouts = RolloutStore.open(store or inputs.store or folder / "rollouts")
    if rollouts.digest() != results.hashes["rollouts"]:
        raise UserError(f"{rollouts.shards.folder}: not the rollouts of {folder}; name them with --store")
    engine = None if config.model == IMPORTED else load_engine(config.model, "cpu", config.model_options)
    judges = Judges(inputs.judges)
    known, _ = choose_methods(config, inputs.learned, engine.digest if engine else IMPORTED, judges)
    shown = {row.method for row in results.rows}
    methods = {name: one for name, one in known.items() if name in shown}
    stores = [LabelStore.open(path) for path in (*inputs.labels, folder / "labels") if path.is_dir()]
    labels = Labels(chain.from_iterable(stores)) if "potential" in methods else None
    read = rollouts.reader()
    whole = [
        record_of(engine, read((name, problem)), config.prefix_tokens, labels, task=task_of(rollouts, name))
        for name, problems in results.problems.items()
        for problem in problems
    ]
    records = [record if len(record.pool) == config.n else record.take(range(config.n)) for record in whole]
    arithmetic = engine.arithmetic if engine else None
    policy = parse_policy(config.policy or f"topk:{config.k}")
    return Reopened(results, config, policy, methods, records, _played(records, methods, policy, folder), arithmetic)


def rebuilt(run: Reopened) -> Results:
    """The results with rows, votes and calibration computed anew; measured seconds and :data:`TAKEN_OVER` are kept."""
    found = analyse_played(
        run.records,
        run.scored,
        run.config,
        {name: Candidate(one.pruner, one.policy, describe(one.pruner), one.note) for name, one in run.methods.items()},
        run.policy,
        run.config.model,
        run.arithmetic,
        {(row.task, row.method): row.draw_spread for row in run.results.rows},
    )
    measured = {(row.task, row.method): row for row in run.results.rows}
    rows = [
        row.model_copy(update={name: getattr(measured[row.task, row.method], name) for name in SECONDS})
        for row in found.rows
    ]
    notes = [*found.notes, *run.results.notes[len(found.notes) :]]  # those of the tables that are taken over
    return run.results.model_copy(
        update={"rows": rows, "votes": found.votes, "calibration": found.calibration, "notes": notes}
    )


def _played(records: Sequence[ProblemRecord], methods: Mapping[str, Runnable], policy: Policy, folder: Path) -> Replays:
    """What the methods did, as it was written down; controls do it again. Raises UserError where something is missing.

    Of what is drawn only the first draw was written, and the others cost nothing: hence the controls.
    """
    written = {(one.task, one.problem, one.method): one for one in read_decisions(folder)}
    controls = {name: one.pruner for name, one in methods.items() if is_control(one.pruner)}
    played = replay_methods(records, controls, dict.fromkeys(controls, policy)).played
    for name in methods.keys() - controls.keys():
        played[name] = []
        for record in records:
            one = written.get((record.task, record.problem, name))
            if one is None or one.paths.tolist() != record.pool.paths.tolist():
                raise UserError(
                    f"{folder}: what {name} did with the paths of {record.task}/{record.problem} is not there; run the "
                    "comparison again"
                )
            played[name].append([one.played])
    return Replays({name: played[name] for name in methods}, {})
