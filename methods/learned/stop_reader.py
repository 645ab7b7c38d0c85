"""What reads a prefix's cache for STOP: the learned tokens, their adapter, the head, and attention without copies."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.base import Scores
from prunebench.methods.generator import PrefixCache, has_windows, share_weights

_ATTENTION = "prunebench_grouped"
_WATCHED, _WEIGHTS = f"{_ATTENTION}_watched", "prunebench_weights"
_PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SCALE = 2
"""alpha / rank of the adapter."""


class StopSettings(Protocol):
    """The hyper-parameters that shape a reader."""

    name: ClassVar[str]
    tokens: int
    rank: int
    dropout: float
    adapter: bool


class StopReader:
    """[STOP] vector, adapter and head over the shared weights of a frozen model; ``module`` holds all three."""

    def __init__(self, model: Any, settings: StopSettings) -> None:
        import torch

        self.name, self.tokens, self.adapter = settings.name, settings.tokens, settings.adapter
        twin = share_weights(model)
        _attend_in_groups(twin)
        table = twin.get_input_embeddings().weight
        self.windows = has_windows(twin.config.get_text_config())
        self.vector = torch.nn.Parameter(table.detach().float().mean(0))
        self.head = torch.nn.Linear(table.shape[1], 2, device=table.device)
        self.twin = twin
        self.network = _with_adapter(twin, settings) if settings.adapter else twin
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_("lora_" in name)
        self.module: Any = torch.nn.Module()
        self.module.vector, self.module.head, self.module.network = self.vector, self.head, self.network
        self.module.eval()

    def __call__(self, layers: Sequence[tuple[Any, Any]], lengths: Any) -> Any:
        """(B, 2) logits from right-padded keys and values of prefixes of ``lengths`` (B,) positions."""
        import torch

        rows, width = len(lengths), layers[0][0].shape[2]
        device = self.vector.device
        lengths = lengths.to(device)
        exists = torch.arange(width, device=device) < lengths[:, None]
        if self.windows and not bool(exists.all()):
            layers, exists = _moved_to_the_end(layers, lengths), exists.flip(1)
        mask = torch.ones(rows, width + self.tokens, dtype=torch.long, device=device)
        mask[:, :width] = exists
        # Without the offsets PEFT would only warn, and run the bare model.
        offsets = {"alora_offsets": [self.tokens] * rows} if self.adapter else {}
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*(?i:alora).*")
            out = self.network(
                inputs_embeds=self.vector.to(layers[0][0].dtype).expand(rows, self.tokens, -1),
                position_ids=lengths[:, None] + torch.arange(self.tokens, device=device),
                attention_mask=mask,
                past_key_values=_cache_of(layers),
                use_cache=True,
                output_hidden_states=True,
                logits_to_keep=1,
                **offsets,
            )
        return self.head(out.hidden_states[-1][:, -1].float())

    def scores(self, cache: PrefixCache) -> Scores:
        """(rows,) probabilities of success."""
        import torch

        return probabilities(self(cache.layers, torch.from_numpy(cache.lengths)))

    def attention(self, cache: PrefixCache) -> NDArray[np.float32]:
        """See :meth:`prunebench.methods.learned.stop.Stop.attention`."""
        import torch

        _attend_in_groups(self.twin, _WATCHED)
        try:
            self(cache.layers, torch.from_numpy(cache.lengths))
        finally:
            _attend_in_groups(self.twin)
        watched = [module for module in self.network.modules() if hasattr(module, _WEIGHTS)]
        watched.sort(key=lambda module: int(module.layer_idx))
        weights = torch.stack([module.__dict__.pop(_WEIGHTS) for module in watched], 1)
        if self.windows:  # the prefixes stood at the end of the width
            for row, length in enumerate(cache.lengths):
                width = cache.layers[0][0].shape[2]
                weights[row, ..., :width] = weights[row, ..., :width].roll(int(length) - width, -1)
        return weights.float().cpu().numpy()

    def _trainable(self) -> dict[str, Any]:
        return {name: parameter for name, parameter in self.module.named_parameters() if parameter.requires_grad}

    def learned(self) -> dict[str, Any]:
        """A copy of the trainable weights, by name."""
        return {name: parameter.detach().cpu().clone() for name, parameter in self._trainable().items()}

    def adopt(self, weights: dict[str, Any]) -> None:
        """Take over learned weights. Raises ValueError when they are those of another shape."""
        import torch

        trainable = self._trainable()
        if set(trainable) != set(weights) or any(trainable[name].shape != weights[name].shape for name in weights):
            raise ValueError(
                f"the saved {self.name} weights do not fit this model; train again with: prunebench train {self.name}"
            )
        with torch.no_grad():
            for name, parameter in trainable.items():
                parameter.copy_(weights[name])


def probabilities(logits: Any) -> Scores:
    """(rows,) probabilities of success from (rows, 2) logits."""
    return logits.double().softmax(-1)[:, 1].cpu().numpy()  # type: ignore[no-any-return]


def _with_adapter(model: Any, settings: StopSettings) -> Any:
    """``model`` with a LoRA that is active on the [STOP] tokens only."""
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=settings.rank,
        lora_alpha=SCALE * settings.rank,
        lora_dropout=settings.dropout,
        target_modules=_PROJECTIONS,
        alora_invocation_tokens=[0],  # never matched: the offsets are always given
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, lora)


def _cache_of(layers: Sequence[tuple[Any, Any]]) -> Any:
    """Keys and values as the model's own cache class, without a copy."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    cache = DynamicCache()
    for keys, values in layers:
        layer = DynamicLayer()
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values  # update() would copy the whole prefix once more
        cache.layers.append(layer)
    return cache


def _moved_to_the_end(layers: Sequence[tuple[Any, Any]], lengths: Any) -> list[tuple[Any, Any]]:
    """Right-padded keys and values as left-padded ones: a sliding window counts places, and gaps are places too."""
    import torch

    width = layers[0][0].shape[2]
    places = (torch.arange(width, device=lengths.device) - (width - lengths[:, None])) % width

    def moved(tensor: Any) -> Any:
        index = places[:, None, :, None].to(tensor.device).expand(-1, tensor.shape[1], -1, tensor.shape[3])
        return tensor.gather(2, index)

    return [(moved(keys), moved(values)) for keys, values in layers]


def _attend_in_groups(model: Any, way: str = "") -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    for name, function in ((_ATTENTION, _grouped_attention), (_WATCHED, _watched_attention)):
        AttentionInterface.register(name, function)
        AttentionMaskInterface.register(name, sdpa_mask)
    model.set_attn_implementation(way or _ATTENTION)


def _grouped_attention(
    _module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float | None = None, **options: Any
) -> tuple[Any, None]:
    """Attention of few queries over long keys: the heads that share keys are stacked, the keys are never repeated."""
    import torch
    from torch.nn import functional

    rows, heads, length, width = query.shape
    if options.get("softcap") is not None or options.get("s_aux") is not None:
        weights = _weights(query, key, mask, scaling, **options).to(value.dtype)
        stacked = weights.reshape(rows, key.shape[1], -1, key.shape[2])
        return (stacked @ value).reshape(rows, heads, length, width).transpose(1, 2).contiguous(), None
    if mask is None:  # left out where every position sees all before it
        mask = torch.ones(1, 1, length, key.shape[2], dtype=torch.bool, device=key.device).tril(key.shape[2] - length)
    groups = heads // key.shape[1]
    stacked = query.reshape(rows, key.shape[1], groups * length, width)
    out = functional.scaled_dot_product_attention(
        stacked, key, value, attn_mask=mask.repeat(1, 1, groups, 1), scale=scaling
    )
    return out.reshape(rows, heads, length, width).transpose(1, 2).contiguous(), None


def _watched_attention(
    module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float | None = None, **options: Any
) -> tuple[Any, None]:
    """The same, with the weights (rows, heads, A, width) left on the module."""
    setattr(module, _WEIGHTS, _weights(query, key, mask, scaling, **options))
    return _grouped_attention(module, query, key, value, mask, scaling, **options)


def _weights(
    query: Any, key: Any, mask: Any, scaling: float | None, softcap: float | None = None, s_aux: Any = None, **_: Any
) -> Any:
    """(rows, heads, A, width) weights; a sink ``s_aux`` (heads,) takes its share of every head and gives nothing."""
    import torch

    rows, heads, length, width = query.shape
    scores = query.reshape(rows, key.shape[1], -1, width) @ key.transpose(2, 3)
    scores = scores.reshape(rows, heads, length, -1) * (width**-0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    seen = mask if mask is not None else torch.ones_like(scores, dtype=torch.bool).tril(key.shape[2] - length)
    scores = scores.masked_fill(~seen, -torch.inf)
    if s_aux is None:
        return scores.softmax(-1)
    sinks = s_aux.reshape(1, heads, 1, 1).expand(rows, heads, length, 1).to(scores.dtype)
    return torch.cat([scores, sinks], -1).softmax(-1)[..., :-1]
