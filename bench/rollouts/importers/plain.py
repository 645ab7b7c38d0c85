"""Rows of one's own: JSONL or Parquet, one row per path, or one per problem with lists. See docs/importing.md."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.importers.contract import (
    Importer,
    Options,
    SourcePath,
    SourceProblem,
    files_of,
    finish_of,
)
from prunebench.bench.rollouts.importers.gathering import Gathering
from prunebench.bench.rollouts.importers.records import Record, records_of
from prunebench.methods.base import Signal

SUFFIXES = (".jsonl", ".parquet")
OF_PROBLEM = ("problem", "prompt", "answer")
OF_PATH = ("text", "token_ids", "tokens", "logprobs", "entropy", "final_answer", "correct", "finish", "path")
LONGEST_NAME = 80
"""In characters: a longer problem is its text, not its name."""


def read(path: Path, options: Options) -> Iterator[SourceProblem]:
    """The problems in the order of their first rows. Raises UserError for a malformed row."""
    gathering = Gathering(options.task_of(path))
    for record in records_of(files_of(path, SUFFIXES), options.fields):
        problem, prompt = _named(record)
        gathering.add(record, problem, prompt, record.needed("answer"), list(map(_path, _paths(record))))
    yield from gathering.problems()


def _named(record: Record) -> tuple[str, str]:
    """The problem's name and its prompt; a problem that is given by its text is named by the text's hash."""
    problem, prompt = record.needed("problem"), record.text("prompt")
    if len(problem) <= LONGEST_NAME and "\n" not in problem:
        return problem, prompt or ""
    return f"problem-{hashlib.sha256(problem.encode()).hexdigest()[:12]}", prompt or problem


def _paths(record: Record) -> list[Record]:
    """One record per path: the row itself, or its lists taken apart."""
    present = {field: record.get(field) for field in OF_PATH if record.get(field) is not None}
    content = next((field for field in ("text", "token_ids", "tokens") if field in present), None)
    if content is None:
        raise record.error("text", None, "there, nor are token_ids or tokens")
    first = present[content]
    nested = isinstance(first, list) and (content == "text" or (bool(first) and isinstance(first[0], list)))
    if not nested:
        return [record]
    count = len(first)
    for field, values in present.items():
        if not isinstance(values, list) or len(values) != count:
            raise record.error(field, values, f"a list of {count}, one item per path like '{content}'")
    if not count:
        raise UserError(f"{record.file}, {record.place}: the problem has no paths; remove the row")
    names = {field: record.names.get(field, field) for field in present}
    return [
        replace(
            record,
            place=f"{record.place}, path {index}",
            values={names[field]: values[index] for field, values in present.items()},
        )
        for index in range(count)
    ]


def _path(record: Record) -> SourcePath:
    return SourcePath(
        text=record.text("text"),
        token_ids=record.ids("token_ids"),
        tokens=record.texts("tokens"),
        logprobs=record.floats("logprobs"),
        entropy=record.floats("entropy"),
        final_answer=record.word("final_answer"),
        correct=record.verdict("correct"),
        finish=finish_of(record.text("finish")),
        number=record.integer("path"),
    )


PLAIN = Importer(
    "plain",
    "JSONL or Parquet of one's own, one row per path or per problem",
    SUFFIXES,
    frozenset({Signal.TEXT, Signal.TOKEN_IDS, Signal.LOGPROBS, Signal.ENTROPY}),
    frozenset({*OF_PROBLEM, *OF_PATH}),
    read,
)
