"""The loop of every pruner that torch trains: AdamW, early stopping by within-problem ranking, and going on later."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.base import Signal
from prunebench.methods.pool import PrefixDataset, within_problem_auroc

Losses = Callable[[NDArray[np.int64]], Iterable[Any]]
"""From the rows of a batch to parts of its mean loss: each part is a scalar tensor, and they add up."""

Judge = Callable[[], Sequence[NDArray[np.float64]]]
"""The scores of every validation pool by the weights of the moment."""


@dataclass(frozen=True)
class Schedule:
    """How long and in what steps. ``patience``: epochs without a better validation ranking before it stops.

    0: all epochs are done, so that the rate decays to nothing, and the mean of the weights over the steps of the last
    share ``tail`` is kept; no epoch is chosen.
    """

    learning_rate: float
    epochs: int
    batch: int
    patience: int
    seed: int
    warm_up: float = 0.05
    clip: float = 1.0
    tail: float = 0.25

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step (from 0): a linear warm-up over the first share ``warm_up``, times a cosine."""
        warm = min(1.0, (step + 1) / (self.warm_up * steps + 1))
        return self.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / steps))


def fit_module(
    module: Any,
    losses: Losses,
    rows: int,
    judge: Judge,
    validation: PrefixDataset,
    schedule: Schedule,
    settings: Mapping[str, Any],
    resume_in: Path | None = None,
) -> list[dict[str, float]]:
    """Train the parameters of the torch ``module`` that require gradients; it ends with those of the best epoch.

    ``rows`` training rows are shuffled into batches anew in every epoch. The best epoch is the first with the highest
    :func:`within_problem_auroc` on ``validation``; without patience the averaged weights of the end are kept. Returns
    one entry per epoch: epoch, mean loss, validation_auroc.

    After every epoch the state is written to ``resume_in``; a call with equal ``settings`` (plain values that say what
    is trained on what, such as hyper-parameters and :func:`fingerprint`) then goes on behind the last finished epoch
    and ends with the very same weights. All randomness of an epoch comes from its number and the seed.

    Raises ValueError for validation data that cannot rank, for training that diverges and for a state of other
    settings; TypeError for weights that are not float32 (small steps would be lost in rounding).
    """
    import torch

    _require_pairs(validation)
    weights = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    for name, parameter in weights.items():
        if parameter.dtype != torch.float32:
            raise TypeError(f"trainable weights must be float32, but '{name}' is {parameter.dtype}")
    optimizer = torch.optim.AdamW(weights.values(), lr=schedule.learning_rate)
    whole = {**settings, "start": _digest_of(weights)}
    state = _State.read(resume_in, whole)
    if state.history:
        _set(weights, state.weights)
        optimizer.load_state_dict(state.optimizer)
    with torch.random.fork_rng():
        while not state.ended(schedule):
            epoch = len(state.history)
            loss = _epoch(module, weights, optimizer, losses, rows, epoch, schedule, state.average)
            module.eval()
            current = _copy(weights)
            if state.average.weights:
                _set(weights, state.average.weights)
            with torch.no_grad():
                ranking = within_problem_auroc(validation, judge())
            _set(weights, current)
            state.add(loss, ranking, current, optimizer.state_dict())
            state.write(resume_in, whole)
    kept = state.best if schedule.patience else state.average.weights
    if not kept or math.isnan(state.best_ranking if schedule.patience else state.history[-1]["validation_auroc"]):
        raise ValueError(
            f"training diverged: no epoch gave scores that are numbers; use a learning rate below "
            f"{schedule.learning_rate:g}"
        )
    _set(weights, kept)
    module.eval()
    return state.history


def _epoch(
    module: Any,
    weights: dict[str, Any],
    optimizer: Any,
    losses: Losses,
    rows: int,
    epoch: int,
    schedule: Schedule,
    average: _Average,
) -> float:
    """One pass over the rows; the mean loss of its batches. At the end of a fixed budget weights are averaged."""
    import torch

    random = np.random.default_rng([schedule.seed, epoch])
    torch.manual_seed(int(random.integers(2**63)))
    order = random.permutation(rows)
    batches = math.ceil(rows / schedule.batch)
    module.train()
    means = []
    steps = schedule.epochs * batches
    for number in range(batches):
        step = epoch * batches + number
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step, steps)
        optimizer.zero_grad(set_to_none=True)
        mean = 0.0
        for part in losses(order[number * schedule.batch : (number + 1) * schedule.batch]):
            part.backward()
            mean += part.item()
        torch.nn.utils.clip_grad_norm_(weights.values(), schedule.clip)
        optimizer.step()
        if not schedule.patience and step >= int((1 - schedule.tail) * steps):
            average.add(weights)
        means.append(mean)
    return float(np.mean(means))


@dataclass
class _Average:
    """The mean of the weights after ``count`` steps."""

    weights: dict[str, Any]
    count: int = 0

    def add(self, weights: Mapping[str, Any]) -> None:
        self.count += 1
        for name, value in _copy(weights).items():
            self.weights[name] = value if self.count == 1 else self.weights[name].lerp(value, 1 / self.count)


class _State:
    """What training has come to after its last finished epoch."""

    def __init__(self) -> None:
        self.history: list[dict[str, float]] = []
        self.weights: dict[str, Any] = {}
        self.best: dict[str, Any] = {}
        self.best_epoch, self.best_ranking = 0, -math.inf
        self.optimizer: dict[str, Any] = {}
        self.average = _Average({})

    def ended(self, schedule: Schedule) -> bool:
        epochs = len(self.history)
        return epochs >= schedule.epochs or 0 < schedule.patience <= epochs - self.best_epoch

    def add(self, loss: float, ranking: float, weights: dict[str, Any], optimizer: dict[str, Any]) -> None:
        self.history.append({"epoch": len(self.history) + 1, "loss": loss, "validation_auroc": ranking})
        self.weights, self.optimizer = weights, optimizer
        if ranking > self.best_ranking:
            self.best, self.best_epoch, self.best_ranking = weights, len(self.history), ranking

    @classmethod
    def read(cls, path: Path | None, settings: Mapping[str, Any]) -> _State:
        """The state in the file, or a new one. Raises ValueError when the file is damaged or of other settings."""
        import torch

        state = cls()
        if path is None or not path.exists():
            return state
        try:
            content = torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:  # torch names no common base of what a damaged file raises
            raise ValueError(f"{path}: not a readable training state; delete it to train from the start") from error
        begun = content.pop("settings")
        for key in sorted({*begun, *settings}):
            if begun.get(key) != settings.get(key):
                raise ValueError(
                    f"{path}: this training was begun with {key} = {begun.get(key)!r}, now it is "
                    f"{settings.get(key)!r}; delete the file to train from the start"
                )
        state.average = _Average(**content.pop("average"))
        vars(state).update(content)
        return state

    def write(self, path: Path | None, settings: Mapping[str, Any]) -> None:
        """Either the old file or the whole new one is there, whatever happens."""
        import torch

        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with temporary.open("wb") as stream:
            torch.save({**vars(self), "average": vars(self.average), "settings": dict(settings)}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)


def _require_pairs(validation: PrefixDataset) -> None:
    if math.isnan(within_problem_auroc(validation, [np.zeros(len(labelled.pool)) for labelled in validation])):
        raise ValueError(
            "no validation problem has two prefixes with different labels, so no epoch can be chosen; "
            "label more validation prefixes"
        )


def _copy(weights: Mapping[str, Any]) -> dict[str, Any]:
    return {name: parameter.detach().cpu().clone() for name, parameter in weights.items()}


def _set(weights: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    import torch

    with torch.no_grad():
        for name, parameter in weights.items():
            parameter.copy_(values[name])


def _digest_of(weights: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(_copy(weights).items()):
        digest.update(name.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def fingerprint(*parts: PrefixDataset | NDArray[Any]) -> str:
    """16 hex digits over data sets (problems, checkpoints, prefixes, labels) and arrays."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, PrefixDataset):
            for labelled in part:
                pool = labelled.pool
                digest.update(f"{pool.task}\x1f{pool.problem}\x1f{pool.position}\x1f{len(pool)}\x1f".encode())
                prefixes = pool.token_ids if pool.has(Signal.TOKEN_IDS) else ()
                for column in (pool.paths, pool.lengths, labelled.success, *prefixes):
                    digest.update(column.tobytes())
        else:
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(part.tobytes())
    return digest.hexdigest()[:16]
