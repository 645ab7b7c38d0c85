"""Samples of EleutherAI's lm-evaluation-harness: ``samples_*.jsonl``, one row per document and filter.

Before v0.4.7 the rows do not name their filters, before v0.4.3 a file is one JSON list.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.importers.contract import Importer, Options, SourcePath, SourceProblem, files_of
from prunebench.bench.rollouts.importers.conversations import prompt_of
from prunebench.bench.rollouts.importers.gathering import Gathering
from prunebench.bench.rollouts.importers.golds import CHOICE, gold_of
from prunebench.bench.rollouts.importers.records import Record, records_of
from prunebench.methods.base import Signal
from prunebench.tasks.answer_types.thinking import behind_thinking
from prunebench.tasks.rows import unwritten

SUFFIXES = (".jsonl", ".json")
METRIC = "exact_match"


def read(path: Path, options: Options) -> Iterator[SourceProblem]:
    """One problem per ``doc_id``, its repeats as paths. ``fields``: ``filter`` and ``correct`` (the metric).

    The harness writes the same responses once per filter; of several filters one must be chosen (UserError).
    """
    files, wanted, seen = files_of(path, SUFFIXES), options.fields.get("filter"), set[str]()
    gathering = Gathering(options.task_of(path))
    for name, record in _filtered(files):
        seen.add(name)
        if wanted is None and len(seen) > 1:
            names = sorted(seen | {name for name, _ in _filtered(files)})
            unnamed = "" if record.get("filter") else " (numbered as they follow, since logs before v0.4.7 name none)"
            raise UserError(
                f"{path}: there are the filters {', '.join(names)}{unnamed}; choose one: --set filter={names[-1]}"
            )
        if name == (wanted or name):
            paths = _paths(record, options.fields.get("correct"))
            gathering.add(record, record.needed("doc_id"), _prompt(record), _gold(record, options), paths)
    if wanted is not None and wanted not in seen:
        raise UserError(f"{path}: there is no filter '{wanted}'; there are: {', '.join(sorted(seen)) or 'none'}")
    yield from gathering.problems()


def _filtered(files: Sequence[Path]) -> Iterator[tuple[str, Record]]:
    """Every row, with the name of its filter; those without a name are numbered.

    A row that says the same of its document again, with the very same responses, is of another filter.
    """
    rows = Counter[tuple[Path, str, str]]()
    for record in records_of(files):
        name = record.word("filter")
        if name is None:
            responses = hashlib.sha256(repr(record.get("resps")).encode(errors="replace")).hexdigest()
            key = (record.file, record.needed("doc_id"), responses)
            rows[key] += 1
            name = str(rows[key])
        yield name, record


def _paths(record: Record, metric: str | None) -> list[SourcePath]:
    texts = _flat(record, "resps")
    if not texts:
        raise record.error("resps", record.get("resps"), "a list with at least one response")
    correct = record.verdict(metric or _metric(record)) if len(texts) == 1 else None  # of repeats it is a mean
    return [
        SourcePath(text=text, final_answer=answer, correct=correct)
        for text, answer in zip(texts, _answers(record, texts), strict=True)
    ]


def _metric(record: Record) -> str:
    """The metric of a verdict: the only one there is, if it tells right from wrong, else exact_match."""
    names = record.get("metrics")
    only = names[0] if isinstance(names, list) and len(names) == 1 else None
    return only if isinstance(only, str) and record.get(only) in (0, 1) else METRIC


def _answers(record: Record, texts: list[str]) -> list[str | None]:
    """What the filter took from every response; None where it left all but the thinking, or another number of them."""
    filtered = _flat(record, "filtered_resps") if record.get("filtered_resps") is not None else []
    if len(filtered) != len(texts):
        return [None] * len(texts)
    return [
        None if answer.strip() in (text.strip(), behind_thinking(text).strip()) else answer
        for answer, text in zip(filtered, texts, strict=True)
    ]


def _flat(record: Record, field: str) -> list[str]:
    """The responses of all requests of a document; they are texts unless the task compares likelihoods."""
    texts: list[str] = []
    for index, response in enumerate(record.items(field)):
        repeats: list[Any] = response if isinstance(response, list) else [response]
        for text in repeats:
            if not isinstance(text, str):
                raise record.error(field, text, "a generated text (a task that compares likelihoods has none)", index)
            texts.append(record.as_text(field, text, index))
    return texts


def _prompt(record: Record) -> str:
    """The context of the first request, as saved (``gen_args_0``) or as in memory (a list of lists)."""
    arguments = record.get("arguments")
    if isinstance(arguments, dict):
        first = arguments.get("gen_args_0")
        prompt = first.get("arg_0") if isinstance(first, dict) else None
    else:
        first = arguments[0] if isinstance(arguments, list) and arguments else None
        prompt = first[0] if isinstance(first, list) and first else None
    return prompt_of(record, "arguments", prompt)


def _gold(record: Record, options: Options) -> str:
    """The target: several where the harness spells a list of texts; the letter of a choice where it counts these."""
    words = record.words("target")
    if len(words) == 1 and words[0][:2] in ("['", '["'):
        listed = unwritten(words[0])
        words = listed if isinstance(listed, list) and all(isinstance(one, str) for one in listed) else words
    doc = record.get("doc")
    choices = doc.get("choices") if isinstance(doc, dict) else None
    if options.answer_type == CHOICE and isinstance(choices, list):
        letters = {str(place): chr(ord("A") + place) for place in range(min(len(choices), 26))}
        words = [letters.get(word, word) for word in words]
    return gold_of(record, "target", options, words)


LM_EVAL = Importer(
    "lm-eval",
    "samples_*.jsonl of lm-evaluation-harness (--log_samples)",
    SUFFIXES,
    frozenset({Signal.TEXT, Signal.TOKEN_IDS}),
    frozenset({"filter", "correct"}),
    read,
)
