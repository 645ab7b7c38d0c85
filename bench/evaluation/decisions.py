"""What every method did with every path, as a file: scores, what was kept, how far each path went, what it cost."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
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
        ("draw", pa.int32()),
    ]
)
_EARLIER = _SCHEMA.remove(len(_SCHEMA) - 1)
"""Of files that hold one draw of every method."""
_MOST_DRAWS = 16
"""Of more the first is written: those of a control are drawn again."""


@dataclass(frozen=True)
class Decisions:
    """One method on one problem: (N,) path numbers, and what it did with these paths.

    The scores are those of the first check. Seconds are no part of the file: they are 0 in what is read. ``others``:
    what its trainings with further seeds did.
    """

    task: str
    problem: str
    method: str
    paths: NDArray[np.int64]
    replay: Replay
    others: tuple[Replay, ...] = ()


def write_decisions(records: Sequence[ProblemRecord], replays: Replays, folder: Path) -> None:
    """``decisions.parquet``: a row per problem, method, draw and path; of a control's draws the first one."""
    columns: dict[str, list[object]] = {name: [] for name in _SCHEMA.names}
    for i, record in enumerate(records):
        for method, draws in replays.of.items():
            written = draws[i] if len(draws[i]) <= _MOST_DRAWS else draws[i][:1]
            for draw, replay in enumerate(written):
                cost = asdict(replay.cost) | {"flops": math.nan if replay.cost.flops is None else replay.cost.flops}
                rows = {"path": record.pool.paths, "score": replay.scores, "kept": replay.keep,
                        "decoded_tokens": replay.decoded, "launched_tokens": replay.launched,
                        "answer_class": replay.answer_class}  # fmt: skip
                same = {"task": record.task, "problem": record.problem, "method": method, "draw": draw,
                        "stopped": replay.stopped, **cost}  # fmt: skip
                for name, column in columns.items():
                    column += rows[name].tolist() if name in rows else [same[name]] * len(record.pool)
    stream = io.BytesIO()
    pq.write_table(pa.table(columns, schema=_SCHEMA), stream, compression="zstd")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FILE, stream.getvalue())


def read_decisions(folder: Path) -> list[Decisions]:
    """What :func:`write_decisions` wrote, problem by problem, methods in order. Raises UserError where nothing is."""
    path = folder / FILE
    if not path.exists():
        raise UserError(f"{path}: no such file; the comparison in a folder of its own makes it")
    table = table_of(path)
    if table.schema.equals(_EARLIER):
        table = table.append_column(_SCHEMA.field("draw"), pa.array(np.zeros(len(table), np.int32)))
    if not table.schema.equals(_SCHEMA):
        raise UserError(f"{path}: its columns are not those of this version; run the comparison again")
    if any(column.null_count for column in table.columns):
        raise UserError(f"{path}: a value is missing; run the comparison again")
    keys = list(zip(*(table[name].to_pylist() for name in ("task", "problem", "method", "draw")), strict=True))
    numbers = {name: np.asarray(table[name]) for name in _SCHEMA.names[3:]}
    starts = [row for row in range(len(keys)) if row == 0 or keys[row] != keys[row - 1]]
    found: list[Decisions] = []
    for start, end in pairwise([*starts, len(keys)]) if keys else ():
        decided = _decided(keys[start][:3], {name: column[start:end] for name, column in numbers.items()})
        if keys[start][3]:
            found[-1] = replace(found[-1], others=(*found[-1].others, decided.replay))
        else:
            found.append(decided)
    return found


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
