"""Rows of the main table from flat values, as its CSV has them."""

from __future__ import annotations

import math
from typing import Any

from prunebench.bench.evaluation.columns import METRICS
from prunebench.bench.evaluation.results import ResultRow
from prunebench.bench.evaluation.statistics import Interval

IDENTITY = [name for name in ResultRow.model_fields if name != "metrics"]


def flat_row(values: dict[str, Any]) -> ResultRow:
    """A row; metrics that are not named are undefined."""
    metrics = {
        name: Interval(*(values.get(f"{name}{end}", math.nan) for end in ("", "_low", "_high")))
        for name in METRICS.names()
    }
    unknown = values.keys() - {*IDENTITY, *(f"{name}{end}" for name in metrics for end in ("", "_low", "_high"))}
    assert not unknown, unknown
    return ResultRow(metrics=metrics, **{name: values[name] for name in IDENTITY if name in values})


def changed(row: ResultRow, **values: Any) -> ResultRow:
    """The same row with other values."""
    flat = {name: getattr(row, name) for name in IDENTITY}
    for name, value in row.metrics.items():
        flat |= {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}
    return flat_row(flat | values)
