"""STOP: a few learned tokens that read the frozen model's own cache and say how the path will end."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.base import LearnablePruner, NotFittedError, Scores, Setting, Signal, Source
from prunebench.methods.generator import LearnedTokens, PrefixCache, has_windows, share_weights
from prunebench.methods.learned.fitting import Schedule, fingerprint, fit_module
from prunebench.methods.pool import Pool, PrefixDataset
from prunebench.methods.registry import pruner

_ATTENTION = "prunebench_grouped"
_WATCHED, _TOLD = f"{_ATTENTION}_watched", "prunebench_weights"
_PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_LORA = re.compile(r"(?P<module>layers\.\d+\..+)\.lora_(?P<half>[AB])\.")
_SCALE = 2
"""alpha / rank of the adapter."""
_PADDING = 1.5
"""Rows of one forward may be padded to so many times their own width; a wider batch is read in several parts."""


@pruner
@dataclass
class Stop(LearnablePruner):
    """Learned [STOP] tokens behind the prefix (arXiv 2604.16029, Section 4).

    One learned vector, repeated ``tokens`` times, is appended at positions L..L+tokens-1. LoRA is active on these
    tokens only; they attend to the *frozen* model's keys and values. The last hidden state of the last one goes through
    ``Linear(H, 2)``; the score is softmax[1], a probability of success (higher = keep, as in the source). Loss: soft
    cross-entropy against the Monte Carlo success rate. The epoch is chosen on validation problems by within-problem
    ranking; ``patience`` epochs without a better one end the training. The prefix cache is computed once and kept over
    the epochs: no gradient flows into it. Prefixes of all lengths are mixed in every batch.

    ``rank`` with alpha = 2 * rank; ``adapter=False`` trains vector and head only ("STOP without adapter").
    """

    name = "stop"
    source = Source.INTERNAL
    requires = frozenset({Signal.KV_CACHE})
    paper = "arXiv 2604.16029"
    pointwise = True
    probability = True
    extra_cost = "reads 4 learned tokens behind every path"

    tokens: int = 4
    rank: int = 32
    dropout: float = 0.05
    learning_rate: float = 1e-3
    epochs: int = 15
    batch: int = 128
    adapter: bool = True
    seed: int = 0
    patience: int = 4

    @classmethod
    def configurations(cls, setting: Setting) -> Sequence[Self]:
        """Small models need larger steps than the paper's 2e-5, and a rank of at most a quarter of the width."""
        rank = max(4, min(128, setting.hidden_size // 4))
        return [cls(rank=rank, learning_rate=rate) for rate in (2e-5, 2e-4, 1e-3, 3e-3)]

    def score(self, pool: Pool) -> Scores:
        import torch

        states = pool.behind(self._learned_tokens())
        with torch.no_grad():
            if states is not None:
                head = self.weights_["head.weight"], self.weights_["head.bias"]
                return _probabilities(torch.nn.functional.linear(torch.from_numpy(states), *head))
            cache = pool.kv()
            return self._reader(cache.model).scores(cache)

    def _learned_tokens(self) -> LearnedTokens:
        """Vector and adapter as an engine takes them that runs the frozen model itself."""
        if not hasattr(self, "weights_"):
            raise NotFittedError(self.name)
        halves: dict[str, dict[str, NDArray[np.float32]]] = {}
        for name, tensor in self.weights_.items():
            if found := _LORA.search(name):
                halves.setdefault(found["module"], {})[found["half"]] = tensor.numpy()
        adapter = {module: (half["A"], half["B"]) for module, half in halves.items()}
        return LearnedTokens(self.weights_["vector"].numpy(), self.tokens, adapter, _SCALE)

    def attention(self, pool: Pool, rows: Sequence[int]) -> NDArray[np.float32]:
        """What the [STOP] tokens of these rows attend to: (rows, layers, heads, A, width), sums of 1 over the width.

        In a model with attention sinks the sums are less.
        The width holds the prompt, the longest of the prefixes, and the A [STOP] tokens themselves, which stand last;
        positions behind a shorter prefix have no weight.
        """
        import torch

        cache = pool.kv(rows)
        with torch.no_grad():
            return self._reader(cache.model).attention(cache)

    def fit(self, train: PrefixDataset, validation: PrefixDataset) -> Self:
        import torch

        targets = self._targets(train)
        kept, judged = ([labelled.pool.kv() for labelled in dataset] for dataset in (train, validation))
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self._attach(kept[0].model)
        reader = self._reader_
        self.history_: list[dict[str, float]] = fit_module(
            reader.module,
            Lesson(reader, kept, targets).losses,
            len(targets),
            lambda: [reader.scores(cache) for cache in judged],
            validation,
            Schedule(self.learning_rate, self.epochs, self.batch, self.patience, self.seed),
            {"method": self.name, **self.hyperparameters(), "data": fingerprint(train, validation, targets)},
            self.resume_in_,
        )
        self.weights_ = reader.learned()
        return self

    def _targets(self, train: PrefixDataset) -> NDArray[np.float64]:
        """(prefixes,) what the probability of every training prefix is drawn to, in pool order."""
        return train.success

    def save(self, path: Path) -> None:
        from safetensors.torch import save_file

        if not hasattr(self, "weights_"):
            raise NotFittedError(self.name)
        save_file({name: tensor.contiguous() for name, tensor in sorted(self.weights_.items())}, str(path))

    def load(self, path: Path) -> Self:
        from safetensors.torch import load_file

        self.weights_ = load_file(str(path))
        self.__dict__.pop("_reader_", None)
        return self

    def _attach(self, model: Any) -> None:
        self._reader_ = Reader(model, self)
        self._model_ = model

    def _reader(self, model: Any) -> Reader:
        """The reader with the learned weights, attached to ``model`` once."""
        if not hasattr(self, "weights_"):
            raise NotFittedError(self.name)
        if getattr(self, "_model_", None) is not model or "_reader_" not in self.__dict__:
            self._attach(model)
            self._reader_.adopt(self.weights_)
        return self._reader_


class Reader:
    """[STOP] vector, adapter and head over the shared weights of a frozen model; ``module`` holds all three."""

    def __init__(self, model: Any, settings: Stop) -> None:
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

        return _probabilities(self(cache.layers, torch.from_numpy(cache.lengths)))

    def attention(self, cache: PrefixCache) -> NDArray[np.float32]:
        """See :meth:`Stop.attention`."""
        import torch

        _attend_in_groups(self.twin, _WATCHED)
        try:
            self(cache.layers, torch.from_numpy(cache.lengths))
        finally:
            _attend_in_groups(self.twin)
        watched = [module for module in self.network.modules() if hasattr(module, _TOLD)]
        watched.sort(key=lambda module: int(module.layer_idx))
        told = torch.stack([module.__dict__.pop(_TOLD) for module in watched], 1)
        if self.windows:  # the prefixes stood at the end of the width
            for row, length in enumerate(cache.lengths):
                width = cache.layers[0][0].shape[2]
                told[row, ..., :width] = told[row, ..., :width].roll(int(length) - width, -1)
        weights: NDArray[np.float32] = told.float().cpu().numpy()
        return weights

    def _trainable(self) -> dict[str, Any]:
        return {name: parameter for name, parameter in self.module.named_parameters() if parameter.requires_grad}

    def learned(self) -> dict[str, Any]:
        """A copy of the trainable weights, by name."""
        return {name: parameter.detach().cpu().clone() for name, parameter in self._trainable().items()}

    def adopt(self, weights: dict[str, Any]) -> None:
        """Take over learned weights. Raises ValueError when they are those of another shape."""
        import torch

        own = self._trainable()
        if set(own) != set(weights) or any(own[name].shape != weights[name].shape for name in own):
            raise ValueError(
                f"the saved {self.name} weights do not fit this model; train again with: prunebench train {self.name}"
            )
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(weights[name])


def _probabilities(logits: Any) -> Scores:
    """(rows,) probabilities of success from (rows, 2) logits."""
    return logits.double().softmax(-1)[:, 1].cpu().numpy()  # type: ignore[no-any-return]


def _with_adapter(model: Any, settings: Stop) -> Any:
    """``model`` with a LoRA that is active on the [STOP] tokens only."""
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=settings.rank,
        lora_alpha=_SCALE * settings.rank,
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
    setattr(module, _TOLD, _weights(query, key, mask, scaling, **options))
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


class Lesson:
    """The kept caches of the training prefixes, and the loss of any batch of them."""

    def __init__(self, reader: Reader, caches: Sequence[PrefixCache], targets: NDArray[np.float64]) -> None:
        import torch

        self.reader, self.caches = reader, caches
        self.rows = [(pool, row) for pool, cache in enumerate(caches) for row in range(len(cache.lengths))]
        self.widths = np.concatenate([cache.lengths for cache in caches])
        self.targets = torch.from_numpy(targets).float()

    def losses(self, batch: NDArray[np.int64]) -> Iterator[Any]:
        """Parts of the mean soft cross-entropy of a batch, one per width class: short rows are not padded to long ones.

        Which rows a step learns from does not depend on their lengths.
        """
        import torch
        from torch.nn import functional

        for part in of_like_width(batch, self.widths):
            layers, lengths = _stack(self.caches, [self.rows[i] for i in part])
            logits = self.reader(layers, lengths)
            wanted = self.targets[torch.from_numpy(part)].to(logits.device)
            loss = functional.cross_entropy(logits, torch.stack([1 - wanted, wanted], 1), reduction="sum")
            yield loss / len(batch)


def of_like_width(batch: NDArray[np.int64], widths: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """The rows of a batch in groups, narrowest first; the widest of a group is at most 1.5 times its narrowest."""
    order = batch[np.argsort(widths[batch], kind="stable")]
    while len(order):
        fitting = widths[order] <= _PADDING * widths[order[0]]
        yield order[fitting]
        order = order[~fitting]


def _stack(caches: Sequence[PrefixCache], rows: Sequence[tuple[int, int]]) -> tuple[list[tuple[Any, Any]], Any]:
    """Rows of several kept caches as one right-padded batch."""
    import torch
    from torch.nn import functional

    lengths = torch.tensor([int(caches[pool].lengths[row]) for pool, row in rows])
    width = int(lengths.max())

    def column(layer: int, part: int) -> Any:
        pieces = [caches[pool].layers[layer][part][row, :, :width] for pool, row in rows]
        return torch.stack([functional.pad(piece, (0, 0, 0, width - piece.shape[1])) for piece in pieces])

    return [(column(layer, 0), column(layer, 1)) for layer in range(len(caches[0].layers))], lengths
