"""STEP: a small network reads the state at the end of every step, and a path is as good as its steps so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.base import LearnablePruner, NotFittedError, Scores, Setting, Signal, Source
from prunebench.methods.learned.fitting import Schedule, fingerprint
from prunebench.methods.learned.mlp_probe import Perceptron
from prunebench.methods.pool import Pool, PrefixDataset
from prunebench.methods.registry import pruner


@pruner
@dataclass
class Step(LearnablePruner):
    """Step scores of hidden states (arXiv 2601.09093; higher = keep, as in the source).

    A boundary is a prefix token that equals ``pool.phrases.step_end``; a prefix without one has its last token as its
    only boundary. A network with one hidden layer gives every boundary a probability of success from the state (H,)
    after ``layer`` blocks; the score of a path is the mean of these over its boundaries so far. To weight a vote by it
    is a vote's job.

    Training: every boundary inherits the success rate of its prefix. Training and validation are split by problem; the
    source splits by step, so that steps of one path stand on both sides, which leaks.
    """

    name = "step"
    source = Source.INTERNAL
    requires = frozenset({Signal.STATES, Signal.TOKEN_IDS})
    paper = "arXiv 2601.09093"
    pointwise = True
    probability = True
    extra_cost = "a small network at every end of a step"

    layer: int = 1
    width: int = 512
    learning_rate: float = 1e-3
    epochs: int = 20
    batch: int = 256
    patience: int = 4
    seed: int = 0

    @classmethod
    def configurations(cls, setting: Setting) -> Sequence[Self]:
        """Up to four layers, evenly spread, and two learning rates; no wider than the model itself."""
        layers = dict.fromkeys(round(x) for x in np.linspace(1, setting.layers, min(4, setting.layers)))
        width = max(8, min(512, setting.hidden_size))
        return [cls(layer=layer, width=width, learning_rate=rate) for layer in layers for rate in (1e-4, 1e-3)]

    def fit(self, train: PrefixDataset, validation: PrefixDataset) -> Self:
        states = [path for labelled in train for path in self._boundary_states(labelled.pool)]
        judged = [self._boundary_states(labelled.pool) for labelled in validation]
        features = np.concatenate(states)
        targets = np.repeat(train.success, [len(path) for path in states])
        self.perceptron_, self.history_ = Perceptron.fit(
            features,
            targets,
            self.width,
            lambda perceptron: [_means(perceptron, paths) for paths in judged],
            validation,
            Schedule(self.learning_rate, self.epochs, self.batch, self.patience, self.seed),
            {
                "method": self.name,
                **self.hyperparameters(),
                "data": fingerprint(train, validation, features, *(path for paths in judged for path in paths)),
            },
            self.resume_in_,
        )
        return self

    def score(self, pool: Pool) -> Scores:
        if not hasattr(self, "perceptron_"):
            raise NotFittedError(self.name)
        paths = self._boundary_states(pool)
        # The states are there when the path is decoded; the network's own arithmetic is charged.
        pool.charge(flops=self.perceptron_.flops * np.array([len(path) for path in paths]))
        return _means(self.perceptron_, paths)

    def _boundary_states(self, pool: Pool) -> list[NDArray[np.float32]]:
        """Per path (boundaries, H). Raises ValueError when nobody says which token ends a step."""
        states, token_ids = pool.states(self.layer), pool.token_ids
        if pool.phrases is None:
            raise ValueError(
                f"{self.name}: the pool of problem '{pool.problem}' does not say which token ends a step "
                "(Pool.phrases is None); build it with the phrases of its task"
            )
        ends = [np.flatnonzero(ids == pool.phrases.step_end) for ids in token_ids]
        return [path[rows if len(rows) else [-1]] for path, rows in zip(states, ends, strict=True)]

    def save(self, path: Path) -> None:
        if not hasattr(self, "perceptron_"):
            raise NotFittedError(self.name)
        self.perceptron_.save(path)

    def load(self, path: Path) -> Self:
        self.perceptron_ = Perceptron.load(path)
        return self


def _means(perceptron: Perceptron, paths: Sequence[NDArray[np.float32]]) -> Scores:
    """(N,) mean probability over the boundaries of every path."""
    sizes = np.array([len(path) for path in paths])
    probabilities = 0.5 * (1 + np.tanh(perceptron.logits(np.concatenate(paths)) / 2))
    return np.asarray(np.add.reduceat(probabilities, np.cumsum(sizes) - sizes) / sizes, np.float64)
