"""Our keyed noise inside vLLM's worker: a logits processor that draws every token as the default engine does.

It runs in vLLM's own process. A request brings its key, path and place in ``SamplingParams.extra_args``; the token that
the noise selects gets logit 0 and all others minus infinity, so that greedy sampling takes it. vLLM's log-probabilities
are those of the raw logits, before this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from vllm.v1.sample.logits_processor import LogitsProcessor
from vllm.v1.sample.logits_processor.interface import BatchUpdate, MoveDirectionality

from bench.engines.base import Sampling
from bench.engines.drawing import draw
from bench.engines.noise import uniforms

ARGUMENTS = "prunebench"


@dataclass
class _Row:
    key: int
    path: int
    given: int
    sampling: Sampling
    banned: list[int]
    written: list[int]
    """The request's output so far; vLLM goes on writing into it."""


class KeyedNoise(LogitsProcessor):  # type: ignore[misc]
    """Selects tokens by inverse CDF; requests without our arguments are left alone."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._rows: dict[int, _Row] = {}

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if batch_update is None:
            return
        for index in batch_update.removed:
            self._rows.pop(index, None)
        for index, params, _prompt, written in batch_update.added:
            told = (params.extra_args or {}).get(ARGUMENTS)
            self._rows.pop(index, None)
            if told is not None:
                sampling = Sampling(*told["sampling"])
                self._rows[index] = _Row(told["key"], told["path"], told["given"], sampling, told["banned"], written)
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
        noise = uniforms(
            np.array([row.key for row in rows], np.uint64),
            np.array([row.path for row in rows], np.uint64),
            np.array([row.given + len(row.written) for row in rows], np.uint64),
        )
        chosen = logits[places]
        if rows[0].banned:
            chosen = chosen.index_fill(1, torch.tensor(rows[0].banned, device=logits.device), -torch.inf)
        tokens = draw(chosen, noise, rows[0].sampling)
        logits[places] = -torch.inf
        logits[places, tokens] = 0.0
        return logits
