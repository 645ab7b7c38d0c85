"""``answers.jsonl``: a line per solved problem, so that the same call goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from prunebench.bench.errors import UserError
from prunebench.bench.files import append_row, rows_in
from prunebench.bench.policies import KeepAll
from prunebench.bench.progress import Progress
from prunebench.bench.solving.solver import Ledger, Solution, Solver
from prunebench.tasks.task import Problem, Task

FILE = "answers.jsonl"
_SAVED = ("tokens_saved", "seconds_saved")
"""What a line tells beside the fields of a solution."""

Key = tuple[str, str, str]


def answered(
    solver: Solver, problems: Sequence[tuple[Task, Problem]], identity: str, out: Path | None, progress: Progress
) -> Iterator[Solution]:
    """What is in the folder ``out`` already, then the rest as it is solved; ``progress`` says what that will take.

    ``identity`` tells answers from those of other settings. Raises UserError where ``out`` holds such.
    """
    file = None if out is None else out / FILE
    held = {} if file is None else _held(file, identity)
    yield from (held[_key(task, problem)] for task, problem in problems if _key(task, problem) in held)
    missing = [(task, problem) for task, problem in problems if _key(task, problem) not in held]
    progress.say(plan(solver, len(missing), len(problems) - len(missing)))
    for solution in solver.solutions(missing):
        if file is not None:
            _write(file, solution, identity)
        yield solution


def plan(solver: Solver, missing: int, held: int) -> str:
    """What ``missing`` problems will take, in tokens: between no path's going on and all kept ones' longest."""
    config = solver.config
    kept = config.n if isinstance(solver.policy, KeepAll) else config.k
    there = f"{held} of {held + missing} problems are answered already" if held else ""
    if not missing:
        return f"{there}: nothing is sampled"
    begun = missing * config.n * config.prefix_tokens
    most = begun + missing * kept * max(0, config.max_new_tokens - config.prefix_tokens)
    count = "1 problem" if missing == 1 else f"{missing} problems"
    said = (
        f"{count}: {config.n} paths each to token {config.prefix_tokens}, "
        f"{kept} of them on to their ends, token {config.max_new_tokens:,} at most; {begun:,} to {most:,} tokens"
    )
    return f"{there}; {said}" if there else said


def _write(file: Path, solution: Solution, identity: str) -> None:
    saved = {name: getattr(solution, name) for name in _SAVED}
    append_row(file, {"settings": identity, **asdict(solution), **saved})


def _held(file: Path, identity: str) -> dict[Key, Solution]:
    held = {}
    for row in rows_in(file):
        try:
            settings = row.pop("settings")
            row = {name: value for name, value in row.items() if name not in _SAVED}
            row |= {name: tuple(row[name]) for name in ("kept", "answers", "scores")}
            solution = Solution(**{**row, "ledger": Ledger(**row["ledger"])})
        except (KeyError, TypeError, AttributeError):
            continue
        if settings != identity:
            raise UserError(f"{file}: holds answers of other settings; choose another --out")
        held[solution.task, solution.problem, solution.prompt] = solution
    return held


def _key(task: Task, problem: Problem) -> Key:
    return task.name, problem.id, problem.prompt
