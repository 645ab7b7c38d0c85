"""Typed results: one row per task and method, and the record of how they came to be."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

#: A number that may be undefined: NaN in memory and in CSV, null in JSON.
Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]

QuadrantName = Literal["control", "I", "II", "III", "IV", "mixed"]


class ResultRow(BaseModel):
    """One method on one task (or on ``all``: problems pooled). The order of the fields is the order of the columns.

    Accuracies, ``reduction`` and ``headroom`` run from 0 to 100 and their intervals cover 95 %; ``tokens`` and
    seconds are means per problem. ``delta`` and ``maj_delta`` are paired differences to ``none``. ``headroom`` is the
    percentage of the potential control's gain. ``k`` is what the policy keeps, rounded from the mean where that varies;
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


COLUMNS: tuple[str, ...] = tuple(ResultRow.model_fields)


class Representative(BaseModel):
    """The method that stands for its quadrant: the best of ``candidates`` by within-problem AUROC on validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="null")

    quadrant: QuadrantName
    method: str
    validation_auroc: Number
    candidates: int


class EqualCostRow(BaseModel):
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


class Results(BaseModel):
    """A comparison: its rows, and what is needed to run it again.

    ``problems`` lists the problem ids per task; ``left_out`` says per method why it has no row; ``notes`` are the
    statements under the table (minimum detectable difference, finished and leaky shares, duplicate score columns).
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
    equal_cost: list[EqualCostRow] = []
    left_out: dict[str, str] = {}
    notes: list[str] = []

    def write(self, path: Path) -> None:
        temporary = path.with_suffix(".tmp")
        temporary.write_text(self.model_dump_json(indent=1) + "\n")
        temporary.replace(path)

    @classmethod
    def read(cls, path: Path) -> Results:
        return cls.model_validate_json(path.read_text())

    def csv(self) -> str:
        """The rows as CSV; floats with six significant digits, NaN written as ``nan``."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in self.rows:
            writer.writerow(f"{v:.6g}" if isinstance(v, float) else v for v in (getattr(row, c) for c in COLUMNS))
        return stream.getvalue()
