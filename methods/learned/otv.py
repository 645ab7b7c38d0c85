"""OTV: one learned token that says, at any point of a path, whether the path will end right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.learned.stop import Stop
from prunebench.methods.pool import PrefixDataset
from prunebench.methods.registry import pruner


@pruner
@dataclass
class OneTokenVerification(Stop):
    """One verification token behind the prefix, with LoRA, reading the cache (arXiv 2603.01025).

    It is trained on the verdict of the finished path, 0 or 1, at every prefix length that the training data hold. No
    Monte Carlo label is read in training; the configuration alone is chosen by them, as for every method. The score is
    a probability of success (higher = keep, as in the source).

    Assumed: the target is the verdict itself at every length (the source shapes a confidence from it); token, adapter,
    head and learning rates are those of :class:`Stop` with ``tokens`` = 1; the cache is the frozen model's; the loss is
    cross-entropy over two classes.
    """

    name = "otv"
    paper = "arXiv 2603.01025"
    extra_cost = "reads 1 learned token behind every path"

    _ranked: ClassVar[tuple[float, ...]] = (0.0,)

    tokens: int = 1

    def _targets(self, train: PrefixDataset) -> NDArray[np.float64]:
        """The verdicts. Raises ValueError where one is not known."""
        verdicts = []
        for labelled in train:
            if labelled.outcome is None:
                raise ValueError(
                    f"{self.name} learns from the verdicts of finished paths, and problem '{labelled.pool.problem}' "
                    "has none (LabelledPool.outcome is None); train on pools of complete rollouts"
                )
            verdicts.append(labelled.outcome)
        return np.concatenate(verdicts)
