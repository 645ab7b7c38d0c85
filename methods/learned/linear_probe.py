"""A linear probe: what one layer's state at the last prefix token says about the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.base import LearnablePruner, NotFittedError, Scores, Setting, Signal, Source
from prunebench.methods.pool import LabelledPool, Pool, PrefixDataset
from prunebench.methods.registry import pruner


@pruner
@dataclass
class LinearProbe(LearnablePruner):
    """Logistic regression on the state after ``layer`` blocks, on soft labels (success s: weights s and 1 - s).

    ``centre`` subtracts the mean over all paths of the pool, labelled or not, at test time too: a path competes with
    the paths of its own problem only, and without it a probe learns to tell problems apart. Features are scaled by
    their spread in training.
    """

    name = "linear-probe"
    source = Source.INTERNAL
    requires = frozenset({Signal.HIDDEN_STATE})
    paper = "linear probing (arXiv 1610.01644)"

    layer: int = 1
    C: float = 0.1
    centre: bool = True

    @classmethod
    def configurations(cls, setting: Setting) -> Sequence[Self]:
        """Up to eight layers, evenly spread."""
        spread = np.linspace(1, setting.layers, min(8, setting.layers))
        return [cls(layer=layer) for layer in dict.fromkeys(round(x) for x in spread)]

    def fit(self, train: PrefixDataset, validation: PrefixDataset) -> Self:
        from sklearn.linear_model import LogisticRegression

        features = np.concatenate([self._marked(labelled) for labelled in train])
        self.scale_ = features.std(axis=0) + 1e-6
        scaled = features / self.scale_
        model = LogisticRegression(C=self.C, max_iter=2000)
        model.fit(
            np.concatenate([scaled, scaled]),
            np.repeat([1, 0], len(scaled)),
            sample_weight=np.concatenate([train.success, 1 - train.success]),
        )
        self.coefficients_ = model.coef_[0]
        self.intercept_ = model.intercept_
        return self

    def score(self, pool: Pool) -> Scores:
        if not hasattr(self, "coefficients_"):
            raise NotFittedError(self.name)
        return np.asarray(self._features(pool) / self.scale_ @ self.coefficients_ + self.intercept_[0], np.float64)

    def _marked(self, labelled: LabelledPool) -> NDArray[np.float64]:
        """(labelled prefixes, H), centred over all paths of the pool as at test."""
        return self._features(labelled.everything)[labelled.labelled]

    def _features(self, pool: Pool) -> NDArray[np.float64]:
        states = pool.hidden_state(self.layer).astype(np.float64)
        return states - states.mean(axis=0) if self.centre else states

    def save(self, path: Path) -> None:
        from safetensors.numpy import save_file

        if not hasattr(self, "coefficients_"):
            raise NotFittedError(self.name)
        arrays = {"coefficients": self.coefficients_, "intercept": self.intercept_, "scale": self.scale_}
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, str(path))

    def load(self, path: Path) -> Self:
        from safetensors.numpy import load_file

        arrays = load_file(str(path))
        self.coefficients_, self.intercept_ = arrays["coefficients"], arrays["intercept"]
        self.scale_ = arrays["scale"]
        return self
