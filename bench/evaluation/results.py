"""Typed results: one row per task and method, and the record of how they came to be."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from prunebench.bench.evaluation.statistics import Number
from prunebench.bench.files import rows_csv, write_atomically

POOLED = "all"
"""The task of rows over the problems of all tasks."""

QuadrantName = Literal["control", "I", "II", "III", "IV", "mixed"]


class ResultRow(BaseModel):
    """One method on one task (or on ``all``: problems pooled). The order of the fields is the order of the columns.

    Accuracies, ``reduction`` and ``headroom`` run from 0 to 100 and their intervals cover 95 %; ``tokens`` and
    seconds are means per problem. ``delta`` and ``maj_delta`` are paired differences to ``none``. ``headroom`` is the
    percentage of the potential control's gain, ``normalised`` that of what the oracle gains over chance.
    ``draw_spread`` is the standard deviation of avg@k over draws of the N paths from at least 4N stored ones. ``k`` is
    what the policy keeps, rounded from the mean where that varies;
    ``paper_tokens`` and ``tie_rate`` are defined for one check only, and ``avg_at_k_expected`` not for paths that were
    stopped to vote early. ``finished`` is the policy's rule for paths that end before the
    checkpoint; ``finished_share`` and ``leaky_share`` are percentages of the prefixes. Undefined is NaN.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="null")

    task: str
    model: str
    method: str
    quadrant: QuadrantName
    n: int
    k: int
    prefix_tokens: int
    avg_at_n: Number
    avg_at_k: Number
    avg_at_k_low: Number
    avg_at_k_high: Number
    delta: Number
    delta_low: Number
    delta_high: Number
    p_holm: Number
    maj_at_k: Number
    pass_at_k: Number
    tokens: Number
    reduction: Number
    auroc: Number
    headroom: Number
    launch_seconds: Number
    check_seconds: Number
    resume_seconds: Number
    paper_tokens: Number
    policy: str
    finished: str
    n_problems: int
    avg_at_k_expected: Number
    maj_delta_low: Number
    maj_delta_high: Number
    # appended
    maj_delta: Number
    maj_delta_random: Number
    maj_delta_random_low: Number
    maj_delta_random_high: Number
    p_value: Number
    auroc_low: Number
    auroc_high: Number
    headroom_low: Number
    headroom_high: Number
    expected_delta: Number
    expected_delta_low: Number
    expected_delta_high: Number
    potential_delta: Number
    potential_delta_low: Number
    potential_delta_high: Number
    spearman: Number
    tie_rate: Number
    flops_tokens: Number
    finished_share: Number
    leaky_share: Number
    configuration: str
    note: str = ""
    normalised: Number = math.nan
    normalised_low: Number = math.nan
    normalised_high: Number = math.nan
    draw_spread: Number = math.nan


COLUMNS: tuple[str, ...] = tuple(ResultRow.model_fields)


class Representative(BaseModel):
    """The method that stands for its quadrant: the best of ``candidates`` by within-problem AUROC on validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="null")

    quadrant: QuadrantName
    method: str
    validation_auroc: Number
    candidates: int


class PolicyRow(BaseModel):
    """A policy of several checks minus one check at equal cost (``topk:one_check_k``), paired over problems, 0-100."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="null")

    method: str
    policy: str
    tokens: Number
    one_check_k: int
    one_check_tokens: Number
    avg_difference: Number
    avg_difference_low: Number
    avg_difference_high: Number
    maj_difference: Number
    maj_difference_low: Number
    maj_difference_high: Number
    n_problems: int


class EqualCostRow(BaseModel):
    """One method with as many paths as ``budget`` pays for: ``n`` of the stored ones, ``k`` of them kept (a mean).

    ``budget`` and ``cost`` are generator tokens per problem. Accuracies run from 0 to 100, intervals cover 95 %;
    ``maj_delta`` is the paired difference to ``none`` at its own n. ``capped``: all stored paths cost less than the
    budget, so the method could have used more. Means over ``draws`` pools of the stored paths.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="null")

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
    maj_at_k: Number
    maj_at_k_low: Number
    maj_at_k_high: Number
    maj_delta: Number
    maj_delta_low: Number
    maj_delta_high: Number
    p_value: Number
    p_holm: Number
    draws: int
    n_problems: int


class VoteRow(BaseModel):
    """One vote over the paths that a method kept, or over all of them with its scores (``voters``); 0 to 100.

    ``pruning_gain``: majority over these voters minus majority over all N. ``vote_gain``: this vote minus majority,
    both over these voters. The two add up to what the method gains with this vote.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="null")

    task: str
    method: str
    voters: Literal["kept", "all"]
    vote: str
    accuracy: Number
    pruning_gain: Number
    pruning_gain_low: Number
    pruning_gain_high: Number
    vote_gain: Number
    vote_gain_low: Number
    vote_gain_high: Number
    tie_rate: Number
    n_problems: int


class CalibrationRow(BaseModel):
    """How well a score that claims to be a probability is one: against the potential, else against the outcome.

    ``ece`` and ``brier`` run from 0 to 1; ``bins`` is the reliability curve: low, high, count, mean score, mean truth.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="null")

    task: str
    method: str
    truth: Literal["potential", "outcome"]
    ece: Number
    brier: Number
    bins: list[tuple[float, float, int, float, float]]


class Results(BaseModel):
    """A comparison: its rows, and what is needed to run it again.

    ``problems`` lists the evaluated problem ids per task, ``splits`` those that methods were trained and tuned on.
    ``repeated`` holds the rows of tables again, without finished and leaky prefixes, where there are many. ``left_out``
    says per method why it has no row; ``notes`` are the statements under the table (minimum detectable difference,
    finished and leaky shares, duplicate score columns). ``setup`` is what the command line needs to run it again,
    ``environment`` what it ran in.
    """

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="null")

    schema_version: Literal[1] = 1
    command: str
    seed: int
    versions: dict[str, str]
    hashes: dict[str, str]
    device: str
    sampling: dict[str, Any]
    problems: dict[str, list[str]]
    rows: list[ResultRow]
    representatives: list[Representative] = []
    policies: list[PolicyRow] = []
    equal_cost: list[EqualCostRow] = []
    votes: list[VoteRow] = []
    calibration: list[CalibrationRow] = []
    repeated: list[ResultRow] = []
    splits: dict[str, list[str]] = {}
    setup: dict[str, Any] = {}
    environment: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    notes: list[str] = []

    @property
    def task(self) -> str:
        """What is shown first: all tasks pooled, or the only task. Raises ValueError without rows."""
        if not self.rows:
            raise ValueError("these results have no rows")
        return POOLED if any(row.task == POOLED for row in self.rows) else self.rows[0].task

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

    def csv(self) -> str:
        """The rows of the main table as CSV."""
        return rows_csv(ResultRow, self.rows)
