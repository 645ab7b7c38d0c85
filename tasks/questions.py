"""Questions that somebody wants answered: a task without gold answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prunebench.tasks.answer_types import answer_type_of
from prunebench.tasks.errors import UserError, shown
from prunebench.tasks.rows import rows_of
from prunebench.tasks.task import Problem, Task

FIELDS = ("question", "problem", "prompt")
"""Where a row holds its text: the first of these that it has."""
_REMEDY = (
    "rename one of them, or say which it is in a task file and ask its name instead: "
    "prunebench new task NAME --data FILE --set problem=COLUMN --set answer=COLUMN"
)


class Questions(Task):
    """``rows``: texts, or mappings with one of :data:`FIELDS` and perhaps an ``id``; or a file of such rows.

    A question without an id is called by its number, from 1. Raises UserError for a row without a text, and for an id
    that stands twice.
    """

    name = "questions"
    licence = "the asker's"
    homepage = "the asker's"

    def __init__(
        self,
        rows: Iterable[str | Mapping[str, Any]] | Path,
        answer_type: str = "math",
        prompt: str | None = None,
        suffix: str | None = None,
    ) -> None:
        """``prompt`` with ``{problem}`` in it, and the ``suffix`` that forces an answer: None for the type's own."""
        self.answer_type = answer_type
        answers = answer_type_of(answer_type)
        self._suffix = answers.suffix if suffix is None else suffix
        template = f"{{problem}}\n\n{answers.prompt}" if prompt is None else prompt
        self._problems: dict[str, Problem] = {}
        for number, (where, row) in enumerate(_placed(rows), 1):
            text, own = _text(where, row), None if isinstance(row, str) else _field(row, "id")
            identity = str(number if own is None else own)
            if identity in self._problems:
                raise UserError(f"{where}: the id {shown(identity)} stands twice; give every question its own")
            self._problems[identity] = Problem(identity, self.name, template.replace("{problem}", text), "", "test")

    @property
    def answer_suffix(self) -> str:
        return self._suffix

    def problems(self, split: str = "test", limit: int | None = None, seed: int = 0) -> list[Problem]:
        """All of them in their order, whatever the ``split`` and ``seed``."""
        return list(self._problems.values())[:limit]


def _placed(rows: Iterable[str | Mapping[str, Any]] | Path) -> Iterable[tuple[str, str | Mapping[str, Any]]]:
    """Every row with what an error calls it."""
    if isinstance(rows, Path):
        return ((row.where, row.values) for row in rows_of(rows))
    return ((f"question {number}", row) for number, row in enumerate(rows, 1))


def _field(row: Mapping[str, Any], name: str) -> Any:
    """What the row has under this name, in capitals or not; None where it has nothing."""
    return next((value for key, value in row.items() if key.lower() == name), None)


def _text(where: str, row: str | Mapping[str, Any]) -> str:
    text = row if isinstance(row, str) else next(filter(None, (_field(row, name) for name in FIELDS)), None)
    if not isinstance(text, str) or not text.strip():
        there = "" if isinstance(row, str) else f" (there are: {', '.join(map(str, row))})"
        raise UserError(f"{where}: no text in any of the fields {', '.join(FIELDS)}{there}; {_REMEDY}")
    return text
