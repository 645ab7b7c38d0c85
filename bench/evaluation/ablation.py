"""What one choice in training is worth: a learned method is trained over the values of an axis, with several seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation import metrics
from prunebench.bench.evaluation.formats import number, with_interval
from prunebench.bench.evaluation.replay import check, visible
from prunebench.bench.evaluation.results import Row, rows_csv
from prunebench.bench.evaluation.statistics import PERCENT, POINTS, SHARE, Interval, Number, mean_interval
from prunebench.bench.files import write_atomically
from prunebench.bench.policies import CheckRecord, TopK
from prunebench.bench.progress import SILENT, Progress
from prunebench.bench.provenance import method_code
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.bench.training.data import data_digest, training_lengths
from prunebench.bench.training.loading import Judges
from prunebench.bench.training.subsets import with_labels, with_prefixes, with_problems
from prunebench.bench.training.tuning import save_learned
from prunebench.methods.base import LearnablePruner, Scores
from prunebench.methods.pool import LabelledPool, PrefixDataset

Axis = Literal["tokens", "rank", "labels", "adapter", "prefix", "problems", "prefixes"]

VALUES: dict[Axis, tuple[str, ...]] = {
    "tokens": ("1", "2", "4", "6", "8"),
    "rank": ("4", "8", "16", "32"),
    "labels": ("1", "4", "all"),
    "adapter": ("with", "without"),
    "prefix": ("L/2", "L", "2L", "all"),
    "problems": ("50", "100", "200", "all"),
    "prefixes": ("1", "2", "all"),
}
"""What every axis runs over. ``tokens``, ``rank`` and ``adapter`` are hyper-parameters; ``labels`` is how many of the
stored continuations make a training label; ``prefix`` is which lengths are trained on, L being the checkpoint;
``problems`` and ``prefixes`` (of a problem and a length) are how many are learned from."""
_DRAWN: dict[str, Callable[[PrefixDataset, int, int], PrefixDataset]] = {
    "labels": with_labels,
    "problems": with_problems,
    "prefixes": with_prefixes,
}
"""The axes of which every seed draws its own part of the data."""
ALL = "all"
"""On any of these axes and that of lengths: all there is, which is one and the same training."""


class AblationRow(Row):
    """One value of one axis. Accuracies run from 0 to 100, their 95 % Student t intervals are over problems.

    ``avg_at_k``, ``delta`` (to keeping all N, paired) and ``auroc`` are means over seeds, problem by problem, before
    anything else; ``avg_at_k_sd`` and ``auroc_sd`` are the standard deviations over seeds of the mean over problems.
    ``auroc`` leaves out the problems whose paths all have one verdict. Undefined is NaN.
    """

    method: str
    axis: Axis
    value: str
    seeds: int
    n_problems: int
    n: int
    k: int
    train_prefixes: int
    avg_at_k: Interval
    avg_at_k_sd: Number
    delta: Interval
    auroc: Interval
    auroc_sd: Number


def ablate(
    method: LearnablePruner,
    axis: Axis,
    train: PrefixDataset,
    validation: PrefixDataset,
    records: Sequence[ProblemRecord],
    k: int,
    folder: Path,
    *,
    values: Sequence[str] | None = None,
    seeds: int = 3,
    judges: Judges | None = None,
    progress: Progress = SILENT,
) -> list[AblationRow]:
    """Train ``method`` (the settings that stay) once per value and seed, and let each keep the best ``k`` of N.

    ``judges`` give each of them what it judges with.

    The validation data that choose the epoch are the same for every value. Each finished (value, seed) stays in
    ``folder`` as ``<axis>-<value>-seed<seed>`` (``all-seed<seed>``: one for all axes) .safetensors and .json, so that
    the same call goes on where it stopped; the rows are written there as ``<axis>.csv`` and ``<axis>.md``.
    ``progress`` says one sentence per (value, seed).

    Raises UserError for a method without that axis, data that do not have a value or cannot be learned from, problems
    that are in two of the three data sets, and a folder of other settings.
    """
    _check(method, axis, seeds, k, train, validation, records)
    chosen = VALUES[axis] if values is None else tuple(dict.fromkeys(values))
    position = records[0].pool.position
    plans = [_Plan.of(method, axis, value, seed, train, position) for value in chosen for seed in range(seeds)]
    folder.mkdir(parents=True, exist_ok=True)
    test = PrefixDataset(tuple(LabelledPool(record.pool, record.correct, 1) for record in records))
    digests = {"validation": data_digest(validation), "test": data_digest(test)}
    scores: dict[str, list[list[Scores]]] = {value: [] for value in chosen}
    for count, plan in enumerate(plans, 1):
        (judges or Judges({})).bind(plan.pruner)
        run = _run(plan, validation, records, folder, digests)
        scores[plan.value].append(run)
        progress.say(f"{method.name} {axis}={plan.value}, seed {plan.seed} ({count} of {len(plans)})")
    sizes = {plan.value: len(plan.train.success) for plan in plans}
    rows = [_row(method.name, axis, value, sizes[value], records, scores[value], k) for value in chosen]
    write_atomically(folder / f"{axis}.csv", rows_csv(rows).encode())
    write_atomically(folder / f"{axis}.md", to_markdown(rows).encode())
    return rows


@dataclass(frozen=True)
class _Plan:
    """One training: what is trained, and on what."""

    axis: Axis
    value: str
    seed: int
    pruner: LearnablePruner
    train: PrefixDataset

    @classmethod
    def of(
        cls, method: LearnablePruner, axis: Axis, value: str, seed: int, train: PrefixDataset, position: int
    ) -> _Plan:
        settings: dict[str, Any] = {"seed": seed} if "seed" in method.hyperparameters() else {}
        if axis in _DRAWN:
            train = train if value == ALL else _DRAWN[axis](train, _whole(axis, value), seed)
        elif axis == "prefix":
            train = _of_lengths(train, value, position)
        elif axis == "adapter":
            if value not in VALUES["adapter"]:
                raise UserError(f"adapter = '{value}': write with or without")
            settings["adapter"] = value == "with"
        else:
            settings[axis] = _whole(axis, value)
        return cls(axis, value, seed, replace(method, **settings), train)

    @property
    def name(self) -> str:
        value = ALL if self.value == ALL else f"{self.axis}-{self.value.replace('/', '_')}"
        return f"{value}-seed{self.seed}"


def _check(
    method: LearnablePruner,
    axis: str,
    seeds: int,
    k: int,
    train: PrefixDataset,
    validation: PrefixDataset,
    records: Sequence[ProblemRecord],
) -> None:
    if axis not in get_args(Axis):
        raise UserError(f"unknown axis '{axis}'; known: {', '.join(get_args(Axis))}")
    missing = ({axis} - set(_DRAWN) - {"prefix"}) - set(method.hyperparameters())
    if missing:
        raise UserError(f"'{method.name}' has no hyper-parameter '{min(missing)}'; this ablation is for: stop")
    if seeds < 1:
        raise UserError(f"seeds = {seeds}: at least one is needed")
    sizes = sorted({len(record.pool) for record in records})
    if len(sizes) != 1:
        raise UserError(f"an ablation needs test pools of one size, not of {sizes or 'none'}; check the rollouts")
    if not 1 <= k <= sizes[0]:
        raise UserError(f"k = {k}: of {sizes[0]} paths, 1 to {sizes[0]} can be kept")
    test = {record.problem for record in records}
    for names, shared in (
        ("train and validation", train.problems & validation.problems),
        ("train and test", train.problems & test),
        ("validation and test", validation.problems & test),
    ):
        if shared:
            raise UserError(f"{names} share problems ({', '.join(sorted(shared)[:3])}): split by problem")


def _whole(axis: str, value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise UserError(f"{axis} = '{value}': must be a whole number, at least 1")
    return int(value)


def _of_lengths(train: PrefixDataset, value: str, position: int) -> PrefixDataset:
    """The training pools at L/2, L or 2L only, or all of them."""
    if value == ALL:
        return train
    if value not in VALUES["prefix"]:
        raise UserError(f"prefix = '{value}': must be one of {', '.join(VALUES['prefix'])}")
    wanted = training_lengths(position)[VALUES["prefix"].index(value)]
    pools = tuple(labelled for labelled in train if labelled.pool.position == wanted)
    if not pools:
        there = sorted({labelled.pool.position for labelled in train})
        raise UserError(
            f"prefix = '{value}': the training data have prefixes of {there} tokens, none of {wanted}; "
            "label them with: prunebench label"
        )
    return PrefixDataset(pools)


def _run(
    plan: _Plan, validation: PrefixDataset, records: Sequence[ProblemRecord], folder: Path, digests: dict[str, str]
) -> list[Scores]:
    """The scores of every test pool by the method trained as planned: read, or trained and kept."""
    settings = {
        "method": plan.pruner.name,
        "code": method_code(type(plan.pruner)),
        "configuration": plan.pruner.hyperparameters(),
        "train": data_digest(plan.train),
        **digests,
    }
    done = folder / f"{plan.name}.json"
    if done.exists():
        return _read(done, settings)
    state = folder / f".{plan.name}.state"
    plan.pruner.resume_in_ = state  # type: ignore[misc]
    try:
        pruner = plan.pruner.fit(plan.train, validation)
    except ValueError as error:
        raise UserError(f"{plan.pruner.name}, {plan.axis} = {plan.value}, seed {plan.seed}: {error}") from error
    save_learned(pruner, folder / f"{plan.name}.safetensors")
    scores = [check(pruner, visible(record.pool, pruner)).scores for record in records]
    content = {
        "settings": settings,
        "history": list(getattr(pruner, "history_", [])),
        "scores": [[float(value) for value in row] for row in scores],
    }
    write_atomically(done, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
    state.unlink(missing_ok=True)
    return scores


def _read(path: Path, settings: dict[str, Any]) -> list[Scores]:
    try:
        content = json.loads(path.read_text())
        made, scores = content["settings"], [np.array(row, np.float64) for row in content["scores"]]
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a result of this version ({error}); delete it to have it made again") from error
    for key in sorted({*made, *settings}):
        if key == "code" and key not in made:  # results of earlier versions do not say
            continue
        if made.get(key) != settings.get(key):
            raise UserError(
                f"{path}: made with {key} = {made.get(key)!r}, now it is {settings.get(key)!r}; use another folder"
            )
    return scores


def _row(
    method: str,
    axis: Axis,
    value: str,
    train_prefixes: int,
    records: Sequence[ProblemRecord],
    scores: Sequence[Sequence[Scores]],
    k: int,
) -> AblationRow:
    """``scores[seed][problem]`` is (N,)."""
    policy = TopK(k)
    avg, auroc = (np.empty((len(scores), len(records))) for _ in range(2))
    for seed, run in enumerate(scores):
        for problem, (record, values) in enumerate(zip(records, run, strict=True)):
            pool = record.pool
            keep = policy.decide([CheckRecord(pool.position, values, pool.finished, pool.answer_class)]).keep
            avg[seed, problem] = 100 * metrics.avg_at_k(record.correct, keep)
            auroc[seed, problem] = metrics.auroc(values, record.correct)
    auroc = auroc[:, ~np.isnan(auroc[0])]  # whether a problem has both verdicts does not depend on the seed
    none = np.array([100 * float(record.correct.mean()) for record in records])
    return AblationRow(
        method=method,
        axis=axis,
        value=value,
        seeds=len(scores),
        n_problems=len(records),
        n=len(records[0].pool),
        k=k,
        train_prefixes=train_prefixes,
        avg_at_k=mean_interval(avg.mean(axis=0), bounds=PERCENT),
        avg_at_k_sd=_deviation(avg),
        delta=mean_interval((avg - none).mean(axis=0), bounds=POINTS),
        auroc=mean_interval(auroc.mean(axis=0), bounds=SHARE),
        auroc_sd=_deviation(auroc),
    )


def _deviation(values: NDArray[np.float64]) -> float:
    """Standard deviation over seeds (rows) of the mean over problems (columns); NaN for one seed."""
    return float(np.std(values.mean(axis=1), ddof=1)) if len(values) > 1 and values.shape[1] else math.nan


def to_markdown(rows: Sequence[AblationRow]) -> str:
    """A table to read, and under it what its intervals and deviations are."""
    if not rows:
        return ""
    first = rows[0]
    lines = [
        f"| {first.axis} | trained prefixes | avg@{first.k} | SD over seeds | Δ to none | AUROC | SD over seeds |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.value} | {row.train_prefixes} | {with_interval(row.avg_at_k)} | {number(row.avg_at_k_sd, 2)} "
        f"| {with_interval(row.delta, signed=True)} | {with_interval(row.auroc, 3)} | {number(row.auroc_sd, 4)} |"
        for row in rows
    ]
    lines += [
        "",
        f"{first.method}, {first.n} paths per problem, the best {first.k} kept, {first.n_problems} problems, "
        f"{first.seeds} seeds. In brackets: 95 % Student t over problems of the mean over seeds.",
        "",
    ]
    return "\n".join(lines)
