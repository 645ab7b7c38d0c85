"""The configuration of a comparison whose rollouts are there already."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from prunebench.bench.config import RunConfig, configured
from prunebench.bench.errors import UserError
from prunebench.bench.progress import SILENT
from prunebench.bench.rollouts.importers.units import WORDS
from prunebench.bench.rollouts.opening import most_compared, too_short
from prunebench.bench.rollouts.store import RolloutStore, StoredPath

_LOOKED_AT = 32
"""Problems that tell where paths part."""


def config_of(folder: Path, say: Callable[[str], None] = SILENT.say, **options: Any) -> RunConfig:
    """The configuration of a comparison over the rollouts in ``folder``; ``options`` are those of the command line.

    Not given: ``prefix_tokens`` is the checkpoint that was recorded for, else an eighth of the mean length; ``n`` what
    lets the most paths take part, ``k`` an eighth of it, the problems all there are. ``say`` is told each choice with
    its reason. Raises UserError for a store that cannot serve: no problem, an unknown task, too few paths, a checkpoint
    behind the end of every path.
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
    prefix = overrides.pop("prefix_tokens") if "prefix_tokens" in overrides else _checkpoint(store, by_problem, say)
    longest = max(max(tokens) for tokens in by_problem)
    if prefix >= longest:
        raise UserError(
            f"{folder}: prefix_tokens = {prefix}, but the longest path has {longest} tokens; choose a smaller --prefix"
        )
    n = overrides.pop("n") if "n" in overrides else _paths(list(map(len, by_problem)), say)
    if n > (most := max(map(len, by_problem))):
        raise UserError(f"{folder}: n = {n}, but no problem has more than {most} paths; choose n <= {most}")
    if left_out := too_short(store, tasks, n):
        say(f"{left_out}; --n {min(map(len, by_problem))} takes all")
    if "k" not in overrides:
        say(f"k = {max(1, n // 8)}: an eighth of N (another one: --k)")
    settings = {
        "tasks": tasks,
        "model": str(store.manifest["model"]),
        "model_options": store.manifest.get("model_options", {}),
        "n": n,
        "k": max(1, n // 8),
        "prefix_tokens": prefix,
        "problems": max(map(len, lengths.values())),
        **(store.manifest.get("sampling") or {"temperature": 1.0}),
        "max_new_tokens": longest + 1,
        **overrides,
    }
    return configured(str(folder), settings, overrides)


def _checkpoint(store: RolloutStore, by_problem: list[list[int]], say: Callable[[str], None]) -> int:
    """The checkpoint that the store was recorded for, where a path reaches it; else an eighth of the mean path."""
    recorded = int((store.manifest.get("recording") or {}).get("launch_tokens", 0))
    lengths = np.concatenate(by_problem)
    if 0 < recorded < lengths.max():
        say(f"L = {recorded} tokens: the checkpoint that the store was recorded for (another one: --prefix)")
        return recorded
    why = f"every path ends before the {recorded} that were recorded for" if recorded else "the store records none"
    prefix, where = max(1, int(lengths.mean() / 8)), ""
    if every := next(iter(store.read())).probe_every:
        prefix, where = max(1, round(prefix / every)) * every, f", where answers were forced every {every}"
    unit, share = "words" if store.manifest.get("tokens") == WORDS else "tokens", "an eighth"
    same = ""
    for part, further in ((4, "a quarter"), (2, "half")):
        if not _parted(store, prefix) and not where:
            prefix, share = max(1, int(lengths.mean() / part)), further
            same = "; earlier most paths of a problem are the same"
    say(f"L = {prefix} {unit}: {share} of the mean path{where}, as {why}{same} (another one: --prefix)")
    return prefix


def _parted(store: RolloutStore, position: int) -> bool:
    """Whether at least half of the paths of a problem differ before ``position``, in the mean of the first problems."""
    shares = []
    for stored in islice(store.read(hidden=False), _LOOKED_AT):
        prefixes = {_prefix(path, position) for path in stored.paths}
        shares.append(1.0 if None in prefixes else len(prefixes) / len(stored.paths))
    return float(np.mean(shares)) >= 0.5


def _prefix(path: StoredPath, position: int) -> bytes | str | None:
    """What a path says before ``position``; None where nobody knows."""
    if path.token_ids is not None:
        return path.token_ids[:position].tobytes()
    if path.text is None or path.ends is None:
        return None
    return path.text[: path.ends[min(position, path.length) - 1]] if path.length else ""


def _paths(counts: list[int], say: Callable[[str], None]) -> int:
    n, more = most_compared(counts), [count for count in counts if count > most_compared(counts)]
    why = "what every problem has" if n == min(counts) == max(counts) else "with it the most paths take part"
    rest = f"; of {len(more)} problems with more (at most {max(more)}) the first {n}" if more else ""
    say(f"N = {n} paths: {why}{rest} (another one: --n)")
    return n
