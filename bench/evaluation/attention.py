"""What STOP's tokens attend to on the best and on the worst path of a pool (STOP paper, Figures 7 and 10)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from prunebench.bench.engines.base import Engine
from prunebench.bench.errors import UserError
from prunebench.bench.files import Document, csv_text, write_atomically
from prunebench.bench.rollouts.opening import require_model
from prunebench.bench.rollouts.pools import pool_of
from prunebench.bench.rollouts.store import RolloutStore
from prunebench.methods.learned.stop import Stop

STOP_WORD = "[STOP]"


class AttendedPath(BaseModel):
    """One prefix. ``tokens`` are the texts of prompt, prefix and [STOP] tokens, ``weights`` (layers, tokens) what the
    last [STOP] token gives to each, mean over the heads; each layer sums to 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["highest", "lowest"]
    path: int
    score: float
    correct: bool
    prompt_tokens: int
    tokens: list[str]
    weights: list[list[float]]


class Attention(Document):
    """The two extreme paths of one problem's pool."""

    KIND = "attention"
    COMMAND = "prunebench study attention FOLDER"

    schema_version: Literal[1] = 1
    command: str
    model: str
    model_hash: str
    method: str
    task: str
    problem: str
    prefix: int
    paths: list[AttendedPath]

    def csv(self) -> str:
        """A line per path, layer and token."""
        columns = ("role", "path", "score", "correct", "layer", "position", "token", "weight")
        rows = (
            (path.role, path.path, path.score, path.correct, layer + 1, place, token, weight)
            for path in self.paths
            for layer, weights in enumerate(path.weights)
            for place, (token, weight) in enumerate(zip(path.tokens, weights, strict=True))
        )
        return csv_text(columns, rows)

    def write(self, out: Path) -> None:
        """``attention.json`` and ``attention.csv``."""
        self.save(out / "attention.json", indent=1)
        write_atomically(out / "attention.csv", self.csv().encode())


def record_attention(
    engine: Engine,
    stop: Stop,
    folder: Path,
    out: Path,
    *,
    prefix: int,
    task: str | None = None,
    number: int = 1,
    command: str = "",
) -> Attention:
    """Score the pool of one stored problem, the ``number``-th of its task, and look at the two extremes.

    Raises UserError for a store of another model, for a task or problem that it does not hold, and for no prefix.
    """
    if prefix < 1:
        raise UserError(f"prefix = {prefix}: at least 1 token is needed")
    store = RolloutStore.open(folder)
    require_model(store, folder, engine)
    held = [key for key in store.lengths() if task in (None, key[0])]
    if not 1 <= number <= len(held):
        what = f"of task '{task}'" if task else "in all"
        raise UserError(f"{folder}: holds {len(held)} problems {what}; number = {number} is none of them")
    stored = next(p for p in store.read(hidden=False) if (p.task, p.problem) == held[number - 1])
    pool = pool_of(engine, stored, prefix)
    scores = stop.score(pool)
    rows = [int(np.argmax(scores)), int(np.argmin(scores))]
    weights = stop.attention(pool, rows).mean(axis=2)[:, :, -1]  # heads averaged, the last [STOP] token
    prompt = len(pool.prompt_ids)
    paths = []
    for place, (row, role) in enumerate(zip(rows, ("highest", "lowest"), strict=True)):
        end = prompt + int(pool.lengths[row])
        places = [*range(end), *range(weights.shape[2] - stop.tokens, weights.shape[2])]
        ids = [*pool.prompt_ids.tolist(), *pool.token_ids[row].tolist()]
        paths.append(
            AttendedPath(
                role=role,  # type: ignore[arg-type]
                path=int(pool.paths[row]),
                score=float(scores[row]),
                correct=stored.paths[row].correct is True,
                prompt_tokens=prompt,
                tokens=[*engine.tokenizer.convert_ids_to_tokens(ids), *[STOP_WORD] * stop.tokens],
                weights=np.round(weights[place][:, places].astype(np.float64), 6).tolist(),
            )
        )
    attention = Attention(
        command=command, model=engine.name, model_hash=engine.digest, method=stop.name, task=stored.task,
        problem=stored.problem, prefix=prefix, paths=paths,
    )  # fmt: skip
    attention.write(out)
    return attention
