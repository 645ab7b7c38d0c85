"""``answers.jsonl``: a line per solved problem, so that the same call goes on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from prunebench.bench.errors import UserError
from prunebench.bench.solving.solver import Ledger, Solution, Solver
from prunebench.tasks.task import Problem, Task

FILE = "answers.jsonl"
_SAVED = ("tokens_saved", "seconds_saved")
"""What a line tells beside the fields of a solution."""

Key = tuple[str, str, str]


def answered(
    solver: Solver, problems: Sequence[tuple[Task, Problem]], identity: str, out: Path | None
) -> Iterator[Solution]:
    """What is in the folder ``out`` already, then the rest as it is solved.

    ``identity`` tells answers from those of other settings. Raises UserError where ``out`` holds such.
    """
    file = None if out is None else out / FILE
    held = {} if file is None else _held(file, identity)
    yield from (held[_key(task, problem)] for task, problem in problems if _key(task, problem) in held)
    missing = ((task, problem) for task, problem in problems if _key(task, problem) not in held)
    for solution in solver.solutions(missing):
        if file is not None:
            _write(file, solution, identity)
        yield solution


def _write(file: Path, solution: Solution, identity: str) -> None:
    saved = {name: getattr(solution, name) for name in _SAVED}
    line = json.dumps({"settings": identity, **asdict(solution), **saved}).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as stream:  # the newline first: it ends what a kill may have cut off
        stream.write((b"\n" if stream.tell() else b"") + line)


def _held(file: Path, identity: str) -> dict[Key, Solution]:
    held = {}
    for line in _lines(file):
        try:
            row = json.loads(line)
            settings = row.pop("settings")
            row = {name: value for name, value in row.items() if name not in _SAVED}
            row |= {name: tuple(row[name]) for name in ("kept", "answers", "scores")}
            solution = Solution(**{**row, "ledger": Ledger(**row["ledger"])})
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        if settings != identity:
            raise UserError(f"{file}: holds answers of other settings; choose another --out")
        held[solution.task, solution.problem, solution.prompt] = solution
    return held


def _lines(file: Path) -> Iterable[bytes]:
    return file.read_bytes().split(b"\n") if file.exists() else ()


def _key(task: Task, problem: Problem) -> Key:
    return task.name, problem.id, problem.prompt
