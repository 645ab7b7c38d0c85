"""Outputs of MathArena: Parquet or JSON Lines, one row per path, often of several models."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.importers.contract import Importer, Options, SourcePath, SourceProblem, files_of
from prunebench.bench.rollouts.importers.gathering import Gathering
from prunebench.bench.rollouts.importers.golds import gold_of
from prunebench.bench.rollouts.importers.records import Record, records_of, schema_of, values_of
from prunebench.methods.base import Signal
from prunebench.tasks.answer_types.boxes import boxes, listing
from prunebench.tasks.rows import kind_of

SUFFIXES = (".parquet", ".jsonl")
NEEDED = ("problem_idx", "model_name", "answer", "gold_answer")
_LIST = re.compile(r"AnswerList\(\[?(.*?)\]?\)|\[(.*)\]", re.DOTALL)
"""How MathArena spells the list of an answer of several parts."""


def read(path: Path, options: Options) -> Iterator[SourceProblem]:
    """The problems of one model: ``fields["model"]``, which may be left out where there is only one."""
    files = files_of(path, SUFFIXES)
    model = _model(files, options.fields.get("model"))
    gathering = Gathering(options.task_of(path))
    for record in records_of(files):
        if record.get("model_name") == model:
            problem, prompt = record.needed("problem_idx"), record.text("problem") or ""
            gathering.add(record, problem, prompt, _gold(record, options), [_path(record)])
    yield from gathering.problems()


def _model(files: list[Path], wanted: str | None) -> str:
    models: set[str] = set()
    for file in files:
        columns, of_file = _columns(file)
        absent = [column for column in NEEDED if column not in columns]
        if absent:
            raise UserError(
                f"{file}: no column {', '.join(absent)}; outputs of MathArena with final answers have "
                f"{', '.join(NEEDED)} (those of proofs cannot be imported)"
            )
        models |= of_file
    if wanted in models:
        return str(wanted)
    if wanted is None and len(models) == 1:
        return models.pop()
    names = ", ".join(sorted(map(str, models)))
    raise UserError(f"{files[0].parent}: there are the models {names}; choose one: --set model=NAME")


def _columns(file: Path) -> tuple[set[str], set[str]]:
    """The columns of a file, and the names of its models."""
    if kind_of(file) == ".parquet":
        columns = set(schema_of(file).names)
        return columns, {str(name) for name in values_of(file, "model_name")} if columns.issuperset(NEEDED) else set()
    columns, models = set(NEEDED), set[str]()
    for record in records_of([file]):
        columns &= set(record.values)
        models.add(str(record.get("model_name")))
    return columns, models


def _gold(record: Record, options: Options) -> str:
    gold = record.needed("gold_answer")
    if gold.startswith("hash:"):
        raise record.error("gold_answer", gold, "an answer but the hash of one, with which nothing can be compared")
    return gold_of(record, "gold_answer", options, [gold])


def _path(record: Record) -> SourcePath:
    text = record.text("answer") or ""
    return SourcePath(
        text=text,
        final_answer=_answer(text, record.word("parsed_answer")),
        correct=record.verdict("correct"),
        number=record.integer("idx_answer"),
    )


def _answer(text: str, parsed: str | None) -> str | None:
    """The parsed answer where the text boxes nothing, since it is SymPy's spelling; else None, or the boxes as a list.

    MathArena makes one list of the boxes of the last line that has any, where it wants a list.
    """
    items = _LIST.fullmatch(parsed) if parsed else None
    line = next((line for line in reversed(text.splitlines()) if boxes(line)), None)
    if line is None and not boxes(text):
        return items[1] or items[2] if items else parsed
    found = boxes(line or text)
    return listing([box.content for box in found]) if items and len(found) > 1 else None


MATHARENA = Importer(
    "matharena",
    "Parquet or JSONL of MathArena's model outputs, one model of them",
    SUFFIXES,
    frozenset({Signal.TEXT, Signal.TOKEN_IDS}),
    frozenset({"model"}),
    read,
)
