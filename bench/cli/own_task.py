"""Tasks of one's own: written from a data file, and looked at before anything is spent on them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import numpy as np

from prunebench.bench.errors import UserError
from prunebench.bench.files import write_atomically
from prunebench.tasks import answer_types
from prunebench.tasks.answer_types import AnswerType
from prunebench.tasks.errors import NoProblemsError
from prunebench.tasks.near_duplicates import near_duplicates
from prunebench.tasks.rows import DataRow, rows_of
from prunebench.tasks.task import Problem, Task
from prunebench.tasks.task_spec import TaskSpec

if TYPE_CHECKING:
    from prunebench.bench.engines.base import Engine

TEMPLATES = Path(__file__).parents[1] / "templates"
SHOWN = 3
"""So many prompts of a task are shown in full."""
FEW = 20
"""With fewer evaluated problems an interval is wider than what methods differ by."""
REASONER_PROMPT, REASONER_SUFFIX = "{problem} \n\n", "\n\n \\boxed{"
"""How the shipped reasoners are asked: they know no instructions."""


def write_task(
    name: str, data: Path, folder: Path, *, problem: str | None, answer: str | None, shipped_model: bool
) -> tuple[Path, str]:
    """Write ``NAME.yaml`` for the rows in ``data``; the file, and what was found about the answers.

    Columns that are not named are guessed from usual names, the answer type from the answers. Raises UserError where
    that fails, or where the file is there already.
    """
    file = _free(folder / f"{name}.yaml", name)
    rows = list(rows_of(data))
    if not rows:
        raise UserError(f"{data}: holds no rows")
    question = _column(rows[0], problem, "problem")
    gold = _column(rows[0], answer, "answer")
    texts = [text for row in rows if (text := str(row.values.get(gold) or "").strip())]
    kind, about_answers = _answer_type(texts)
    prompt = REASONER_PROMPT if shipped_model else f"{{problem}}\n\n{kind.prompt}"
    extra = f"answer_suffix: {_quoted(REASONER_SUFFIX)}\n" if shipped_model else ""
    beside = Path(os.path.relpath(data, folder)).as_posix()
    text = Template((TEMPLATES / "task.yaml.template").read_text(encoding="utf-8")).substitute(
        name=name, file=file, data=_quoted(beside), problem=_quoted(question), answer=_quoted(gold),
        answer_type=kind.name, prompt=_quoted(prompt), extra=extra,
    )  # fmt: skip
    write_atomically(file, text.encode())
    return file, f"{len(rows)} rows, {len(texts)} with an answer; {about_answers}"


def write_python_task(name: str, folder: Path) -> Path:
    """Write ``NAME.py`` with a task that a program makes. Raises UserError where the file is there already."""
    file = _free(folder / f"{name.replace('-', '_')}.py", name)
    class_name = "".join(part.capitalize() for part in re.split(r"[-_.]", name)) + "Task"
    text = Template((TEMPLATES / "task.py.template").read_text(encoding="utf-8"))
    write_atomically(file, text.substitute(name=name, file=file, class_name=class_name).encode())
    return file


def _free(file: Path, name: str) -> Path:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", name):
        raise UserError(f"name '{name}': letters, digits, points and hyphens, a letter first")
    if file.exists():
        raise UserError(f"{file} is there already; choose another name, or delete it first")
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _quoted(text: str) -> str:
    r"""As a double-quoted YAML scalar."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _column(row: DataRow, named: str | None, key: str) -> str:
    if named is not None:
        if named not in row.values:
            raise UserError(f"{row.file}: no column '{named}'; it has {', '.join(map(str, row.values))}")
        return named
    usual = TaskSpec.model_fields[key].default
    columns = (column for name in usual for column in row.values if str(column).casefold() == name.casefold())
    column = next(columns, None)
    if column is None:
        held = ", ".join(map(str, row.values))
        raise UserError(f"{row.file}: has {held}; say which is the {key}: --set {key}=COLUMN")
    return str(column)


def _answer_type(texts: Sequence[str]) -> tuple[AnswerType, str]:
    """The type that is surest of the answers, and a sentence about them."""
    kind = max(answer_types.answer_types(), key=lambda kind: kind.guess(texts))
    if kind.guess(texts) == 1:
        return kind, f"all answers are of type {kind.name}"
    integers = sum(map(answer_types.answer_type_of("integer").accepts, texts))
    others = f"; {integers} of them are integers" if integers else ""
    known = f"{', '.join(answer_types.names())}, or module:function"
    return kind, f"answers of mixed form{others}: type {kind.name} was taken (of {known})"


def examination(task: Task, engine: Engine | None = None) -> Iterator[str]:
    """Lines about a task: splits, prompts, gold answers, duplicates; lengths in a model's tokens if there is one.

    Raises UserError for rows that do not serve.
    """
    limit = FEW if task.endless else None
    splits = {name: problems for name in task.splits if (problems := _of_split(task, name, limit))}
    if not splits:
        raise UserError(f"task {task.name}: holds no problem")
    yield f"task {task.name}: " + ", ".join(f"{len(problems)} {name}" for name, problems in splits.items())
    yield from task.remarks()
    everything = [problem for problems in splits.values() for problem in problems]
    for problem in everything[:SHOWN]:
        yield f"--- {problem.id} ({problem.split}), gold answer {problem.answer!r}, as the model gets it:"
        yield problem.prompt
    yield "---"
    common = Counter(problem.answer for problem in everything).most_common(1)[0]
    different = len({problem.answer for problem in everything})
    yield f"{different} different answers; the most frequent, {common[0]!r}, {common[1]} times"
    yield from _alike(splits)
    if engine is not None:
        yield from _tokens(everything, engine)
    test = splits.get("test", [])
    if not task.train_only and len(test) < FEW:
        yield f"{len(test)} test problems: intervals will be wide, few differences between methods can be established"


def _of_split(task: Task, name: str, limit: int | None) -> list[Problem]:
    try:
        return task.problems(name, limit)
    except NoProblemsError:
        return []


def _alike(splits: dict[str, list[Problem]]) -> Iterator[str]:
    """Test problems that nearly repeat one that methods would learn from."""
    learned = {problem.id: problem.prompt for name in ("train", "validation") for problem in splits.get(name, [])}
    pairs = near_duplicates({problem.id: problem.prompt for problem in splits.get("test", [])}, learned)
    if pairs:
        first = pairs[0]
        yield (
            f"{len({pair.evaluated for pair in pairs})} test problems nearly repeat one to learn from, the closest: "
            f"{first.evaluated} and {first.trained} share {first.overlap:.0%} of their 8-grams"
        )


def _tokens(problems: Sequence[Problem], engine: Engine) -> Iterator[str]:
    unknown, context = engine.tokenizer.unk_token_id, engine.context
    prompts = [engine.encode_prompt(problem.prompt) for problem in problems]
    lengths = np.array([len(ids) for ids in prompts])
    yield f"tokens per prompt: {lengths.min()} to {lengths.max()}, median {np.median(lengths):.0f}"
    if lengths.max() >= context:
        worst = problems[int(lengths.argmax())]
        yield f"NOT POSSIBLE: the prompt of {worst.id} has {lengths.max()} tokens, of {context} for prompt and answer"
    strange = [
        problem.id for problem, ids in zip(problems, prompts, strict=True) if unknown is not None and unknown in ids
    ]
    if strange:
        yield f"{len(strange)} prompts have words that the tokenizer does not know (the first: {strange[0]})"
