"""Keys and values of the pools in flight, and the two ways to run a model's layers over them.

:class:`PoolForward` runs the layers once over the rows of all pools, and attention pool by pool over exact lengths.
:class:`CacheForward` runs pool after pool on the architecture's own cache: slower, and right for every architecture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch.nn import functional
from transformers import AttentionInterface, DynamicCache

from prunebench.bench.engines.transformers.products import reorder, reorders
from prunebench.methods.generator import has_windows, share_weights

_ATTENTION = "prunebench_pools"
ROW_MULTIPLE = 8
_BLOCK = 64
"""Positions that a cache grows by."""
Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values per layer, each (rows, kv_heads, positions, head_dim)."""


class KeyValues(Protocol):
    """Keys and values of one pool's rows, ``length`` positions of them."""

    length: int

    @property
    def whole(self) -> bool:
        """Whether every position is still there."""
        ...

    @property
    def room(self) -> int:
        """Tokens that it takes the memory of."""
        ...

    def select(self, rows: torch.Tensor) -> None: ...

    def layers(self) -> Layers: ...


class Forward(Protocol):
    """How the model's layers are run. States are those behind the final norm; ``states`` asks for all layers' too."""

    def prefill(
        self, ids: torch.Tensor, states: bool, whole: bool = False
    ) -> tuple[KeyValues, torch.Tensor, list[torch.Tensor]]:
        """(B, S) ids -> cache, final states (B, S, H), and the states of all layers if asked for.

        With ``whole`` no layer lets go of a position, not even one with a sliding window.
        """
        ...

    def step(
        self, caches: Sequence[KeyValues], widths: Sequence[int], tokens: torch.Tensor, states: bool
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """One token for every row: final states (R, H), and all layers' if asked for. ``widths``: rows per cache."""
        ...


def forward_of(model: Any) -> Forward:
    """The pooled loop where it reproduces the model's own states, else the architecture's own cache."""
    if not getattr(model, "hf_device_map", None) and not has_windows(model.config.get_text_config()):
        pooled = PoolForward(model)
        if pooled.agrees(model):
            return pooled
    return CacheForward(model)


def rows_padding(rows: int) -> int:
    """How many rows bring a matrix product to a multiple of eight: a row's result then depends on itself alone."""
    return -rows % ROW_MULTIPLE


class PoolBuffers:
    """Preallocated keys and values per layer, each (rows, kv_heads, capacity, head_dim)."""

    def __init__(self) -> None:
        self.length = 0
        self.pairs: Layers = []

    def write(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Put new positions behind the old ones; returns the layer's whole room, which is zero where nothing is."""
        end = self.length + key.shape[2]
        if layer == len(self.pairs):
            shape = (key.shape[0], key.shape[1], _blocks(end), key.shape[3])
            self.pairs.append((key.new_zeros(shape), value.new_zeros(shape)))
        keys, values = self.pairs[layer]
        if end > keys.shape[2]:
            more = (0, 0, 0, _blocks(end) - keys.shape[2])
            keys, values = self.pairs[layer] = (functional.pad(keys, more), functional.pad(values, more))
        keys[:, :, self.length : end] = key
        values[:, :, self.length : end] = value
        return keys, values

    @property
    def whole(self) -> bool:
        return True

    @property
    def room(self) -> int:
        keys = self.pairs[0][0]
        return int(keys.shape[0] * keys.shape[2])

    def select(self, rows: torch.Tensor) -> None:
        self.pairs = [(k.index_select(0, rows), v.index_select(0, rows)) for k, v in self.pairs]

    def layers(self) -> Layers:
        return [(k[:, :, : self.length], v[:, :, : self.length]) for k, v in self.pairs]

    def fill(self, length: int) -> None:
        """``length`` positions of arbitrary content, for measurements."""

        def content(like: torch.Tensor) -> torch.Tensor:
            rows, heads, _, width = like.shape
            drawn = torch.randn(_blocks(length + 16), width, device=like.device, dtype=like.dtype)
            return drawn.expand(rows, heads, -1, -1).contiguous()

        self.pairs = [(content(keys), content(values)) for keys, values in self.pairs]
        self.length = length


class PoolForward:
    """Runs the model's layers over the rows of many pools at once."""

    def __init__(self, model: Any) -> None:
        AttentionInterface.register(_ATTENTION, _pool_attention)
        self.model = share_weights(model)
        self.model.set_attn_implementation(_ATTENTION)
        if reorders(model):
            reorder(self.model.base_model)

    def prefill(
        self, ids: torch.Tensor, states: bool, whole: bool = True
    ) -> tuple[KeyValues, torch.Tensor, list[torch.Tensor]]:
        cache = PoolBuffers()
        positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        padded = _pad_positions(ids)
        out = self._run(padded, _pad_positions(positions), [cache], [len(ids)], states)
        cache.length = ids.shape[1]
        width = ids.shape[1]
        hidden = [h[:, :width] for h in out.hidden_states] if states else []
        return cache, out.last_hidden_state[:, :width], hidden

    def step(
        self, caches: Sequence[KeyValues], widths: Sequence[int], tokens: torch.Tensor, states: bool
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        rows = len(tokens)
        padding = rows_padding(rows)
        positions = torch.repeat_interleave(
            torch.tensor([cache.length for cache in caches]), torch.tensor(list(widths))
        ).to(tokens.device)
        ids = functional.pad(tokens, (0, padding))[:, None]
        out = self._run(ids, functional.pad(positions, (0, padding))[:, None], caches, widths, states)
        for cache in caches:
            cache.length += 1
        hidden = [h[:rows, 0] for h in out.hidden_states] if states else []
        return out.last_hidden_state[:rows, 0], hidden

    def _run(
        self, ids: torch.Tensor, positions: torch.Tensor, caches: Sequence[Any], widths: Sequence[int], states: bool
    ) -> Any:
        return self.model.base_model(
            input_ids=ids,
            position_ids=positions,
            use_cache=False,
            output_hidden_states=states,
            buffers=caches,
            widths=widths,
        )

    @torch.inference_mode()
    def agrees(self, model: Any) -> bool:
        """Whether these are the states of ``model`` itself: 24 arbitrary tokens, the last three one by one."""
        ids = arbitrary_ids(model, model.config.vocab_size)
        try:
            cache, _, _ = self.prefill(ids[:, :21], states=False)
            finals = [self.step([cache], [2], ids[:, position], states=False)[0] for position in (21, 22, 23)]
        except (KeyError, TypeError, RuntimeError, NotImplementedError):
            return False
        expected = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, 21:]
        scale = float(expected.abs().max())
        tolerance = 1e-4 if expected.dtype == torch.float32 else 5e-2
        return bool((torch.stack(finals, 1) - expected).abs().max() <= tolerance * max(1.0, scale))


def _pool_attention(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, _mask: Any, **options: Any
) -> tuple[torch.Tensor, None]:
    """Attention over the pools in flight; ``buffers`` and ``widths`` (rows per pool) ride along as options.

    With query length 1 the rows of several pools lie behind one another; with more there is one pool, from scratch.
    """
    buffers: Sequence[PoolBuffers] = options["buffers"]
    scale = options.get("scaling")
    rows, heads, length, head_dim = query.shape
    if length > 1:
        buffers[0].write(module.layer_idx, key, value)
        out = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scale, enable_gqa=heads != key.shape[1]
        )
        return out.transpose(1, 2), None
    kv_heads = key.shape[1]
    grouped = query.reshape(rows, kv_heads, heads // kv_heads, head_dim)
    out = torch.empty_like(grouped)
    out[sum(options["widths"]) :] = 0  # the padding, which nobody reads, has to stay finite
    start = 0
    for cache, width in zip(buffers, options["widths"], strict=True):
        end = start + width
        keys, values = cache.write(module.layer_idx, key[start:end], value[start:end])
        out[start:end] = _attend(grouped[start:end], keys, values, cache.length + 1, scale)
        start = end
    return out.reshape(rows, 1, heads, head_dim), None


def _attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, length: int, scale: float | None
) -> torch.Tensor:
    """(R, KV, G, D) queries of one token over the first ``length`` of (R, KV, room, D) keys and values."""
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        held = keys[:, :, :length], values[:, :, :length]
        return functional.scaled_dot_product_attention(query, *held, scale=scale)
    # In bfloat16 these two products take half as long as that kernel; of a part of the room they would copy it first.
    products = torch.bmm(keys.flatten(0, 1), query.flatten(0, 1).transpose(1, 2)).transpose(1, 2)
    scores = products.float().mul_(scale or query.shape[-1] ** -0.5)
    scores[:, :, length:] = -torch.inf
    return torch.bmm(scores.softmax(-1).to(query.dtype), values.flatten(0, 1)).view_as(query)


def _blocks(positions: int) -> int:
    """So many positions, rounded up to whole blocks."""
    return -(-positions // _BLOCK) * _BLOCK


class ArchitectureCache:
    """Keys and values in the architecture's own cache class; a sliding window keeps the last ones only."""

    def __init__(self, cache: Any, length: int) -> None:
        self.cache, self.length = cache, length

    @property
    def whole(self) -> bool:
        layers = self.cache.layers
        return all(getattr(layer, "keys", None) is not None and layer.keys.shape[2] == self.length for layer in layers)

    @property
    def room(self) -> int:
        keys = self.cache.layers[0].keys
        return int(keys.shape[0] * keys.shape[2])

    def select(self, rows: torch.Tensor) -> None:
        self.cache.batch_select_indices(rows)

    def layers(self) -> Layers:
        return [(layer.keys, layer.values) for layer in self.cache.layers]


class CacheForward:
    """Runs pool after pool on the architecture's own cache."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def prefill(
        self, ids: torch.Tensor, states: bool, whole: bool = False
    ) -> tuple[KeyValues, torch.Tensor, list[torch.Tensor]]:
        kept = {"past_key_values": DynamicCache()} if whole else {}
        out = self.model.base_model(input_ids=ids, use_cache=True, output_hidden_states=states, **kept)
        hidden = list(out.hidden_states) if states else []
        return ArchitectureCache(out.past_key_values, ids.shape[1]), out.last_hidden_state, hidden

    def step(
        self, caches: Sequence[KeyValues], widths: Sequence[int], tokens: torch.Tensor, states: bool
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        finals, hidden = [], []
        for cache, ids in zip(caches, torch.split(tokens, list(widths)), strict=True):
            assert isinstance(cache, ArchitectureCache)
            out = self.model.base_model(
                input_ids=ids[:, None],
                position_ids=torch.full_like(ids[:, None], cache.length),
                past_key_values=cache.cache,
                use_cache=True,
                output_hidden_states=states,
            )
            cache.cache, cache.length = out.past_key_values, cache.length + 1
            finals.append(out.last_hidden_state[:, 0])
            hidden.append([h[:, 0] for h in out.hidden_states] if states else [])
        return torch.cat(finals), [torch.cat(layer) for layer in zip(*hidden, strict=True)]


def arbitrary_ids(model: Any, vocabulary: int) -> torch.Tensor:
    """(2, 24) ids for the tests at the start."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, vocabulary, (2, 24), generator=generator).to(next(model.parameters()).device)


def _pad_positions(ids: torch.Tensor) -> torch.Tensor:
    """Lengthen single short rows, so that a matrix product never has fewer rows than the rule asks for."""
    return functional.pad(ids, (0, max(0, ROW_MULTIPLE - ids.numel()))) if len(ids) == 1 else ids
