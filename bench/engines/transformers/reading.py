"""Prefixes that are read again: their caches, states, signals, and what would follow them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from prunebench.bench.engines.base import OF_STATES, Recording
from prunebench.bench.engines.sampling import signals_of
from prunebench.bench.engines.tokenization import distinct_rows
from prunebench.bench.engines.transformers.caches import Forward
from prunebench.bench.engines.transformers.decoding import Head
from prunebench.methods.base import Signal
from prunebench.methods.pool import Pool


@dataclass(frozen=True)
class PrefixEncoder:
    """Encodes prompt + prefix, equal prefixes once."""

    forward: Forward
    head: Head
    device: str

    @torch.inference_mode()
    def cache(self, pool: Pool) -> tuple[tuple[tuple[torch.Tensor, torch.Tensor], ...], NDArray[np.int64]]:
        """Keys and values per layer (N, kv_heads, positions, head_dim), and int64 (N,) how many of them exist."""
        distinct, inverse = distinct_rows(pool)
        ids, lengths = self._padded(pool, distinct)
        cache, _, _ = self.forward.prefill(ids, states=False, whole=True)
        index = torch.from_numpy(inverse).to(self.device)
        layers = tuple((keys.index_select(0, index), values.index_select(0, index)) for keys, values in cache.layers())
        return layers, lengths[inverse]

    @torch.inference_mode()
    def columns(self, pool: Pool, signals: frozenset[Signal]) -> dict[Signal, Any]:
        """Those that are :func:`rereadable`, as the columns that :class:`Pool` describes."""
        distinct, inverse = distinct_rows(pool)
        ids, lengths = self._padded(pool, distinct)
        _, final, states = self.forward.prefill(ids, states=bool(signals & OF_STATES))
        start = len(pool.prompt_ids)
        prefix_lengths = lengths - start
        columns = _columns_of_states([layer[:, start:] for layer in states], prefix_lengths, inverse, signals)
        wanted = tuple(signals - OF_STATES)
        if wanted:
            logits = self.head(final[:, start - 1 : -1].flatten(0, 1))
            values = signals_of(logits, ids[:, start:].flatten(), Recording(wanted, topk_tokens=1))
            for signal in wanted:
                flat = values[signal.name]
                column = flat.reshape(len(ids), -1, *flat.shape[1:])
                columns[signal] = tuple(column[row, : prefix_lengths[row]] for row in inverse)
        return columns

    @torch.inference_mode()
    def states(self, pool: Pool) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Of all prefix tokens the states (layers + 1, N, L, H), and which (N, L) exist."""
        ids, lengths = self._padded(pool, range(len(pool)))
        _, _, states = self.forward.prefill(ids, states=True)
        start = len(pool.prompt_ids)
        exists = np.arange(start, ids.shape[1]) < lengths[:, None]
        return torch.stack(states)[:, :, start:].float().cpu().numpy(), exists

    @torch.inference_mode()
    def next_logprobs(
        self, pool: Pool, suffix_ids: Sequence[int], token_ids: Sequence[int]
    ) -> tuple[NDArray[np.float64], float]:
        """(N, len(token_ids)) right after prefix + suffix; and the share of the tokens read that are no suffix."""
        distinct, inverse = distinct_rows(pool)
        ids, lengths = self._padded(pool, distinct, suffix_ids)
        _, final, _ = self.forward.prefill(ids, states=False)
        last = torch.from_numpy(lengths - 1).to(self.device)
        logits = self.head(final[torch.arange(len(ids), device=self.device), last])
        logprobs: NDArray[np.float64] = logits.double().log_softmax(-1)[:, list(token_ids)].cpu().numpy()
        return logprobs[inverse], float((lengths - len(suffix_ids)).sum() / lengths.sum())

    def _padded(
        self, pool: Pool, rows: Sequence[int], suffix_ids: Sequence[int] = ()
    ) -> tuple[torch.Tensor, NDArray[np.int64]]:
        """Prompt, prefix and suffix, padded on the right, and their lengths."""
        suffix = np.array(list(suffix_ids), np.int64)
        texts = [np.concatenate([pool.prompt_ids, pool.token_ids[row], suffix]) for row in rows]
        lengths = np.array([len(text) for text in texts])
        ids = np.zeros((len(texts), int(lengths.max())), np.int64)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = text
        return torch.from_numpy(ids).to(self.device), lengths


def _columns_of_states(
    states: Sequence[torch.Tensor],
    lengths: NDArray[np.int64],
    inverse: NDArray[np.int64],
    signals: frozenset[Signal],
) -> dict[Signal, Any]:
    """From the prefixes' ``states`` (distinct, L, H) per layer; none where none are wanted."""
    if not signals & OF_STATES:
        return {}
    layers = [layer.float().cpu().numpy() for layer in states]
    last = [layer[np.arange(len(lengths)), lengths - 1][inverse] for layer in layers]
    columns: dict[Signal, Any] = {
        signal: dict(enumerate(last)) for signal in signals & {Signal.HIDDEN_STATE, Signal.ALL_LAYERS}
    }
    if Signal.STATES in signals:
        columns[Signal.STATES] = {
            number: tuple(layer[row, : lengths[row]] for row in inverse) for number, layer in enumerate(layers)
        }
    return columns
