"""Made-up data that methods can be trained on, and one training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from prunebench.bench.training.tuning import train_method
from prunebench.methods.base import Setting, Signal
from prunebench.methods.examples import example_dataset
from prunebench.methods.pool import LabelledPool, PrefixDataset

SETTING = Setting(prefix_tokens=12, vocabulary_size=64, hidden_size=6, layers=3)
TELLING = 2


def dataset(seed: int, pools: int = 12) -> PrefixDataset:
    """Example pools whose success can be read off the state of layer 2 alone."""
    found = []
    for labelled in example_dataset(pools, seed=seed):
        states = dict(labelled.pool.signals[Signal.HIDDEN_STATE])
        states[TELLING] = states[TELLING] + 4 * np.outer(labelled.success, np.ones(6)).astype(np.float32)
        pool = replace(labelled.pool, signals={**labelled.pool.signals, Signal.HIDDEN_STATE: states})
        found.append(LabelledPool(pool, labelled.success, labelled.continuations))
    return PrefixDataset(tuple(found))


def trained(folder, name="linear-probe", train=None):
    return train_method(
        name, train or dataset(1), dataset(2, 6), SETTING, folder, model_hash="m1", sampling_digest="s1"
    )
