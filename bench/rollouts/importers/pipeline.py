"""From a source to a rollout store: read once to check everything, once more to measure, grade and seal it."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.errors import UserError
from prunebench.bench.files import file_digest, in_groups
from prunebench.bench.progress import Progress, Tick
from prunebench.bench.rollouts.importers.contract import Importer, Options, SourcePath, SourceProblem, files_of
from prunebench.bench.rollouts.importers.golds import CHOICE, answer_type_for
from prunebench.bench.rollouts.importers.report import Report
from prunebench.bench.rollouts.importers.units import TokenUnits, units_for
from prunebench.bench.rollouts.sampling import SHARD_PROBLEMS
from prunebench.bench.rollouts.store import IMPORTED, RolloutStore, StoredPath, StoredProblem
from prunebench.tasks.answer_types import FoundAnswer
from prunebench.tasks.answer_types.golds import accepted
from prunebench.tasks.grading import Verdict
from prunebench.tasks.imported import MATH, ImportedTask

NO_ANSWERS = {"none", "nan", "null", "<na>", "n/a", "[invalid]", "[invalidanswer]"}
"""What sources write, in any case, where a path has no answer; an answer only where it is the gold answer."""
OF_SOURCE = "of the source"
"""The rule of answers that the source gives by themselves."""
PER_TOKEN = ("logprobs", "entropy")
"""The signals that a source may give token by token."""


@dataclass(frozen=True)
class Survey:
    """What is known of a source before anything is written."""

    units: TokenUnits
    paths: int
    """Paths of every problem, or the fewest."""
    answer_type: str


def survey(importer: Importer, path: Path, options: Options) -> Survey:
    """Read everything once. Raises UserError for whatever is malformed, anywhere in the source."""
    units: TokenUnits | None = None
    paths: list[int] = []
    golds: list[str] = []
    seen: set[tuple[str, str]] = set()
    for problem in importer.read(path, options):
        key = (problem.task, problem.problem)
        if key in seen:
            raise UserError(f"{path}: problem '{problem.problem}' is there twice; import the files one by one")
        if not problem.paths:
            raise UserError(f"{path}: problem '{problem.problem}' has no complete path; remove it")
        seen.add(key)
        numbers(problem)
        units = units or units_for(problem.paths[0], options.tokenizer)
        for place, source in enumerate(problem.paths):
            try:
                units.check(source)
            except ValueError as error:
                raise UserError(f"{path}: problem '{problem.problem}', its path {place}: {error}") from error
        paths.append(len(problem.paths))
        golds.append(problem.gold)
    if units is None:
        raise UserError(f"{path}: there is no problem in it; check FORMAT and PATH")
    guessed = answer_type_for(golds) if options.grading == "equivalence" else MATH
    return Survey(units, min(paths), options.answer_type or guessed)


def numbers(problem: SourceProblem) -> list[int]:
    """The paths' own numbers, or their places where the source numbers none. Raises UserError for anything between."""
    stated = [path.number for path in problem.paths]
    if stated == [None] * len(stated):
        return list(range(len(stated)))
    distinct = {number for number in stated if number is not None}
    if len(distinct) != len(stated):
        counts = Counter(number for number in stated if number is not None)
        wrong = [f"{number} for {count} of them" for number, count in counts.items() if count > 1]
        wrong += [f"none for {stated.count(None)} of them"] if None in stated else []
        raise UserError(
            f"problem '{problem.problem}', field 'path' of its {len(stated)} paths: {', '.join(wrong)}; number all of "
            "them differently, or none"
        )
    return [number for number in stated if number is not None]


def import_source(importer: Importer, path: Path, out: Path, options: Options, progress: Progress) -> Report:
    """See :func:`prunebench.bench.rollouts.importers.import_rollouts`."""
    try:
        ImportedTask("", options.grading, options.answer_type or MATH)
    except ValueError as error:
        raise UserError(str(error)) from error
    unknown = sorted(set(options.fields) - importer.fields)
    if unknown:
        known = ", ".join(sorted(importer.fields)) or "none"
        raise UserError(f"format {importer.name} knows no field '{unknown[0]}'; its fields: {known}")
    surveyed = survey(importer, path, options)
    store = RolloutStore.create_or_open(out, manifest(importer, path, options, surveyed))
    guessed = surveyed.answer_type if surveyed.answer_type == CHOICE and options.answer_type is None else None
    report = Report(surveyed.units.name, guessed)
    tick = progress.stretch("importing paths")
    with store.shards:
        grading = replace(options, answer_type=surveyed.answer_type)
        settled = _settled(importer.read(path, options), store.problems(), surveyed.units, grading, report, tick)
        for group in in_groups(settled, SHARD_PROBLEMS):
            store.append(group)
    return report


def manifest(importer: Importer, path: Path, options: Options, surveyed: Survey) -> dict[str, Any]:
    """What must be equal for two imports to write into one store; nobody knows how the paths were sampled."""
    names = ("numpy", "pyarrow", "math-verify", "prunebench", *(("tokenizers",) if options.tokenizer else ()))
    return {
        "model": IMPORTED,
        "model_hash": IMPORTED,
        "source": {
            "format": importer.name,
            "files": {file.name: file_digest(file) for file in files_of(path, importer.suffixes)},
            "task": options.task,
            "tokenizer": options.tokenizer,
            "fields": dict(options.fields),
        },
        "tokens": surveyed.units.name,
        "grading": options.grading,
        "answer_type": surveyed.answer_type,
        "sampling": None,
        "sampling_digest": IMPORTED,
        "recording": None,
        "seed": None,
        "n": surveyed.paths,
        "device": IMPORTED,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in names}},
    }


def _settled(
    problems: Iterator[SourceProblem],
    done: set[tuple[str, str]],
    units: TokenUnits,
    options: Options,
    report: Report,
    tick: Tick,
) -> Iterator[StoredProblem]:
    for problem in problems:
        if (problem.task, problem.problem) in done:
            report.already += 1
        else:
            task = ImportedTask(problem.task, options.grading, options.answer_type or MATH)
            yield settle(problem, units, task, report)
        tick(len(problem.paths))


def settle(problem: SourceProblem, units: TokenUnits, task: ImportedTask, report: Report) -> StoredProblem:
    """The problem as it is stored: measured in ``units``, graded by ``task``, paths in order, counted in ``report``."""
    verdicts: dict[str | None, Verdict] = {}
    paths, texts = [], set[str | None]()
    for number, source in sorted(zip(numbers(problem), problem.paths, strict=True), key=lambda pair: pair[0]):
        measured = units.measure(source)
        found = _found(source, measured.text, task, problem.gold)
        answer = found.answer if found else None
        if answer not in verdicts:
            verdicts[answer] = task.grade(answer, problem.gold)
        columns = {name: _aligned(getattr(source, name), measured.length) for name in PER_TOKEN}
        stored = StoredPath(
            path=number,
            token_ids=measured.token_ids,
            text=measured.text,
            finish=source.finish,
            answer=answer,
            correct=verdicts[answer].correct,
            grader=verdicts[answer].grader,
            length=measured.length,
            ends=measured.ends,
            probed=source.probed,
            rule=found.rule if found else None,
            signals={name: column for name, column in columns.items() if column is not None},
        )
        name = f"{problem.task}/{problem.problem}"
        report.count(name, source, stored)
        if found is not None and found.rule == OF_SOURCE and _contradicts(source, measured.text, task, found.answer):
            report.contradicted[name] += 1
        if measured.text and measured.text in texts:
            report.repeated[name] += 1
        if source.tokens is not None and measured.ends is None:
            report.unjoined[name] += 1
        texts.add(measured.text)
        paths.append(stored)
    report.problems += 1
    report.promptless += not problem.prompt
    report.left_out += problem.left_out
    report.unread |= problem.unread
    return StoredProblem(
        task=problem.task,
        problem=problem.problem,
        prompt=problem.prompt,
        prompt_ids=np.zeros(0, np.int64),
        gold=problem.gold,
        paths=paths,
        probe_every=problem.probe_every,
    )


def _found(source: SourcePath, text: str | None, task: ImportedTask, gold: str) -> FoundAnswer | None:
    """The source's own answer, which may be a text that states one; else what the text states."""
    own = (source.final_answer or "").strip()
    if own and (own.casefold() not in NO_ANSWERS or own in accepted(gold)):
        stated = task.found_in(own)
        if stated or task.answers.alone(own):
            return FoundAnswer(stated.answer if stated else own, OF_SOURCE)
    said = source.final_text or text
    return task.found_in(said) if said else None


def _contradicts(source: SourcePath, text: str | None, task: ImportedTask, answer: str) -> bool:
    """Whether the text of a path states another answer than the source's own."""
    said = source.final_text or text
    stated = task.found_in(said) if said else None
    return stated is not None and len(set(task.classes([stated.answer, answer]))) > 1


def _aligned(signal: NDArray[np.float32] | None, length: int) -> NDArray[np.float32] | None:
    """The signal where it has one finite value per token, else nothing."""
    return signal if signal is not None and len(signal) == length and np.isfinite(signal).all() else None
