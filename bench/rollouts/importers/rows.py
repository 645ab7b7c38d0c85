"""Rows of JSONL and Parquet files, one after another, and the problems that they make together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.importers.contract import SourcePath, SourceProblem
from prunebench.bench.rollouts.importers.values import Record, shown

BATCH_ROWS = 16


def rows_of(files: Sequence[Path], names: Mapping[str, str] | None = None) -> Iterator[Record]:
    """Every row of Parquet files, every line of the others. Raises UserError for what cannot be read."""
    for file in files:
        yield from (_parquet if file.suffix == ".parquet" else _json_lines)(file, names or {})


def schema_of(file: Path) -> pa.Schema:
    """The columns of a Parquet file. Raises UserError when it is none."""
    try:
        schema = pq.read_schema(file)
        _ = schema.names  # decoded here
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(file, error) from error
    return schema


def values_of(file: Path, column: str) -> list[object]:
    """The distinct values of a column of a Parquet file. Raises UserError when it cannot be read."""
    try:
        values: list[object] = pq.read_table(file, columns=[column])[column].unique().to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(file, error) from error
    return values


def _parquet(file: Path, names: Mapping[str, str]) -> Iterator[Record]:
    try:
        with pq.ParquetFile(file) as table:
            number = 0
            for batch in table.iter_batches(batch_size=BATCH_ROWS):
                for values in batch.to_pylist():
                    number += 1
                    yield Record(file, f"row {number}", values, names)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> UserError:
    return UserError(f"{file}: cannot be read as Parquet ({str(error).splitlines()[0]}); fetch it again")


def _json_lines(file: Path, names: Mapping[str, str]) -> Iterator[Record]:
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield Record(file, f"line {number}", _object(file, number, line), names)


def _object(file: Path, number: int, line: bytes) -> Mapping[str, object]:
    try:
        values = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}, line {number}: no JSON object ({error}); one object per line is wanted") from error
    if not isinstance(values, dict):
        raise UserError(f"{file}, line {number}: {shown(values)} where a JSON object is wanted, one per line")
    return values


class Gathering:
    """Problems whose paths come in several rows, in the order of their first rows."""

    def __init__(self, task: str) -> None:
        self.task = task
        self._problems: dict[str, SourceProblem] = {}

    def add(self, record: Record, problem: str, prompt: str, gold: str, paths: Sequence[SourcePath]) -> None:
        """``record`` is where they come from. Raises UserError for a second gold answer or a repeated path number."""
        known = self._problems.setdefault(problem, SourceProblem(self.task, problem, prompt, gold, []))
        if known.gold != gold:
            raise UserError(
                f"{record.file}, {record.place}: problem {shown(problem)} has the gold answer {shown(gold)} here and "
                f"{shown(known.gold)} above; problems need distinct names, and files of several tasks one import each"
            )
        known.prompt = known.prompt or prompt
        known.paths += paths

    def problems(self) -> Iterator[SourceProblem]:
        yield from self._problems.values()
