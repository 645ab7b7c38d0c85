"""The choices of a row, and which of them its answer means: a letter, a label of the source, a text, or a place."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from prunebench.tasks.errors import UserError, shown
from prunebench.tasks.rows import DataRow, unwritten

_LABELLED = re.compile(r"\(?([A-Za-z])\)?\s*[).:]\s*(?=\S)|\(([A-Za-z])\)\s*(?=\S)")
_LETTER = re.compile(r"\(?([A-Za-z])\)?[.:]?")
LABELS, TEXTS = ("label", "labels", "key"), ("text", "texts", "content", "value")
"""What sources call the two parts of a choice that has a label of its own."""


@dataclass(frozen=True)
class Choices:
    """Texts in the order in which they are shown; ``labels``: what the source calls them, where it does.

    ``numbers``: the source has numbers there, no texts.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()
    numbers: bool = False

    @property
    def lines(self) -> str:
        """As a prompt shows them."""
        return "\n".join(f"{letter}) {text}" for letter, text in zip(string.ascii_uppercase, self.texts, strict=False))

    def shuffled(self, seed: str) -> Choices:
        texts = list(self.texts)
        random.Random(seed).shuffle(texts)
        return replace(self, texts=tuple(texts))

    def places(self, answer: object, counted_from: int | None) -> set[int]:
        """Where the choices are that ``answer`` can mean; more than one where its readings differ."""
        if counted_from is not None:
            place = whole_number(answer)
            return set() if place is None else {place - counted_from} & set(range(len(self.texts)))
        text = str(answer).strip()
        letter = _LETTER.fullmatch(text)
        name = letter[1].upper() if letter else text
        if self.labels:
            labelled = {place for place, label in enumerate(self.labels) if label.upper() == name}
        else:
            labelled = {string.ascii_uppercase.find(name)} & set(range(len(self.texts))) if letter else set()
        if (labelled and self.labels) or (not self.numbers and not isinstance(answer, str)):
            return labelled
        return labelled | ({self.texts.index(text)} if text in self.texts else set())

    def letters(self, place: int) -> list[str]:
        """The letter of a choice, and of those with the very same text."""
        return [string.ascii_uppercase[other] for other, text in enumerate(self.texts) if text == self.texts[place]]


def choices_of(row: DataRow, field: str, value: object) -> Choices:
    """What one field of a row holds: a list, texts by their labels, or either written as a text. Raises UserError."""
    listed = unwritten(value) if isinstance(value, str) else value
    choices = _labelled(listed)
    if choices is None or not 1 < len(choices.texts) <= len(string.ascii_uppercase):
        raise UserError(f"{row.where}: field '{field}' is {shown(value)}, where a list of 2 to 26 choices is wanted")
    return choices


def _labelled(listed: object) -> Choices | None:
    if isinstance(listed, dict):
        labels, texts = (next((listed[name] for name in names if name in listed), None) for names in (LABELS, TEXTS))
        if isinstance(labels, list) and isinstance(texts, list) and len(labels) == len(texts):
            return Choices(_texts(texts), _texts(labels))
        return Choices(_texts(listed.values()), _texts(listed)) if len(listed) > 1 else None
    if not isinstance(listed, list | tuple):
        return None
    while listed and listed[-1] in (None, ""):  # a table as wide as its longest row
        listed = listed[:-1]
    if listed and all(isinstance(each, dict) for each in listed):
        pairs = [_labelled({name: [value] for name, value in each.items()}) for each in listed]
        if not all(pair is not None and pair.labels and len(pair.texts) == 1 for pair in pairs):
            return None
        return Choices(tuple(pair.texts[0] for pair in pairs if pair), tuple(pair.labels[0] for pair in pairs if pair))
    numbers = all(isinstance(value, int | float) for value in listed)
    return replace(without_letters(_texts(listed)), numbers=numbers)


def without_letters(texts: Sequence[str]) -> Choices:
    """Choices that begin with their own letters, ``A) 21``, without these."""
    labels = [_LABELLED.match(text) for text in texts]
    named = [(label[1] or label[2]).upper() if label else "" for label in labels]
    if len(texts) < 2 or named != list(string.ascii_uppercase[: len(texts)]):
        return Choices(tuple(texts))
    return Choices(tuple(text[label.end() :] for text, label in zip(texts, labels, strict=True) if label))


def _texts(values: Iterable[object]) -> tuple[str, ...]:
    return tuple(str(value).strip() for value in values)


def whole_number(answer: object) -> int | None:
    """The integer that an answer is or writes."""
    if isinstance(answer, bool) or not isinstance(answer, int | float | str):
        return None
    try:
        return int(answer) if not isinstance(answer, float) or answer.is_integer() else None
    except (ValueError, OverflowError):
        return None


def counted_from(answers: Sequence[tuple[Choices, object]]) -> int | None:
    """From where the answers of a data set count its choices: 0 or 1; None where they are no places.

    Raises ValueError where the answers do not tell.
    """
    for choices, answer in answers:
        number = whole_number(answer)
        if number is None or choices.labels or not 0 <= number <= len(choices.texts):
            return None
    starts = [start for start in (0, 1) if all(choices.places(answer, start) for choices, answer in answers)]
    meant = [choices.places(answer, None) for choices, answer in answers]
    if not answers or (all(meant) and all(meant == _all_places(answers, start) for start in starts)):
        return None
    if all(meant):
        raise ValueError("the answers may be texts of choices or their places")
    if len(starts) != 1:
        raise ValueError("the answers are places of choices, which may be counted from 0 or from 1")
    return starts[0]


def _all_places(answers: Sequence[tuple[Choices, object]], start: int) -> list[set[int]]:
    return [choices.places(answer, start) for choices, answer in answers]
