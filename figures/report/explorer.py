"""The paths of a run for the explorer: texts, token by token confidence, what every method did, as compact data."""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.evaluation.decisions import Decisions
from prunebench.bench.rollouts.store import RolloutStore, StoredPath
from prunebench.figures.run_folder import RunFolder

MOST_PROBLEMS = 60
"""So many problems are shown: the page stays under 5 MB. The first of every task, in turn."""


def explorer(run: RunFolder) -> dict[str, Any] | None:
    """Problems with their paths and decisions; None where the run's rollouts are not at hand."""
    folder = store_of(run)
    if folder is None:
        return None
    store = RolloutStore.open(folder)
    by_problem: dict[tuple[str, str], list[Decisions]] = {}
    for decided in run.decisions:
        by_problem.setdefault((decided.task, decided.problem), []).append(decided)
    shown = set(_in_turn(by_problem)[:MOST_PROBLEMS])
    spell = _speller(str(store.manifest["model"]))
    problems = []
    for stored in store.read(hidden=False):
        key = (stored.task, stored.problem)
        if key not in shown:
            continue
        decisions = by_problem[key]
        wanted = {int(path) for path in decisions[0].paths}
        paths = [path for path in stored.paths if path.path in wanted]
        problems.append(
            {
                "task": stored.task,
                "id": stored.problem,
                "prompt": stored.prompt,
                "gold": stored.gold,
                "paths": [_path(path, spell) for path in paths],
                "methods": {decided.method: _decision(decided) for decided in decisions},
            }
        )
    return {"checkpoint": run.results.rows[0].prefix_tokens, "problems": problems}


def store_of(run: RunFolder) -> Path | None:
    """The rollouts in the run folder, or those that were compared where they lay; None where neither is there."""
    places = [run.path / "rollouts", Path(str(run.results.setup.get("store") or run.path / "rollouts"))]
    return next((place for place in places if (place / "manifest.json").exists()), None)


def packed(value: Any) -> str:
    """JSON, gzipped, in base64: what the page unpacks itself. Equal values give equal text."""
    plain = json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()
    return base64.b64encode(gzip.compress(plain, 9, mtime=0)).decode()


def _in_turn(keys: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The first problem of every task, then the second ones."""
    by_task: dict[str, list[tuple[str, str]]] = {}
    for key in keys:
        by_task.setdefault(key[0], []).append(key)
    most = max(map(len, by_task.values()), default=0)
    return [part[i] for i in range(most) for part in by_task.values() if i < len(part)]


def _path(path: StoredPath, spell: Any) -> dict[str, Any]:
    logprobs = path.signals.get("logprobs")
    pieces = spell(path) if path.token_ids is not None and logprobs is not None else None
    content: dict[str, Any] = {
        "n": path.path, "length": path.length, "answer": path.answer, "correct": path.correct, "text": path.text or "",
    }  # fmt: skip
    if pieces is not None and logprobs is not None:
        content["ends"] = np.diff(np.cumsum(pieces), prepend=0).tolist()
        content["sure"] = _text_of(logprobs)
    return content


def _text_of(logprobs: NDArray[np.float32]) -> str:
    """Probabilities in 10 steps, a digit per token."""
    steps = np.clip((np.exp(logprobs.astype(np.float64)) * 10).astype(int), 0, 9)
    return "".join(map(str, steps))


def _decision(decided: Decisions) -> dict[str, Any]:
    return {
        "score": [None if math.isnan(score) else float(f"{score:.4g}") for score in decided.replay.scores],
        "kept": "".join("1" if kept else "0" for kept in decided.replay.keep),
        "decoded": decided.replay.decoded.tolist(),
    }


def _speller(model: str) -> Any:
    """A function from a path to the characters of each of its tokens; None for a path that does not add up."""
    from transformers import AutoTokenizer

    from prunebench.bench.engines.shipped import REASONERS

    try:
        source = str(REASONERS[model].weights) if model in REASONERS else model
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError):
        return lambda _path: None

    def spell(path: StoredPath) -> list[int] | None:
        sizes = characters(tokenizer, [int(token) for token in path.token_ids])  # type: ignore[union-attr]
        return sizes if sum(sizes) == len(path.text or "") else None

    return spell


def characters(tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """How many characters every token adds to the text; special tokens add none."""
    from tokenizers.decoders import DecodeStream

    stream = DecodeStream(skip_special_tokens=True)
    return [len(stream.step(tokenizer.backend_tokenizer, token) or "") for token in ids]
