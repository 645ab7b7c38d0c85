"""Every table of a comparison from its records: equal retention, equal cost, votes, calibration, and what is luck."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from prunebench.bench.config import RunConfig
from prunebench.bench.evaluation import metrics
from prunebench.bench.evaluation.candidates import Candidate
from prunebench.bench.evaluation.grading import correct_of
from prunebench.bench.evaluation.ledger import LedgerRow
from prunebench.bench.evaluation.replay_store import ReplayStore
from prunebench.bench.evaluation.replays import Replays, replay_methods
from prunebench.bench.evaluation.results import CalibrationRow, EqualCostRow, FrontierRow, Note, ResultRow, VoteRow
from prunebench.bench.evaluation.scoring import Scorers
from prunebench.bench.evaluation.statistics import spread
from prunebench.bench.evaluation.subsampling import Subsamples, subsamples_of
from prunebench.bench.evaluation.tables.calibration import calibration_rows
from prunebench.bench.evaluation.tables.equal_cost import Budget, Point, at_equal_cost, default_budget
from prunebench.bench.evaluation.tables.frontier import frontier_rows
from prunebench.bench.evaluation.tables.main import Setting, main_rows, primary_task, tables_of
from prunebench.bench.evaluation.tables.votes import vote_rows
from prunebench.bench.files import csv_text
from prunebench.bench.policies import Policy, TopK
from prunebench.bench.progress import SILENT, Progress, uncounted
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.methods.signals import PRIVILEGED, Signal

REPEAT_WITHOUT = 2.0
"""Above this percentage of finished or of leaky prefixes a table is repeated without them."""
ENOUGH_STORED = 4
"""A draw spread needs so many times N stored paths: with fewer the draws share most of their paths."""
SPREAD_DRAWS = 20
"""Draws of N of the stored paths behind a draw spread."""
Apart = Callable[[Collection[str], float, Mapping[str, float]], Mapping[str, Callable[[], Point | None]]]


@dataclass(frozen=True)
class Analysis:
    """The tables; see :class:`bench.evaluation.results.Results`. ``replays``: what every method did on ``records``."""

    records: Sequence[ProblemRecord]
    replays: Replays
    rows: list[ResultRow]
    ledger: list[LedgerRow]
    frontier: list[FrontierRow]
    votes: list[VoteRow]
    calibration: list[CalibrationRow]
    notes: list[Note]
    repeated: list[ResultRow] = field(default_factory=list)
    equal_cost: list[EqualCostRow] = field(default_factory=list)


def analyse(
    stored: Sequence[ProblemRecord],
    config: RunConfig,
    candidates: Mapping[str, Candidate],
    setting: Setting,
    progress: Progress = SILENT,
    held: ReplayStore | None = None,
    crew: Scorers | None = None,
) -> Analysis:
    """All tables of one comparison. ``stored`` hold all paths on disk; the first ``config.n`` of each are compared.

    What is not ``held`` a ``crew`` of processes replays, where there is one.
    """
    records = [record.first(config.n) for record in stored]
    steps = len(records) * len(candidates)
    tick = progress.stretch(f"scoring with {len(candidates)} methods", steps)
    told = 0 if crew is None or held is None else crew.replay(records, held, tick)
    replays = replay_methods(records, candidates, uncounted if told else tick, held)
    tick(steps - told if told else 0)
    taking_part = {name: candidate for name, candidate in candidates.items() if name in replays.of}
    # From here on nothing is timed, so nothing that was computed is computed again.
    subsamples = subsamples_of(stored, records, replays, taking_part, config.seed)
    repeated, notes = repeated_rows(records, subsamples, taking_part, setting, progress)
    spreads = draw_spreads(records, stored, taking_part, subsamples, config.n, progress)
    analysis = tables(records, replays, taking_part, replace(setting, spreads=spreads))
    analysis = replace(analysis, repeated=repeated, notes=[*analysis.notes, *alike(records, setting.policy), *notes])
    if not config.draws:
        return analysis
    apart = None if crew is None else partial(crew.affordable, replays)
    equal_cost, notes = equal_cost_rows(
        stored, config, taking_part, setting, subsamples, analysis.rows, progress, apart
    )
    return replace(analysis, equal_cost=equal_cost, notes=[*analysis.notes, *notes])


def tables(
    records: Sequence[ProblemRecord], replays: Replays, candidates: Mapping[str, Candidate], setting: Setting
) -> Analysis:
    """The tables that need no more than what every method did: equal retention, frontier, votes, calibration."""
    main = main_rows(records, replays, candidates, setting)
    task = primary_task(records)
    return Analysis(
        records,
        replays,
        main.rows,
        main.ledger,
        frontier_rows(records, replays, candidates, setting),
        vote_rows(records, task, replays, candidates),
        calibration_rows(records, task, replays, candidates),
        main.notes,
    )


def one_check(policy: Policy, config: RunConfig) -> Policy:
    """What the potential is held to: ``policy``, or the k best where it does not check once at the checkpoint."""
    position = config.prefix_tokens
    return policy if policy.checkpoints(position) == (position,) else TopK(config.k)


def draw_spreads(
    records: Sequence[ProblemRecord],
    stored: Sequence[ProblemRecord],
    candidates: Mapping[str, Candidate],
    subsamples: Mapping[str, Subsamples],
    count: int,
    progress: Progress,
) -> dict[tuple[str, str], float]:
    """By task and method the standard deviation of avg@k over draws of N of the M stored paths, if M >= 4N."""
    if min(len(record.pool) for record in stored) < ENOUGH_STORED * count:
        return {}
    tick = progress.stretch(f"drawing {count} of the stored paths {SPREAD_DRAWS} times", len(candidates))
    spreads = {}
    for name, candidate in candidates.items():
        draws = subsamples[name].replay(candidate.policy, count, SPREAD_DRAWS)
        values = np.array(
            [[metrics.avg_at_k(correct_of(record, replay), replay.keep) for record, replay in pools] for pools in draws]
        ).reshape(len(stored), SPREAD_DRAWS, -1)
        for task, problems in tables_of(records).items():
            spreads[task, name] = 100 * spread(values[problems].mean(axis=(0, 2)))
        tick(1)
    return spreads


def repeated_rows(
    records: Sequence[ProblemRecord],
    subsamples: Mapping[str, Subsamples],
    candidates: Mapping[str, Candidate],
    setting: Setting,
    progress: Progress,
) -> tuple[list[ResultRow], list[Note]]:
    """The tables with many finished or leaky prefixes again without those, and what was left out of them.

    A path that a pointwise pruner scored is not scored again, and seconds are those of no run: NaN.
    """
    many = {
        task
        for task, problems in tables_of(records).items()
        if _closed_share([records[problem] for problem in problems]) > REPEAT_WITHOUT
    }
    if not many:
        return [], []
    concerned = [record for record in records if record.task in many or "all" in many]
    enough = [record.take(np.flatnonzero(record.open)) for record in concerned if _checkable(setting.policy, record)]
    if not enough:
        text = "no table could be repeated without finished and leaky prefixes: too few others are left"
        return [], [Note(table="repeated", text=text)]
    # Under one check: several checks may be made for a certain number of paths, and fewer are left here.
    fitting = {}
    for name, candidate in candidates.items():
        if candidate.procedure is None or name == "none":
            policy = candidate.policy if name == "none" else setting.policy
            pruner, *members = subsamples[name].trainings
            fitting[name] = replace(candidate, policy=policy, pruner=pruner, members=tuple(members))
    tick = progress.stretch("again without finished and leaky prefixes", len(enough) * len(fitting))
    again = replay_methods(enough, fitting, tick)
    untimed = {
        name: [[replace(made, seconds=math.nan) for made in draws] for draws in of] for name, of in again.of.items()
    }
    rows = main_rows(enough, replace(again, of=untimed), fitting, setting).rows
    lost = len(concerned) - len(enough)
    text = "repeated without finished and leaky prefixes: " + ", ".join(sorted(many))
    text += f" ({lost} problems have too few others and are left out)" if lost else ""
    return [row for row in rows if row.task in many], [Note(table="repeated", text=text)]


def alike(records: Sequence[ProblemRecord], policy: Policy) -> list[Note]:
    """A note for every table whose check comes before the paths of a problem part; none where nobody knows them."""
    notes = []
    for task, problems in tables_of(records).items():
        pools = [records[problem].pool for problem in problems]
        distinct = [
            len(set(pool.text)) if pool.has(Signal.TEXT) else len(pool.distinct()[0])
            for pool in pools
            if pool.has(Signal.TEXT) or pool.has(Signal.TOKEN_IDS)
        ]
        if isinstance(policy, TopK) and distinct and np.mean(distinct) <= policy.k:
            paths = np.mean([len(pool) for pool in pools])
            text = (
                f"after {pools[0].position} tokens the {paths:.0f} paths of a problem have {np.mean(distinct):.1f} "
                "different prefixes, no more than are kept: what is kept is mostly chance; check later (--prefix)"
            )
            notes.append(Note(table="prefixes", task=task, text=text))
    return notes


def equal_cost_rows(
    stored: Sequence[ProblemRecord],
    config: RunConfig,
    candidates: Mapping[str, Candidate],
    setting: Setting,
    subsamples: Mapping[str, Subsamples],
    rows: Sequence[ResultRow],
    progress: Progress,
    apart: Apart | None = None,
) -> tuple[list[EqualCostRow], list[Note]]:
    """The table of equal cost, for the primary family; ``rows`` are those of equal retention.

    ``apart`` has others find the points of some methods, from the budget and what all stored paths cost each.
    """
    task = primary_task(stored)
    policies = {
        name: (lambda paths, candidate=candidate: candidate.policy_for(paths, config))
        for name, candidate in candidates.items()
        if not candidate.pruner.requires & PRIVILEGED  # reads what no rerun would have
    }
    budget = Budget(
        config.budget or default_budget(stored), config.draws, config.seed, setting.arithmetic, setting.vote
    )
    whole = all(len(record.pool) == config.n for record in stored)
    full = {row.method: row["flops_tokens"].mean for row in rows if row.task == task and whole}
    tick = progress.stretch("comparing at equal cost", len(policies))
    others = {} if apart is None else apart(policies, budget.tokens, full)
    tested = [row.method for row in rows if row.task == task and not math.isnan(row["p_holm"].mean)]
    chosen = at_equal_cost(stored, task, candidates, policies, subsamples, budget, full, tick, others, tested)
    unpaid = [name for name in policies if name not in {row.method for row in chosen}]
    reason = "at equal cost without a row (not even one path, or a cost that nobody knows)"
    return chosen, [Note(table="equal_cost", task=task, text=f"{reason}: {name}") for name in unpaid]


def _closed_share(records: Sequence[ProblemRecord]) -> float:
    """Percentage of finished or of leaky prefixes, whichever is larger."""
    finished = np.mean([record.pool.finished.mean() for record in records])
    leaky = np.mean([0.0 if record.leaky is None else record.leaky.mean() for record in records])
    return 100 * float(max(finished, leaky))


def _checkable(policy: Policy, record: ProblemRecord) -> bool:
    """Whether one check by ``policy`` fits the open paths of this pool."""
    return int(record.open.sum()) >= (policy.k if isinstance(policy, TopK) else 1)


def timings_csv(analysis: Analysis) -> str:
    """Measured seconds by task, problem, method and phase; Resume only where a run was online, hence NaN."""
    columns = ("task", "problem", "method", "launch_seconds", "check_seconds", "resume_seconds")
    return csv_text(
        columns,
        (
            (record.task, record.problem, name, record.launch_seconds, seconds, math.nan)
            for name, replays in analysis.replays.of.items()
            for record, draws in zip(analysis.records, replays, strict=True)
            for seconds in [float(np.mean([replay.seconds for replay in draws]))]
        ),
    )
