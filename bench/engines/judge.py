"""An engine's model as a judge: it reads contexts and writes behind them (:class:`methods.base.Generate`)."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.base import Engine, Request, Sampling
from prunebench.bench.errors import UserError


class EngineJudge:
    """Writes behind contexts with a :class:`bench.engines.transformers.engine.TransformersEngine`.

    Equal contexts are answered once. Every context is a pool of its own, so that the answer to it does not depend on
    what else is asked; with a temperature its noise is named by the seed and by a hash of the context. With ``recall``
    what was written before is not written again; where seconds are measured nothing is recalled.
    """

    def __init__(self, engine: Engine) -> None:
        if engine.arithmetic is None:
            raise UserError(f"judge {engine.name}: its size is not known, so that its work cannot be charged")
        self.engine, self.parameters = engine, engine.arithmetic.parameters
        self.recall = False
        self._written: dict[tuple[Sampling, int, bytes], NDArray[np.int64]] = {}
        self._encoded: dict[str, NDArray[np.int64]] = {}

    def recalling(self) -> EngineJudge:
        """The same judge, which does not write again what was written before."""
        judge = copy.copy(self)
        judge.recall = True
        return judge

    @property
    def weight_bytes(self) -> int:
        return self.engine.weight_bytes

    def encode(self, text: str) -> NDArray[np.int64]:
        """Ids of a text with nothing added; special tokens that are written out in it are recognised."""
        if not (self.recall and text in self._encoded):
            self._encoded[text] = np.array(self.engine.tokenizer(text, add_special_tokens=False)["input_ids"], np.int64)
        return self._encoded[text].copy()

    def decode(self, token_ids: NDArray[np.int64]) -> str:
        return self.engine.decode(token_ids)

    def complete(
        self, contexts: Sequence[NDArray[np.int64]], max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[NDArray[np.int64]]:
        """The new tokens after each context, fewer than asked for where the model's context ends.

        Raises UserError for a context that is empty or leaves no room.
        """
        distinct = self._distinct(contexts)
        sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens)
        asked = {k: ids for k, ids in distinct.items() if not (self.recall and (sampling, seed, k) in self._written)}
        requests = (Request("judge", ids, (_name(key),)) for key, ids in asked.items())
        rollouts = self.engine.sample(requests, sampling, seed, purpose="judge")
        for key, rollout in zip(asked, rollouts, strict=True):
            self._written[sampling, seed, key] = rollout.paths[0].token_ids
        return [self._written[sampling, seed, ids.tobytes()].copy() for ids in contexts]

    def next_logprobs(self, contexts: Sequence[NDArray[np.int64]], token_ids: Sequence[int]) -> NDArray[np.float64]:
        """(len(contexts), len(token_ids)) raw log-probabilities, in nats; nothing is banned."""
        distinct = self._distinct(contexts)
        rows = dict(zip(distinct, self.engine.read_next(list(distinct.values()), token_ids), strict=True))
        return np.array([rows[ids.tobytes()] for ids in contexts], np.float64).reshape(len(contexts), len(token_ids))

    def _distinct(self, contexts: Sequence[NDArray[np.int64]]) -> dict[bytes, NDArray[np.int64]]:
        longest = self.engine.context - 1
        for number, ids in enumerate(contexts):
            if not 1 <= len(ids) <= longest:
                raise UserError(
                    f"judge {self.engine.name}: context {number} has {len(ids)} tokens; it reads 1 to {longest}, so "
                    "check at an earlier position or name a judge with a longer context"
                )
        return {np.asarray(ids, np.int64).tobytes(): np.asarray(ids, np.int64) for ids in contexts}


def _name(key: bytes) -> int:
    """63 bits that name a context among all others."""
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 1
