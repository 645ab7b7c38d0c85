"""The gold answers that a source gives, as a problem has them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache

from prunebench.bench.rollouts.importers.contract import Options
from prunebench.bench.rollouts.importers.records import Record
from prunebench.tasks.answer_types import AnswerType
from prunebench.tasks.answer_types.golds import accepted, any_of
from prunebench.tasks.imported import MATH, ImportedTask

CHOICE = "choice"
_LETTER = re.compile(r"\(?[A-Z]\)?\.?")


def gold_of(record: Record, field: str, options: Options, texts: Sequence[str] | None = None) -> str:
    """The gold answer in ``field``, or in the ``texts`` that it stands for; of several any one is right.

    A whole solution gives the answer that it states. Raises UserError for one that states none, and for an answer that
    is none of the type.
    """
    answers = _answers(options.grading, options.answer_type or MATH)
    golds = []
    for text in record.words(field) if texts is None else texts:
        gold = answers.gold_in(text)
        if gold is None:
            raise record.error(field, text, "an answer, nor does it state one (--answer-type text compares texts)")
        if not answers.accepts(gold):
            raise record.error(field, gold, f"{answers.form}, as --answer-type {options.answer_type} wants")
        golds.append(gold)
    if not golds:
        raise record.error(field, record.get(field), "a name, a text or a number")
    return any_of(golds)


def answer_type_for(golds: Iterable[str]) -> str:
    """The answer type of an import that names none: choice where every gold answer is a letter, else math."""
    return CHOICE if all(_LETTER.fullmatch(one) for gold in golds for one in accepted(gold)) else MATH


@cache
def _answers(grading: str, answer_type: str) -> AnswerType:
    return ImportedTask("", grading, answer_type).answers
