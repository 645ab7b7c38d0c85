from __future__ import annotations

import pytest
import torch
from torch import nn

from prunebench.bench.engines.transformers import products
from prunebench.bench.engines.transformers.products import ReorderedLinear, reorder, reorders

DTYPES = (torch.float32, torch.bfloat16)


def layer(dtype: torch.dtype, width: int = 576, out: int = 192, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(width, out, bias=bias).to(dtype).requires_grad_(False)


def able(dtype: torch.dtype) -> None:
    if not reorders(layer(dtype)):
        pytest.skip(f"no products of reordered {dtype} weights on this machine")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
def test_a_reordered_layer_is_the_layer(dtype, bias):
    able(dtype)
    linear = layer(dtype, bias=bias)
    states = torch.randn(3, 16, 576, dtype=dtype)
    expected = nn.functional.linear(states.double(), linear.weight.double(), linear.bias.double() if bias else None)
    with torch.inference_mode():
        got = ReorderedLinear(linear)(states)
    assert got.dtype == dtype and got.shape == (3, 16, 192)
    assert (got.double() - expected).abs().max() < (1e-5 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(128, 384), (576, 1536), (1536, 576), (64, 4099)])
def test_a_row_does_not_depend_on_the_others(dtype, shape):
    able(dtype)
    reordered, states = ReorderedLinear(layer(dtype, *shape)), torch.randn(520, shape[0], dtype=dtype)
    with torch.inference_mode():
        together = reordered(states)
        for rows in (8, 16, 24, 64, 72, 128, 256, 264):
            for start in (0, 40, 256):
                assert torch.equal(reordered(states[start : start + rows]), together[start : start + rows])


def test_all_linear_layers_of_a_tree_are_replaced_and_no_others():
    able(torch.float32)
    tree = nn.Sequential(nn.Embedding(5, 8), nn.ModuleDict({"inner": layer(torch.float32, 8, 8)}))
    reorder(tree)
    assert isinstance(tree[1]["inner"], ReorderedLinear) and isinstance(tree[0], nn.Embedding)


def test_weights_that_are_too_large_to_be_held_twice_are_left_as_they_are(monkeypatch):
    able(torch.float32)
    monkeypatch.setattr(products, "_MOST_BYTES", 4 * 576 * 192)
    assert reorders(layer(torch.float32, bias=False))
    assert not reorders(layer(torch.float32, bias=True))


def test_mixed_and_half_precision_are_left_as_they_are():
    assert not reorders(layer(torch.float16))
    assert not reorders(nn.Sequential(layer(torch.float32), layer(torch.bfloat16)))
