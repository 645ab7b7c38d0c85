"""Outputs of DeepConf's example scripts: one pickle per run of a question, read without running any of it.

The token confidences (``confs``, the negative mean of the top log-probabilities) are no signal of this suite and are
not read: the log-probabilities that they were made from cannot be had back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

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
from prunebench.bench.rollouts.importers.golds import gold_of
from prunebench.bench.rollouts.importers.records import Record
from prunebench.bench.rollouts.importers.unpickling import read_pickle
from prunebench.methods.base import Signal
from prunebench.tasks.errors import shown

SUFFIXES = (".pkl", ".pickle")
TRACES = (("all_traces",), ("traces",), ("warmup_traces", "final_traces"))
"""Where the traces are: the first of these that holds any. ``all_traces`` repeats those of warm-up and final run."""
STOPPED = "gconf_threshold"
"""The reason of DeepConf's online script for a path that it stopped itself: such a path is not complete."""


def read(path: Path, options: Options) -> Iterator[SourceProblem]:
    """One problem per question (``qid``, ``question_id``), with the paths of its runs (``run_id``), by file names.

    Raises UserError for anything but plain data, and for a run that is there twice.
    """
    runs = set[tuple[str, str | None]]()
    for question, records in groupby(_records(path), lambda record: record.needed("question_id")):
        gathering = Gathering(options.task_of(path))
        for record in records:
            run = (question, record.word("run_id"))
            if run in runs:
                raise UserError(
                    f"{record.file}: run {run[1]} of question {question} is there twice; remove one of them"
                )
            runs.add(run)
            gold = gold_of(record, "ground_truth", options)
            gathering.add(record, question, record.text("question") or "", gold, *_paths(record))
        yield from gathering.problems()


def _records(path: Path) -> Iterator[Record]:
    for file in files_of(path, SUFFIXES):
        content = read_pickle(file)
        if not isinstance(content, dict):
            raise UserError(f"{file}: {shown(content, by_size=True)} where the dict of a question is wanted")
        names = {"question_id": "qid"} if content.get("qid") is not None else {}
        yield Record(file, "the question", content, names)


def _paths(record: Record) -> tuple[list[SourcePath], int]:
    """The complete paths, and how many there are beside them."""
    traces = next(filter(None, (_traces(record, fields) for fields in TRACES)), None)
    if traces is None:
        raise record.error("all_traces", None, "a list of traces")
    room = record.file.stat().st_size
    paths = []
    for place, trace in traces:
        if not isinstance(trace, dict):
            raise record.error(place, trace, "a dict")
        of_trace = Record(record.file, place, trace, {})
        if trace.get("stop_reason") == STOPPED:
            continue
        room -= _size(trace)
        if room < 0:
            raise UserError(f"{record.file}, {place}: its traces are larger than the file; it repeats itself")
        paths.append(_path(of_trace))
    return paths, len(traces) - len(paths)


def _traces(record: Record, fields: Sequence[str]) -> list[tuple[str, Any]]:
    """(place, trace) of all traces in these fields."""
    there = [field for field in fields if record.get(field) is not None]
    return [(f"{field}[{index}]", trace) for field in there for index, trace in enumerate(record.items(field))]


def _size(trace: dict[str, Any]) -> int:
    """The least that a trace of its own takes in a file: a byte per character and per token."""
    return sum(len(trace[name]) for name in ("text", "token_ids") if isinstance(trace.get(name), str | list | tuple))


def _path(trace: Record) -> SourcePath:
    return SourcePath(
        text=trace.text("text"),
        token_ids=trace.ids("token_ids"),
        final_answer=trace.word("extracted_answer"),
        correct=trace.verdict("is_correct"),
        finish=finish_of(trace.text("stop_reason")),
    )


DEEPCONF = Importer(
    "deepconf",
    "pickles of DeepConf's example scripts, one per run of a question",
    SUFFIXES,
    frozenset({Signal.TEXT, Signal.TOKEN_IDS}),
    frozenset(),
    read,
)
