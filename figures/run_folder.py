"""What a comparison left on disk, read in one place: results, ledger, timings, decisions, and what lies beside them."""

from __future__ import annotations

import csv
import math
import shlex
from collections.abc import Collection
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.ablation import AblationRow
from prunebench.bench.evaluation.attention import Attention
from prunebench.bench.evaluation.decisions import Decisions, read_decisions
from prunebench.bench.evaluation.inputs import Inputs
from prunebench.bench.evaluation.ledger import LedgerRow
from prunebench.bench.evaluation.potential_curve import Motivation
from prunebench.bench.evaluation.results import Results
from prunebench.bench.guideline.guideline import Guideline, read_guidelines
from prunebench.bench.guideline.sweep import Sweep
from prunebench.bench.rollouts.shards import MANIFEST
from prunebench.bench.rollouts.store import IMPORTED
from prunebench.methods.base import Source
from prunebench.methods.registry import PRUNERS

COMMANDS = {
    "sweep": "prunebench sweep --store FOLDER",
    "motivation": "prunebench study motivation FOLDER",
    "ablations": "prunebench study ablations FOLDER",
    "attention": "prunebench study attention FOLDER",
    "curves": "prunebench study curves FOLDER",
}
"""What writes the folders that are looked for in the run folder and beside it, if they are not named."""

NEEDS_MODEL = ("motivation", "attention")
"""Those of them that let the model of the rollouts go on."""

SHOWN = "stop"
"""The method that figures of a single method show, where it took part."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one method on one problem; NaN where a phase was not run."""

    task: str
    problem: str
    method: str
    launch_seconds: float
    check_seconds: float
    resume_seconds: float


T = TypeVar("T", LedgerRow, Timing)


@dataclass(frozen=True)
class RunFolder:
    """A folder with ``results.json``; each part is read when it is first asked for.

    ``extras`` says where the folders of :data:`COMMANDS` are, for those that are not in their usual place.
    Every property raises UserError for a file that is missing or of another version.
    """

    path: Path
    extras: dict[str, Path] = field(default_factory=dict)

    @cached_property
    def results(self) -> Results:
        path = self.path / "results.json"
        try:
            return Results.read(path)
        except FileNotFoundError as error:
            made = f"no such file; make it with: prunebench compare --out {self.path}"
            if (self.path / MANIFEST).exists():
                made = f"these are rollouts; compare them first: prunebench compare --store {self.path} --out runs/NAME"
            raise UserError(f"{path}: {made}") from error
        except (ValidationError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: {_what_is_wrong(error)}; run the comparison again with this version") from error

    @cached_property
    def task(self) -> str:
        """What figures show: all tasks pooled, or the only task."""
        if not self.results.rows:
            raise UserError(f"{self.path / 'results.json'}: it has no rows; run the comparison again")
        return self.results.task

    @cached_property
    def ledger(self) -> list[LedgerRow]:
        """A row per problem, method and phase."""
        return self._cells("ledger.csv", LedgerRow)

    @cached_property
    def timings(self) -> list[Timing]:
        """A row per problem and method."""
        return self._cells("timings.csv", Timing)

    @cached_property
    def decisions(self) -> list[Decisions]:
        """Scores, kept paths and decoded tokens per problem and method."""
        found = read_decisions(self.path)
        if {(one.task, one.problem) for one in found} != self.results.compared:
            raise UserError(f"{self.path}: decisions.parquet and results.json are not of one comparison; run it again")
        return found

    @cached_property
    def ablations(self) -> list[AblationRow]:
        """The rows of every axis that ``prunebench study ablations`` wrote, axis by axis."""
        return self._trainings("ablations")

    @cached_property
    def curves(self) -> list[AblationRow]:
        """The rows that ``prunebench study curves`` wrote, method by method."""
        return self._trainings("curves")

    def _trainings(self, name: str) -> list[AblationRow]:
        """The rows of all tables in a folder."""
        folder = self.folder_of(name)
        rows = []
        for path in sorted(folder.glob("*.csv")):
            for line, cells in _lines(path):
                try:
                    rows.append(AblationRow.unflattened(cells))
                except ValidationError as error:
                    raise UserError(f"{path}, line {line}: {_what_is_wrong(error)}; run the study again") from error
        if not rows:
            raise UserError(f"{folder}: nothing trained is in it; {self._remedy(name, folder)}")
        return rows

    @cached_property
    def sweep(self) -> Sweep:
        """The sweep over retention ratios, prefix lengths and budgets. Raises UserError for one of another model."""
        folder = self.folder_of("sweep")
        found = Sweep.read(folder)
        self._require_ours(folder, found.model, found.model_hash, found.tasks)
        return found

    @cached_property
    def motivation(self) -> Motivation:
        """The potential of paths along their length."""
        return Motivation.read(self.folder_of("motivation"))

    @cached_property
    def attention(self) -> Attention:
        """What the [STOP] tokens attended to."""
        return Attention.read(self.folder_of("attention"))

    @cached_property
    def guidelines(self) -> dict[str, Guideline]:
        """By method, the laws fitted to the sweep. At least one."""
        folder = self.folder_of("sweep")
        found = {guideline.method: guideline for guideline in read_guidelines(folder)}
        for guideline in found.values():
            self._require_ours(folder, guideline.model, guideline.model_hash, guideline.problems)
        return found

    @property
    def guideline(self) -> Guideline:
        """STOP's where there is one, else that of the method that gains most; of a control only if it is alone."""

        def worth(found: Guideline) -> tuple[bool, float]:
            control = found.method in PRUNERS.names() and PRUNERS.get(found.method).source is Source.CONTROL
            return not control, found.gain(found.best_form).mean

        return self.guidelines.get(SHOWN) or max(self.guidelines.values(), key=worth)

    def _require_ours(self, folder: Path, model: str, model_hash: str, tasks: Collection[str]) -> None:
        """Raises UserError for what was swept with another model, or, of imported paths, on other tasks."""
        ours = self.results.hashes.get("model", model_hash)
        if ours != model_hash:
            raise UserError(f"{folder}: a sweep of another model ({model}); name that of this run: --data sweep=FOLDER")
        if ours == IMPORTED and not set(tasks) <= set(self.results.problems):
            raise UserError(f"{folder}: a sweep of {', '.join(tasks)}; name that of this run: --data sweep=FOLDER")

    def folder_of(self, name: str) -> Path:
        """The folder of another command's output: the given one, else in or beside the run folder."""
        if name in self.extras:
            if not self.extras[name].is_dir():
                raise UserError(f"{self.extras[name]}: no such folder; {self._remedy(name, self.extras[name])}")
            return self.extras[name]
        places = (self.path / name, self.path.parent / name)
        for place in places:
            if place.is_dir():
                return place
        raise UserError(f"no {name} in {places[0]} or {places[1]}; {self._remedy(name, places[1])}")

    def _remedy(self, name: str, out: Path) -> str:
        """The whole command that makes the folder, from the rollouts of the run; where these are not here, that."""
        if name in ("ablations", "curves"):
            return "it comes from labelled prefixes of its own (docs/ablations.md)"
        try:
            store, model = Inputs.of(self.results.setup).store, self.results.hashes["model"]
        except (UserError, KeyError):
            store, model = None, ""
        store = store or self.path / "rollouts"
        if name in NEEDS_MODEL and model == IMPORTED:
            return "it needs the model, and that of imported rollouts is not at hand"
        if not store.is_dir():
            return f"the rollouts that it would be made from are not here ({store})"
        return (
            f"make it with: {COMMANDS[name].replace('FOLDER', shlex.quote(str(store)))} --out {shlex.quote(str(out))}"
        )

    def _cells(self, name: str, kind: type[T]) -> list[T]:
        """The lines of a CSV whose columns are the fields of ``kind``."""
        path, read = self.path / name, TypeAdapter(kind)
        expected = [column.name for column in fields(kind)]
        rows = []
        for line, cells in _lines(path):
            if list(cells) != expected:
                raise UserError(f"{path}: its columns are not those of this version; run the comparison again")
            try:
                rows.append(read.validate_python(cells))
            except ValidationError as error:
                raise UserError(f"{path}, line {line}: {_what_is_wrong(error)}; run the comparison again") from error
        return rows


def _lines(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The lines of a CSV by column, each with its number."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            return [(reader.line_num, cells) for cells in reader]
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; the comparison writes it beside its results") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error}); run the comparison again") from error


def _what_is_wrong(error: ValidationError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return str(error)
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    if place == "schema_version":
        return f"schema version {first['input']!r} is not that of this version (2)"
    if not place or first["type"] == "json_invalid":
        return f"not JSON, or cut short ({first['msg']})"
    return f"not the results of this version ({place}: {first['msg']})"


def mean_defined(values: list[float]) -> float:
    """The mean of the defined values; NaN where none is."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan
