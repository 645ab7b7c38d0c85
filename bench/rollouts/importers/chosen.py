"""Gold answers among choices, as their letters: known once all are there, since places are counted from 0 or from 1."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.importers.contract import SourceProblem
from prunebench.bench.rollouts.importers.records import Record
from prunebench.tasks.answer_types.golds import accepted, any_of
from prunebench.tasks.choices import Choices, choices_of, counted_from
from prunebench.tasks.errors import shown
from prunebench.tasks.rows import DataRow

LETTERS = "write their letters in the field 'answer'"


class ChosenGolds:
    """The choices of the problems of a source."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._choices: dict[str, Choices] = {}

    def gold(self, record: Record, problem: str) -> str | None:
        """What the record says of the right choices; None where it has no choices. Raises UserError for others."""
        value, answers = record.get("choices"), record.words("answer")
        if not value or not answers:
            return None
        row = DataRow(str(record.file), record.place, record.values)
        choices = choices_of(row, record.names.get("choices", "choices"), value)
        if self._choices.setdefault(problem, choices) != choices:
            raise record.error("choices", value, f"what it is above for problem {shown(problem)}; {LETTERS} alone")
        return any_of(answers)

    def lettered(self, problems: Iterable[SourceProblem]) -> Iterator[SourceProblem]:
        """All problems, the gold answers of those with choices as letters. Raises UserError for none of the choices."""
        problems = list(problems)
        chosen = [problem for problem in problems if problem.problem in self._choices]
        answers = [(self._choices[problem.problem], gold) for problem in chosen for gold in accepted(problem.gold)]
        try:
            start = counted_from(answers)
        except ValueError as error:
            raise UserError(f"{self.path}: {error}; {LETTERS}") from error
        for problem in chosen:
            problem.gold = any_of(
                [letter for gold in accepted(problem.gold) for letter in self._letters(problem, gold, start)]
            )
        yield from problems

    def _letters(self, problem: SourceProblem, gold: str, start: int | None) -> list[str]:
        choices = self._choices[problem.problem]
        places = choices.places(gold, start)
        if len(places) != 1:
            raise UserError(
                f"{self.path}: problem {shown(problem.problem)} has the answer {shown(gold)}, which is not one of its "
                f"choices {shown(list(choices.texts))}; {LETTERS}"
            )
        return choices.letters(places.pop())
