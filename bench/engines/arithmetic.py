"""The size of a model: what its tokens cost in FLOPs, and what their keys and values take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.meter import Cost

Lengths = NDArray[np.int64]


@dataclass(frozen=True)
class ModelShape:
    """``width``: of the residual stream."""

    vocabulary: int
    width: int
    layers: int

    @classmethod
    def of(cls, config: Any) -> ModelShape:
        """From a transformers configuration."""
        return cls(config.vocab_size, config.hidden_size, config.num_hidden_layers)


@dataclass(frozen=True)
class Arithmetic:
    """A generating model as the ledger charges it.

    ``parameters`` of the whole model; ``width``: heads times head size of one layer; ``kv_bytes``: keys and values of
    one token, all layers.
    """

    parameters: int
    layers: int
    width: int
    kv_bytes: int

    @classmethod
    def of(cls, config: Any, parameters: int, bytes_per_number: int) -> Arithmetic:
        """From a transformers configuration. ``parameters`` must be positive (ValueError)."""
        if parameters < 1:
            raise ValueError(f"parameters = {parameters}: the generator needs at least one")
        heads = config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        layers = config.num_hidden_layers
        return cls(parameters, layers, heads * size, 2 * layers * kv_heads * size * bytes_per_number)

    def decoding(self, prompt: int, begin: Lengths, end: Lengths) -> float:
        """FLOPs of decoding tokens begin+1 .. end of every path behind ``prompt`` tokens, summed over all of them.

        A token costs 2 per parameter, and 4 * layers * width per position that it attends to (scores and sums).
        """
        count = (end - begin).astype(np.float64)
        attended = count * prompt + (end * (end + 1) - begin * (begin + 1)) / 2
        return float(2 * self.parameters * count.sum() + 4 * self.layers * self.width * attended.sum())

    def beyond(self, cost: Cost, context: int) -> float:
        """FLOPs of a method's own tokens; those of the generator attend to ``context`` positions."""
        tokens = cost.tokens if cost.flops is None else cost.generator_tokens
        return tokens * (2.0 * self.parameters + 4.0 * self.layers * self.width * context) + (cost.flops or 0.0)
