"""What the description of a data file should say, guessed from its rows: columns, choices, type of the answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from prunebench.tasks import answer_types
from prunebench.tasks.answer_types import AnswerType, answer_type_of
from prunebench.tasks.answer_types.golds import HASHES, behind_hashes
from prunebench.tasks.choices import counted_from
from prunebench.tasks.dataset_fields import FieldReader
from prunebench.tasks.errors import UserError, shown
from prunebench.tasks.rows import DataRow
from prunebench.tasks.task_spec import TaskSpec

USUAL = {
    "context": ("context", "passage", "puzzle"),
    "problem": ("problem", "question", "question stem", "prompt", "input"),
    "answer": (
        "answer", "final answer", "answer key", "correct answer", "expected answer", "correct", "gold", "ground truth",
        "target", "label", "solution",
    ),
    "choices": ("choices", "options", "answer choices", "endings"),
}  # fmt: skip
"""What columns are often called, the likeliest first, however their words are joined."""
MOST = 0.9
"""What holds for this share of the rows holds for the data; the rest are blemishes."""
BEHIND_HASHES = rf"{HASHES}\s*(.+)"
_SERIES = re.compile(r"(?P<stem>.*?)[ _-]?(?P<last>[A-Za-z]|\d)")
_WRONG = re.compile(r"distractor|incorrect|wrong|false", re.IGNORECASE)
_OPTION = re.compile(r"(?:^|\s)\(?B[).:]\s")


@dataclass(frozen=True)
class GuessedSpec:
    """``keys`` of a task (``problem``, ``answer``, and what else is needed), its answer type, and what was found."""

    keys: dict[str, object]
    answers: AnswerType
    remarks: tuple[str, ...]


def guessed_spec(rows: Sequence[DataRow], problem: str | None = None, answer: str | None = None) -> GuessedSpec:
    """A description of ``rows``; ``problem`` and ``answer`` are columns that are known. Raises UserError."""
    columns = _columns(rows[0], {"problem": problem, "answer": answer})
    keys: dict[str, object] = {**columns}
    guessed = [key for key, column in (("problem", problem), ("answer", answer)) if column is None]
    remarks = [f"the {key} is taken from column '{columns[key]}'" for key in guessed if columns[key] != key]
    if context := _usual([column for column in rows[0].values if column not in columns.values()], "context"):
        keys["context"] = context
        remarks.append(f"the text of column '{context}' stands before the question")
    if places := _with_choices(rows, keys):
        keys |= places
        about = "answers are choices"
        if (start := places.get("choice_index")) is not None:
            about += f", by their places counted from {start}; look whether that is so"
        answered = sum(map(bool, map(_reader(keys, "choice").golds, rows)))
        remarks = [f"{len(rows)} rows, {answered} with an answer", about, *remarks]
        return GuessedSpec(keys, answer_type_of("choice"), tuple(remarks))
    reader = _reader(keys)
    stated = [[str(text) for text in reader.stated(row)] for row in rows]
    texts = [text for each in stated for text in each]
    known = {kind: {text: kind.gold_in(text) for text in texts} for kind in answer_types.answer_types()}
    golds = {kind: [gold for text in texts if (gold := found[text])] for kind, found in known.items()}
    kind = max(golds, key=lambda kind: kind.guess(golds[kind]))
    if not golds[kind]:
        stands = f"; the first holds {shown(texts[0])}" if texts else ""
        column = f"no answer in column '{keys['answer']}' of any row{stands}"
        raise UserError(f"{rows[0].file}: {column}; name another: --set answer=COLUMN")
    answered = sum(any(known[kind][text] for text in each) for each in stated)
    about = _about_type(kind, golds[kind], _odd(rows, stated))
    remarks = [f"{len(rows)} rows, {answered} with an answer", about, *remarks]
    if all((match := re.search(BEHIND_HASHES, text)) and match[1].strip() == behind_hashes(text) for text in texts):
        keys["gold"] = BEHIND_HASHES
    if found := sum(known[kind][text] != text for text in texts):
        remarks.append(f"{found} answers were found within longer texts" + (", behind ####" if "gold" in keys else ""))
    if kind.name == "choice" and not any(_OPTION.search(reader.question(row) or "") for row in rows):
        remarks.append("no column holds the choices, so that the prompt shows none; if there is one: choices: COLUMN")
    return GuessedSpec(keys, kind, tuple(remarks))


def _reader(keys: Mapping[str, object], answer_type: str = "text") -> FieldReader:
    prompt = "{problem}{choices}"
    spec = TaskSpec.model_validate({"name": "guess", "data": "-", "prompt": prompt, "answer_type": answer_type, **keys})
    return FieldReader(spec, answer_type_of(answer_type))


def _columns(row: DataRow, named: Mapping[str, str | None]) -> dict[str, str]:
    """By key the column that is named or has a usual name. Raises UserError, once for all that are not found."""
    held = ", ".join(map(str, row.values))
    if missing := [column for column in named.values() if column is not None and column not in row.values]:
        raise UserError(f"{row.file}: no column '{missing[0]}'; it has {held}")
    columns = {key: column or _usual(list(row.values), key) for key, column in named.items()}
    if unknown := [key for key, column in columns.items() if column is None]:
        asked = " ".join(f"--set {key}=COLUMN" for key in unknown)
        bare = any(re.search(r"\?|^\W*\d|\s\S+\s", str(column)) for column in row.values)
        headless = "; if its first line is a problem already, write one above it that names the columns" if bare else ""
        raise UserError(
            f"{row.file}: has {held}; say which is the {' and which the '.join(unknown)}: {asked}{headless}"
        )
    return {key: column for key, column in columns.items() if column is not None}


def _usual(columns: Sequence[str], key: str) -> str | None:
    """The column whose name is the likeliest for a key."""

    def plain(name: str) -> str:
        return re.sub(r"[\W_]", "", str(name)).casefold()

    return next((str(column) for name in USUAL[key] for column in columns if plain(column) == plain(name)), None)


def _with_choices(rows: Sequence[DataRow], keys: Mapping[str, object]) -> dict[str, object] | None:
    """The columns of the choices, and from where the answers count them if they are places."""
    others = [column for column in rows[0].values if column not in keys.values()]
    for columns in _columns_of_choices(others, str(keys["answer"])):
        found: dict[str, object] = {"choices": columns}
        reader = _reader({**keys, **found}, "choice")
        readable = [row for row in rows if _reads(reader, row)]
        try:
            start = counted_from([(reader.choices(row), gold) for row in readable for gold in reader.golds(row)])
        except ValueError:
            start = 0
        found |= {} if start is None else {"choice_index": start}
        reader = replace(reader, counted_from=start)
        if sum(_reads(reader, row, answers=True) for row in readable) >= MOST * len(rows):
            return found
    return None


def _reads(reader: FieldReader, row: DataRow, answers: bool = False) -> bool:
    try:
        reader.problem(None, row) if answers else reader.choices(row)
    except UserError:
        return False
    return True


def _columns_of_choices(columns: Sequence[str], answer: str) -> Iterator[list[str]]:
    """A column with a usual name; columns that a letter or a digit tells apart, and ``answer`` before wrong ones."""
    if (column := _usual(columns, "choices")) is not None:
        yield [column]
    series: dict[str, dict[str, str]] = {}
    for column in columns:
        if parts := _SERIES.fullmatch(str(column)):
            series.setdefault(parts["stem"], {})[parts["last"].upper()] = str(column)
    for stem, named in series.items():
        for first in "A01":
            run = [chr(ord(first) + place) for place in range(len(named))]
            if len(named) > 1 and sorted(named) == run:
                yield [*([answer] if _WRONG.search(stem) else []), *(named[last] for last in run)]


def _odd(rows: Sequence[DataRow], stated: Sequence[Sequence[str]]) -> str:
    """The first answer that is no integer, and its place."""
    integer = answer_type_of("integer")
    for row, texts in zip(rows, stated, strict=True):
        for text in texts:
            if not integer.accepts(integer.gold_in(text) or ""):
                return f"{row.place}: {shown(text)}"
    return ""


def _about_type(kind: AnswerType, golds: Sequence[str], odd: str) -> str:
    if kind.guess(golds) == 1:
        return f"all answers are of type {kind.name}"
    integers = sum(map(answer_type_of("integer").accepts, golds))
    others = f"; {integers} of them are integers, the first other is {odd}" if integers else ""
    known = f"{', '.join(answer_types.names())}, or module:function"
    return f"answers of mixed form{others}: type {kind.name} was taken (of {known})"
