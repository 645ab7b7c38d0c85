"""Rows of one's own, one per path, or one per problem with lists of paths. See docs/importing.md."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.importers.chosen import ChosenGolds
from prunebench.bench.rollouts.importers.contract import (
    Importer,
    Options,
    SourcePath,
    SourceProblem,
    files_of,
    finish_of,
)
from prunebench.bench.rollouts.importers.conversations import ASSISTANT, answer_of, conversation, prompt_of
from prunebench.bench.rollouts.importers.gathering import Gathering
from prunebench.bench.rollouts.importers.golds import gold_of
from prunebench.bench.rollouts.importers.logprobs import holds_candidates, logprobs_of
from prunebench.bench.rollouts.importers.records import Record, records_of
from prunebench.methods.base import Signal
from prunebench.tasks.rows import kind_of, unwritten

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
TABLES = (".csv", ".tsv")
OF_PROBLEM = ("problem", "prompt", "answer", "choices")
OF_PATH = (
    "text", "messages", "token_ids", "tokens", "logprobs", "entropy", "final_answer", "correct", "finish", "path",
)  # fmt: skip
CONTENT = ("text", "messages", "token_ids", "tokens")
TEXTS = {"problem", "prompt", "answer", "text", "final_answer", "finish"}
"""What the cell of a table says as it stands; other cells spell a number, a truth value or a list."""
NOTHING = {"", "none", "nan", "null"}
LONGEST_NAME = 80
"""In characters: a longer problem is its text, not its name."""


def read(path: Path, options: Options) -> Iterator[SourceProblem]:
    """The problems in the order of their first rows. Raises UserError for a malformed row."""
    gathering, chosen = Gathering(options.task_of(path)), ChosenGolds(path)
    for row in records_of(files_of(path, SUFFIXES), options.fields):
        record = _typed(row) if kind_of(row.file) in TABLES else row
        paths = _paths(record)
        problem, prompt = _named(record, _prompt(record, paths[0]))
        if not _there(record, "answer"):
            raise _absent(record, "answer")
        gold = chosen.gold(record, problem) or gold_of(record, "answer", options)
        read_ones = {record.names.get(field, field) for field in (*OF_PROBLEM, *OF_PATH)}
        unread = [str(name) for name in record.values if name not in read_ones]
        if any(holds_candidates(one.get("logprobs")) for one in paths):
            unread.append("top_logprobs inside logprobs")
        gathering.add(record, problem, prompt, gold, list(map(_path, paths)), unread=unread)
    yield from chosen.lettered(gathering.problems())


def _there(record: Record, field: str) -> bool:
    """Whether the row has the field at all, filled or not."""
    return record.names.get(field, field) in record.values


def _absent(record: Record, field: str, instead: str = "") -> UserError:
    """The complaint that a ``field`` is not there, nor what may stand ``instead``; with the fields that are."""
    return UserError(
        f"{record.file}, {record.place}: there is no '{record.names.get(field, field)}'{instead} among its fields "
        f"({', '.join(map(str, record.values)) or 'none'}): name the right one with --set {field}=FIELD"
    )


def _typed(row: Record) -> Record:
    """The row of a table, whose cells are all texts, with the values that these spell."""
    values = dict(row.values)
    for field in (*OF_PROBLEM, *OF_PATH):
        name = row.names.get(field, field)
        cell = values.get(name)
        if field != "text" and isinstance(cell, str) and (not cell.strip() or field not in TEXTS):
            word = cell.strip().lower()
            values[name] = {"true": True, "false": False}.get(word, None if word in NOTHING else unwritten(cell))
    return replace(row, values=values)


def _prompt(record: Record, first: Record) -> str:
    """What the model was given: the prompt, or the messages before the answer."""
    if record.get("prompt") is not None or record.get("messages") is None:
        return prompt_of(record, "prompt", record.get("prompt"))
    if record.get("text") is None:
        return prompt_of(first, "messages", answer_of(first, "messages")[0])
    messages = conversation(record.get("messages")) or []
    answered = bool(messages) and messages[-1].get("role") == ASSISTANT
    return prompt_of(record, "messages", messages[:-1] if answered else messages)


def _named(record: Record, prompt: str) -> tuple[str, str]:
    """The problem's name and its prompt; a problem that is given by its text is named by the text's hash."""
    if not (_there(record, "problem") or prompt):
        raise _absent(record, "problem")
    problem = record.word("problem") or prompt or record.needed("problem")
    if len(problem) <= LONGEST_NAME and "\n" not in problem:
        return problem, prompt
    return f"problem-{hashlib.sha256(problem.encode()).hexdigest()[:12]}", prompt or problem


def _paths(record: Record) -> list[Record]:
    """One record per path: the row itself, or its lists taken apart."""
    present = {field: record.get(field) for field in OF_PATH if record.get(field) is not None}
    content = next((field for field in CONTENT if field in present), None)
    if content is None:
        raise _absent(record, "text", ", nor messages, token_ids or tokens,")
    if content == "text":
        present.pop("messages", None)  # those before the text: of the problem
    first = present[content]
    nested = isinstance(first, list) and (content == "text" or (bool(first) and isinstance(first[0], list)))
    if not nested:
        return [record]
    count = len(first)
    for field, values in present.items():
        if not isinstance(values, list) or len(values) != count:
            raise record.error(field, values, f"a list of {count}, one item per path like '{content}'")
    if not count:
        raise UserError(f"{record.file}, {record.place}: the problem has no paths; remove the row")
    names = {field: record.names.get(field, field) for field in present}
    return [
        replace(
            record,
            place=f"{record.place}, path {index}",
            values={names[field]: values[index] for field, values in present.items()},
        )
        for index in range(count)
    ]


def _path(record: Record) -> SourcePath:
    text, ids, tokens = record.text("text"), record.ids("token_ids"), record.texts("tokens")
    logprobs = logprobs_of(record, "logprobs", ids)
    if text is None and record.get("messages") is not None:
        text = answer_of(record, "messages")[1]
    if logprobs is not None and tokens is None and (ids is None or len(ids) == len(logprobs.values)):
        tokens = logprobs.tokens
    return SourcePath(
        text=text,
        token_ids=ids,
        tokens=tokens,
        logprobs=None if logprobs is None else logprobs.values,
        entropy=record.floats("entropy"),
        final_answer=record.word("final_answer"),
        correct=record.verdict("correct"),
        finish=finish_of(record.text("finish")),
        number=record.integer("path"),
    )


PLAIN = Importer(
    "plain",
    "rows of one's own (JSONL, JSON, CSV, Parquet), one per path or per problem",
    SUFFIXES,
    frozenset({Signal.TEXT, Signal.TOKEN_IDS, Signal.LOGPROBS, Signal.ENTROPY}),
    frozenset({*OF_PROBLEM, *OF_PATH}),
    read,
)
