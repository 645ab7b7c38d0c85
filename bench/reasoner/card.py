"""The acceptance card of a shipped reasoner: per family, what was asked for, what was measured, met or not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.base import LocalEngine
from prunebench.bench.files import write_atomically
from prunebench.bench.policies.contract import highest
from prunebench.bench.policies.votes import Majority
from prunebench.bench.rollouts.label_store import Labels, LabelStore
from prunebench.bench.rollouts.pools import pool_of, record_of
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.bench.rollouts.store import RolloutStore, StoredProblem
from prunebench.methods.base import LearnablePruner, Signal
from prunebench.methods.confidence.perplexity import Perplexity
from prunebench.methods.judges.text_classifier import TextClassifier
from prunebench.methods.learned.linear_probe import LinearProbe
from prunebench.methods.pool import LabelledPool, Pool, PrefixDataset, within_problem_auroc
from prunebench.tasks.synthetic import FAMILIES
from prunebench.tasks.synthetic.family import BOX, STEP_END, WAIT, Instance, read_path


@dataclass(frozen=True)
class Line:
    """One requirement: its bounds (None: none on that side), the measured value, and whether it is met."""

    name: str
    low: float | None
    high: float | None
    value: float

    @property
    def met(self) -> bool:
        above = self.low is None or self.value >= self.low
        return bool(above and (self.high is None or self.value <= self.high) and not np.isnan(self.value))


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


@dataclass(frozen=True)
class _Detectors:
    """What was fitted to tell prefixes with an open error from clean ones: probes on the state at the last token and
    on the mean state of the prefix, and a text classifier."""

    last: LearnablePruner
    mean: LearnablePruner
    words: LearnablePruner


def acceptance(
    engine: LocalEngine,
    train: dict[str, list[StoredProblem]],
    validation: dict[str, Labelled],
    position: int,
    keep: int,
    text: TextClassifier,
    instances: Mapping[str, Instance],
) -> list[FamilyCard]:
    """The card of every family.

    ``train`` holds all sampled training problems (filtered or not): detectors of open errors are fitted on them.
    ``text`` is the text classifier that was trained on the Monte Carlo labels of the training problems;
    ``instances`` are the problems behind all of these ids.
    """
    flawed_train = {
        family: _error_dataset(engine, family, problems, position, instances) for family, problems in train.items()
    }
    layers = range(1, engine.shape.layers + 1)
    means = {family: _mean_states(engine, dataset) for family, dataset in flawed_train.items()}
    detectors = _Detectors(
        last=_best_detector([LinearProbe(layer=layer) for layer in layers], flawed_train),
        mean=_best_detector([LinearProbe(layer=layer) for layer in layers], means),
        words=_best_detector([TextClassifier(ngram_max=n) for n in (2, 4)], flawed_train),
    )
    return [
        _family_card(engine, family, validation[family], position, keep, text, detectors, instances)
        for family in validation
    ]


def _family_card(
    engine: LocalEngine,
    family: str,
    data: Labelled,
    position: int,
    keep: int,
    text: TextClassifier,
    detectors: _Detectors,
    instances: Mapping[str, Instance],
) -> FamilyCard:
    problems = data.rollouts
    measured = _Measured.of(engine, data, position, keep)
    records, rates = measured.records, measured.rates
    text_gain = [_gain(rate, text.score(record.pool), keep) for rate, record in zip(rates, records, strict=True)]
    steps = np.concatenate([_steps(family, stored, position) for stored in problems])
    errors = _error_dataset(engine, family, problems, position, instances)
    aurocs = {
        "AUROC of a probe, last state": _auroc(errors, detectors.last.score),
        "AUROC of a probe, mean state": _auroc(_mean_states(engine, errors), detectors.mean.score),
        "AUROC of P(wait), mean over the prefix": _auroc(errors, lambda pool: _calm(engine, pool)),
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
        Line("AUROC of a text classifier on open errors", None, 0.65, _auroc(errors, detectors.words.score)),
    ]
    share = float(np.mean(1 - errors.success)) if len(errors) else float("nan")
    remarks = {
        **aurocs,
        "AUROC of the perplexity": _auroc(errors, Perplexity().score),
        "prefixes with an open error, %": 100 * share,
        "paths with wait, %": 100
        * float(np.mean([WAIT in _tokens(path.text) for stored in problems for path in stored.paths])),
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


def _tokens(text: str | None) -> list[str]:
    return (text or "").split(" ")


def _steps(family: str, stored: StoredProblem, position: int) -> list[int]:
    return [min(_tokens(path.text)[:position].count(STEP_END), 99) for path in stored.paths]


def _error_dataset(
    engine: LocalEngine,
    family: str,
    problems: Sequence[StoredProblem],
    position: int,
    instances: Mapping[str, Instance],
) -> PrefixDataset:
    """Pools whose labels are 1 for prefixes without an open error and 0 with one, found by arithmetic.

    Prefixes that leave the format or that state their answer are left out.
    """
    pools = []
    for stored in problems:
        rows, clean = [], []
        for row, path in enumerate(stored.paths):
            assert path.token_ids is not None, "sampled here"
            tokens = _tokens(engine.decode(path.token_ids[:position]))
            reading = read_path(FAMILIES[family], instances[stored.problem], tokens)
            if reading.readable and BOX not in tokens:
                rows.append(row)
                clean.append(float(not reading.has_open_error))
        if rows and 0 < np.mean(clean) < 1:
            pool = pool_of(engine, stored, position, rows, (Signal.HIDDEN_STATE, Signal.LOGPROBS))
            pools.append(LabelledPool(pool, np.array(clean), 1))
    return PrefixDataset(tuple(pools))


def _mean_states(engine: LocalEngine, dataset: PrefixDataset) -> PrefixDataset:
    """The same prefixes with the mean of their states instead of the state at the last token."""
    pools = []
    for labelled in dataset:
        pool = labelled.pool
        states, exists = engine.prefix_states(pool)
        means = np.einsum("lnth,nt->lnh", states, exists / exists.sum(1, keepdims=True)).astype(np.float32)
        pools.append(replace(labelled, pool=pool.adding({Signal.HIDDEN_STATE: dict(enumerate(means))})))
    return PrefixDataset(tuple(pools))


def _auroc(dataset: PrefixDataset, score: Callable[[Pool], NDArray[np.float64]]) -> float:
    return within_problem_auroc(dataset, [score(labelled.pool) for labelled in dataset])


def _best_detector(candidates: Sequence[LearnablePruner], families: dict[str, PrefixDataset]) -> LearnablePruner:
    """The candidate that ranks best on a fifth of the training problems, fitted on the others."""
    pools = [labelled for dataset in families.values() for labelled in dataset]
    held = PrefixDataset(tuple(pools[::5]))
    fitted_on = PrefixDataset(tuple(labelled for index, labelled in enumerate(pools) if index % 5))
    best, best_auroc = candidates[0], -1.0
    for candidate in candidates:
        candidate.fit(fitted_on, held)
        auroc = within_problem_auroc(held, [candidate.score(labelled.pool) for labelled in held])
        if auroc > best_auroc:
            best, best_auroc = candidate, auroc
    return best


def _calm(engine: LocalEngine, pool: Pool) -> NDArray[np.float64]:
    """Minus the reasoner's own P(wait), mean over the tokens of the prefix."""
    import torch

    states, exists = engine.prefix_states(pool)
    with torch.inference_mode():
        logits = engine.model.get_output_embeddings()(torch.from_numpy(states[-1]).to(engine.device))
        wait = logits.double().softmax(-1)[..., engine.tokenizer.convert_tokens_to_ids(WAIT)].cpu().numpy()
    calm: NDArray[np.float64] = -np.where(exists, wait, 0.0).sum(1) / exists.sum(1)
    return calm


def write_card(cards: Sequence[FamilyCard], model_hash: str, settings: dict[str, object], path: Path) -> None:
    """The card as JSON, with the model that it was measured on."""
    families = [{**asdict(card), "lines": [{**asdict(line), "met": line.met} for line in card.lines]} for card in cards]
    content = {"model_hash": model_hash, "settings": settings, "families": families}
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
