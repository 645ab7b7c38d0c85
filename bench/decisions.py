"""What every method decided about every path, as a file: scores, what was kept, how far each path went."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bench.errors import UserError
from bench.evaluate import Scored
from bench.records import ProblemRecord
from bench.shards import table_of, write_atomically

FILE = "decisions.parquet"
_SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("problem", pa.string()),
        ("method", pa.string()),
        ("path", pa.int32()),
        ("score", pa.float64()),
        ("kept", pa.bool_()),
        ("decoded_tokens", pa.int32()),
    ]
)


@dataclass(frozen=True)
class Decisions:
    """One method on one problem: (N,) path numbers, scores of the first check, what was kept, tokens decoded."""

    task: str
    problem: str
    method: str
    paths: NDArray[np.int64]
    scores: NDArray[np.float64]
    kept: NDArray[np.bool_]
    decoded_tokens: NDArray[np.int64]


def write_decisions(records: Sequence[ProblemRecord], scored: Scored, folder: Path) -> None:
    """``decisions.parquet``: a row per problem, method and path; of several draws the first one."""
    columns: dict[str, list[object]] = {name: [] for name in _SCHEMA.names}
    for i, record in enumerate(records):
        for method, played in scored.played.items():
            one = played[i][0]
            for row, path in enumerate(record.pool.paths):
                values = (
                    record.task, record.problem, method, int(path), float(one.scores[row]), bool(one.keep[row]),
                    int(one.decoded[row]),
                )  # fmt: skip
                for name, value in zip(_SCHEMA.names, values, strict=True):
                    columns[name].append(value)
    stream = io.BytesIO()
    pq.write_table(pa.table(columns, schema=_SCHEMA), stream, compression="zstd")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FILE, stream.getvalue())


def read_decisions(folder: Path) -> list[Decisions]:
    """What :func:`write_decisions` wrote, problem by problem, methods in order. Raises UserError where nothing is."""
    path = folder / FILE
    if not path.exists():
        raise UserError(f"{path}: no such file; make it with: prunebench compare --out {folder}")
    table = table_of(path)
    if not table.schema.equals(_SCHEMA):
        raise UserError(f"{path}: its columns are not those of this version; run the comparison again")
    if any(column.null_count for column in table.columns):
        raise UserError(f"{path}: a value is missing; run the comparison again")
    columns = {name: table[name].to_pylist() for name in ("task", "problem", "method")}
    numbers = {name: np.asarray(table[name]) for name in ("path", "score", "kept", "decoded_tokens")}
    keys = list(zip(*columns.values(), strict=True))
    starts = [row for row in range(len(keys)) if row == 0 or keys[row] != keys[row - 1]]
    return [
        Decisions(
            task=keys[start][0],
            problem=keys[start][1],
            method=keys[start][2],
            paths=numbers["path"][start:end].astype(np.int64),
            scores=numbers["score"][start:end],
            kept=numbers["kept"][start:end],
            decoded_tokens=numbers["decoded_tokens"][start:end].astype(np.int64),
        )
        for start, end in (pairwise([*starts, len(keys)]) if keys else ())
    ]
