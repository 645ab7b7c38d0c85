"""Matrix products of a few rows on a CPU: the weights are brought into the library's own order once, not at every step.

oneDNN reorders a weight matrix before it multiplies, which costs more than a product of 16 rows itself. A row's result
does not depend on how many rows share the product (held by a test), as with the plain product.
"""

from __future__ import annotations

import platform
from typing import Any

import torch
from torch import nn

_MOST_BYTES = 2 << 30
"""Weights beyond this are left as they are: reordered ones are a second copy."""
_ROWS = 64
"""For about so many rows is the order chosen."""


class ReorderedLinear(nn.Module):
    """A frozen linear layer over a copy of its weights in the library's order; for inference only."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.order = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _ROWS)
        self.bias = linear.bias

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out)."""
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(states, self.order, self.bias, "none", [], "")
        return product


def reorders(model: Any) -> bool:
    """Whether the weights of ``model`` can be reordered, and are small enough to be held twice."""
    weights = list(model.parameters())
    kinds = {(weight.device.type, weight.dtype) for weight in weights}
    there = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    if not there or platform.machine() not in ("x86_64", "AMD64"):
        return False
    if kinds == {("cpu", torch.bfloat16)}:
        known = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    else:
        known = kinds == {("cpu", torch.float32)}
    return known and sum(weight.numel() * weight.element_size() for weight in weights) <= _MOST_BYTES


def reorder(module: nn.Module) -> None:
    """Put reordered layers in place of all linear ones of a module tree that nobody else uses."""
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, ReorderedLinear(child))
        else:
            reorder(child)
