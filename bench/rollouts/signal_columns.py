"""Signals as columns of a shard: a flat list of numbers per path, and of a wide one how many each token has."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

FLOATS = pa.list_(pa.float32())
_FIRST = {"logprobs": "logprobs", "entropy": "entropy", "self_certainty": "self_certainty", "topk_logprobs": "topk"}
"""The columns that every shard has; another signal has ``signal.NAME`` where a path of the shard has it."""
_MORE = "signal."


def width_of(column: str) -> str:
    """The column with the second dimension of a wide signal."""
    return f"{column}.width" if column.startswith(_MORE) else f"{column}_width"


def as_columns(signals: Mapping[str, NDArray[np.float32]]) -> dict[str, Any]:
    """The values of one path, by column."""
    values: dict[str, Any] = {}
    for name, signal in signals.items():
        column = _FIRST.get(name, _MORE + name)
        values[column] = signal.reshape(-1)
        if signal.ndim > 1:
            values[width_of(column)] = signal.shape[1]
    return values


def columns_in(schema: pa.Schema) -> dict[str, str]:
    """The columns of a shard, by signal."""
    more = [name for name in schema.names if name.startswith(_MORE) and schema.field(name).type == FLOATS]
    return {**_FIRST, **{name.removeprefix(_MORE): name for name in more}}


def fields_of(names: Collection[str]) -> list[pa.Field]:
    """The fields of those columns among ``names`` that not every shard has."""
    more = [name for name in names if name.startswith(_MORE)]
    widths = {width_of(name) for name in more} & set(more)
    return [pa.field(name, pa.int32() if name in widths else FLOATS) for name in more]
