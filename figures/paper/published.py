"""The published tables of the STOP paper (arXiv 2604.16029), as typed rows.

The numbers are facts of the paper, retyped in ``figures/paper/*.csv``; the field names are the columns of the files.
Accuracies are percentages, ``tokens_k`` thousands of tokens per problem (1,000, unlike the ``k`` of budgets: 1,024).
What the paper leaves open is NaN. Every function raises UserError when its file is missing or does not parse.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from prunebench.bench.errors import UserError

PAPER = Path(__file__).parent

RETENTION_TASK_LENGTHS = {"gpqa": 8650, "aime": 11950}
"""Mean path length, in tokens, behind each retention grid."""

Number = Annotated[float, BeforeValidator(lambda cell: math.nan if cell == "" else cell)]


class PaperRow(BaseModel):
    """A line of a table."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MainRow(PaperRow):
    """Table 2: 64 paths, 8 of them kept after 2,048 tokens; ``acc`` is avg@8|64, or avg@64 for ``baseline``.

    ``type`` is the quadrant of the method; ``reduction_pct`` is the change of ``tokens_k`` to ``baseline``, at most 0.
    """

    model: str
    dataset: str
    type: Literal["baseline", "I", "II", "III", "IV"]
    acc: Number
    tokens_k: Number
    reduction_pct: Number


class PaperAblationRow(PaperRow):
    """Tables 3 to 9: ``result`` of one ``value`` of one ``setting``; ``table`` is the number of the table."""

    table: int
    model: str
    dataset: str
    setting: str
    value: str
    metric: str
    result: Number


class LatencyRow(PaperRow):
    """Table 16: seconds of one batch with one method per type; ``tokens_per_s`` of the generating phase."""

    type: Literal["none", "I", "II", "IV"]
    generate_s: Number
    check_s: Number
    total_s: Number
    tokens_per_s: Number
    note: str


class TypeTwoRetrainRow(PaperRow):
    """Type II once more, its judge trained on the same labels as STOP; 64 paths, 8 kept."""

    model: str
    dataset: str
    acc: Number
    tokens_k: Number


@dataclass(frozen=True)
class RetentionCell:
    """One published retention ratio, as 1/gamma; ``prefix`` and ``budget`` in tokens."""

    prefix: int
    budget: int
    inverse_gamma: float


@dataclass(frozen=True)
class RetentionGrid:
    """Retention ratios for one task, whose paths are ``task_length`` tokens long in the mean."""

    task: str
    task_length: int
    cells: tuple[RetentionCell, ...]


AnyRow = TypeVar("AnyRow", bound=PaperRow)


def main_table() -> tuple[MainRow, ...]:
    return _read("main_table.csv", MainRow)


def ablations() -> tuple[PaperAblationRow, ...]:
    return _read("ablations.csv", PaperAblationRow)


def latency() -> tuple[LatencyRow, ...]:
    return _read("latency.csv", LatencyRow)


def type_two_retrain() -> tuple[TypeTwoRetrainRow, ...]:
    return _read("type2_retrain.csv", TypeTwoRetrainRow)


def retention_grids() -> tuple[RetentionGrid, ...]:
    """The two grids of 1/gamma over prefix length and budget, GPQA and AIME, for maj@k|N."""
    return tuple(RetentionGrid(task, length, _cells(task)) for task, length in RETENTION_TASK_LENGTHS.items())


def _cells(task: str) -> tuple[RetentionCell, ...]:
    """A grid's lines lead from prefix tokens to one cell per budget; the budgets stand in the header as ``140k``."""
    name = f"retention_{task}.csv"
    cells = []
    for line, cell in _lines(name):
        prefix = cell.pop("prefix_tokens", "")
        for budget, value in cell.items():
            try:
                cells.append(RetentionCell(int(prefix), 1024 * int(budget.removesuffix("k")), float(value)))
            except (TypeError, ValueError) as error:  # TypeError: a line with too few cells
                where = f"{PAPER / name}, line {line}: prefix_tokens = '{prefix}', column '{budget}', value '{value}'"
                raise UserError(f"{where}: not all are numbers; install the project anew") from error
    return tuple(cells)


def _read(name: str, kind: type[AnyRow]) -> tuple[AnyRow, ...]:
    rows = []
    for line, cells in _lines(name):
        try:
            rows.append(kind.model_validate(cells))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            what = "is missing" if first["type"] == "missing" else f"= {first['input']!r}: {first['msg']}"
            raise UserError(f"{PAPER / name}, line {line}: {field} {what}; install the project anew") from error
    return tuple(rows)


def _lines(name: str) -> list[tuple[int, dict[str, str]]]:
    """The lines of a table by column, each with its number in the file."""
    try:
        with (PAPER / name).open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, restkey="beyond the header")
            return [(reader.line_num, cells) for cells in reader]
    except FileNotFoundError as error:
        raise UserError(f"{PAPER / name}: this published table is missing; install the project anew") from error
