"""Outputs of DeepConf's example scripts: one pickle per question, read without running any of it.

The token confidences (``confs``, the negative mean of the top log-probabilities) are no signal of this suite and are
not read: the log-probabilities that they were made from cannot be had back.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from prunebench.bench.rollouts.importers.records import Record
from prunebench.bench.rollouts.importers.unpickling import read_pickle
from prunebench.methods.base import Signal
from prunebench.tasks.errors import shown

SUFFIXES = (".pkl", ".pickle")
TRACES = ("all_traces", "traces", "warmup_traces", "final_traces")
STOPPED = "gconf_threshold"
"""The reason of DeepConf's online script for a path that it stopped itself: such a path is not complete."""


def read(path: Path, options: Options) -> Iterator[SourceProblem]:
    """One problem per file, named by its ``question_id``. Raises UserError for anything but plain data."""
    for file in files_of(path, SUFFIXES):
        content = read_pickle(file)
        if not isinstance(content, dict):
            raise UserError(f"{file}: {shown(content, by_size=True)} where the dict of a question is wanted")
        yield _problem(Record(file, "the question", content, {}), options.task_of(path))


def _problem(record: Record, task: str) -> SourceProblem:
    traces = [
        (f"{field}[{index}]", trace)
        for field in TRACES
        if record.get(field) is not None
        for index, trace in enumerate(record.items(field))
    ]
    if not traces:
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
    return SourceProblem(
        task=task,
        problem=record.needed("question_id"),
        prompt=record.text("question") or "",
        gold=record.needed("ground_truth"),
        paths=paths,
        left_out=len(traces) - len(paths),
    )


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
    "pickles of DeepConf's example scripts, one per question",
    SUFFIXES,
    frozenset({Signal.TEXT, Signal.TOKEN_IDS}),
    frozenset(),
    read,
)
