"""Our keyed noise inside vLLM's worker: a logits processor that draws every token as the default engine does.

It runs in vLLM's own process. A request brings its key, path and place in ``SamplingParams.extra_args``; the token that
the noise selects gets logit 0 and all others minus infinity, so that greedy sampling takes it. What is recorded is
told of the raw logits, before this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from vllm.v1.sample.logits_processor import LogitsProcessor
from vllm.v1.sample.logits_processor.interface import BatchUpdate, MoveDirectionality

from prunebench.bench.engines.base import Recording, Sampling
from prunebench.bench.engines.noise import uniforms
from prunebench.bench.engines.sampling import draw, signals_of

ARGUMENTS = "prunebench"


@dataclass
class _Row:
    key: int
    path: int
    prefix_tokens: int
    number: int
    """Names the request among those that are sampled together."""
    sampling: Sampling
    recording: Recording
    banned: list[int]
    written: list[int]
    """The request's output so far; vLLM goes on writing into it."""


class KeyedNoise(LogitsProcessor):  # type: ignore[misc]
    """Selects tokens by inverse CDF; requests without our arguments are left alone.

    One call samples all its requests with one setting and records the same signals of them.
    """

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._rows: dict[int, _Row] = {}
        self._recorded: list[tuple[NDArray[np.int64], NDArray[np.int64], dict[str, NDArray[np.float32]]]] = []

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if batch_update is None:
            return
        for index in batch_update.removed:
            self._rows.pop(index, None)
        for index, params, _prompt, written in batch_update.added:
            arguments = (params.extra_args or {}).get(ARGUMENTS)
            self._rows.pop(index, None)
            if arguments is not None:
                self._rows[index] = _Row(
                    **{name: arguments[name] for name in ("key", "path", "prefix_tokens", "number", "banned")},
                    sampling=Sampling(*arguments["sampling"]),
                    recording=Recording.from_plain(arguments["recording"]),
                    written=written,
                )
        for here, there, direction in batch_update.moved:
            mine, other = self._rows.pop(here, None), self._rows.pop(there, None)
            if mine is not None:
                self._rows[there] = mine
            if other is not None and direction == MoveDirectionality.SWAP:
                self._rows[here] = other

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        if not self._rows:
            return logits
        places = list(self._rows)
        rows = [self._rows[place] for place in places]
        steps = np.array([len(row.written) for row in rows])
        noise = uniforms(
            np.array([row.key for row in rows], np.uint64),
            np.array([row.path for row in rows], np.uint64),
            np.array([row.prefix_tokens for row in rows], np.uint64) + steps.astype(np.uint64),
        )
        raw = logits[places]
        banned = rows[0].banned
        allowed = raw.index_fill(1, torch.tensor(banned, device=raw.device), -torch.inf) if banned else raw
        tokens = draw(allowed, noise, rows[0].sampling)
        if columns := signals_of(raw, tokens, rows[0].recording):
            self._recorded.append((np.array([row.number for row in rows]), steps, columns))
        logits[places] = -torch.inf
        logits[places, tokens] = 0.0
        return logits

    def take(self) -> dict[str, NDArray[Any]]:
        """What was recorded since the last call: ``number`` and ``step`` of every token, and a column per signal."""
        recorded, self._recorded = self._recorded, []
        if not recorded:
            return {}
        numbers, steps, signals = zip(*recorded, strict=True)
        columns = {name: np.concatenate([some[name] for some in signals]) for name in signals[0]}
        return {"number": np.concatenate(numbers), "step": np.concatenate(steps), **columns}
