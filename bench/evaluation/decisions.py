"""What every method did with every path, as a file: scores, what was kept, how far each path went, what it cost."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.replay import Replay
from prunebench.bench.evaluation.replays import Replays
from prunebench.bench.files import table_of, write_atomically
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.methods.meter import Cost

FILE = "decisions.parquet"
_TOKENS = tuple(amount.name for amount in fields(Cost) if amount.name != "flops")
_SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("problem", pa.string()),
        ("method", pa.string()),
        ("path", pa.int32()),
        ("score", pa.float64()),
        ("kept", pa.bool_()),
        ("decoded_tokens", pa.int32()),
        ("launched_tokens", pa.int32()),
        ("answer_class", pa.int32()),
        ("stopped", pa.bool_()),
        *((name, pa.int64()) for name in _TOKENS),
        ("flops", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Decisions:
    """One method on one problem: (N,) path numbers, and what it did with these paths.

    The scores are those of the first check. Seconds are no part of the file: they are 0 in what is read.
    """

    task: str
    problem: str
    method: str
    paths: NDArray[np.int64]
    replay: Replay


def write_decisions(records: Sequence[ProblemRecord], replays: Replays, folder: Path) -> None:
    """``decisions.parquet``: a row per problem, method and path; of several draws the first one."""
    columns: dict[str, list[object]] = {name: [] for name in _SCHEMA.names}
    for i, record in enumerate(records):
        for method, draws in replays.of.items():
            first, count = draws[i][0], len(record.pool)
            cost = asdict(first.cost) | {"flops": math.nan if first.cost.flops is None else first.cost.flops}
            rows = {"path": record.pool.paths, "score": first.scores, "kept": first.keep,
                    "decoded_tokens": first.decoded, "launched_tokens": first.launched,
                    "answer_class": first.answer_class}  # fmt: skip
            same = {"task": record.task, "problem": record.problem, "method": method, "stopped": first.stopped, **cost}
            for name, column in columns.items():
                column += rows[name].tolist() if name in rows else [same[name]] * count
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
    keys = list(zip(*(table[name].to_pylist() for name in ("task", "problem", "method")), strict=True))
    numbers = {name: np.asarray(table[name]) for name in _SCHEMA.names[3:]}
    starts = [row for row in range(len(keys)) if row == 0 or keys[row] != keys[row - 1]]
    return [
        _decided(keys[start], {name: column[start:end] for name, column in numbers.items()})
        for start, end in (pairwise([*starts, len(keys)]) if keys else ())
    ]


def _decided(key: tuple[str, str, str], rows: Mapping[str, NDArray[Any]]) -> Decisions:
    """The rows of one method on one problem."""
    flops = float(rows["flops"][0])
    replay = Replay(
        keep=rows["kept"],
        decoded=rows["decoded_tokens"].astype(np.int64),
        launched=rows["launched_tokens"].astype(np.int64),
        answer_class=rows["answer_class"].astype(np.int64),
        stopped=bool(rows["stopped"][0]),
        scores=rows["score"],
        cost=Cost(**{name: int(rows[name][0]) for name in _TOKENS}, flops=None if math.isnan(flops) else flops),
        seconds=0.0,
    )
    return Decisions(*key, rows["path"].astype(np.int64), replay)
