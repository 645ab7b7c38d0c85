"""From logits to tokens and signals: the filters of a sampling setting, inverse CDF, and what is told of a step.

64 rows over 151,936 ids are 10 million numbers a step. They are not ordered and summed in float64: the likeliest ids
are found first, and a whole row is gone through only where they leave its token open.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from prunebench.bench.engines.base import Recording, Sampling

_SMALL = 4096
"""Vocabularies up to this size are gone through whole."""
_WIDTHS = (64, 1024)
"""Numbers of likeliest ids (beyond k) among which those that pass the filters are looked for."""
_BLOCK = 128
_NEAR = 1e-6
"""What float32 may be wrong by, as a share of the distribution; what lies nearer to a bound is decided in float64."""
_AT_ONCE = 1 << 20
"""Logits that are worked on at once on a CPU: its cache holds them."""

OPEN = -1
"""In place of a token that a way of drawing could not decide."""


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
    """(R,) token ids of (R, V) logits and (R,) uniform numbers in [0, 1): the inverse CDF of
    :func:`filtered_probabilities` in the order of the ids. Temperature 0 takes the most probable token.

    A row's token depends on its own logits and number only.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    points = torch.from_numpy(noise).to(logits.device)
    parts = zip(_parts(logits), _parts(points, logits), strict=True)
    return torch.cat([_drawn(some, there, sampling) for some, there in parts])


def _drawn(logits: torch.Tensor, points: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    first, *others = _ways(sampling, logits.shape[-1])
    tokens = first(logits, points, sampling)
    for way in others:
        rows = (tokens == OPEN).nonzero()[:, 0]
        if not len(rows):
            break
        tokens[rows] = way(logits[rows], points[rows], sampling)
    return tokens


def _parts(values: torch.Tensor, logits: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
    """``values`` by rows, as many of them at once as a CPU's cache holds of ``logits`` (its own where None)."""
    logits = values if logits is None else logits
    whole = logits.device.type != "cpu"
    return torch.split(values, max(1, len(logits) if whole else _AT_ONCE // logits.shape[-1]))


Way = Callable[[torch.Tensor, torch.Tensor, Sampling], torch.Tensor]
"""From (R, V) logits and (R,) points to (R,) tokens, ``OPEN`` where it could not decide."""


def _ways(sampling: Sampling, vocabulary: int) -> list[Way]:
    """The quick ones first; the last decides everything."""
    if vocabulary <= _SMALL:
        return [_of_all]
    if 0 < sampling.top_k < vocabulary:
        widths = (sampling.top_k + more for more in _WIDTHS)
        return [*(partial(_of_top_k, width=width) for width in widths if width < vocabulary), _of_all]
    if sampling.top_p < 1 or sampling.min_p > 0:
        return [*(partial(_of_likeliest, width=width) for width in _WIDTHS), _of_all]
    return [_by_blocks, _of_all]


def _of_all(logits: torch.Tensor, points: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    return _inverse(filtered_probabilities(logits, sampling), points)


def _of_top_k(logits: torch.Tensor, points: torch.Tensor, sampling: Sampling, width: int) -> torch.Tensor:
    """Among the ``width`` likeliest ids; open where all of them are as likely as the k-th, or likelier."""
    values, ids = logits.topk(width, dim=-1)
    floor = values[:, sampling.top_k - 1, None]
    chosen = ids.sort(-1).values
    kept = logits.gather(1, chosen)
    kept = kept.masked_fill(kept < floor, -torch.inf)
    places = _inverse(filtered_probabilities(kept, replace(sampling, top_k=0)), points)
    return chosen.gather(1, places[:, None])[:, 0].where(values[:, -1] < floor[:, 0], OPEN)


def _of_likeliest(logits: torch.Tensor, points: torch.Tensor, sampling: Sampling, width: int) -> torch.Tensor:
    """Among the ``width`` likeliest ids; open where more of them may pass the filters, or by float64 others."""
    chosen = logits.topk(width, dim=-1).indices.sort(-1).values
    values, order = logits.gather(1, chosen).sort(dim=-1, descending=True, stable=True)
    ordered = values.double() / sampling.temperature
    weights = logits.sub(values[:, :1]).div_(sampling.temperature).exp_()
    shares = (ordered - ordered[:, :1]).exp() / weights.sum(-1, keepdim=True, dtype=torch.float64)
    before = shares.cumsum(-1) - shares
    inside = (before < sampling.top_p) & (shares >= sampling.min_p * shares[:, :1])
    clear = ((before - sampling.top_p).abs().amin(-1) > _NEAR) | (sampling.top_p >= 1)
    last = inside.sum(-1, keepdim=True) - 1
    complete = (last[:, 0] + 1 < width) & (ordered.gather(1, last)[:, 0] > ordered[:, -1])
    kept = torch.zeros_like(shares).scatter_(1, order, shares * inside)
    tokens = chosen.gather(1, _inverse(kept, points)[:, None])[:, 0]
    return tokens.where(clear & complete, OPEN)


def _by_blocks(logits: torch.Tensor, points: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Without filters: the block of ids first, then the id; open where float64 could find another one."""
    rows, vocabulary = logits.shape
    weights = logits.sub(logits.amax(-1, keepdim=True)).div_(sampling.temperature).exp_()
    padded = torch.nn.functional.pad(weights, (0, -vocabulary % _BLOCK)).view(rows, -1, _BLOCK)
    ends = padded.sum(-1, dtype=torch.float64).cumsum(-1)
    point = points[:, None] * ends[:, -1:]
    block = torch.searchsorted(ends, point, right=True).clamp_(max=ends.shape[-1] - 1)
    inner = padded[torch.arange(rows, device=logits.device), block[:, 0]].double().cumsum(-1)
    inner += ends.gather(1, block) - inner[:, -1:]
    place = torch.searchsorted(inner, point, right=True).clamp_(max=_BLOCK - 1)
    edges = torch.cat([inner.gather(1, place), inner.gather(1, (place - 1).clamp_(min=0)), ends.gather(1, block)], 1)
    tokens = (block * _BLOCK + place)[:, 0]
    return tokens.where((edges - point).abs().amin(-1) > _NEAR * ends[:, -1], OPEN)


def _inverse(chances: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """(R,) places in (R, C) weights, which need not sum to 1."""
    cumulative = chances.cumsum(-1)
    point = points[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, point, right=True)[:, 0].clamp_(max=chances.shape[-1] - 1)


def signals_of(logits: torch.Tensor, tokens: torch.Tensor, recording: Recording) -> dict[str, NDArray[np.float32]]:
    """By name what is recorded of (R, V) raw (temperature 1, unbanned) distributions and (R,) drawn tokens; float32."""
    columns: dict[str, list[torch.Tensor]] = {signal.name: [] for signal in recording.per_token}
    if not columns:
        return {}
    for part, drawn in zip(_parts(logits), _parts(tokens, logits), strict=True):
        logprobs = part.log_softmax(-1)
        for signal in recording.per_token:
            assert signal.formula is not None
            width = (recording.topk,) if signal.wide else ()
            columns[signal.name].append(signal.formula(logprobs, drawn, *width))
    return {name: torch.cat(parts).cpu().numpy() for name, parts in columns.items()}
