"""Small pools and labelled data of a random model, to try a pruner on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.base import Setting
from prunebench.methods.generator import Phrases
from prunebench.methods.pool import Columns, Generator, LabelledPool, Pool, PrefixDataset
from prunebench.methods.signals import Signal

_VOCABULARY, _WIDTH, _LAYERS, _CONTINUATIONS = 64, 6, 36, 8
_POSITION = 12

EXAMPLE_SETTING = Setting(_POSITION, _VOCABULARY, _WIDTH, _LAYERS)
"""The shape of :func:`example_pool`, for methods that propose configurations."""


def example_pool(
    paths: int = 7,
    position: int = _POSITION,
    *,
    problem: str = "example",
    seed: int = 0,
    generator: Generator | None = None,
) -> Pool:
    """A pool of random prefixes with every recorded signal, the privileged ones included.

    The signals are those of one random model: log-probabilities, top-k and entropies fit together. Every third path
    has finished, at or before ``position``. Token ids are 4..63; 20 log-probabilities; layers 0..36 of width 6.
    """
    random = np.random.default_rng([seed, paths, position])
    finished = np.arange(paths) % 3 == 1
    lengths = np.where(finished, random.integers(1, position + 1, paths), position).astype(np.int64)
    ids, logprobs = [], []
    for length in lengths:
        logits = random.normal(0, random.uniform(0.5, 2.5), (length, _VOCABULARY - 4))
        logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        ids.append(((logs + random.gumbel(size=logs.shape)).argmax(1) + 4).astype(np.int64))
        logprobs.append(logs)
    potential = random.integers(0, _CONTINUATIONS + 1, paths) / _CONTINUATIONS
    states = {layer: random.normal(size=(paths, _WIDTH)).astype(np.float32) for layer in range(_LAYERS + 1)}
    answer_class = np.where(finished, random.integers(0, 3, paths), -1).astype(np.int64)
    columns: dict[Signal, Any] = {
        Signal.TEXT: tuple(" ".join(f"t{token}" for token in row) for row in ids),
        Signal.TOKEN_IDS: tuple(ids),
        Signal.HIDDEN_STATE: states,
        Signal.ALL_LAYERS: states,
        Signal.STATES: {
            layer: tuple(random.normal(size=(length, _WIDTH)).astype(np.float32) for length in lengths)
            for layer in range(_LAYERS + 1)
        },
        Signal.OUTCOME: (random.random(paths) < potential).astype(np.float64),
        Signal.POTENTIAL: potential,
    }

    def column(signal: Signal) -> Any:
        if signal not in columns:
            columns[signal] = tuple(_computed(signal, *pair) for pair in zip(logprobs, ids, strict=True))
        return columns[signal]

    names = (*columns, *(signal for signal in Signal if signal.formula is not None))
    return Pool(
        problem=problem,
        task="example",
        position=position,
        prompt="t4 t5 t6",
        prompt_ids=np.array([4, 5, 6], np.int64),
        paths=np.arange(paths, dtype=np.int64),
        lengths=lengths,
        finished=finished,
        answer_class=answer_class,
        signals=Columns(names, column),
        generator=generator,
        phrases=Phrases(answer=(8, 9), question=(10,), yes=11, no=12, step_end=4),
    )


def _computed(signal: Signal, logprobs: NDArray[np.float64], ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """A signal of the tokens of one path of the random model."""
    import torch

    assert signal.formula is not None
    width = (20,) if signal.wide else ()
    values = signal.formula(torch.from_numpy(logprobs), torch.from_numpy(ids - 4), *width)
    return np.asarray(values.numpy(), np.float32)


def example_dataset(pools: int = 6, *, seed: int = 0, generator: Generator | None = None) -> PrefixDataset:
    """Labelled public pools of distinct problems; another ``seed`` gives other problems."""
    drawn = [
        example_pool(problem=f"example-{seed}-{index}", seed=1000 * seed + index, generator=generator)
        for index in range(pools)
    ]
    return PrefixDataset(
        tuple(
            LabelledPool(pool.public(), pool.potential, _CONTINUATIONS, pool.outcome, np.arange(len(pool)) % 3)
            for pool in drawn
        )
    )
