"""Tasks over a data set: its rows become problems, each in one split."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from prunebench.tasks.answer_types import AnswerType, answer_type_of
from prunebench.tasks.dataset_fields import FieldReader, RowProblem, digest, field_of
from prunebench.tasks.dataset_rows import DatasetRows
from prunebench.tasks.errors import NoProblemsError, UserError, shown
from prunebench.tasks.rows import DataRow
from prunebench.tasks.task import Problem, Task
from prunebench.tasks.task_spec import BENCHMARKS, TaskSpec

MISSING_SHARE = 0.1
"""With more rows without an answer than this, the wrong field was named."""


PLACEHOLDER = r"(?i)\?+|-+|–|—|tbd|todo|unknown|none|na|nil"
DECIMAL_COMMA = r"[-+]?(\d{4,},\d+|\d{1,3},(\d{1,2}|\d{4,}))"


@dataclass
class _LoadedProblems:
    """All problems of all splits, in the order of the rows, and what there is to say about them."""

    splits: dict[str, list[Problem]]
    places: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    unanswered: list[DataRow] = field(default_factory=list)
    repeated: list[DataRow] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


class DatasetTask(Task):
    """A task over rows. ``folder`` is where relative paths start; ``data`` replaces what the file names."""

    def __init__(self, spec: TaskSpec, folder: Path, data: Path | None = None, without: Task | None = None) -> None:
        self.spec, self.folder, self.data, self.without = spec, folder, data, without
        self.name, self.answer_type, self.licence, self.homepage = (
            spec.name, spec.answer_type, spec.licence, spec.homepage,
        )  # fmt: skip
        repository = spec.homepage.removeprefix("https://github.com/") if folder == BENCHMARKS else None
        self.dataset, self.revision, self.expected = spec.dataset or repository, spec.revision, spec.expected
        self.train_only, self.step_end = spec.train_only, spec.step_end
        self.strict, self.last_number = spec.strict, spec.last_number
        if self.last_number and not self.answers.numbers:
            raise UserError(
                f"task {self.name}: last_number = true, but answers of type '{self.answer_type}' are no numbers; "
                "take it out"
            )
        self._rows = DatasetRows(spec, folder, data)
        self._fields = FieldReader(spec, self.answers)  # an answer type that is not known is refused at once

    @cached_property
    def answers(self) -> AnswerType:
        return answer_type_of(self.answer_type, self.folder)

    @property
    def answer_suffix(self) -> str:
        return self.answers.suffix if self.spec.answer_suffix is None else self.spec.answer_suffix

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.spec.splits)

    @property
    def remote(self) -> bool:
        return self._rows.remote

    def problems(self, split: str, limit: int | None = None, seed: int = 0) -> list[Problem]:
        """In the order of the rows. Raises UserError for rows that do not serve, and for a split without problems."""
        if split not in self.spec.splits:
            raise NoProblemsError(f"task {self.name}: has no split '{split}'; it has {', '.join(self.spec.splits)}")
        problems = self._loaded.splits[split]
        if not problems:
            raise NoProblemsError(f"task {self.name}: split '{split}' is empty; give it a larger share or more rows")
        if limit is None or limit >= len(problems):
            return list(problems)
        chosen = set(sorted(problems, key=lambda problem: digest(f"{seed}/{problem.id}"))[:limit])
        return [problem for problem in problems if problem in chosen]

    def where(self, problem: str) -> str:
        """The file and the line."""
        return self._loaded.places.get(problem, problem)

    def remarks(self) -> list[str]:
        return self._loaded.remarks

    def described(self) -> dict[str, Any] | None:
        if self.folder == BENCHMARKS:
            return None
        return {"spec": self.spec.model_dump(mode="json"), "folder": str(self.folder.resolve())}

    def questions(self) -> set[str]:
        """The questions of all rows, layout and case aside."""
        return {self._fields.key(row) for _, row in self._rows}

    def __reduce__(self) -> Any:
        return self._made_by(DatasetTask, self.spec, self.folder, self.data, self.without)

    @cached_property
    def _loaded(self) -> _LoadedProblems:
        loaded = _LoadedProblems({name: [] for name in self.spec.splits})
        left_out = self.without.questions() if isinstance(self.without, DatasetTask) else set()
        by_question: dict[str, RowProblem] = {}
        rows = list(self._rows)
        fields = self._fields.counting(row for _, row in rows)
        loaded.rows = len(rows)
        for split, row in rows:
            problem = fields.problem(split, row)
            if problem.key in left_out:
                continue
            if problem.answer is None:
                loaded.unanswered.append(row)
                continue
            first = by_question.setdefault(problem.key, problem)
            if first is not problem:
                _refuse_conflict(first, problem)
                loaded.repeated.append(row)
        loaded.places = {problem.id: problem.row.where for problem in by_question.values()}
        self._share_out(list(by_question.values()), loaded)
        self._remark(list(by_question.values()), loaded)
        return loaded

    def _share_out(self, problems: Sequence[RowProblem], loaded: _LoadedProblems) -> None:
        """Put every problem into its split: the row's own, or by the hash of its question."""
        shared: dict[str, str] = {}
        if self.spec.shared_out:
            order = sorted((problem.key for problem in problems), key=digest)
            start = 0.0
            for name, share in self.spec.splits.items():
                end = start + float(share)
                shared.update(dict.fromkeys(order[round(start * len(order)) : round(end * len(order))], name))
                start = end
        for problem in problems:
            split = problem.split if problem.split is not None else shared.get(problem.key)
            if split is not None:
                loaded.splits[split].append(Problem(problem.id, self.name, problem.prompt, str(problem.answer), split))

    def _remark(self, problems: Sequence[RowProblem], loaded: _LoadedProblems) -> None:
        """Say what was left out. Raises UserError where so many rows lack an answer that the field must be wrong."""
        unanswered, repeated, remarks = loaded.unanswered, loaded.repeated, loaded.remarks
        first = f"the first: {unanswered[0].place}{self._what_stands(unanswered[0])}" if unanswered else ""
        if len(unanswered) > MISSING_SHARE * loaded.rows:
            raise UserError(
                f"{unanswered[0].file}: {len(unanswered)} of {loaded.rows} rows have no answer in field "
                f"'{field_of(unanswered[0], self.spec.answer)}' ({first}); name the right field under 'answer'"
            )
        if unanswered:
            remarks.append(
                f"task {self.name}: {len(unanswered)} of {loaded.rows} rows have no answer and were left out ({first})"
            )
        if repeated:
            remarks.append(
                f"task {self.name}: {len(repeated)} of {loaded.rows} rows repeat a question and its answer, and count "
                f"once (the first: {repeated[0].place})"
            )
        remarks += _told(self.name, problems)
        count = len(loaded.splits.get("test", []))
        if self.expected is not None and count != self.expected:
            remarks.append(f"task {self.name}: {count} test problems, but the benchmark has {self.expected}")
        if self._rows.stands_for is not None:
            remarks.append(
                f"task {self.name}: {self.data} stands for its split '{self._rows.stands_for}'; for "
                f"{', '.join(self.spec.splits)} give a folder with a file for each"
            )
        if self.revision is None and self.remote:
            remarks.append(f"task {self.name}: the revision of {self.dataset} is not pinned")

    def _what_stands(self, row: DataRow) -> str:
        """A text that states no answer, if there is one."""
        stated = self._fields.stated(row)
        return f", which states none: {shown(stated[0])}" if stated else ""


def _told(name: str, problems: Sequence[RowProblem]) -> Iterator[str]:
    """How answers were read, where that is not as they stand in the data, or perhaps not as they are meant."""
    for pattern, doubt in (
        (PLACEHOLDER, "may stand for none, and count as gold answers (leave these cells empty)"),
        (DECIMAL_COMMA, "have a comma that may be meant as a decimal point, and is not read as one (write 0.5)"),
    ):
        if doubtful := [problem for problem in problems if re.fullmatch(pattern, (problem.answer or "").strip())]:
            first, count = doubtful[0], f"{len(doubtful)} of {len(problems)} answers"
            yield f"task {name}: {count} {doubt} (the first: {first.row.place}: {shown(first.answer)})"
    if found := [problem for problem in problems if problem.found]:
        first = found[0]
        yield (
            f"task {name}: {len(found)} of {len(problems)} answers were found within longer texts (the first: "
            f"{first.row.place}: {shown(first.answer)})"
        )
    if grouped := [problem for problem in problems if problem.read_as is not None]:
        first = grouped[0]
        yield (
            f"task {name}: {len(grouped)} of {len(problems)} answers are not written as they are read (the first: "
            f"{first.row.place}: {shown(first.answer)} is read as {first.read_as})"
        )


def _refuse_conflict(first: RowProblem, second: RowProblem) -> None:
    """Raises UserError where one question has two answers or is in two splits."""
    same = first.row.place if first.row.file == second.row.file else first.row.where
    where = f"{second.row.where}: the question of {same} again"
    if first.answer != second.answer:
        raise UserError(f"{where}, with answer {shown(second.answer)} instead of {shown(first.answer)}; keep one")
    if first.split != second.split:
        raise UserError(f"{where}, there in split '{first.split}' and here in '{second.split}'; delete one of them")
