"""Stored paths, scored once per method and prefix length; what was scored is kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.arithmetic import Arithmetic
from prunebench.bench.engines.base import Engine
from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.ledger import path_costs
from prunebench.bench.evaluation.replay import check, visible
from prunebench.bench.files import write_atomically
from prunebench.bench.provenance import method_code
from prunebench.bench.rollouts.opening import task_of
from prunebench.bench.rollouts.pools import record_of
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.bench.rollouts.store import RolloutStore
from prunebench.bench.training.loading import reads_of
from prunebench.methods.base import Pruner

Array = NDArray[np.float64]
LAYOUT = 2
"""Of the kept files; another one's are not read."""


@dataclass(frozen=True)
class ScoredPaths:
    """The M stored paths of one problem at one prefix length.

    ``lengths`` int64, ``answer_class`` int64 (-1 none) and ``correct`` (M,) are those of the complete paths. ``launch``
    and ``resume`` (M,): what a path costs up to the prefix length and from there to its end; ``checks``: what a method
    adds per path, a mean; all in FLOPs, in tokens where nobody knows the model. ``scores`` (M,) by method.
    """

    task: str
    problem: str
    lengths: NDArray[np.int64]
    answer_class: NDArray[np.int64]
    gold_class: int
    correct: Array
    launch: Array
    resume: Array
    checks: Mapping[str, float]
    scores: Mapping[str, Array]

    @classmethod
    def of(cls, record: ProblemRecord, methods: Mapping[str, Pruner], arithmetic: Arithmetic | None) -> ScoredPaths:
        """Score all paths of a problem.

        Raises UserError for a check that costs FLOPs where no model says what a token costs (imported rollouts).
        """
        reached = np.minimum(record.lengths, record.pool.position)
        context = len(record.pool.prompt_ids) + int(reached.max())
        checks: dict[str, float] = {}
        scores: dict[str, Array] = {}
        for name, pruner in methods.items():
            checked = check(pruner, visible(record.pool, pruner))
            if arithmetic is None and checked.cost.flops is not None:
                raise UserError(
                    f"method '{name}': its check costs FLOPs, and imported rollouts have no model to say how many "
                    "tokens that is; leave it out of --methods"
                )
            cost = checked.cost.tokens if arithmetic is None else arithmetic.beyond(checked.cost, context)
            checks[name], scores[name] = cost / len(record.pool), checked.scores
        return cls(
            record.task, record.problem, record.lengths, record.answer_class, record.gold_class, record.correct,
            path_costs(record, np.zeros_like(reached), reached, arithmetic),
            path_costs(record, reached, record.lengths, arithmetic),
            checks, scores,
        )  # fmt: skip

    @classmethod
    def read(cls, file: Path) -> ScoredPaths:
        content = json.loads(file.read_text())
        integers, numbers = ("lengths", "answer_class"), ("correct", "launch", "resume")
        return cls(
            **{
                **content,
                **{name: np.array(content[name], np.int64) for name in integers},
                **{name: np.array(content[name], np.float64) for name in numbers},
                "scores": {name: np.array(values) for name, values in content["scores"].items()},
            }
        )

    def write(self, file: Path) -> None:
        content = {**vars(self), "checks": dict(self.checks), "scores": dict(self.scores)}
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(content, default=np.ndarray.tolist).encode())


class KeptScores:
    """One file per problem and prefix length, in a folder named by all that the scores depend on."""

    def __init__(
        self,
        folder: Path,
        store: RolloutStore,
        engine: Engine | None,
        methods: Mapping[str, Pruner],
        arithmetic: Arithmetic | None,
    ) -> None:
        origin = [
            LAYOUT, store.digest(), engine.digest if engine else "", {n: identity(p) for n, p in methods.items()}
        ]  # fmt: skip
        digest = hashlib.sha256(json.dumps(origin, sort_keys=True, default=str).encode()).hexdigest()[:16]
        self._folder, self._store, self._engine = folder / digest, store, engine
        self._read = store.reader()
        self._methods, self._arithmetic = methods, arithmetic

    def scored(self, task: str, problem: str, prefix: int) -> ScoredPaths:
        """What was scored before, or now."""
        name = hashlib.sha256(f"{task}\x1f{problem}\x1f{prefix}".encode()).hexdigest()[:24]
        file = self._folder / f"{name}.json"
        if file.exists():
            return ScoredPaths.read(file)
        stored, reads = self._read((task, problem)), reads_of(self._methods)
        record = record_of(self._engine, stored, prefix, None, reads, task=task_of(self._store, task))
        scored = ScoredPaths.of(record, self._methods, self._arithmetic)
        scored.write(file)
        return scored


def identity(pruner: Pruner) -> Any:
    """What tells one pruner from another: its name, its code, its hyper-parameters and what it learned (``..._``)."""
    learned = {name: value for name, value in vars(pruner).items() if name.endswith("_") and not name.startswith("_")}
    digest = hashlib.sha256()
    for part in _parts(learned):
        digest.update(part)
    return [pruner.name, method_code(type(pruner)), pruner.hyperparameters(), digest.hexdigest()]


def _parts(value: Any) -> Iterator[bytes]:
    """The bytes of all arrays, numbers and words in a learned value, each after its name; models are left out."""
    if isinstance(value, Mapping):
        for name in sorted(value):
            yield str(name).encode() + b"\x1f"
            yield from _parts(value[name])
    elif is_dataclass(value):
        yield from _parts(vars(value))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _parts(part)
    elif isinstance(value, Pruner):
        yield json.dumps(identity(value), sort_keys=True, default=str).encode()
    elif isinstance(value, str | int | float):
        yield repr(value).encode() + b"\x1f"
    elif hasattr(value, "__array__"):
        yield np.asarray(value).tobytes()
