"""The configuration of a comparison whose rollouts are there already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from prunebench.bench.config import RunConfig, configured
from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.store import RolloutStore


def config_of(folder: Path, **options: Any) -> RunConfig:
    """The configuration of a comparison over the rollouts in ``folder``; ``options`` are those of the command line.

    Not given: ``n`` is the smallest number of paths that a problem has, ``k`` an eighth of it, ``prefix_tokens`` an
    eighth of the mean length, the problems all there are. Raises UserError for a store that cannot serve: no problem,
    an unknown task, too few paths, a checkpoint behind the end of every path.
    """
    store = RolloutStore.open(folder)
    lengths: dict[str, list[list[int]]] = {}
    for (task, _), paths_of in store.lengths().items():
        lengths.setdefault(task, []).append(paths_of)
    if not lengths:
        raise UserError(f"{folder}: holds no problem yet; run the command that makes this store again")
    overrides = {name: value for name, value in options.items() if value is not None}
    for name in overrides.get("tasks", ()):
        if name not in lengths:
            raise UserError(f"{folder}: holds no task '{name}'; it has {', '.join(lengths)}")
    tasks = list(overrides.pop("tasks", lengths))
    by_problem = [tokens for task in tasks for tokens in lengths[task]]
    fewest = min(map(len, by_problem))
    n = overrides.pop("n", fewest)
    if n > fewest:
        raise UserError(f"{folder}: n = {n}, but a problem has only {fewest} paths; choose n <= {fewest}")
    longest = max(max(tokens) for tokens in by_problem)
    prefix = overrides.pop(
        "prefix_tokens", max(1, int(np.mean([length for tokens in by_problem for length in tokens]) / 8))
    )
    if prefix >= longest:
        raise UserError(
            f"{folder}: prefix_tokens = {prefix}, but the longest path has {longest} tokens; choose a smaller --prefix"
        )
    sampling = store.manifest.get("sampling") or {"temperature": 1.0}
    settings = {
        "tasks": tasks,
        "model": str(store.manifest["model"]),
        "model_options": store.manifest.get("model_options", {}),
        "n": n,
        "k": max(1, n // 8),
        "prefix_tokens": prefix,
        "problems": max(map(len, lengths.values())),
        **sampling,
        "max_new_tokens": longest + 1,
        **overrides,
    }
    return configured(str(folder), settings, overrides)
