"""Details of lighteval: Parquet, one row per document; the structs of newer versions or the flat columns of older."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.importers.contract import Importer, Options, SourcePath, SourceProblem, files_of
from prunebench.bench.rollouts.importers.conversations import prompt_of
from prunebench.bench.rollouts.importers.gathering import Gathering
from prunebench.bench.rollouts.importers.golds import gold_of
from prunebench.bench.rollouts.importers.records import Record, records_of, schema_of
from prunebench.methods.base import Signal
from prunebench.tasks.rows import unwritten

SUFFIXES = (".parquet",)
STRUCTS = ("doc", "model_response")
FLAT = ("predictions", "gold")
SPELLED = (*STRUCTS, *FLAT, "metric", "metrics", "cont_tokens")
"""What lighteval may save as Python spells it: where it cannot save a table of such values, it saves only texts."""
NEWER = {
    "id": "doc.id",
    "prompt": "doc.query",
    "choices": "doc.choices",
    "gold_index": "doc.gold_index",
    "texts": "model_response.text",
    "final_texts": "model_response.text_post_processed",
    "token_ids": "model_response.output_tokens",
    "logprobs": "model_response.logprobs",
    "metrics": "metric",
}
OLDER = {
    "prompt": "full_prompt",
    "choices": "gold",
    "gold_index": "(index in gold)",  # of all of them; the column gold_index counts in the column choices
    "texts": "predictions",
    "token_ids": "cont_tokens",
}
"""Our names for the fields of either version."""


def read(path: Path, options: Options) -> Iterator[SourceProblem]:
    """One problem per document, its generations as paths. ``fields``: ``correct`` names the metric of a verdict."""
    gathering = Gathering(options.task_of(path))
    for file in files_of(path, SUFFIXES):
        schema = schema_of(file)
        spelled = all(pa.types.is_string(column) or pa.types.is_large_string(column) for column in schema.types)
        columns = {column.strip("_") for column in schema.names}
        newer = columns.issuperset(STRUCTS)
        if not newer and not columns.issuperset(FLAT):
            raise UserError(
                f"{file}: neither the columns {' and '.join(STRUCTS)} nor {' and '.join(FLAT)}; "
                "give the details that lighteval writes with --save-details"
            )
        for number, row in enumerate(records_of([file])):
            values = {column.strip("_"): value for column, value in row.values.items()}
            if spelled:
                values |= {column: _literal(row, column, values.get(column)) for column in SPELLED}
            record = (_one_level if newer else _columns)(replace(row, values=values))
            problem = record.word("id") or str(number)
            paths = _paths(record, options.fields.get("correct"))
            prompt = prompt_of(record, "prompt", record.get("prompt"))
            gathering.add(record, problem, prompt, _gold(record, options), paths)
    yield from gathering.problems()


def _literal(row: Record, column: str, value: Any) -> Any:
    """The value that Python's spelling of a list or dict stands for; no code is run."""
    if not isinstance(value, str) or value[:1] not in ("[", "{"):
        return value
    spelled = unwritten(value)
    if isinstance(spelled, str):
        raise row.error(column, value, "the spelling of a list or dict")
    return spelled


def _one_level(record: Record) -> Record:
    """The fields of the structs of newer versions."""
    values = {"metric": record.get("metric")}
    for struct in STRUCTS:
        fields = record.get(struct)
        if not isinstance(fields, Mapping):
            raise record.error(struct, fields, "a struct")
        values |= {f"{struct}.{name}": value for name, value in fields.items()}
    return replace(record, values=values, names=NEWER)


def _columns(record: Record) -> Record:
    """The columns of older versions; a single text may stand for a list of one."""
    values = {**record.values, **{name: [value] for name in FLAT if isinstance(value := record.get(name), str)}}
    golds = values["gold"] if isinstance(values["gold"], list) else []
    return replace(record, values={**values, OLDER["gold_index"]: list(range(len(golds))) or [0]}, names=OLDER)


def _gold(record: Record, options: Options) -> str:
    """The right choices, of which any one will do."""
    choices, index = record.items("choices"), record.get("gold_index")
    words = []
    for one in index if isinstance(index, list) else [index]:
        place = record.as_integer("gold_index", one)
        if place >= len(choices):
            raise record.error("gold_index", place, f"the index of one of {len(choices)} choices")
        choice = choices[place]
        for text in choice if isinstance(choice, list) else [choice]:
            word = record.as_word("choices", text, place)
            if word is None:
                raise record.error("choices", text, "a gold answer", place)
            words.append(word)
    return gold_of(record, "choices", options, words)


def _paths(record: Record, metric: str | None) -> list[SourcePath]:
    texts = record.texts("texts") or []
    if not texts:
        raise record.error("texts", record.get("texts"), "a list with at least one generated text")
    ids = _per_path(record, "token_ids", len(texts))
    logprobs = _per_path(record, "logprobs", len(texts))
    final_texts = record.texts("final_texts") or []
    correct = _verdict(record, metric) if len(texts) == 1 else None
    return [
        SourcePath(
            text=text,
            token_ids=_of_path(record, "token_ids", ids[index]).ids("token_ids"),
            logprobs=_of_path(record, "logprobs", logprobs[index]).floats("logprobs"),
            final_text=final_texts[index] if len(final_texts) == len(texts) else None,
            correct=correct,
        )
        for index, text in enumerate(texts)
    ]


def _of_path(record: Record, field: str, value: object) -> Record:
    return replace(record, values={record.names.get(field, field): value})


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
    stated = {name: value for name, value in metrics.items() if value is not None}
    name = metric or (next(iter(stated)) if len(stated) == 1 else None)
    value = stated.get(name)
    return bool(value) if isinstance(value, bool | int | float) and value in (0, 1) else None


LIGHTEVAL = Importer(
    "lighteval",
    "details_*.parquet of lighteval (--save-details)",
    SUFFIXES,
    frozenset({Signal.TEXT, Signal.TOKEN_IDS, Signal.LOGPROBS}),
    frozenset({"correct"}),
    read,
)
