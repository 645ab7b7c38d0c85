"""Tuning and training: every method gets its few configurations, chosen on the same validation problems."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from prunebench.bench.engines.base import Engine
from prunebench.bench.errors import UserError
from prunebench.bench.policies import CheckRecord, TopK
from prunebench.bench.policies.votes import Majority
from prunebench.bench.progress import SILENT, Progress
from prunebench.bench.provenance import method_code
from prunebench.bench.training.cards import Card, describe, remember_problems
from prunebench.bench.training.crashes import crashes_of
from prunebench.bench.training.data import data_digest, labelled_folder, require_labels, stores_digest
from prunebench.bench.training.loading import PACKAGE, Judges, entry_of, equip, learned_file, parts_of, reads_of
from prunebench.methods.base import LearnablePruner, Pruner, Scores, Setting
from prunebench.methods.pool import LabelledPool, PrefixDataset, within_problem_auroc
from prunebench.methods.registry import PRUNERS
from prunebench.tasks.errors import first_line

MAX_CONFIGURATIONS = 8
"""Every method, learnable or not, is tuned over at most so many configurations (protocol, fair tuning)."""
SEEDS = 3
"""What is drawn in learning is trained so many times: a row of a table is the mean over them."""
RULES = 2
"""Of tuning; what was tuned by earlier ones is tuned again."""
FEWEST_TO_LEARN_FROM = 8
"""Problems; from fewer a method learns these problems."""
KEPT = 8
"""What keeps paths apart is tuned by the vote of one path in so many, as 8 of 64."""


def setting_of(engine: Engine, prefix_tokens: int) -> Setting:
    """The shape of an experiment, for methods that propose configurations."""
    if engine.shape is None:
        raise UserError(f"model '{engine.name}': learning needs a model that lies here, not one on a server")
    return Setting(prefix_tokens, engine.shape.vocabulary, engine.shape.width, engine.shape.layers)


def already_trained(
    names: Sequence[str],
    data: Path,
    folder: Path,
    prefix_tokens: int,
    *,
    model_hash: str,
    seed: int = 0,
    judges: Judges | None = None,
) -> tuple[dict[str, Card], dict[str, str]]:
    """The finished cards in ``folder`` of the same model, data, code, judges and seed; and the key of every name.

    Nothing is loaded and no path is read. Raises UserError where a part of ``data`` is missing.
    """
    require_labels(data, prefix_tokens)
    origin = [RULES, SEEDS, stores_digest(data), prefix_tokens, model_hash, seed]
    keys = {name: _key(name, origin, judges or Judges({})) for name in names}
    cards = {name: _card(folder / f"{name}.json") for name in names}
    return {name: card for name, card in cards.items() if card is not None and card.key == keys[name]}, keys


def _key(name: str, origin: Sequence[Any], judges: Judges) -> str:
    """All that a training depends on; of an ensemble that of its members as well."""
    parts = [[part, method_code(entry_of(part)), judges.digest_of(part)] for part in parts_of(name)]
    return hashlib.sha256(json.dumps([origin, parts], sort_keys=True).encode()).hexdigest()[:16]


def train_methods(
    engine: Engine,
    data: Path,
    names: Sequence[str],
    folder: Path,
    prefix_tokens: int,
    *,
    seed: int = 0,
    judges: Judges | None = None,
    progress: Progress = SILENT,
) -> Iterator[Card]:
    """:func:`train_method` for each of ``names``, on what :func:`labelled_folder` finds in ``data``, read once.

    What is finished is left as it is; see :func:`already_trained`.
    """
    origin = {} if folder.resolve().is_relative_to(PACKAGE) else {"data": str(data), "model": engine.name}
    done, keys = already_trained(names, data, folder, prefix_tokens, model_hash=engine.digest, seed=seed, judges=judges)
    waiting = [name for name in names if name not in done]
    if waiting:
        learning = [name for name in waiting if issubclass(PRUNERS.get(name), LearnablePruner)]
        train, validation, sampling_digest = labelled_folder(
            engine, data, prefix_tokens, reads_of(waiting), progress, reads_of(learning)
        )
        for said in _too_few(train if learning else validation, validation):
            progress.say(said)
    for name in names:
        yield (
            done[name]
            if name in done
            else train_method(
                name,
                train,
                validation,
                setting_of(engine, prefix_tokens),
                folder,
                model_hash=engine.digest,
                sampling_digest=sampling_digest,
                key=keys[name],
                origin=origin,
                seed=seed,
                judges=judges,
                progress=progress,
            )
        )


def _too_few(train: PrefixDataset, validation: PrefixDataset) -> Iterator[str]:
    """What nobody should build on."""
    for count, what in ((len(train.problems), "learned from"), (len(validation.problems), "tuned on")):
        if count < FEWEST_TO_LEARN_FROM:
            yield (
                f"NOTE: {count} problems are too few: what is {what} them means nothing; label at least "
                f"{FEWEST_TO_LEARN_FROM}"
            )


def train_method(
    name: str,
    train: PrefixDataset,
    validation: PrefixDataset,
    setting: Setting,
    folder: Path,
    *,
    model_hash: str,
    sampling_digest: str,
    key: str = "",
    origin: Mapping[str, str] = {},
    seed: int = 0,
    judges: Judges | None = None,
    progress: Progress = SILENT,
) -> Card:
    """Fit (where there is something to fit) every configuration, keep the best on validation, write file and card.

    The card bears ``key`` and ``origin``. Interrupted fits go on from ``folder/.work``. Raises UserError when a problem
    is in both data sets.
    """
    if shared := train.problems & validation.problems:
        raise UserError(f"train and validation share problems ({', '.join(sorted(shared)[:3])}): split by problem")
    digest, code = data_digest(train), method_code(PRUNERS.get(name))
    proposed = [_seeded(pruner, seed) for pruner in PRUNERS.get(name).configurations(setting)][:MAX_CONFIGURATIONS]
    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    training = _Training(train, *halves(validation), folder, digest + code, judges or Judges({}), progress)
    tried = [training.tried(pruner) for pruner in proposed]
    best = training.best(tried)
    learned, members = isinstance(best.pruner, LearnablePruner), training.members(best, seed)
    for number, member in enumerate(members):
        if isinstance(member.pruner, LearnablePruner):
            save_learned(member.pruner, learned_file(folder, name, number))
    counts = _counted(train if learned else validation)
    card = Card(
        method=name,
        configuration=best.pruner.hyperparameters(),
        validation_auroc=float(np.mean([member.auroc for member in members])),
        candidates=[trial.plain() for trial in tried],
        model_hash=model_hash,
        sampling_digest=sampling_digest,
        prefix_tokens=list(counts),
        train_data=digest,
        train_problems=sorted(train.problems) if learned else [],
        validation_problems=sorted(validation.problems),
        members=[_member(member) for member in members] if len(members) > 1 else [],
        epoch_problems=sorted(training.fitting.problems) if learned else [],
        train_seconds=round(time.perf_counter() - started, 1),
        seed=seed,
        prefixes=counts,
        checkpoint=validation.pools[0].pool.position,
        code=code,
        key=key,
        origin=dict(origin),
    )
    remember_problems(folder, (*train, *validation))
    _forget_states([training.state_of(trial.pruner) for trial in (*tried, *members)], folder)
    card.write(folder / f"{name}.json")  # last: it says that all is done
    return Card.read(folder / f"{name}.json")  # as every later call finds it


def _card(path: Path) -> Card | None:
    """The card at ``path``; None where there is none, or that of an earlier version, which is made again."""
    try:
        return Card.read(path) if path.exists() else None
    except UserError:
        return None


def _seeded(pruner: Pruner, seed: int) -> Pruner:
    """The same configuration with another seed, where it has one."""
    return replace(pruner, seed=seed) if "seed" in pruner.hyperparameters() else pruner  # type: ignore[call-arg]


def halves(validation: PrefixDataset) -> tuple[PrefixDataset, PrefixDataset]:
    """Problems by which a training chooses its epoch, and others by which configurations and methods are chosen.

    Every other one of those that can rank, and of those that cannot. Of fewer than two that can, both are all.
    """
    ranking = [labelled for labelled in validation if np.ptp(labelled.success) > 0]
    if len(ranking) < 2:
        return validation, validation
    rest = [labelled for labelled in validation if np.ptp(labelled.success) == 0]
    first, second = (PrefixDataset((*ranking[start::2], *rest[start::2])) for start in (0, 1))
    return first, second


@dataclass(frozen=True)
class Tried:
    """A configuration on the problems that choose: how it ranks, how its paths vote, and whether it tells any apart."""

    pruner: Pruner
    auroc: float
    maj: float
    tied: bool

    @property
    def rank(self) -> tuple[bool, float]:
        """Higher is better: the ranking, or the vote of what keeps paths apart; last what ties all paths."""
        by_vote = self.pruner.redundancy and not math.isnan(self.maj)
        return not self.tied, self.maj if by_vote else self.auroc

    @property
    def said(self) -> str:
        if self.tied:
            return "ties all paths, no candidate"
        return f"validation AUROC {self.auroc:.3f}" + (
            f", maj@k {100 * self.maj:.1f}" if self.pruner.redundancy else ""
        )

    def plain(self) -> dict[str, Any]:
        """As a card holds it."""
        history = list(getattr(self.pruner, "history_", []))
        measured = {"validation_auroc": self.auroc, "validation_maj": None if math.isnan(self.maj) else self.maj}
        return {"configuration": self.pruner.hyperparameters(), **measured, "tied": self.tied, "history": history}


@dataclass(frozen=True)
class _Training:
    """What every configuration of a method is fitted to and judged by; ``data`` names data and code."""

    train: PrefixDataset
    fitting: PrefixDataset
    choosing: PrefixDataset
    folder: Path
    data: str
    judges: Judges
    progress: Progress

    def tried(self, pruner: Pruner) -> Tried:
        """A configuration, fitted where there is something to fit, on whole pools as a test has them."""
        equip(pruner, self.folder, self.judges)
        with crashes_of(pruner, f"as {describe(pruner)}, in training"):
            if isinstance(pruner, LearnablePruner):
                _fit(pruner, self.train, self.fitting, self.state_of(pruner))
            scores = [_scores(pruner, labelled) for labelled in self.choosing]
        votes = [_vote(labelled, score) for labelled, score in zip(self.choosing, scores, strict=True)]
        auroc, tied = within_problem_auroc(self.choosing, scores), all(np.ptp(score) == 0 for score in scores)
        tried = Tried(pruner, auroc, float(np.mean(votes)), tied)
        self.progress.say(f"{pruner.name} {describe(pruner)}: {tried.said}")
        return tried

    def best(self, tried: Sequence[Tried]) -> Tried:
        """Of equal ones the first."""
        if len(tried) > 1 and len({trial.rank for trial in tried}) == 1:
            self.progress.say(f"{tried[0].pruner.name}: all {len(tried)} configurations rank alike; the first is taken")
        return max(tried, key=lambda trial: trial.rank)

    def members(self, best: Tried, seed: int) -> list[Tried]:
        """The chosen configuration trained with :data:`SEEDS` seeds; alone where nothing is drawn in learning."""
        drawn = isinstance(best.pruner, LearnablePruner) and "seed" in best.pruner.hyperparameters()
        more = range(seed + 1, seed + SEEDS) if drawn else ()
        return [best, *(self.tried(_seeded(best.pruner, another)) for another in more)]

    def state_of(self, pruner: Pruner) -> Path:
        """Where a long training leaves its state, by method, configuration and data."""
        content = json.dumps([pruner.hyperparameters(), self.data], sort_keys=True)
        return self.folder / ".work" / f"{pruner.name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}.pt"


def _scores(pruner: Pruner, labelled: LabelledPool) -> Scores:
    """Of the labelled paths; a score that depends on its pool is told of the whole one."""
    if pruner.pointwise:
        return pruner.score(labelled.pool)
    return pruner.score(labelled.everything)[labelled.labelled]


def _member(tried: Tried) -> dict[str, Any]:
    return {"seed": tried.pruner.hyperparameters()["seed"], "validation_auroc": tried.auroc}


def _vote(labelled: LabelledPool, scores: Scores) -> float:
    """Whether the majority of the best eighth is right; NaN where final answers are not known."""
    classes, right = labelled.final_class, labelled.outcome
    if classes is None or right is None:
        return math.nan
    pool, policy = labelled.pool, TopK(max(1, round(len(scores) / KEPT)))
    keep = policy.decide([CheckRecord(pool.position, scores, pool.finished, pool.answer_class)]).keep
    gold = classes[right == 1]
    return float(Majority().correctness(classes[None], keep[None], int(gold[0]) if len(gold) else -1)[0][0])


def _counted(dataset: PrefixDataset) -> dict[int, int]:
    """Prefixes by length."""
    counts = Counter[int]()
    for labelled in dataset:
        counts[labelled.pool.position] += len(labelled.success)
    return dict(sorted(counts.items()))


def _fit(pruner: LearnablePruner, train: PrefixDataset, validation: PrefixDataset, state: Path) -> None:
    """Fit, leaving the state of a long training in the file ``state``. Raises UserError for data that do not serve."""
    state.parent.mkdir(exist_ok=True)
    pruner.resume_in_ = state  # type: ignore[misc]
    try:
        pruner.fit(train, validation)
    except ValueError as error:
        raise UserError(f"{pruner.name} ({describe(pruner)}): {error}") from error


def save_learned(pruner: LearnablePruner, file: Path) -> None:
    """Whole or not at all, and readable by others. Raises UserError where it cannot be written."""
    temporary = file.with_name(f".{pruner.name}.tmp")
    try:
        pruner.save(temporary)
        temporary.chmod(0o644)
    except SafetensorError as error:  # also where the disk is full
        temporary.unlink(missing_ok=True)
        raise UserError(
            f"{temporary}: {first_line(error)}: make room or choose another folder; what is finished is kept"
        ) from error
    temporary.replace(file)


def _forget_states(states: Sequence[Path], folder: Path) -> None:
    for state in states:
        for left in (state, *state.parent.glob(f"*{state.name}*.tmp")):  # of a kill, perhaps
            left.unlink(missing_ok=True)
    with suppress(OSError):  # another method's training may still be there
        (folder / ".work").rmdir()
