"""Whether two runs of one comparison gave the same numbers: everything but measured seconds."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from prunebench.bench.config import RunConfig
from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.columns import METRICS
from prunebench.bench.evaluation.inputs import Inputs
from prunebench.bench.evaluation.results import Results, Row
from prunebench.tasks.catalogue import is_file
from prunebench.tasks.task_spec import content_of

TABLES: dict[str, tuple[str, ...]] = {
    "rows": ("task", "method"),
    "repeated": ("task", "method"),
    "equal_cost": ("task", "method"),
    "frontier": ("task", "method", "k"),
    "votes": ("task", "method", "voters", "vote"),
    "calibration": ("task", "method"),
    "representatives": ("quadrant",),
    "pairs": ("task", "method", "other"),
}
"""The tables of a result, and what names a row in each."""
ADDED = ("frontier", "pairs")
"""Those that results of schema 2 may lack, being older."""


def read_results(path: Path) -> Results:
    """Raises UserError for a file that is missing or not the results of this version."""
    try:
        results = Results.read(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; name the folder of a comparison") from error
    except (ValidationError, UnicodeDecodeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: not the results of this version ({where}: {first['msg']})") from error
    if not results.setup:
        raise UserError(f"{path}: it does not say how it was made (setup); run the comparison with this version first")
    return results


def code_in(config: RunConfig, inputs: Inputs) -> list[str]:
    """The options that name the code of other people which a run of this would start."""
    options = [f"--trust {path}" for path in inputs.plugins]
    for name in (*config.tasks, *config.train_tasks):
        described = content_of(Path(name)) if is_file(name) and Path(name).suffix != ".py" else {}
        grades_itself = ":" in str(described.get("answer_type", ""))
        if name.endswith(".py") or grades_itself:
            options.append(f"--trust {name}")
    if config.model_options.trust_remote_code:
        options.append("--trust trust_remote_code")
    return options


def require_named(path: Path, config: RunConfig, inputs: Inputs, named: Collection[str]) -> None:
    """Raises UserError for code of other people that the results at ``path`` name and ``given`` does not."""
    unnamed = [option for option in code_in(config, inputs) if option not in named]
    if unnamed:
        raise UserError(f"{path}: it runs code of its own; look at it, then name it yourself: {' '.join(unnamed)}")


def differences(before: Results, after: Results) -> list[str]:
    """Every number, note or input that differs, a sentence each; empty when the runs are equal."""
    sentences = [f"{name}: {old} before, {new} now" for name, old, new in _inputs(before, after)]
    for table, keys in TABLES.items():
        if table in ADDED and not getattr(before, table):  # written before there was this table
            continue
        sentences += _rows(table, _by_key(getattr(before, table), keys), _by_key(getattr(after, table), keys))
    for name in ("problems", "notes", "left_out"):
        if getattr(before, name) != getattr(after, name):
            sentences.append(f"{name} differ")
    return sentences


def _inputs(before: Results, after: Results) -> Iterator[tuple[str, Any, Any]]:
    """What went in: hashes of model, data, methods and code, versions, device."""
    for name in sorted({*before.hashes, *after.hashes}):
        if before.hashes.get(name) != after.hashes.get(name):
            yield f"hash of {name}", before.hashes.get(name), after.hashes.get(name)
    for name in sorted({*before.versions, *after.versions}):
        if before.versions.get(name) != after.versions.get(name):
            yield f"version of {name}", before.versions.get(name), after.versions.get(name)
    if before.device != after.device:
        yield "device", before.device, after.device


def _by_key(rows: Sequence[Row], keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    return {" ".join(str(getattr(row, key)) for key in keys): row.flat() for row in rows}


def _rows(table: str, before: Mapping[str, dict[str, Any]], after: Mapping[str, dict[str, Any]]) -> list[str]:
    measured = {name for name, metric in METRICS.items() if metric.measured}  # never the same twice
    sentences = [f"{table}: {key} is missing now" for key in before if key not in after]
    sentences += [f"{table}: {key} is new" for key in after if key not in before]
    for key in [key for key in before if key in after]:
        for name, old in before[key].items():
            new = after[key].get(name)
            if name not in measured and not _same(old, new):
                sentences.append(f"{table}: {key}: {name} was {old}, is {new}")
    return sentences


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, float) and isinstance(new, float) and math.isnan(old):
        return math.isnan(new)
    return bool(old == new)
