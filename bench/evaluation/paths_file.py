"""The paths behind a comparison as a file: lengths, verdicts, classes of answers; no text, no token, no answer.

With what every method did (``decisions.parquet``) it is all that the tables need, where the rollouts may not travel.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prunebench.bench.errors import UserError
from prunebench.bench.files import table_of, write_atomically
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.methods.pool import Pool
from prunebench.methods.signals import Signal

FILE = "paths.parquet"
_SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("problem", pa.string()),
        ("position", pa.int32()),
        ("prompt_tokens", pa.int32()),
        ("gold_class", pa.int32()),
        ("path", pa.int32()),
        ("tokens", pa.int32()),
        ("correct", pa.float64()),
        ("answer_class", pa.int32()),
        ("stated_class", pa.int32()),
        ("ungraded", pa.bool_()),
        ("leaky", pa.bool_()),
        ("found_by", pa.string()),
        ("entropy", pa.float64()),
        ("potential", pa.float64()),
        ("halves", pa.list_(pa.float64())),
        ("tool_spans", pa.list_(pa.list_(pa.int32()))),
    ]
)


def write_paths(records: Sequence[ProblemRecord], folder: Path) -> None:
    """``paths.parquet``: a row per path, problem by problem; what is not known is null."""
    columns: dict[str, list[Any]] = {name: [] for name in _SCHEMA.names}
    for record in records:
        pool, count = record.pool, len(record.pool)
        rows = {
            "path": pool.paths, "tokens": record.lengths, "correct": record.correct,
            "answer_class": record.answer_class, "stated_class": pool.answer_class, "ungraded": record.ungraded,
            "leaky": record.leaky, "found_by": record.found_by, "entropy": record.entropy,
            "potential": record.potential, "halves": None if record.halves is None else list(record.halves.T),
            "tool_spans": record.tool_spans,
        }  # fmt: skip
        same = {"task": record.task, "problem": record.problem, "position": pool.position,
                "prompt_tokens": len(pool.prompt_ids), "gold_class": record.gold_class}  # fmt: skip
        for name, column in columns.items():
            values = rows[name] if name in rows else [same[name]] * count
            column += [None] * count if values is None else list(values)
    stream = io.BytesIO()
    pq.write_table(pa.table(columns, schema=_SCHEMA), stream, compression="zstd")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FILE, stream.getvalue())


def read_paths(folder: Path) -> list[ProblemRecord]:
    """What :func:`write_paths` wrote. Prefixes have no signal but verdicts and labels. Raises UserError."""
    table = table_of(folder / FILE)
    if not table.schema.equals(_SCHEMA):
        raise UserError(f"{folder / FILE}: its columns are not those of this version; run the comparison again")
    keys = list(zip(table["task"].to_pylist(), table["problem"].to_pylist(), strict=True))
    columns = {name: table[name].to_pylist() for name in _SCHEMA.names}
    starts = [row for row in range(len(keys)) if row == 0 or keys[row] != keys[row - 1]]
    return [
        _record(*keys[start], {name: column[start:end] for name, column in columns.items()})
        for start, end in (pairwise([*starts, len(keys)]) if keys else ())
    ]


def _record(task: str, problem: str, rows: dict[str, list[Any]]) -> ProblemRecord:
    """The rows of one problem."""

    def column(name: str, kind: type = np.int64) -> Any:
        return None if rows[name][0] is None else np.array(rows[name], kind)

    position, lengths, correct = rows["position"][0], column("tokens"), column("correct", np.float64)
    halves = column("halves", np.float64)
    labels = {} if halves is None else {Signal.POTENTIAL: column("potential", np.float64)}
    pool = Pool(
        problem=problem,
        task=task,
        position=position,
        prompt="",
        prompt_ids=np.zeros(rows["prompt_tokens"][0], np.int64),
        paths=column("path"),
        lengths=np.minimum(lengths, position),
        finished=lengths <= position,
        answer_class=column("stated_class"),
        signals={Signal.OUTCOME: correct, **labels},
    )
    spans = rows["tool_spans"]
    return ProblemRecord(
        task=task,
        problem=problem,
        pool=pool,
        lengths=lengths,
        correct=correct,
        answer_class=column("answer_class"),
        gold_class=rows["gold_class"][0],
        halves=None if halves is None else halves.T,
        leaky=column("leaky", np.bool_),
        launch_seconds=0.0,
        entropy=column("entropy", np.float64),
        found_by=None if rows["found_by"][0] is None else tuple(rows["found_by"]),
        ungraded=column("ungraded", np.bool_),
        tool_spans=None if spans[0] is None else tuple(tuple((a, b) for a, b in path) for path in spans),
    )
