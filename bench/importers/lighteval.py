"""Details of lighteval: Parquet, one row per document; the structs of newer versions or the flat columns of older."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import UserError
from bench.importers.contract import Importer, Options, SourcePath, SourceProblem, files_of
from bench.importers.rows import Gathering, columns_of, rows_of
from bench.importers.values import Record
from methods.base import Signal
from tasks.grading import boxed

SUFFIXES = (".parquet",)
STRUCTS = ("doc", "model_response")
FLAT = ("predictions", "gold")


def read(path: Path, options: Options) -> Iterator[SourceProblem]:
    """One problem per document, its generations as paths. ``fields``: ``correct`` names the metric of a verdict."""
    found = Gathering(options.task_of(path))
    for file in files_of(path, SUFFIXES):
        columns = {column.strip("_") for column in columns_of(file)}
        newer = columns.issuperset(STRUCTS)
        if not newer and not columns.issuperset(FLAT):
            raise UserError(
                f"{file}: neither the columns {' and '.join(STRUCTS)} nor {' and '.join(FLAT)}; "
                "give the details that lighteval writes with --save-details"
            )
        for number, row in enumerate(rows_of([file])):
            values = {column.strip("_"): _literal(row, column, value) for column, value in row.values.items()}
            record = _one_level(replace(row, values=values)) if newer else _renamed(replace(row, values=values))
            problem = record.word("id") or str(number)
            paths = _paths(record, options.fields.get("correct"))
            found.add(record, problem, record.text("prompt") or "", _gold(record), paths)
    yield from found.problems()


def _literal(row: Record, column: str, value: Any) -> Any:
    """Columns that were saved as Python's spelling of a list or dict are read as such; no code is run."""
    structured = column.strip("_") in (*STRUCTS, "metric", "metrics", "predictions", "gold", "cont_tokens")
    if not structured or not isinstance(value, str) or value[:1] not in ("[", "{"):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise row.error(column, value, "the spelling of a list or dict") from None


def _one_level(record: Record) -> Record:
    """The fields of the structs of newer versions under one set of names."""
    doc, response = (record.get(name) for name in STRUCTS)
    for name, value in zip(STRUCTS, (doc, response), strict=True):
        if not isinstance(value, Mapping):
            raise record.error(name, value, "a struct")
    values = {
        "id": doc.get("id"),
        "prompt": doc.get("query"),
        "choices": doc.get("choices"),
        "gold_index": doc.get("gold_index"),
        "texts": response.get("text"),
        "token_ids": response.get("output_tokens"),
        "logprobs": response.get("logprobs"),
        "metrics": record.get("metric"),
    }
    return replace(record, values=values)


def _renamed(record: Record) -> Record:
    """The flat columns of older versions under the same names."""
    predictions, gold = record.get("predictions"), record.get("gold")
    values = {
        "prompt": record.get("full_prompt") or record.get("example"),
        "choices": [gold] if isinstance(gold, str) else gold,
        "texts": [predictions] if isinstance(predictions, str) else predictions,
        "token_ids": record.get("cont_tokens"),
        "metrics": record.get("metrics"),
    }
    return replace(record, values=values)


def _gold(record: Record) -> str:
    r"""The first right choice; of a whole solution what it boxes."""
    choices, index = record.items("choices"), record.get("gold_index")
    first = (index[0] if index else None) if isinstance(index, list) else index or 0
    place = record.as_integer("gold_index", first)
    if place >= len(choices):
        raise record.error("gold_index", place, f"the index of one of {len(choices)} choices")
    choice = choices[place]
    gold = record.as_word("choices", choice[0] if isinstance(choice, list) and choice else choice, place)
    if gold is None:
        raise record.error("choices", choice, "a gold answer", place)
    return boxed(gold) or gold


def _paths(record: Record, metric: str | None) -> list[SourcePath]:
    texts = record.texts("texts") or []
    if not texts:
        raise record.error("texts", record.get("texts"), "a list with at least one generated text")
    ids = _per_path(record, "token_ids", len(texts))
    logprobs = _per_path(record, "logprobs", len(texts))
    correct = _verdict(record, metric) if len(texts) == 1 else None
    return [
        SourcePath(
            text=text,
            token_ids=_one(record, "token_ids", ids[index]).ids("token_ids"),
            logprobs=_one(record, "logprobs", logprobs[index]).floats("logprobs"),
            correct=correct,
        )
        for index, text in enumerate(texts)
    ]


def _one(record: Record, field: str, value: object) -> Record:
    return replace(record, values={field: value})


def _per_path(record: Record, field: str, count: int) -> list[Any]:
    """One list per path; a list of plain numbers is the first path's. All None where there is nothing."""
    value = record.get(field)
    if not isinstance(value, list) or not any(value):
        return [None] * count
    if not isinstance(value[0], list):
        value = [value] + [None] * (count - 1)
    return value if len(value) == count else [None] * count


def _verdict(record: Record, metric: str | None) -> bool | None:
    """The metric of that name, or the only one there is, where it is 0 or 1."""
    metrics = record.get("metrics")
    if not isinstance(metrics, Mapping):
        return None
    given = {name: value for name, value in metrics.items() if value is not None}
    name = metric or (next(iter(given)) if len(given) == 1 else None)
    value = given.get(name)
    return bool(value) if isinstance(value, bool | int | float | np.number) and value in (0, 1) else None


LIGHTEVAL = Importer(
    "lighteval",
    "details_*.parquet of lighteval (--save-details)",
    SUFFIXES,
    frozenset({Signal.TEXT, Signal.TOKEN_IDS, Signal.LOGPROBS}),
    frozenset({"correct"}),
    read,
)
