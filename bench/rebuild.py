"""The tables of a comparison again from what every method did: no model reads or writes a token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.analysis import Candidate, analyse_played
from bench.comparison import Inputs, Labels, Runnable, arithmetic_of, choose_methods
from bench.config import configured
from bench.decisions import read_decisions
from bench.engines.choice import load_engine
from bench.errors import UserError
from bench.evaluate import Scored, is_control, play_methods
from bench.labels import LabelStore
from bench.policies import Policy, parse_policy
from bench.records import ProblemRecord
from bench.replay import record_of
from bench.reproduce import SECONDS, read_results
from bench.results import Results
from bench.store import IMPORTED, RolloutStore
from bench.stored import task_of
from bench.training import Judges, describe

TAKEN_OVER = ("repeated", "policies", "equal_cost")
"""Tables for which methods score other pools than the N prefixes: they stand as the comparison left them."""


def rebuilt(folder: Path, store: Path | None = None) -> tuple[Results, Results]:
    """The results in ``folder`` as they are, and their rows, votes and calibration computed anew.

    From ``decisions.parquet`` beside them and the rollouts in ``store`` (None: those that the results name). Scores,
    kept paths and what was charged come from there; the controls are run. Measured seconds and :data:`TAKEN_OVER` are
    kept. Raises UserError for files that are missing or do not belong together.
    """
    before = read_results(folder / "results.json")
    config = configured(str(folder / "results.json"), before.setup["config"], {})
    inputs = Inputs.of(before.setup)
    rollouts = RolloutStore.open(store or inputs.store or folder / "rollouts")
    if rollouts.digest() != before.hashes["rollouts"]:
        raise UserError(f"{rollouts.shards.folder}: not the rollouts of {folder}; name them with --store")
    engine = None if config.model == IMPORTED else load_engine(config.model, "cpu", config.model_options)
    judges = Judges(inputs.judges, inputs.learned)
    known, _ = choose_methods(config, inputs.learned, engine.digest if engine else IMPORTED, judges)
    shown = {row.method for row in before.rows}
    methods = {name: one for name, one in known.items() if name in shown}
    stores = [LabelStore.open(path) for path in (*inputs.labels, folder / "labels") if path.is_dir()]
    labels = Labels(stores) if "potential" in methods else None
    read = rollouts.reader()
    records = [
        record_of(engine, read((name, problem)), config.prefix_tokens, labels, task=task_of(rollouts, name))
        for name, problems in before.problems.items()
        for problem in problems
    ]
    records = [record if len(record.pool) == config.n else record.take(range(config.n)) for record in records]
    policy = parse_policy(config.policy or f"topk:{config.k}")
    found = analyse_played(
        records,
        _played(records, methods, policy, folder),
        config,
        {name: Candidate(one.pruner, one.policy, describe(one.pruner), one.note) for name, one in methods.items()},
        policy,
        config.model,
        arithmetic_of(engine) if engine and engine.reads else None,
        {(row.task, row.method): row.draw_spread for row in before.rows},
    )
    measured = {(row.task, row.method): row for row in before.rows}
    rows = [
        row.model_copy(update={name: getattr(measured[row.task, row.method], name) for name in SECONDS})
        for row in found.rows
    ]
    kept = before.notes[len(found.notes) :]  # of the tables that are taken over
    after = before.model_copy(
        update={"rows": rows, "votes": found.votes, "calibration": found.calibration, "notes": [*found.notes, *kept]}
    )
    return before, after


def _played(records: Sequence[ProblemRecord], methods: Mapping[str, Runnable], policy: Policy, folder: Path) -> Scored:
    """What the methods did, as it was written down; controls do it again. Raises UserError where something is missing.

    Of what is drawn only the first draw was written, and the others cost nothing: hence the controls.
    """
    written = {(one.task, one.problem, one.method): one for one in read_decisions(folder)}
    controls = {name: one.pruner for name, one in methods.items() if is_control(one.pruner)}
    played = play_methods(records, controls, dict.fromkeys(controls, policy)).played
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
    return Scored({name: played[name] for name in methods}, {})
