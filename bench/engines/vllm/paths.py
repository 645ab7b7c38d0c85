"""From vLLM's outputs to paths."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.base import Path


def by_request(columns: dict[str, NDArray[Any]], count: int) -> list[dict[str, NDArray[np.float32]]]:
    """The signals of each of ``count`` requests, in the order of their steps, each step once.

    ``columns``: ``number`` of the request and ``step`` of every token, and a column per signal.
    """
    if not columns:
        return [{} for _ in range(count)]
    steps = int(columns["step"].max()) + 1
    _, order = np.unique(columns["number"] * steps + columns["step"], return_index=True)
    cuts = np.searchsorted(columns["number"][order], np.arange(1, count))
    split = {name: np.split(columns[name][order], cuts) for name in columns if name not in ("number", "step")}
    return [{name: parts[row] for name, parts in split.items()} for row in range(count)]


def path_of(number: int, output: Any, signals: dict[str, NDArray[np.float32]], topk_tokens: int) -> Path:
    ids = np.array(list(output.token_ids), np.int64)
    # A step may have been scheduled behind the end of a path.
    most = {name: min(len(ids), topk_tokens) if column.ndim > 1 else len(ids) for name, column in signals.items()}
    columns = {name: column[: most[name]] for name, column in signals.items()}
    return Path(number, ids, "stop" if output.finish_reason == "stop" else "length", columns)
