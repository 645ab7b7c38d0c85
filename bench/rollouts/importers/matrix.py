"""Matrices of probed answers: paths as token counts with an answer after every ``probe_freq`` tokens, no text.

A JSON list, one object per problem with ``gold_answer``, ``probe_freq`` and ``each_branch``: per path the list of
probed answers, the number of tokens and the final answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.importers.contract import Importer, Options, SourcePath, SourceProblem, files_of
from prunebench.bench.rollouts.importers.golds import gold_of
from prunebench.bench.rollouts.importers.records import Record
from prunebench.tasks.errors import shown
from prunebench.tasks.rows import json_of

SUFFIXES = (".json",)
UNREADABLE = "ERR"
"""What stands where the source could read no answer. It is none; but where texts are compared it is one like others, as
its own evaluation counts it."""


def read(path: Path, options: Options) -> Iterator[SourceProblem]:
    """Every file is a task of its name; problem ``name/3`` is the fourth of its list. Raises UserError."""
    none = None if options.grading == "string" else UNREADABLE
    for file in files_of(path, SUFFIXES):
        for index, values in enumerate(_list(file)):
            if not isinstance(values, dict):
                raise UserError(f"{file}, problem {index}: {shown(values, by_size=True)} where an object is wanted")
            record = Record(file, f"problem {index}", values, {})
            yield SourceProblem(
                task=options.task_of(file),
                problem=f"{file.stem}/{index}",
                prompt="",
                gold=gold_of(record, "gold_answer", options),
                paths=[
                    _path(record, number, branch, none) for number, branch in enumerate(record.items("each_branch"))
                ],
                probe_every=record.as_integer("probe_freq", record.get("probe_freq"), least=1),
            )


def _list(file: Path) -> list[Any]:
    problems = json_of(file)
    if not isinstance(problems, list):
        raise UserError(f"{file}: {shown(problems, by_size=True)} where a JSON list of problems is wanted")
    return problems


def _path(record: Record, number: int, branch: object, none: str | None) -> SourcePath:
    if not isinstance(branch, list) or len(branch) != 3 or not isinstance(branch[0], list):
        raise record.error("each_branch", branch, "[list of probed answers, tokens, final answer]", number)
    probed, tokens, final = branch
    return SourcePath(
        length=record.as_integer("each_branch", tokens, index=number),
        final_answer=_answer(record, number, final, none),
        probed=[_answer(record, number, answer, none) for answer in probed],
    )


def _answer(record: Record, number: int, value: object, none: str | None) -> str | None:
    answer = record.as_word("each_branch", value, number)
    return None if answer == none else answer


MATRIX = Importer(
    "matrix", "JSON with probed answers and token counts per path, no text", SUFFIXES, frozenset(), frozenset(), read
)
