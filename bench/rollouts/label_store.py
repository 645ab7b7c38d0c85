"""Monte Carlo labels on disk: how often the continuations of a prefix come out right."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prunebench.bench.errors import UserError
from prunebench.bench.files import table_of
from prunebench.bench.rollouts.shards import Shards
from prunebench.tasks.errors import shown

KIND = "labels"
_SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("problem", pa.string()),
        ("prefix", pa.string()),
        ("prefix_tokens", pa.int32()),
        ("continuations", pa.int32()),
        ("correct_even", pa.int32()),
        ("correct_odd", pa.int32()),
    ]
)


def prefix_hash(token_ids: NDArray[np.int64]) -> str:
    """16 hex digits of the SHA-256 of a prefix's token ids (prompt excluded)."""
    return hashlib.sha256(np.ascontiguousarray(token_ids, np.int64).tobytes()).hexdigest()[:16]


@dataclass(frozen=True)
class Label:
    """Successes among the even and the odd ones of ``continuations`` continuations.

    A prefix that is a finished path has no continuations: ``continuations`` is 0 and both counts are its verdict.
    """

    task: str
    problem: str
    prefix: str
    prefix_tokens: int
    continuations: int
    correct_even: int
    correct_odd: int

    @property
    def possible(self) -> bool:
        """Whether it can have been counted."""
        values = (self.prefix_tokens, self.continuations, self.correct_even, self.correct_odd)
        if any(not text for text in (self.task, self.problem, self.prefix)) or any(v is None or v < 0 for v in values):
            return False
        if self.continuations == 0:
            return self.correct_even == self.correct_odd <= 1
        even = (self.continuations + 1) // 2
        return self.correct_even <= even and self.correct_odd <= self.continuations - even

    @property
    def halves(self) -> tuple[float, float]:
        """The success rates of the two halves."""
        if self.continuations == 0:
            return float(self.correct_even), float(self.correct_odd)
        even = (self.continuations + 1) // 2
        return self.correct_even / even, self.correct_odd / (self.continuations - even)

    @property
    def success(self) -> float:
        if self.continuations == 0:
            return float(self.correct_even)
        return (self.correct_even + self.correct_odd) / self.continuations


class Labels:
    """Labels by task, problem and prefix; of two for one prefix the later."""

    def __init__(self, labels: Iterable[Label] = ()) -> None:
        self._labels: dict[tuple[str, str, str], Label] = {}
        self._add(labels)

    def _add(self, labels: Iterable[Label]) -> None:
        self._labels.update({(label.task, label.problem, label.prefix): label for label in labels})

    def __len__(self) -> int:
        return len(self._labels)

    def __iter__(self) -> Iterator[Label]:
        return iter(self._labels.values())

    def get(self, task: str, problem: str, token_ids: NDArray[np.int64]) -> Label | None:
        return self._labels.get((task, problem, prefix_hash(token_ids)))

    def lookup(
        self, task: str, problem: str, prefixes: Sequence[NDArray[np.int64]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(halves (2, N), success (N,)); NaN where a prefix has no label."""
        labels = [self.get(task, problem, prefix) for prefix in prefixes]
        halves = np.array([label.halves if label else (np.nan, np.nan) for label in labels]).reshape(-1, 2).T
        return halves, np.array([label.success if label else np.nan for label in labels])


class LabelStore(Labels):
    """Labels on disk; the manifest holds the model and the sampling that they explain."""

    def __init__(self, shards: Shards) -> None:
        super().__init__()
        self.shards = shards
        for name in shards.names():
            shards.require_intact(name)
            table = table_of(shards.folder / f"{name}.parquet")
            if not table.schema.equals(_SCHEMA):
                raise UserError(f"{shards.folder / name}.parquet: its columns are not those of this version")
            rows = table.to_pylist()
            labels = [Label(**row) for row in rows]
            for number, label in enumerate(labels):
                if not label.possible:
                    raise UserError(f"{shards.folder / name}.parquet: row {number} is no label: {shown(rows[number])}")
            self._add(labels)

    @classmethod
    def create_or_open(cls, folder: Path, manifest: Mapping[str, Any]) -> LabelStore:
        """See :meth:`bench.rollouts.shards.Shards.create_or_open`; also raises UserError for a single continuation."""
        if manifest["continuations"] < 2:
            raise UserError(
                f"continuations = {manifest['continuations']}: one half of the labels chooses and the other evaluates, "
                "so at least 2 are needed"
            )
        return cls(Shards.create_or_open(folder, KIND, manifest))

    @classmethod
    def open(cls, folder: Path) -> LabelStore:
        return cls(Shards.open(folder, KIND))

    @property
    def manifest(self) -> Mapping[str, Any]:
        return self.shards.manifest

    def require(self, model_hash: str, sampling_digest: str) -> None:
        """Raises UserError when the labels explain another model or other sampling settings."""
        for key, value in (("model_hash", model_hash), ("sampling_digest", sampling_digest)):
            if self.manifest[key] != value:
                raise UserError(
                    f"{self.shards.folder}: these labels were made with {key} {self.manifest[key]}, the rollouts with "
                    f"{value}; labels explain only their own settings: run prunebench label again"
                )

    def append(self, labels: Sequence[Label]) -> None:
        """Seal one shard."""
        rows = {name: [getattr(label, name) for label in labels] for name in _SCHEMA.names}
        stream = io.BytesIO()
        pq.write_table(pa.table(rows, schema=_SCHEMA), stream, compression="zstd")
        name = self.shards.next_name()
        self.shards.seal(name, {f"{name}.parquet": stream.getvalue()})
        self._add(labels)
