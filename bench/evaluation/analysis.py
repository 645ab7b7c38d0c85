"""Every table of a comparison from its records: equal retention, equal cost, votes, calibration, and what is luck."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field

import numpy as np

from prunebench.bench.config import RunConfig
from prunebench.bench.engines.arithmetic import Arithmetic
from prunebench.bench.engines.judge import EngineJudge
from prunebench.bench.evaluation import metrics
from prunebench.bench.evaluation.ledger import LedgerRow
from prunebench.bench.evaluation.replay import Replay
from prunebench.bench.evaluation.results import CalibrationRow, EqualCostRow, PolicyRow, ResultRow, VoteRow
from prunebench.bench.evaluation.statistics import spread
from prunebench.bench.evaluation.subsampling import Memories, Memory, ScoreCache, Subsamples, light
from prunebench.bench.evaluation.tables.calibration import calibration_rows
from prunebench.bench.evaluation.tables.equal_cost import Scaled, at_equal_cost, default_budget
from prunebench.bench.evaluation.tables.main import (
    Evaluated,
    Replays,
    compare,
    correct_of,
    is_control,
    replay_methods,
    tables_of,
)
from prunebench.bench.evaluation.tables.policies import against_one_check
from prunebench.bench.evaluation.tables.votes import vote_rows
from prunebench.bench.files import csv_text
from prunebench.bench.policies import KeepAll, Policy, Ratio, TopK
from prunebench.bench.policies.procedures import PROCEDURES
from prunebench.bench.progress import SILENT, Progress
from prunebench.bench.rollouts.pools import PoolGenerator
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.methods.base import Pruner, Signal
from prunebench.methods.ensembles.mean_rank import signals_read

REPEAT_WITHOUT = 2.0
"""Above this percentage of finished or of leaky prefixes a table is repeated without them."""
ENOUGH_STORED = 4
"""A draw spread needs so many times N stored paths: with fewer the draws share most of their paths."""
SPREAD_DRAWS = 20
"""Draws of N of the stored paths behind a draw spread."""


@dataclass(frozen=True)
class Candidate:
    """A method that takes part: its pruner, its own policy (None: the comparison's), its configuration and remark."""

    pruner: Pruner
    policy: Policy | None = None
    configuration: str = "defaults"
    note: str = ""


@dataclass
class Analysis:
    """The tables; see :class:`Results`. ``seconds``: task, problem, method, seconds of its checks.

    ``records`` hold the N paths that were compared, ``scored`` what every method did with them.
    """

    rows: list[ResultRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ledger: list[LedgerRow] = field(default_factory=list)
    seconds: list[tuple[str, str, str, float]] = field(default_factory=list)
    repeated: list[ResultRow] = field(default_factory=list)
    policies: list[PolicyRow] = field(default_factory=list)
    equal_cost: list[EqualCostRow] = field(default_factory=list)
    votes: list[VoteRow] = field(default_factory=list)
    calibration: list[CalibrationRow] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    records: Sequence[ProblemRecord] = ()
    scored: Replays = field(default_factory=lambda: Replays({}, {}))


def analyse(
    stored: Sequence[ProblemRecord],
    config: RunConfig,
    candidates: Mapping[str, Candidate],
    policy: Policy,
    model: str,
    arithmetic: Arithmetic | None,
    progress: Progress,
) -> Analysis:
    """All tables of one comparison. ``stored`` hold all paths on disk; the first ``config.n`` of each are compared."""
    work = _Work(stored, config, candidates, policy, model, arithmetic, progress)
    repeated, repeated_notes = work.repeated()
    work.remember()
    found = work.analysis(work.spreads())
    found.repeated = repeated
    found.left_out = dict(work.scored.left_out)
    found.seconds = [
        (record.task, record.problem, name, float(np.mean([one.seconds for one in draws])))
        for name, played in work.scored.played.items()
        for record, draws in zip(work.records, played, strict=True)
    ]
    if work.one_check is not policy:
        found.policies = against_one_check(work.records, work.scored, work.own, work.policies)
    found.notes += repeated_notes
    if config.draws:
        found.equal_cost, notes = work.equal_cost(found.rows)
        found.notes += notes
    return found


def analyse_played(
    stored: Sequence[ProblemRecord],
    played: Replays,
    config: RunConfig,
    candidates: Mapping[str, Candidate],
    policy: Policy,
    model: str,
    arithmetic: Arithmetic | None,
    spreads: Mapping[tuple[str, str], float],
) -> Analysis:
    """The tables that need no more than what every method did: those of equal retention, of votes, of calibration."""
    work = _Work(stored, config, candidates, policy, model, arithmetic, SILENT, played)
    return work.analysis(spreads)


@dataclass
class _Work:
    """What the tables share: the pools of N paths, and what every method did on them."""

    stored: Sequence[ProblemRecord]
    config: RunConfig
    candidates: Mapping[str, Candidate]
    policy: Policy
    model: str
    arithmetic: Arithmetic | None
    progress: Progress
    played: InitVar[Replays | None] = None

    def __post_init__(self, played: Replays | None) -> None:
        count, position = self.config.n, self.config.prefix_tokens
        self.records = [r if len(r.pool) == count else r.take(range(count)) for r in self.stored]
        self.methods = {name: one.pruner for name, one in self.candidates.items()}
        self.policies = {name: one.policy or self.policy for name, one in self.candidates.items()}
        self.one_check = self.policy if self.policy.checkpoints(position) == (position,) else TopK(self.config.k)
        self.scored = self._play() if played is None else played

    def _play(self) -> Replays:
        tick = self.progress.stretch(f"scoring with {len(self.methods)} methods", len(self.records) * len(self.methods))
        return replay_methods(self.records, self.methods, self.policies, progress=lambda: tick(1))

    @property
    def task(self) -> str:
        """The pooled table, or the only one."""
        return list(tables_of(self.records))[-1]

    def analysis(self, spreads: Mapping[tuple[str, str], float]) -> Analysis:
        """The tables of what was played."""
        evaluated = self.table(self.records, self.scored, spreads)
        return Analysis(
            rows=evaluated.rows,
            notes=list(evaluated.notes),
            ledger=evaluated.ledger,
            votes=vote_rows(self.records, self.task, self.scored, self.methods),
            calibration=calibration_rows(self.records, self.task, self.scored, self.methods),
            records=self.records,
            scored=self.scored,
        )

    def remember(self) -> None:
        """From here on nothing is timed, so nothing that was computed is computed again."""
        for record in self.stored:
            if isinstance(record.pool.generator, PoolGenerator):
                record.pool.generator.recall = True
        memories = ScoreCache()
        for name, pruner in self.methods.items():
            judge = getattr(pruner, "generate_", None)
            if isinstance(judge, EngineJudge):
                judge.recall = True
            if pruner.pointwise and name in self.scored.played:
                memory = memories.of(pruner)
                for record, draws in zip(self.records, self.scored.played[name], strict=True):
                    _keep(memory, record, draws[0])
        held = light(self.stored)
        self.drawn = {
            name: Subsamples(
                self.stored if Signal.STATES in signals_read(pruner) else held,
                memories.remembering(pruner),
                self.config.seed,
            )
            for name, pruner in self.methods.items()
            if name in self.scored.played
        }

    @property
    def own(self) -> dict[str, Pruner]:
        """The methods that run under the comparison's policy, controls not among them."""
        return {n: p for n, p in self.methods.items() if self.candidates[n].policy is None and not is_control(p)}

    def table(
        self, records: Sequence[ProblemRecord], scored: Replays, spreads: Mapping[tuple[str, str], float]
    ) -> Evaluated:
        return compare(
            records,
            scored,
            self.methods,
            self.policies,
            self.one_check,
            model=self.model,
            arithmetic=self.arithmetic,
            configurations={name: one.configuration for name, one in self.candidates.items()},
            seed=self.config.seed,
            prefix_tokens=self.config.prefix_tokens,
            captions={name: one.note for name, one in self.candidates.items() if one.note},
            spreads=spreads,
        )

    def spreads(self) -> dict[tuple[str, str], float]:
        """By task and method the standard deviation of avg@k over draws of N of the M stored paths, if M >= 4N."""
        count = self.config.n
        if min(len(record.pool) for record in self.stored) < ENOUGH_STORED * count:
            return {}
        names = [name for name in self.methods if name in self.scored.played]
        tick = self.progress.stretch(f"drawing {count} of the stored paths {SPREAD_DRAWS} times", len(names))
        found = {}
        for name in names:
            played = self.drawn[name].replay(self.policies[name], count, SPREAD_DRAWS)
            values = np.array(
                [[metrics.avg_at_k(correct_of(r, one), one.keep) for r, one in draws] for draws in played]
            )
            for task, problems in tables_of(self.records).items():
                found[task, name] = 100 * spread(values[problems].mean(axis=0))
            tick(1)
        return found

    def repeated(self) -> tuple[list[ResultRow], list[str]]:
        """The tables with many finished or leaky prefixes again without those, and what was left out of them."""
        many = {
            task
            for task, problems in tables_of(self.records).items()
            if _closed_share([self.records[i] for i in problems]) > REPEAT_WITHOUT
        }
        if not many:
            return [], []
        concerned = [record for record in self.records if record.task in many or "all" in many]
        enough = [r.take(np.flatnonzero(r.open)) for r in concerned if _playable(self.one_check, int(r.open.sum()))]
        if not enough:
            return [], ["no table could be repeated without finished and leaky prefixes: too few others are left"]
        fitting = {
            name: pruner
            for name, pruner in self.methods.items()
            if name in self.scored.played and isinstance(self.candidates[name].policy, KeepAll | None)
        }
        tick = self.progress.stretch("again without finished and leaky prefixes", len(enough) * len(fitting))
        scored = replay_methods(enough, fitting, self.policies, progress=lambda: tick(1))
        again = [row for row in self.table(enough, scored, {}).rows if row.task in many]
        lost = len(concerned) - len(enough)
        note = "repeated without finished and leaky prefixes: " + ", ".join(sorted(many))
        return again, [note + (f" ({lost} problems have too few others and are left out)" if lost else "")]

    def equal_cost(self, rows: Sequence[ResultRow]) -> tuple[list[EqualCostRow], list[str]]:
        """The table of equal cost, for the primary family; ``rows`` are those of equal retention."""
        task = self.task
        scaled = {name: one for name in self.methods if (one := self._scaled(name)) is not None}
        budget = self.config.budget or default_budget(self.stored)
        tick = self.progress.stretch("comparing at equal cost", len(scaled))
        whole = all(len(record.pool) == self.config.n for record in self.stored)
        full = {row.method: row.flops_tokens for row in rows if row.task == task and whole}
        found = at_equal_cost(
            self.stored,
            task,
            self.methods,
            scaled,
            self.arithmetic,
            budget,
            draws=self.config.draws,
            seed=self.config.seed,
            drawn=self.drawn,
            full=full,
            progress=lambda: tick(1),
        )
        unpaid = [name for name in scaled if name not in {row.method for row in found}]
        notes = [f"{task}: at equal cost without a row (not even one path, or a cost that nobody knows): {name}"
                 for name in unpaid]  # fmt: skip
        return found, notes

    def _scaled(self, name: str) -> Scaled | None:
        """The method's policy for any number of paths; None where it has none, or reads what no rerun would have."""
        config, pruner = self.config, self.methods[name]
        if name not in self.scored.played or type(pruner).requires & {Signal.OUTCOME, Signal.POTENTIAL}:
            return None
        gamma = config.k / config.n
        if name in PROCEDURES:
            procedure = PROCEDURES[name]
            return lambda n: procedure.policy(n, max(1, round(gamma * n)), config.prefix_tokens)
        policy = self.policies[name]
        if isinstance(policy, TopK):
            return lambda n: Ratio(policy.k / config.n, policy.finished)
        return (lambda n: policy) if isinstance(policy, Ratio | KeepAll) else None


def _keep(memories: Memories, record: ProblemRecord, played: Replay) -> None:
    """Remember a first check at the record's own checkpoint."""
    at_checkpoint = int(played.launched.max(initial=0)) <= record.pool.position and played.launched.all()
    if at_checkpoint and played.charges is not None:
        pool = record.pool
        memory = memories.setdefault((pool.task, pool.problem, pool.position), Memory())
        memory.keep(pool.paths, played.scores, played.charges)


def _closed_share(records: Sequence[ProblemRecord]) -> float:
    """Percentage of finished or of leaky prefixes, whichever is larger."""
    finished = np.mean([record.pool.finished.mean() for record in records])
    leaky = np.mean([0.0 if record.leaky is None else record.leaky.mean() for record in records])
    return 100 * float(max(finished, leaky))


def _playable(policy: Policy, count: int) -> bool:
    """Whether one check by ``policy`` fits a pool of ``count`` paths."""
    return count >= (policy.k if isinstance(policy, TopK) else 1)


def timings_csv(analysis: Analysis, launch: Mapping[tuple[str, str], float]) -> str:
    """Measured seconds by task, problem, method and phase; Resume only where a run was online, hence NaN."""
    columns = ("task", "problem", "method", "launch_seconds", "check_seconds", "resume_seconds")
    return csv_text(
        columns,
        ((task, problem, name, launch.get((task, problem), math.nan), seconds, math.nan)
         for task, problem, name, seconds in analysis.seconds),
    )  # fmt: skip
