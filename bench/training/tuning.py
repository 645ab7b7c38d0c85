"""Tuning and training: every method gets its few configurations, chosen on the same validation problems."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from prunebench.bench.engines.base import Engine
from prunebench.bench.errors import UserError
from prunebench.bench.progress import SILENT, Progress
from prunebench.bench.training.cards import Card, describe, remember_problems
from prunebench.bench.training.data import data_digest, labelled_folder
from prunebench.bench.training.loading import Judges, equip, reads_of
from prunebench.methods.base import LearnablePruner, Pruner, Setting
from prunebench.methods.pool import PrefixDataset, within_problem_auroc
from prunebench.methods.registry import PRUNERS
from prunebench.tasks.errors import first_line

MAX_CONFIGURATIONS = 8
"""Every method, learnable or not, is tuned over at most so many configurations (protocol, fair tuning)."""


def setting_of(engine: Engine, prefix_tokens: int) -> Setting:
    """The shape of an experiment, for methods that propose configurations."""
    if engine.shape is None:
        raise UserError(f"model '{engine.name}': learning needs a model that lies here, not one on a server")
    return Setting(prefix_tokens, engine.shape.vocabulary, engine.shape.width, engine.shape.layers)


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
    """:func:`train_method` for each of ``names``, on what :func:`labelled_folder` finds in ``data``, read once."""
    train, validation, sampling_digest = labelled_folder(engine, data, prefix_tokens, reads_of(names))
    for name in names:
        yield train_method(
            name,
            train,
            validation,
            setting_of(engine, prefix_tokens),
            folder,
            model_hash=engine.digest,
            sampling_digest=sampling_digest,
            seed=seed,
            judges=judges,
            progress=progress,
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
    seed: int = 0,
    judges: Judges | None = None,
    progress: Progress = SILENT,
) -> Card:
    """Fit (where there is something to fit) every configuration, keep the best on validation, write file and card.

    A finished card of the same data, configurations and seed is left as it is; fits that were interrupted go on from
    ``folder/.work``. Raises UserError when a problem is in both data sets.
    """
    shared = train.problems & validation.problems
    if shared:
        raise UserError(f"train and validation share problems ({', '.join(sorted(shared)[:3])}): split by problem")
    digest = data_digest(train)
    proposed = [_seeded(pruner, seed) for pruner in PRUNERS.get(name).configurations(setting)][:MAX_CONFIGURATIONS]
    file = folder / f"{name}.json"
    finished = _finished(file, (digest, seed, model_hash), [pruner.hyperparameters() for pruner in proposed])
    if finished is not None:
        return finished
    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    tried: list[tuple[float, Pruner]] = []
    for pruner in proposed:
        equip(pruner, folder, judges or Judges({}))
        if isinstance(pruner, LearnablePruner):
            _fit(pruner, train, validation, _state_of(folder, pruner, digest))
        auroc = within_problem_auroc(validation, [pruner.score(labelled.pool) for labelled in validation])
        tried.append((auroc, pruner))
        progress.say(f"{name} {describe(pruner)}: validation AUROC {auroc:.3f}")
    auroc, pruner = max(tried, key=lambda candidate: candidate[0])  # of equal ones the first
    learned = isinstance(pruner, LearnablePruner)
    if isinstance(pruner, LearnablePruner):
        _save(pruner, folder)
    card = Card(
        method=name,
        configuration=pruner.hyperparameters(),
        validation_auroc=auroc,
        candidates=[_candidate(*candidate) for candidate in tried],
        model_hash=model_hash,
        sampling_digest=sampling_digest,
        prefix_tokens=sorted({labelled.pool.position for labelled in (train if learned else validation)}),
        train_data=digest,
        train_problems=sorted(train.problems) if learned else [],
        validation_problems=sorted(validation.problems),
        train_seconds=round(time.perf_counter() - started, 1),
        seed=seed,
    )
    remember_problems(folder, (*train, *validation))
    _forget_states([_state_of(folder, pruner, digest) for pruner in proposed], folder)
    card.write(file)  # last: it says that all is done
    return Card.read(file)  # as every later call finds it


def _finished(path: Path, origin: tuple[str, int, str], configurations: list[dict[str, Any]]) -> Card | None:
    """The card at ``path``, if it was made of the same data, seed and model, from the same configurations."""
    try:
        card = Card.read(path) if path.exists() else None
    except UserError:  # an older version's: made again
        return None
    if card is None or (card.train_data, card.seed, card.model_hash) != origin:
        return None
    return card if [candidate["configuration"] for candidate in card.candidates] == configurations else None


def _seeded(pruner: Pruner, seed: int) -> Pruner:
    """The same configuration with another seed, where it has one."""
    return replace(pruner, seed=seed) if "seed" in pruner.hyperparameters() else pruner  # type: ignore[call-arg]


def _candidate(auroc: float, pruner: Pruner) -> dict[str, Any]:
    """A tried configuration as a card holds it."""
    history = list(getattr(pruner, "history_", []))
    return {"configuration": pruner.hyperparameters(), "validation_auroc": auroc, "history": history}


def _fit(pruner: LearnablePruner, train: PrefixDataset, validation: PrefixDataset, state: Path) -> None:
    """Fit, leaving the state of a long training in the file ``state``. Raises UserError for data that do not serve."""
    state.parent.mkdir(exist_ok=True)
    pruner.resume_in_ = state  # type: ignore[misc]
    try:
        pruner.fit(train, validation)
    except ValueError as error:
        raise UserError(f"{pruner.name} ({describe(pruner)}): {error}") from error


def _save(pruner: LearnablePruner, folder: Path) -> None:
    temporary = folder / f".{pruner.name}.tmp"
    try:
        pruner.save(temporary)
    except SafetensorError as error:  # also where the disk is full
        temporary.unlink(missing_ok=True)
        raise UserError(
            f"{temporary}: {first_line(error)}: make room or choose another folder; what is finished is kept"
        ) from error
    temporary.replace(folder / f"{pruner.name}.safetensors")


def _state_of(folder: Path, pruner: Pruner, data: str) -> Path:
    """Where a long training leaves its state, by method, configuration and data."""
    content = json.dumps([pruner.hyperparameters(), data], sort_keys=True)
    return folder / ".work" / f"{pruner.name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}.pt"


def _forget_states(states: Sequence[Path], folder: Path) -> None:
    for state in states:
        for left in (state, *state.parent.glob(f"*{state.name}*.tmp")):  # of a kill, perhaps
            left.unlink(missing_ok=True)
    with suppress(OSError):  # another method's training may still be there
        (folder / ".work").rmdir()
