"""From logits to tokens and signals: the filters of a sampling setting, inverse CDF, and what is told of a step."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from prunebench.bench.engines.base import Recording, Sampling


def filtered_probabilities(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """(R, V) float64 probabilities after temperature, top-k, top-p and min-p, in this order; rows sum to 1."""
    scaled = logits.double() / sampling.temperature
    if 0 < sampling.top_k < scaled.shape[-1]:
        floor = scaled.topk(sampling.top_k, dim=-1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < floor, -torch.inf)
    probabilities = scaled.softmax(-1)
    if sampling.top_p < 1:
        ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
        outside = ordered.cumsum(-1) - ordered >= sampling.top_p
        probabilities = probabilities.masked_fill(outside.scatter(-1, order, outside), 0.0)
    if sampling.min_p > 0:
        probabilities = probabilities.masked_fill(
            probabilities < sampling.min_p * probabilities.amax(-1, keepdim=True), 0.0
        )
    return probabilities / probabilities.sum(-1, keepdim=True)


def draw(logits: torch.Tensor, noise: NDArray[np.float64], sampling: Sampling) -> torch.Tensor:
    """(R,) token ids by inverse CDF in the order of the ids; temperature 0 takes the most probable token."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    cumulative = filtered_probabilities(logits, sampling).cumsum(-1)
    point = torch.from_numpy(noise).to(logits.device)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, point, right=True)[:, 0].clamp_(max=logits.shape[-1] - 1)


def signals_of(logits: torch.Tensor, tokens: torch.Tensor, recording: Recording) -> dict[str, NDArray[np.float32]]:
    """By name what is recorded of (R, V) raw (temperature 1, unbanned) distributions and (R,) drawn tokens; float32."""
    if not recording.per_token:
        return {}
    logprobs = logits.log_softmax(-1)
    columns = {}
    for signal in recording.per_token:
        assert signal.formula is not None
        width = (recording.topk,) if signal.wide else ()
        columns[signal.name] = signal.formula(logprobs, tokens, *width).cpu().numpy()
    return columns
