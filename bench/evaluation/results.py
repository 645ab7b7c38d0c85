"""Typed results: one row per task and method, and the record of how they came to be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from prunebench.bench.evaluation.columns import METRICS
from prunebench.bench.evaluation.statistics import FEWEST_PROBLEMS, Interval, Number
from prunebench.bench.files import csv_text, write_atomically

if TYPE_CHECKING:
    import pandas as pd

POOLED = "all"
"""The task of rows over the problems of all tasks."""

MARGIN = 2.0
"""Points of avg@k: two methods that are shown to differ by less are equal."""
LEVEL = 0.05
"""What is below it, after Holm's correction, is established."""
PURE = ("I", "II", "III", "IV")
"""The quadrants themselves, without controls and mixtures."""

QuadrantName = Literal["control", "I", "II", "III", "IV", "mixed"]


class Row(BaseModel):
    """A row of a table. An :class:`Interval` is one value; in CSV it is three columns: name, name_low, name_high."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def flat(self) -> dict[str, Any]:
        """The row as CSV has it."""
        cells: dict[str, Any] = {}
        for name in type(self).model_fields:
            cells |= flattened(name, getattr(self, name))
        return cells

    @classmethod
    def unflattened(cls, cells: Mapping[str, Any]) -> Self:
        """The row that :meth:`flat` gave. Raises ValidationError."""
        rest = dict(cells)
        for name, field in cls.model_fields.items():
            if field.annotation is Interval and name in rest:
                ends = {end: rest.pop(f"{name}_{end}") for end in ("low", "high") if f"{name}_{end}" in rest}
                rest[name] = {"mean": rest[name], **ends}
        return cls.model_validate(rest)


def flattened(name: str, value: Any) -> dict[str, Any]:
    """One cell, three of an interval."""
    if isinstance(value, Interval):
        return {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}
    return {name: value}


class ResultRow(Row):
    """One method on one task (or on ``all``: problems pooled), with every metric under its name.

    ``k`` is what the policy keeps, rounded from the mean where that varies; ``finished`` the policy's rule for paths
    that end before the checkpoint. What a metric means says its function in :mod:`bench.evaluation.columns`;
    accuracies, shares and their differences run from 0 to 100, intervals cover 95 %, undefined is NaN.
    """

    task: str
    model: str
    method: str
    quadrant: QuadrantName
    n: int
    k: int
    prefix_tokens: int
    policy: str
    finished: str
    n_problems: int
    configuration: str
    note: str = ""
    metrics: dict[str, Interval]

    def __getitem__(self, metric: str) -> Interval:
        return self.metrics[metric]

    def flat(self) -> dict[str, Any]:
        cells = {name: getattr(self, name) for name in type(self).model_fields if name != "metrics"}
        for name, value in self.metrics.items():
            single = name in METRICS.names() and not METRICS.get(name).interval
            cells |= {name: value.mean} if single else flattened(name, value)
        first = {name: cells.pop(name) for name in FIRST_COLUMNS if name in cells}
        return first | cells


FIRST_COLUMNS = (
    "task", "model", "method", "quadrant", "n", "k", "prefix_tokens", "avg_at_n", "avg_at_k", "avg_at_k_low",
    "avg_at_k_high", "delta", "delta_low", "delta_high", "p_holm", "maj_at_k", "pass_at_k", "tokens", "reduction",
    "auroc", "headroom", "launch_seconds", "check_seconds", "resume_seconds", "paper_tokens", "policy", "finished",
    "n_problems", "avg_at_k_expected", "maj_delta_low", "maj_delta_high",
)  # fmt: skip
"""How every ``main_table.csv`` begins; other columns stand behind them."""


class Representative(Row):
    """The method that stands for its quadrant: the best of ``candidates`` by within-problem AUROC on validation."""

    quadrant: QuadrantName
    method: str
    validation_auroc: Number
    candidates: int


class EqualCostRow(Row):
    """One method with as many paths as ``budget`` pays for: ``n`` of the stored ones, ``k`` of them kept (a mean).

    ``budget`` and ``cost`` are generator tokens per problem. Accuracies run from 0 to 100, intervals cover 95 %;
    ``maj_delta`` is the paired difference to ``none`` at its own n. ``capped``: all stored paths cost less than the
    budget, so the method could have used more. Means over ``draws`` pools of the stored paths.
    """

    task: str
    method: str
    quadrant: QuadrantName
    policy: str
    stored_paths: int
    n: int
    k: Number
    budget: Number
    cost: Number
    capped: bool
    avg_at_k: Number
    maj_at_k: Interval
    maj_delta: Interval
    p_value: Number
    p_holm: Number
    draws: int
    n_problems: int


class FrontierRow(Row):
    """One method that keeps ``k`` paths (a mean where that varies); ``none``: so many whole paths; 0 to 100.

    ``tokens``: all that anybody reads or writes per problem; ``cost``: the arithmetic of all models in generator
    tokens. Gains are paired differences in points: ``avg_gain`` to keeping all, ``maj_gain_tokens`` and
    ``maj_gain_cost`` to the vote of as many whole paths as the same tokens or the same arithmetic pay for.
    """

    task: str
    method: str
    quadrant: QuadrantName
    k: Number
    tokens: Number
    cost: Number
    avg_at_k: Number
    maj_at_k: Number
    avg_gain: Interval
    maj_gain_tokens: Interval
    maj_gain_cost: Interval
    n_problems: int


class VoteRow(Row):
    """One vote over the paths that a method kept, or over all of them with its scores (``voters``); 0 to 100.

    ``pruning_gain``: majority over these voters minus majority over all N. ``vote_gain``: this vote minus majority,
    both over these voters. The two add up to what the method gains with this vote.
    """

    task: str
    method: str
    voters: Literal["kept", "all"]
    vote: str
    accuracy: Number
    pruning_gain: Interval
    vote_gain: Interval
    tie_rate: Number
    n_problems: int


class CalibrationRow(Row):
    """How well a score that claims to be a probability is one: against the potential, else against the outcome.

    ``ece`` and ``brier`` run from 0 to 1; ``bins`` is the reliability curve: low, high, count, mean score, mean truth.
    """

    task: str
    method: str
    truth: Literal["potential", "outcome"]
    ece: Number
    brier: Number
    bins: list[tuple[float, float, int, float, float]]


class PairRow(Row):
    """``method`` minus ``other`` on a task, in points: avg@k and the vote, with 95 % intervals over problems.

    ``p``: sign-flip permutation of what decides, the avg@k; where one of them stops once complete paths agree, that is
    no choice of paths, and the vote decides (``by``). ``p_holm`` and ``p_equal`` (two one-sided tests within
    :data:`MARGIN`) are adjusted for all pairs that were asked for. ``more``: the further problems that would decide it
    80 times in 100, if the true difference is the one that was seen; NaN where nobody can tell.
    """

    task: str
    method: str
    other: str
    avg: Interval
    maj: Interval
    p: Number
    p_holm: Number
    p_equal: Number
    more: Number
    n_problems: int
    by: Literal["avg", "maj"] = "avg"

    @property
    def verdict(self) -> str:
        """What these problems establish."""
        said = self._said
        return f"{said} (by maj@k)" if self.by == "maj" else said

    @property
    def _said(self) -> str:
        near = self.p_equal < LEVEL
        if self.p_holm < LEVEL:
            ahead = "ahead" if getattr(self, self.by).mean > 0 else "behind"
            return f"{ahead}, by less than {MARGIN:g} points" if near else ahead
        if near:
            return f"equal within {MARGIN:g} points"
        if self.n_problems < FEWEST_PROBLEMS:
            return f"not established: {FEWEST_PROBLEMS} problems are the fewest"
        if math.isnan(self.more):
            return "no difference on any problem" if getattr(self, self.by).mean == 0 else "not established"
        digits = max(0, len(str(int(self.more))) - 2)  # of so rough a number no more are known
        return f"not established: about {int(round(self.more, -digits)):,} more problems"


class Note(Row):
    """A statement under a table: of one ``task``, or of all (empty). ``table`` is what it was computed with."""

    table: str
    text: str
    task: str = ""


TABLES = ("rows", "representatives", "pairs", "equal_cost", "frontier", "votes", "calibration", "repeated")
"""The tables of a result, by the names of their fields."""


class Results(BaseModel):
    """A comparison: its rows, and what is needed to run it again.

    ``pairs``: the representatives, each held against each. ``problems`` lists the evaluated problem ids per task,
    ``splits`` those that methods were trained and tuned on.
    ``repeated`` holds the rows of tables again, without finished and leaky prefixes, where there are many. ``left_out``
    says per method why it has no row; ``notes`` are the statements under the table (minimum detectable difference,
    finished and leaky shares, duplicate score columns). ``setup`` is what the command line needs to run it again,
    ``environment`` what it ran in. The file says that a comparison is finished: it is written last.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[2] = 2
    command: str
    seed: int
    versions: dict[str, str]
    hashes: dict[str, str]
    device: str
    sampling: dict[str, Any]
    problems: dict[str, list[str]]
    rows: list[ResultRow]
    representatives: list[Representative] = []
    pairs: list[PairRow] = []
    equal_cost: list[EqualCostRow] = []
    frontier: list[FrontierRow] = []
    votes: list[VoteRow] = []
    calibration: list[CalibrationRow] = []
    repeated: list[ResultRow] = []
    splits: dict[str, list[str]] = {}
    setup: dict[str, Any] = {}
    environment: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    notes: list[Note] = []

    @property
    def task(self) -> str:
        """What is shown first: all tasks pooled, or the only task. Raises ValueError without rows."""
        if not self.rows:
            raise ValueError("these results have no rows")
        return POOLED if any(row.task == POOLED for row in self.rows) else self.rows[0].task

    @property
    def compared(self) -> set[tuple[str, str]]:
        """(task, problem) of everything that was compared."""
        return {(task, problem) for task, problems in self.problems.items() for problem in problems}

    def write(self, path: Path) -> None:
        write_atomically(path, (self.model_dump_json(indent=1) + "\n").encode())

    @classmethod
    def read(cls, path: Path) -> Results:
        return cls.model_validate_json(path.read_text())

    @classmethod
    def held(cls, path: Path) -> Results | None:
        """The results at ``path``; None where there are none, or those of another version, which are made again."""
        try:
            return cls.read(path) if path.exists() else None
        except (ValidationError, UnicodeDecodeError):
            return None

    def to_frame(self, table: str = "rows") -> pd.DataFrame:
        """A table as a pandas DataFrame, a row per method and task, the columns of its CSV.

        ``table``: ``rows`` (the main table), ``frontier``, ``equal_cost``, ``votes``, ``repeated``, ``calibration``,
        ``representatives`` or ``pairs`` of them. Accuracies and differences run from 0 to 100 with their ends in
        ``_low`` and ``_high``; undefined is NaN. Raises ValueError for another table.
        """
        import pandas as pd

        if table not in TABLES:
            raise ValueError(f"no table '{table}': there are {', '.join(TABLES)}")
        return pd.DataFrame([row.flat() for row in getattr(self, table)])

    def csv(self) -> str:
        """The rows of the main table as CSV."""
        return rows_csv(self.rows)


def rows_csv(rows: Sequence[Row]) -> str:
    """Rows of one kind as CSV."""
    cells = [row.flat() for row in rows]
    columns = list(dict.fromkeys(column for row in cells for column in row))
    return csv_text(columns, ([row.get(column, "") for column in columns] for row in cells))
