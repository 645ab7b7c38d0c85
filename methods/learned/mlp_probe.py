"""A probe with one hidden layer: what one layer's state at the last prefix token says, beyond a straight line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.base import LearnablePruner, NotFittedError, Scores, Setting, Signal, Source
from prunebench.methods.learned.fitting import Schedule, fingerprint, fit_module
from prunebench.methods.pool import LabelledPool, Pool, PrefixDataset
from prunebench.methods.registry import pruner


@pruner
@dataclass
class MlpProbe(LearnablePruner):
    """One hidden layer on the state (N, H) after ``layer`` blocks; the score is the logit of success (higher = keep).

    logit = v . relu(W x + b) + c, trained by soft cross-entropy against the success rate, the epoch chosen by
    within-problem ranking. ``centre`` subtracts the mean over all paths of the pool, as the linear probe does: a
    path competes with the paths of its own problem only. Features are scaled by their spread in training.
    """

    name = "mlp-probe"
    source = Source.INTERNAL
    requires = frozenset({Signal.HIDDEN_STATE})
    paper = "probing with a hidden layer (arXiv 1909.03368)"
    extra_cost = "a small network on one state of every path"

    layer: int = 1
    width: int = 64
    learning_rate: float = 1e-3
    epochs: int = 40
    batch: int = 128
    patience: int = 8
    centre: bool = True
    seed: int = 0

    @classmethod
    def configurations(cls, setting: Setting) -> Sequence[Self]:
        """Up to four layers, evenly spread, with a quarter of the model's width and with all of it (at most 512)."""
        layers = dict.fromkeys(round(x) for x in np.linspace(1, setting.layers, min(4, setting.layers)))
        widths = dict.fromkeys(max(8, min(512, setting.hidden_size // part)) for part in (4, 1))
        return [cls(layer=layer, width=width) for layer in layers for width in widths]

    def fit(self, train: PrefixDataset, validation: PrefixDataset) -> Self:
        features = np.concatenate([self._marked(labelled) for labelled in train])
        judged = [self._marked(labelled) for labelled in validation]
        self.perceptron_, self.history_ = Perceptron.fit(
            features,
            train.success,
            self.width,
            lambda perceptron: [perceptron.logits(states) for states in judged],
            validation,
            Schedule(self.learning_rate, self.epochs, self.batch, self.patience, self.seed),
            {"method": self.name, **self.hyperparameters(), "data": fingerprint(train, validation, features, *judged)},
            self.resume_in_,
        )
        return self

    def score(self, pool: Pool) -> Scores:
        if not hasattr(self, "perceptron_"):
            raise NotFittedError(self.name)
        features = self._features(pool)
        pool.charge(flops=self.perceptron_.flops)
        return self.perceptron_.logits(features)

    def _marked(self, labelled: LabelledPool) -> NDArray[np.float64]:
        """(labelled prefixes, H), centred over all paths of the pool as at test."""
        return self._features(labelled.everything)[labelled.labelled]

    def _features(self, pool: Pool) -> NDArray[np.float64]:
        states = pool.hidden_state(self.layer).astype(np.float64)
        return states - states.mean(axis=0) if self.centre else states

    def save(self, path: Path) -> None:
        if not hasattr(self, "perceptron_"):
            raise NotFittedError(self.name)
        self.perceptron_.save(path)

    def load(self, path: Path) -> Self:
        self.perceptron_ = Perceptron.load(path)
        return self


@dataclass(frozen=True)
class Perceptron:
    """logit(x) = output . relu(hidden z + hidden_bias) + output_bias, with z = (x - mean) / scale.

    ``mean`` and ``scale`` (H,), ``hidden`` (width, H), ``hidden_bias`` and ``output`` (width,), ``output_bias`` (1,).
    """

    mean: NDArray[Any]
    scale: NDArray[Any]
    hidden: NDArray[Any]
    hidden_bias: NDArray[Any]
    output: NDArray[Any]
    output_bias: NDArray[Any]

    @property
    def flops(self) -> float:
        """Arithmetic of one row: a multiplication and an addition per weight."""
        return 2.0 * (self.hidden.size + self.output.size)

    def logits(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """(rows,) float64 from (rows, H)."""
        inputs = (features.astype(np.float64) - self.mean) / self.scale
        active = np.maximum(inputs @ self.hidden.T.astype(np.float64) + self.hidden_bias, 0)
        return np.asarray(active @ self.output.astype(np.float64) + self.output_bias[0], np.float64)

    @classmethod
    def fit(
        cls,
        features: NDArray[Any],
        targets: NDArray[np.float64],
        width: int,
        judge: Callable[[Perceptron], Sequence[NDArray[np.float64]]],
        validation: PrefixDataset,
        schedule: Schedule,
        settings: Mapping[str, Any],
        resume_in: Path | None,
    ) -> tuple[Perceptron, list[dict[str, float]]]:
        """Learn soft ``targets`` (rows,) from ``features`` (rows, H); also the history of :func:`fit_module`."""
        import torch
        from torch.nn import functional

        mean, scale = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64) + 1e-6
        inputs = torch.from_numpy((features - mean) / scale).float()
        wanted = torch.from_numpy(targets).float()
        with torch.random.fork_rng():
            torch.manual_seed(schedule.seed)
            layers = (torch.nn.Linear(features.shape[1], width), torch.nn.Linear(width, 1))
        module = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1])

        def now() -> Perceptron:
            weights = [parameter.detach().numpy().copy() for parameter in module.parameters()]
            return cls(mean, scale, weights[0], weights[1], weights[2][0], weights[3])

        history = fit_module(
            module,
            lambda rows: [functional.binary_cross_entropy_with_logits(module(inputs[rows])[:, 0], wanted[rows])],
            len(targets),
            lambda: judge(now()),
            validation,
            schedule,
            settings,
            resume_in,
        )
        return now(), history

    def save(self, path: Path) -> None:
        from safetensors.numpy import save_file

        save_file({name: np.ascontiguousarray(array) for name, array in vars(self).items()}, str(path))

    @classmethod
    def load(cls, path: Path) -> Perceptron:
        from safetensors.numpy import load_file

        return cls(**load_file(str(path)))
