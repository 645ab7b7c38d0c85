"""The acceptance card of a shipped reasoner: per family, what was asked for, what was measured, met or not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.base import LocalEngine
from prunebench.bench.files import write_atomically
from prunebench.bench.policies.contract import highest
from prunebench.bench.policies.votes import Majority
from prunebench.bench.reasoner.kinds import OneKind, lines_of
from prunebench.bench.reasoner.open_errors import Detectors, calm, error_dataset, tokens_of, told
from prunebench.bench.reasoner.requirement import Line
from prunebench.bench.rollouts.label_store import Labels, LabelStore
from prunebench.bench.rollouts.pools import record_of
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.bench.rollouts.store import RolloutStore, StoredProblem
from prunebench.methods.confidence.perplexity import Perplexity
from prunebench.methods.judges.text_classifier import TextClassifier
from prunebench.tasks.synthetic.family import STEP_END, WAIT, Instance


@dataclass(frozen=True)
class FamilyCard:
    family: str
    problems: int
    paths: int
    lines: list[Line]
    remarks: dict[str, float]


@dataclass(frozen=True)
class Labelled:
    """A rollout store of one task with its labels."""

    rollouts: list[StoredProblem]
    labels: LabelStore

    @classmethod
    def open(cls, folder: Path) -> Labelled:
        return cls(list(RolloutStore.open(folder / "rollouts").read()), LabelStore.open(folder / "labels"))


def acceptance(
    engine: LocalEngine,
    train: dict[str, list[StoredProblem]],
    validation: dict[str, Labelled],
    position: int,
    keep: int,
    text: TextClassifier,
    instances: Mapping[str, Instance],
    kinds: Sequence[OneKind] = (),
) -> list[FamilyCard]:
    """The card of every family, with lines of its own for each of ``kinds``.

    ``train`` holds all sampled training problems (filtered or not): detectors of open errors are fitted on them.
    ``text`` is the text classifier that was trained on the Monte Carlo labels of the training problems;
    ``instances`` are the problems behind all of these ids.
    """
    flawed_train = {
        family: error_dataset(engine, family, problems, position, instances) for family, problems in train.items()
    }
    detectors = Detectors.fitted(engine, flawed_train)
    cards = [
        _family_card(engine, family, validation[family], position, keep, text, detectors, instances)
        for family in validation
    ]
    for kind in kinds:
        for card, lines in zip(cards, lines_of(engine, kind, position, instances), strict=True):
            card.lines.extend(lines)
    return cards


def _family_card(
    engine: LocalEngine,
    family: str,
    data: Labelled,
    position: int,
    keep: int,
    text: TextClassifier,
    detectors: Detectors,
    instances: Mapping[str, Instance],
) -> FamilyCard:
    problems = data.rollouts
    measured = _Measured.of(engine, data, position, keep)
    records, rates = measured.records, measured.rates
    text_gain = [_gain(rate, text.score(record.pool), keep) for rate, record in zip(rates, records, strict=True)]
    steps = np.concatenate([_steps(family, stored, position) for stored in problems])
    errors = error_dataset(engine, family, problems, position, instances)
    aurocs = {
        **detectors.probes(engine, errors),
        "AUROC of P(wait), mean over the prefix": told(errors, lambda pool: calm(engine, pool)),
    }
    headroom = measured.headroom
    text_share = float(np.mean(text_gain)) / headroom if headroom > 0 else float("nan")
    lines = [
        Line("median path length, tokens", 200, None, measured.length),
        Line("checkpoint / median length", 0.12, 0.22, position / measured.length),
        Line("completed steps at the checkpoint, median", 2, None, float(np.median(steps))),
        Line("avg@64, %", 25, 70, 100 * measured.average),
        Line("within-problem SD of the potential", 0.15, None, measured.spread),
        Line("split-half headroom, points", 10, None, 100 * headroom),
        Line("prefixes with potential under 0.1, %", 15, None, 100 * float(np.mean(np.concatenate(rates) < 0.1))),
        Line("maj@64, %", None, 95, 100 * measured.majority),
        Line("text classifier's share of the headroom, %", None, 50, 100 * text_share),
        Line("self-knowledge: best AUROC of probes and P(wait)", 0.75, None, float(np.nanmax(list(aurocs.values())))),
        Line("AUROC of a text classifier on open errors", None, 0.65, told(errors, detectors.words.score)),
    ]
    share = float(np.mean(1 - errors.success)) if len(errors) else float("nan")
    remarks = {
        **aurocs,
        "AUROC of the perplexity": told(errors, Perplexity().score),
        "prefixes with an open error, %": 100 * share,
        "paths with wait, %": 100
        * float(np.mean([WAIT in tokens_of(path.text) for stored in problems for path in stored.paths])),
        "paths that were cut off, %": 100 * measured.cut_off,
    }
    return FamilyCard(family, len(problems), len(problems[0].paths), lines, remarks)


def task_card(engine: LocalEngine, name: str, data: Labelled, position: int, keep: int) -> FamilyCard:
    """What is asked of a miniature on one task: neither hopeless nor solved, and prefixes that differ."""
    measured = _Measured.of(engine, data, position, keep)
    lines = [
        Line("median path length, tokens", 80, None, measured.length),
        Line("avg@64, %", 15, 70, 100 * measured.average),
        Line("within-problem SD of the potential", 0.1, None, measured.spread),
        Line("maj@64, %", None, 95, 100 * measured.majority),
    ]
    remarks = {
        "checkpoint / median length": position / measured.length,
        "split-half headroom, points": 100 * measured.headroom,
        "paths that were cut off, %": 100 * measured.cut_off,
    }
    return FamilyCard(name, len(data.rollouts), len(data.rollouts[0].paths), lines, remarks)


@dataclass(frozen=True)
class _Measured:
    """What the paths and the labels of validation problems tell; shares between 0 and 1, lengths in tokens.

    ``spread`` is the within-problem standard deviation of the potential, without the noise of its labels.
    """

    records: list[ProblemRecord]
    rates: list[NDArray[np.float64]]
    length: float
    average: float
    majority: float
    spread: float
    headroom: float
    cut_off: float

    @classmethod
    def of(cls, engine: LocalEngine, data: Labelled, position: int, keep: int) -> _Measured:
        records = [record_of(engine, stored, position, None) for stored in data.rollouts]
        halves, rates, noise = [], [], []
        for record in records:
            both, success = data.labels.lookup(record.task, record.problem, record.pool.token_ids)
            continuations = np.array([_continuations(data.labels, record, ids) for ids in record.pool.token_ids])
            halves.append(both)
            rates.append(success)
            noise.append(np.where(continuations > 1, success * (1 - success) / np.maximum(continuations - 1, 1), 0.0))
        variance = np.mean([rate.var(ddof=1) - n.mean() for rate, n in zip(rates, noise, strict=True)])
        majorities = [Majority().elect(record.answer_class).correctness(record.gold_class) for record in records]
        return cls(
            records,
            rates,
            length=float(np.median(np.concatenate([record.lengths for record in records]))),
            average=float(np.mean(np.concatenate([record.correct for record in records]))),
            majority=float(np.mean(majorities)),
            spread=float(np.sqrt(max(variance, 0.0))),
            headroom=float(np.mean([_split_half_gain(both, keep) for both in halves])),
            cut_off=float(np.mean([path.finish == "length" for stored in data.rollouts for path in stored.paths])),
        )


def _continuations(labels: Labels, record: ProblemRecord, ids: NDArray[np.int64]) -> int:
    label = labels.get(record.task, record.problem, ids)
    return label.continuations if label else 0


def _split_half_gain(halves: NDArray[np.float64], keep: int) -> float:
    """Select by one half of the continuations, look at the other; both ways, averaged."""
    return float(np.mean([_gain(held, chosen, keep) for chosen, held in (halves, halves[::-1])]))


def _gain(values: NDArray[np.float64], scores: NDArray[np.float64], keep: int) -> float:
    """The mean of the values with the ``keep`` highest scores, over that of all."""
    return float(values[highest(scores, keep)].mean() - values.mean())


def _steps(family: str, stored: StoredProblem, position: int) -> list[int]:
    return [min(tokens_of(path.text)[:position].count(STEP_END), 99) for path in stored.paths]


def write_card(cards: Sequence[FamilyCard], model_hash: str, settings: dict[str, object], path: Path) -> None:
    """The card as JSON, with the model that it was measured on."""
    families = [{**asdict(card), "lines": [{**asdict(line), "met": line.met} for line in card.lines]} for card in cards]
    content = {"model_hash": model_hash, "settings": settings, "families": families}
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
