"""Tasks of one's own: written from a data file, and looked at before anything is spent on them."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import numpy as np

from prunebench.bench.cli.trial import shown_paths
from prunebench.bench.engines.shipped import REASONER_PROMPT, REASONER_SUFFIX
from prunebench.bench.engines.tokenization import MOST_UNKNOWN
from prunebench.bench.errors import UserError
from prunebench.bench.files import write_atomically
from prunebench.bench.guideline.recommendation import FEWEST_TO_RECOMMEND
from prunebench.bench.reasoner.vocabulary import IDS
from prunebench.tasks.answer_types import names
from prunebench.tasks.answer_types.golds import accepted
from prunebench.tasks.catalogue import get
from prunebench.tasks.errors import NoProblemsError, shown
from prunebench.tasks.guessed_spec import guessed_spec
from prunebench.tasks.near_duplicates import near_duplicates
from prunebench.tasks.rows import rows_of
from prunebench.tasks.task import Problem, Task

if TYPE_CHECKING:
    from prunebench.bench.config import RunConfig
    from prunebench.bench.engines.base import Engine

TEMPLATES = Path(__file__).parents[1] / "templates"
SHOWN = 3
"""So many prompts of a task are shown in full."""
FEW = FEWEST_TO_RECOMMEND
"""With fewer evaluated problems an interval is wider than what methods differ by."""


def write_task(
    name: str, data: Path, folder: Path, *, problem: str | None, answer: str | None, shipped_model: bool
) -> tuple[Path, str]:
    """Write ``NAME.yaml`` for the rows in ``data``; the file, and what was found about the answers.

    What is not named is guessed, see :func:`prunebench.tasks.guessed_spec.guessed_spec`. Raises UserError where that
    fails, or where the file is there already.
    """
    file = _free(folder / f"{name}.yaml", name)
    rows = list(rows_of(data))
    if not rows:
        raise UserError(f"{data}: holds no rows")
    guess = guessed_spec(rows, problem, answer)
    asked = "{problem}\n\n{choices}" if "choices" in guess.keys else "{problem}"
    prompt = REASONER_PROMPT.format(problem=asked) if shipped_model else f"{asked}\n\n{guess.answers.prompt}"
    extra = {key: value for key, value in guess.keys.items() if key not in ("problem", "answer")}
    extra |= {"answer_suffix": REASONER_SUFFIX} if shipped_model else {}
    beside = Path(os.path.relpath(data, folder)).as_posix()
    text = Template((TEMPLATES / "task.yaml.template").read_text(encoding="utf-8")).substitute(
        name=name, file=file, data=_scalar(beside), problem=_scalar(guess.keys["problem"]),
        answer=_scalar(guess.keys["answer"]), answer_type=guess.answers.name, types=", ".join(names()),
        prompt=_scalar(prompt),
        extra="".join(f"{key}: {_scalar(value)}\n" for key, value in extra.items()),
    )  # fmt: skip
    write_atomically(file, text.encode())
    strange = _strange(str(row.values.get(str(guess.keys["problem"]), "")) for row in rows) if shipped_model else ()
    return file, "; ".join([*guess.remarks, *strange])


def _strange(questions: Iterable[str]) -> Iterator[str]:
    """A sentence where a shipped model does not know the words of most questions."""
    asked = [question.split() for question in questions]
    unknown = [[word for word in words if word not in IDS] for words in asked]
    foreign = [few[0] for few, words in zip(unknown, asked, strict=True) if len(few) > MOST_UNKNOWN * len(words)]
    if 2 * len(foreign) > len(asked):
        yield (
            f"the shipped model will refuse {len(foreign)} of {len(asked)} questions, whose words it does not know "
            f"(the first: {shown(foreign[0])}); name a model that does"
        )


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


def _scalar(value: object) -> str:
    """As YAML has it in one line: a text in double quotes, but a pattern in single ones, where it stands as it is."""
    if isinstance(value, str) and "\\" in value and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    return json.dumps(value, ensure_ascii=False)


def examination(task: Task, engine: Engine | None = None, config: RunConfig | None = None) -> Iterator[str]:
    """Lines about a task: splits, prompts, gold answers, duplicates; lengths in a model's tokens if there is one.

    With a ``config`` two short paths of the model as well.

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
        golds = " or ".join(map(repr, accepted(problem.answer)))
        yield f"--- {problem.id} ({problem.split}), gold answer {golds}, as the model gets it:"
        yield problem.prompt
    yield "---"
    spellings = list(dict.fromkeys(problem.answer for problem in everything))
    read_as = dict(zip(spellings, task.classes(spellings), strict=True))
    counts = Counter(read_as[problem.answer] for problem in everything)
    ((common, times),) = counts.most_common(1)
    spelling = next(answer for answer in spellings if read_as[answer] == common)
    yield f"{len(counts)} different answers; the most frequent, {spelling!r}, {times} times"
    yield from _alike(task, splits)
    if engine is not None:
        yield from _tokens(task, everything, engine)
    if engine is not None and config is not None:
        yield from shown_paths(engine, task, (splits.get("test") or everything)[0], config)
    if not task.train_only and (said := too_few(len(splits.get("test", [])))):
        yield said


def too_few(test: int) -> str | None:
    """What so few test problems will not tell, None for enough."""
    if test >= FEW:
        return None
    count = "1 test problem" if test == 1 else f"{test} test problems"
    return (
        f"{count}: intervals will be wide, and advise recommends nothing below {FEW}; add rows, or give test a larger "
        "share under splits"
    )


def split_sizes(file: Path) -> Iterator[str]:
    """The splits of a written task, what it leaves out, and whether it is enough; or why its rows do not serve."""
    try:
        task = get(str(file))
        sizes = {name: len(_of_split(task, name, None)) for name in task.splits}
    except UserError as error:
        yield f"no task yet, mend this first: {error}"
        return
    yield ", ".join(f"{count} {name}" for name, count in sizes.items())
    yield from task.remarks()
    if said := too_few(sizes.get("test", 0)):
        yield said


def _of_split(task: Task, name: str, limit: int | None) -> list[Problem]:
    try:
        return task.problems(name, limit)
    except NoProblemsError:
        return []


def _alike(task: Task, splits: dict[str, list[Problem]]) -> Iterator[str]:
    """Test problems that nearly repeat one that methods would learn from."""
    learned = {problem.id: problem.prompt for name in ("train", "validation") for problem in splits.get(name, [])}
    pairs = near_duplicates({problem.id: problem.prompt for problem in splits.get("test", [])}, learned)
    if pairs:
        first, count = pairs[0], len({pair.evaluated for pair in pairs})
        repeat = "1 test problem nearly repeats" if count == 1 else f"{count} test problems nearly repeat"
        two = f"{task.where(first.evaluated)} and {task.where(first.trained)}"
        yield f"{repeat} one to learn from, the closest: {two} share {first.overlap:.0%} of their 8-grams"


def _tokens(task: Task, problems: Sequence[Problem], engine: Engine) -> Iterator[str]:
    unknown, context = engine.tokenizer.unk_token_id, engine.context
    prompts = [engine.encode_prompt(problem.prompt) for problem in problems]
    lengths = np.array([len(ids) for ids in prompts])
    yield f"tokens per prompt: {lengths.min()} to {lengths.max()}, median {np.median(lengths):.0f}"
    if lengths.max() >= context:
        worst = task.where(problems[int(lengths.argmax())].id)
        too_long = f"the prompt of {worst} has {lengths.max()} tokens, of {context} for prompt and answer"
        yield f"NOT POSSIBLE: {too_long}; shorten it, take it out, or name a model with a longer context"
    strange = [
        problem.id for problem, ids in zip(problems, prompts, strict=True) if unknown is not None and unknown in ids
    ]
    if strange:
        count = "1 prompt has" if len(strange) == 1 else f"{len(strange)} prompts have"
        yield f"{count} words that the tokenizer does not know (the first: {task.where(strange[0])})"
