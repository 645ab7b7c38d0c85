"""What a row of a data set says: question, gold answer, choices, checked where they are read."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from prunebench.tasks.answer_types import AnswerType
from prunebench.tasks.answer_types.golds import any_of
from prunebench.tasks.choices import Choices, choices_of, counted_from, without_letters
from prunebench.tasks.errors import UserError, shown
from prunebench.tasks.rows import DataRow, unwritten
from prunebench.tasks.task_spec import TaskSpec

MISSING = {"nan", "null", "n/a", "#n/a"}
"""How tables write that there is no answer."""


@dataclass(frozen=True, eq=False)
class RowProblem:
    """A problem as its row gives it: ``key`` is the question, layout and case aside; no ``answer`` is None.

    ``found``: the answer stands within a longer text. ``read_as``: what an answer is read as, where that may surprise.
    """

    row: DataRow
    split: str | None
    key: str
    id: str
    prompt: str
    answer: str | None
    found: bool
    read_as: str | None


@dataclass(frozen=True)
class FieldReader:
    """Reads the problem in a row as the description of its task says. Everything raises UserError with the place.

    ``counted_from``: where the answers are places of choices, the number of the first.
    """

    spec: TaskSpec
    answers: AnswerType
    counted_from: int | None = None

    def problem(self, split: str | None, row: DataRow) -> RowProblem:
        question, golds = self.question(row), self.golds(row)
        if question is None:
            name = field_of(row, self.spec.problem)
            raise UserError(f"{row.where}: field '{name}' is empty; fill it in or delete the row")
        key, choices = _normal(question), ""
        texts = [str(gold) for gold in golds]
        if golds and self.spec.choices:
            choices, texts = self._letters(row, golds, key)
        for text in texts:
            if not self.answers.accepts(text):
                raise UserError(
                    f"{row.where}: answer {shown(text)} is not {self.answers.form}, which answer_type "
                    f"'{self.spec.answer_type}' wants; mend the row, or choose another answer_type"
                )
        held = {"{choices}": choices, "{problem}": question}
        prompt = re.sub(r"\{(?:choices|problem)\}", lambda place: held[place[0]], self.spec.prompt)
        named = text_of(row, self.spec.id, "id", wanted=_named(self.spec, "id"))
        identity = f"{named}-{digest(key)[:6]}" if named else digest(key)[:12]  # another question is another problem
        found = self.spec.gold is None and not self.spec.choices and texts != [str(each) for each in self.stated(row)]
        read_as = next(filter(None, map(self.answers.read_as, texts)), None)
        return RowProblem(row, split, key, identity, prompt, any_of(texts) if texts else None, found, read_as)

    def key(self, row: DataRow) -> str:
        """The question, layout and case aside: questions that differ in these only are one question."""
        return _normal(self.question(row) or "")

    def question(self, row: DataRow) -> str | None:
        question = text_of(row, self.spec.problem, "problem")
        context = text_of(row, self.spec.context, "context") if self.spec.context else None
        return f"{context}{self.spec.context_end}{question}" if question and context else question

    def stated(self, row: DataRow) -> list[str | int]:
        """What stands in the field of the answer: a text, a number for choices, each of a list; nothing where empty."""
        names = self.spec.choices[:1] if self._right_one_first else self.spec.answer
        value = value_of(row, names, "answer")
        if isinstance(value, str) and value.lstrip().startswith(("['", '["')) and value.rstrip().endswith("]"):
            value = unwritten(value.strip())
            if not isinstance(value, list):
                raise UserError(f"{row.where}: answer {shown(value)} is a list neither of JSON nor of Python; mend it")
        stated: list[str | int] = []
        for item in value if isinstance(value, list | tuple) else [value]:
            text = _text(row, names, str(item) if isinstance(item, bool) else item)
            if text is not None and text.casefold() not in MISSING:
                number = self.spec.choices and not isinstance(item, str) and text.isdecimal()
                stated.append(int(text) if number else text)
        return stated

    def golds(self, row: DataRow) -> list[str | int]:
        """The gold answers, of which any one is right; none if the row has none. Of a whole solution what it states."""
        return [gold for each in self.stated(row) if (gold := self._gold(row, each)) not in (None, "")]

    def _gold(self, row: DataRow, stated: str | int) -> str | int | None:
        if self.spec.gold is None:
            return stated if self.spec.choices else self.answers.gold_in(str(stated))
        match = re.search(self.spec.gold, str(stated))
        if match is None:
            raise UserError(f"{row.where}: the pattern gold = {self.spec.gold!r} finds no answer in {shown(stated)}")
        return match[1].strip()

    @property
    def _right_one_first(self) -> bool:
        """Whether the first of several columns with choices is the right one, as no other column says which."""
        names = self.spec.choices
        return len(names) > 1 and (names[0] in self.spec.answer or not _named(self.spec, "answer"))

    def choices(self, row: DataRow) -> Choices:
        """The choices of a row in the order of the data."""
        names = self.spec.choices
        if len(names) == 1:
            return choices_of(row, names[0], value_of(row, names, "choices"))
        texts = [text_of(row, (name,), "choices") for name in names]
        return without_letters([text for text in texts if text is not None])

    def counting(self, rows: Iterable[DataRow]) -> FieldReader:
        """This reader, told whether the answers of these rows are places. Raises UserError where that is open."""
        if not self.spec.choices or self._right_one_first:
            return self
        start: int | None = self.spec.choice_index
        if start is None:
            answered = [(self.choices(row), gold) for row in rows for gold in self.golds(row)]
            try:
                start = counted_from(answered)
            except ValueError as error:
                raise UserError(f"task {self.spec.name}: {error}; write choice_index: 0 (or 1) in the task") from error
        return replace(self, counted_from=start)

    def _letters(self, row: DataRow, golds: Sequence[str | int], key: str) -> tuple[str, list[str]]:
        """The choices as the prompt shows them, and the letters of the right ones."""
        choices = self.choices(row)
        if self._right_one_first:
            right = choices.texts[0]
            choices = choices.shuffled(f"{self.spec.choice_seed}/{key}")
            return choices.lines, choices.letters(choices.texts.index(right))
        letters: list[str] = []
        for gold in golds:
            places = choices.places(gold, self.counted_from)
            if len(places) != 1:
                wrong = "the letter of one and the text of another of" if places else "none of"
                raise UserError(
                    f"{row.where}: answer {shown(gold)} is {wrong} the choices {shown(list(choices.texts))}"
                )
            letters += choices.letters(places.pop())
        return choices.lines, letters


def _named(spec: TaskSpec, key: str) -> bool:
    """Whether a task names the field itself. A description in a store has every key, so the value tells."""
    return bool(getattr(spec, key) != TaskSpec.model_fields[key].default)


def field_of(row: DataRow, names: Sequence[str]) -> str:
    """The first of ``names`` that the row has; the first of all where it has none."""
    return next((name for name in names if name in row.values), names[0])


def value_of(row: DataRow, names: Sequence[str], key: str, wanted: bool = True) -> Any:
    """The first value that is not empty under one of ``names``, None where all are.

    Raises UserError where the row has none of the fields and one is ``wanted``; ``key`` is that of the description.
    """
    present = [name for name in names if name in row.values]
    if not present and wanted:
        raise UserError(
            f"{row.where}: no field {' or '.join(map(repr, names))}; it has {', '.join(map(str, row.values))}: "
            f"name the right one under '{key}' in the task"
        )
    values = [row.values[name] for name in present]
    return next((value for value in values if not _missing(value)), None)


def _missing(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def text_of(row: DataRow, names: Sequence[str], key: str, wanted: bool = True) -> str | None:
    """The value as a stripped text. Raises UserError as :func:`value_of`, and for what is neither text nor number."""
    return _text(row, names, value_of(row, names, key, wanted))


def _text(row: DataRow, names: Sequence[str], value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise UserError(
            f"{row.where}: field '{field_of(row, names)}' is {shown(value)}, where a text or a number is wanted"
        )
    if isinstance(value, float) and math.isfinite(value):
        value = int(value) if value.is_integer() else format(Decimal(str(value)), "f")
    return (str(value).strip() or None) if value is not None else None


def digest(text: str) -> str:
    """The SHA-256 of a text in hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def _normal(question: str) -> str:
    return " ".join(question.casefold().split())
