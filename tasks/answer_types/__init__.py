"""Answer types, one file each: how an answer is asked for, read from a text, recognised as a gold answer and compared.

A new one is a class with ``@answer_type`` above it, in a file of this folder or of one's own (see docs/own-dataset.md).
"""

from prunebench.tasks.answer_types.base import AnswerType, FoundAnswer, ReadingRule
from prunebench.tasks.answer_types.registry import answer_type, answer_type_of, answer_types, names, with_answer_type

__all__ = [
    "AnswerType",
    "FoundAnswer",
    "ReadingRule",
    "answer_type",
    "answer_type_of",
    "answer_types",
    "names",
    "with_answer_type",
]
