"""Tuning and training: every method gets its few configurations, chosen on the same validation problems."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import UserError
from bench.labels import LabelStore
from bench.replay import labelled_pools
from bench.shards import write_atomically
from bench.store import RolloutStore
from methods.base import LearnablePruner, Pruner, Quadrant, Setting
from methods.pool import LabelledPool, PrefixDataset, within_problem_auroc
from methods.registry import PRUNERS

if TYPE_CHECKING:
    from bench.engines.transformers import TransformersEngine

MAX_CONFIGURATIONS = 8
"""Every method, learnable or not, is tuned over at most so many configurations (protocol, fair tuning)."""


@dataclass(frozen=True)
class Card:
    """What stands beside a learned file: how the configuration was chosen, and what it was learned from."""

    method: str
    configuration: dict[str, Any]
    validation_auroc: float
    candidates: list[dict[str, Any]]
    model_hash: str
    sampling_digest: str
    prefix_tokens: list[int]
    train_data: str
    train_problems: list[str]
    validation_problems: list[str]
    train_seconds: float
    history: list[dict[str, float]]

    @classmethod
    def read(cls, path: Path) -> Card:
        """Raises UserError for a card that is damaged or of another version."""
        try:
            return cls(**json.loads(path.read_text()))
        except (json.JSONDecodeError, TypeError) as error:
            raise UserError(f"{path}: not a card of this version ({error}); train again") from error

    def write(self, path: Path) -> None:
        write_atomically(path, (json.dumps(self.__dict__, indent=1, sort_keys=True) + "\n").encode())


def setting_of(engine: TransformersEngine, prefix_tokens: int) -> Setting:
    """The shape of an experiment, for methods that propose configurations."""
    config = engine.model.config
    return Setting(prefix_tokens, config.vocab_size, config.hidden_size, config.num_hidden_layers)


def tunable() -> list[str]:
    """Every registered method but the controls, which have nothing to tune."""
    return [name for name, entry in PRUNERS.items() if entry.quadrant() is not Quadrant.CONTROL]


def labelled_folder(
    engine: TransformersEngine, folder: Path, prefix_tokens: int
) -> tuple[PrefixDataset, PrefixDataset, str]:
    """(train, validation, sampling digest) from ``folder/{train,validation}/<any name>/{rollouts,labels}``.

    Raises UserError when a part is missing or was made by another model.
    """
    parts, digests = [], set()
    for split in ("train", "validation"):
        stores = sorted(path for path in (folder / split).glob("*") if (path / "labels").is_dir())
        if not stores:
            raise UserError(f"{folder / split}: no <name>/rollouts and <name>/labels; see prunebench label --help")
        pools: list[LabelledPool] = []
        for path in stores:
            rollouts, labels = RolloutStore.open(path / "rollouts"), LabelStore.open(path / "labels")
            labels.require(engine.digest, str(rollouts.manifest["sampling_digest"]))
            digests.add(str(rollouts.manifest["sampling_digest"]))
            pools += labelled_pools(engine, rollouts.read(), labels, prefix_tokens).pools
        if not pools:
            raise UserError(f"{folder / split}: no labels of prefixes of {prefix_tokens} tokens")
        parts.append(PrefixDataset(tuple(pools)))
    if len(digests) != 1:
        raise UserError(f"{folder}: its stores were sampled with different settings; use one folder per setting")
    return parts[0], parts[1], digests.pop()


def train_method(
    name: str,
    train: PrefixDataset,
    validation: PrefixDataset,
    setting: Setting,
    folder: Path,
    *,
    model_hash: str,
    sampling_digest: str,
    progress: Callable[[str], None] = lambda _: None,
) -> Card:
    """Fit (where there is something to fit) every configuration, keep the best on validation, write file and card.

    Raises UserError when a problem is in both data sets.
    """
    shared = train.problems & validation.problems
    if shared:
        raise UserError(f"train and validation share problems ({', '.join(sorted(shared)[:3])}): split by problem")
    started = time.perf_counter()
    best: tuple[float, Pruner] | None = None
    candidates = []
    for candidate in list(PRUNERS.get(name).configurations(setting))[:MAX_CONFIGURATIONS]:
        pruner = candidate.fit(train, validation) if isinstance(candidate, LearnablePruner) else candidate
        ranking = within_problem_auroc(validation, [pruner.score(labelled.pool) for labelled in validation])
        candidates.append({"configuration": pruner.hyperparameters(), "validation_auroc": ranking})
        progress(f"{name} {describe(pruner)}: validation AUROC {ranking:.3f}")
        if best is None or ranking > best[0]:
            best = (ranking, pruner)
    assert best is not None
    ranking, pruner = best
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(pruner, LearnablePruner):
        temporary = folder / f".{name}.tmp"
        pruner.save(temporary)
        temporary.replace(folder / f"{name}.safetensors")
    card = Card(
        method=name,
        configuration=pruner.hyperparameters(),
        validation_auroc=ranking,
        candidates=candidates,
        model_hash=model_hash,
        sampling_digest=sampling_digest,
        prefix_tokens=sorted({labelled.pool.position for labelled in train}),
        train_data=data_digest(train),
        train_problems=sorted(train.problems) if pruner.learnable else [],
        validation_problems=sorted(validation.problems),
        train_seconds=round(time.perf_counter() - started, 1),
        history=list(getattr(pruner, "history_", [])),
    )
    card.write(folder / f"{name}.json")
    return card


def data_digest(dataset: PrefixDataset) -> str:
    """16 hex digits over problems, prefixes and labels."""
    digest = hashlib.sha256()
    for labelled in dataset:
        digest.update(labelled.pool.problem.encode())
        for ids in labelled.pool.token_ids:
            digest.update(ids.tobytes())
        digest.update(labelled.success.tobytes())
    return digest.hexdigest()[:16]


def describe(pruner: Pruner) -> str:
    """Hyper-parameters in one line."""
    return ", ".join(f"{name}={value}" for name, value in pruner.hyperparameters().items()) or "defaults"


@dataclass(frozen=True)
class Chosen:
    """A pruner ready to score, with its card if there is one, and a remark for the table."""

    pruner: Pruner
    card: Card | None
    note: str


def load_method(name: str, folder: Path, model_hash: str, prefix_tokens: int) -> Chosen:
    """The method as it was tuned in ``folder``; a method without a card and without anything to learn has defaults.

    Raises UserError for an unknown name, for a learnable method without files, and for files of another model.
    """
    try:
        entry = PRUNERS.get(name)
    except ValueError as error:
        raise UserError(str(error)) from error
    path = folder / f"{name}.json"
    if not path.exists():
        if entry.learnable:
            raise UserError(f"method '{name}' has no learned files in {folder}; train it: prunebench train {name}")
        note = "" if entry.quadrant() is Quadrant.CONTROL else "defaults, not tuned"
        return Chosen(entry(), None, note)
    card = Card.read(path)
    if card.model_hash != model_hash:
        raise UserError(
            f"{path}: learned for model {card.model_hash}, this one is {model_hash}; run: prunebench train {name}"
        )
    pruner = entry(**card.configuration)
    if isinstance(pruner, LearnablePruner):
        pruner.load(folder / f"{name}.safetensors")
    outside = not min(card.prefix_tokens) <= prefix_tokens <= max(card.prefix_tokens)
    note = f"checked at {prefix_tokens} tokens, tuned at {card.prefix_tokens}" if outside else ""
    return Chosen(pruner, card, note)


def refuse_leak(chosen: Mapping[str, Chosen], problems: Sequence[str]) -> None:
    """Raises UserError when a method was trained or tuned on a problem that it is now evaluated on."""
    for name, method in chosen.items():
        if method.card is None:
            continue
        seen = {*method.card.train_problems, *method.card.validation_problems} & set(problems)
        if seen:
            raise UserError(
                f"method '{name}' was trained or tuned on {len(seen)} of these problems "
                f"({', '.join(sorted(seen)[:3])}); evaluate on another split"
            )
