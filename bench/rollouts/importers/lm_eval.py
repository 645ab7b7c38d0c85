"""Samples of EleutherAI's lm-evaluation-harness: ``samples_*.jsonl``, one row per document and filter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.importers.contract import Importer, Options, SourcePath, SourceProblem, files_of
from prunebench.bench.rollouts.importers.gathering import Gathering
from prunebench.bench.rollouts.importers.records import Record, records_of
from prunebench.methods.base import Signal
from prunebench.tasks.grading import boxed

SUFFIXES = (".jsonl",)
METRIC = "exact_match"
NO_ANSWER = "[invalid]"
"""What the harness writes where its filter found nothing."""


def read(path: Path, options: Options) -> Iterator[SourceProblem]:
    """One problem per ``doc_id``, its repeats as paths. ``fields``: ``filter`` and ``correct`` (the metric).

    The harness writes the same responses once per filter; of several filters one must be chosen (UserError).
    """
    files, wanted, seen = files_of(path, SUFFIXES), options.fields.get("filter"), set[str]()
    gathering = Gathering(options.task_of(path))
    for record in records_of(files):
        name = record.word("filter") or "none"
        seen.add(name)
        if wanted is None and len(seen) > 1:
            seen |= {record.word("filter") or "none" for record in records_of(files)}
            raise UserError(f"{path}: there are the filters {', '.join(sorted(seen))}; choose one: --set filter=NAME")
        if name == (wanted or name):
            paths = _paths(record, options.fields.get("correct", METRIC))
            gathering.add(record, record.needed("doc_id"), _prompt(record), _gold(record), paths)
    if wanted is not None and wanted not in seen:
        raise UserError(f"{path}: there is no filter '{wanted}'; there are: {', '.join(sorted(seen)) or 'none'}")
    yield from gathering.problems()


def _paths(record: Record, metric: str) -> list[SourcePath]:
    texts = _flat(record, "resps")
    if not texts:
        raise record.error("resps", record.get("resps"), "a list with at least one response")
    answers = _answers(record, texts)
    correct = record.verdict(metric) if len(texts) == 1 else None  # of several repeats it is a mean or a maximum
    return [
        SourcePath(text=text, final_answer=answer, correct=correct) for text, answer in zip(texts, answers, strict=True)
    ]


def _answers(record: Record, texts: list[str]) -> list[str | None]:
    """What the filter took from every response; None where it took all of it, or another number of them."""
    filtered = _flat(record, "filtered_resps") if record.get("filtered_resps") is not None else []
    if len(filtered) != len(texts):
        return [None] * len(texts)
    return [
        None if answer.strip() in (text.strip(), NO_ANSWER) else answer.strip() or None
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
    return record.as_text("arguments", prompt) if isinstance(prompt, str) else ""


def _gold(record: Record) -> str:
    r"""The target; of a whole solution what it boxes, or what follows ``####``."""
    target = record.needed("target")
    return boxed(target) or target.rpartition("####")[2].strip() or target


LM_EVAL = Importer(
    "lm-eval",
    "samples_*.jsonl of lm-evaluation-harness (--log_samples)",
    SUFFIXES,
    frozenset({Signal.TEXT, Signal.TOKEN_IDS}),
    frozenset({"filter", "correct"}),
    read,
)
