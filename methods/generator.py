"""What passes between a method and the generating model: phrases, probes, caches, learned tokens."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Phrases:
    """What the generating model is asked with, in its own token ids; ``bench`` fills it from the task.

    ``answer``: the suffix that forces a final answer now. ``question``: the suffix that asks whether the prefix is
    right so far, to be answered by the tokens ``yes`` or ``no``. ``step_end``: the token that ends a step.
    ``closing``: at most so many tokens are put before ``answer`` or ``question`` where a prefix is still reasoning.
    """

    answer: tuple[int, ...]
    question: tuple[int, ...]
    yes: int
    no: int
    step_end: int
    closing: int = 0


@dataclass(frozen=True)
class Probe:
    """A forced continuation of N prefixes: per row token ids and their log-probabilities; ``answer_class`` int64[N].

    ``answered`` int64[N]: so many of the first tokens are the answer itself; what closes it comes behind them.
    """

    token_ids: tuple[NDArray[np.int64], ...]
    token_logprobs: tuple[NDArray[np.float64], ...]
    answer_class: NDArray[np.int64]
    answered: NDArray[np.int64]

    def __iter__(self) -> Iterator[Answer]:
        rows = zip(self.token_ids, self.token_logprobs, self.answer_class.tolist(), self.answered.tolist(), strict=True)
        return (Answer(*row) for row in rows)

    @classmethod
    def of(cls, answers: Sequence[Answer]) -> Probe:
        return cls(
            tuple(answer.token_ids for answer in answers),
            tuple(answer.token_logprobs for answer in answers),
            np.array([answer.answer_class for answer in answers], np.int64),
            np.array([answer.answered for answer in answers], np.int64),
        )


class Answer(NamedTuple):
    """One row of a :class:`Probe`."""

    token_ids: NDArray[np.int64]
    token_logprobs: NDArray[np.float64]
    answer_class: int
    answered: int


@dataclass(frozen=True)
class PrefixCache:
    """The frozen model and its keys and values over prompt + prefix of some rows.

    ``layers`` holds one (keys, values) pair per layer, each (rows, kv_heads, width, head_dim), right-padded;
    ``lengths`` int64[rows] counts the valid positions of every row. The tensors are read-only for a method.
    """

    model: Any
    layers: tuple[tuple[Any, Any], ...]
    lengths: NDArray[np.int64]


@dataclass(frozen=True)
class LearnedTokens:
    """Learned tokens to be read behind a prefix: ``vector`` float32 (H,), repeated ``count`` times.

    ``adapter`` maps a module of the frozen model, as ``layers.0.self_attn.q_proj``, to its LoRA matrices A (r, in) and
    B (out, r), float32; ``scale`` is alpha / r. It is active on these tokens only.
    """

    vector: NDArray[np.float32]
    count: int
    adapter: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
    scale: float


def share_weights(model: Any) -> Any:
    """A second module tree over the same parameter tensors: hooks, adapters and settings of one leave the other be."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})


def has_windows(config: Any) -> bool:
    """Whether a layer of the model behind a text configuration attends to less than all before it."""
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return any(kind != "full_attention" for kind in kinds)
    return getattr(config, "sliding_window", None) is not None
