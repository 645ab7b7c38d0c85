"""Outputs of MathArena: Parquet, one row per path, often of several models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.importers.contract import Importer, Options, SourcePath, SourceProblem, files_of
from prunebench.bench.rollouts.importers.gathering import Gathering
from prunebench.bench.rollouts.importers.records import Record, records_of, schema_of, values_of
from prunebench.methods.base import Signal
from prunebench.tasks.grading import boxed

SUFFIXES = (".parquet",)
NEEDED = ("problem_idx", "model_name", "answer", "gold_answer")


def read(path: Path, options: Options) -> Iterator[SourceProblem]:
    """The problems of one model: ``fields["model"]``, which may be left out where there is only one."""
    files = files_of(path, SUFFIXES)
    model = _model(files, options.fields.get("model"))
    gathering = Gathering(options.task_of(path))
    for record in records_of(files):
        if record.get("model_name") == model:
            problem, gold = record.needed("problem_idx"), record.needed("gold_answer")
            gathering.add(record, problem, record.text("problem") or "", gold, [_path(record)])
    yield from gathering.problems()


def _model(files: list[Path], wanted: str | None) -> str:
    models: set[str] = set()
    for file in files:
        absent = [column for column in NEEDED if column not in schema_of(file).names]
        if absent:
            raise UserError(
                f"{file}: no column {', '.join(absent)}; outputs of MathArena with final answers have "
                f"{', '.join(NEEDED)} (those of proofs cannot be imported)"
            )
        models |= {str(name) for name in values_of(file, "model_name")}
    if wanted in models:
        return str(wanted)
    if wanted is None and len(models) == 1:
        return models.pop()
    names = ", ".join(sorted(map(str, models)))
    raise UserError(f"{files[0].parent}: there are the models {names}; choose one: --set model=NAME")


def _path(record: Record) -> SourcePath:
    """``parsed_answer`` is SymPy's spelling, so it counts only where the text boxes nothing."""
    text = record.text("answer") or ""
    return SourcePath(
        text=text,
        final_answer=None if boxed(text) else record.word("parsed_answer"),
        correct=record.verdict("correct"),
        number=record.integer("idx_answer"),
    )


MATHARENA = Importer(
    "matharena",
    "Parquet of MathArena's model outputs, one model of them",
    SUFFIXES,
    frozenset({Signal.TEXT, Signal.TOKEN_IDS}),
    frozenset({"model"}),
    read,
)
