"""STOP: a few learned tokens that read the frozen model's own cache and say how the path will end."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from methods.base import (
    Cost,
    LearnablePruner,
    NotFittedError,
    PrefixCache,
    Scores,
    Setting,
    Signal,
    Source,
    share_weights,
)
from methods.pool import Pool, PrefixDataset, within_problem_auroc
from methods.registry import pruner

_ATTENTION = "prunebench_grouped"
_PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pruner
@dataclass
class Stop(LearnablePruner):
    """Learned [STOP] tokens behind the prefix (arXiv 2604.16029, Section 4).

    One learned vector, repeated ``tokens`` times, is appended at positions L..L+tokens-1. LoRA is active on these
    tokens only; they attend to the *frozen* model's keys and values. The last hidden state of the last one goes through
    ``Linear(H, 2)``; the score is softmax[1], a probability of success (higher = keep, as in the source). Loss: soft
    cross-entropy against the Monte Carlo success rate. The epoch is chosen on validation problems by within-problem
    ranking. The prefix cache is computed once and kept over the epochs: no gradient flows into it.

    ``rank`` with alpha = 2 * rank; ``adapter=False`` trains vector and head only ("STOP without adapter").
    """

    name: ClassVar[str] = "stop"
    source: ClassVar[Source] = Source.INTERNAL
    requires: ClassVar[frozenset[Signal]] = frozenset({Signal.KV_CACHE})
    paper: ClassVar[str] = "arXiv 2604.16029"

    tokens: int = 4
    rank: int = 32
    dropout: float = 0.05
    learning_rate: float = 1e-3
    epochs: int = 15
    batch: int = 128
    adapter: bool = True
    seed: int = 0

    @classmethod
    def configurations(cls, setting: Setting) -> Sequence[Self]:
        """Small models need larger steps than the paper's 2e-5, and a rank of at most a quarter of the width."""
        rank = max(4, min(128, setting.hidden_size // 4))
        return [cls(rank=rank, learning_rate=rate) for rate in (2e-5, 2e-4, 1e-3, 3e-3)]

    def cost(self, pool: Pool) -> Cost:
        return Cost(check_tokens=self.tokens * len(pool))

    def score(self, pool: Pool) -> Scores:
        import torch

        cache = pool.kv()
        reader = self._reader(cache.model)
        reader.eval()
        with torch.no_grad():
            logits = reader(cache.layers, torch.from_numpy(cache.lengths))
        return logits.double().softmax(-1)[:, 1].cpu().numpy()  # type: ignore[no-any-return]

    def fit(self, train: PrefixDataset, validation: PrefixDataset) -> Self:
        import torch

        kept = [labelled.pool.kv() for labelled in train]
        judged = [labelled.pool.kv() for labelled in validation]
        model = kept[0].model
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self._fresh(model)
            self._learn(kept, train, judged, validation)
        return self

    def _learn(
        self,
        kept: Sequence[PrefixCache],
        train: PrefixDataset,
        judged: Sequence[PrefixCache],
        validation: PrefixDataset,
    ) -> None:
        import torch
        from torch.nn import functional

        reader = self._reader_
        rows = [(pool, row) for pool, cache in enumerate(kept) for row in range(len(cache.lengths))]
        targets = torch.from_numpy(train.success).float()
        optimizer = torch.optim.AdamW([p for p in reader.parameters() if p.requires_grad], lr=self.learning_rate)
        steps = self.epochs * math.ceil(len(rows) / self.batch)
        slope = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: min(1.0, (step + 1) / (0.05 * steps + 1)) * 0.5 * (1 + math.cos(math.pi * step / steps)),
        )
        best = -math.inf
        self.history_: list[dict[str, float]] = []
        generator = np.random.default_rng(self.seed)
        for epoch in range(self.epochs):
            reader.train()
            losses = []
            for chosen in _batches(generator.permutation(len(rows)), self.batch):
                layers, lengths = _stack(kept, [rows[i] for i in chosen])
                logits = reader(layers, lengths).float()
                wanted = targets[torch.from_numpy(chosen)].to(logits.device)
                loss = functional.cross_entropy(logits, torch.stack([1 - wanted, wanted], 1))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
                optimizer.step()
                slope.step()
                losses.append(loss.item())
            reader.eval()
            with torch.no_grad():
                scores = [
                    reader(cache.layers, torch.from_numpy(cache.lengths)).double().softmax(-1)[:, 1].cpu().numpy()
                    for cache in judged
                ]
            ranking = within_problem_auroc(validation, scores)
            self.history_.append({"epoch": epoch + 1, "loss": float(np.mean(losses)), "validation_auroc": ranking})
            if ranking > best:
                best = ranking
                self.weights_ = reader.learned()
        reader.adopt(self.weights_)
        reader.eval()

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

    def _fresh(self, model: Any) -> None:
        self._reader_ = _reader_class()(model, self)
        self._model_ = model

    def _reader(self, model: Any) -> Any:
        """The reader with the learned weights, attached to ``model`` once."""
        if not hasattr(self, "weights_"):
            raise NotFittedError(self.name)
        if getattr(self, "_model_", None) is not model or "_reader_" not in self.__dict__:
            self._fresh(model)
            self._reader_.adopt(self.weights_)
        return self._reader_


def _grouped_attention(
    _module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float | None = None, **_options: Any
) -> tuple[Any, None]:
    """Attention of few queries over long keys: the heads that share keys are stacked, the keys are never repeated."""
    import torch
    from torch.nn import functional

    rows, heads, length, width = query.shape
    if mask is None:  # left out where every position sees all before it
        mask = torch.ones(1, 1, length, key.shape[2], dtype=torch.bool, device=key.device).tril(key.shape[2] - length)
    groups = heads // key.shape[1]
    stacked = query.reshape(rows, key.shape[1], groups * length, width)
    out = functional.scaled_dot_product_attention(
        stacked, key, value, attn_mask=mask.repeat(1, 1, groups, 1), scale=scaling
    )
    return out.reshape(rows, heads, length, width).transpose(1, 2).contiguous(), None


def _reader_class() -> Any:
    """The torch module, made on first use: ``methods`` does not import torch before it is needed."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
    from transformers.cache_utils import DynamicLayer
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(_ATTENTION, _grouped_attention)
    AttentionMaskInterface.register(_ATTENTION, sdpa_mask)

    class Reader(torch.nn.Module):
        """[STOP] vector, adapter and head over the shared weights of a frozen model."""

        def __init__(self, model: Any, settings: Stop) -> None:
            super().__init__()
            self.tokens = settings.tokens
            twin = share_weights(model)
            twin.set_attn_implementation(_ATTENTION)
            table = twin.get_input_embeddings().weight
            self.vector = torch.nn.Parameter(table.detach().float().mean(0))
            self.head = torch.nn.Linear(table.shape[1], 2, device=table.device)
            if settings.adapter:
                twin = get_peft_model(
                    twin,
                    LoraConfig(
                        r=settings.rank,
                        lora_alpha=2 * settings.rank,
                        lora_dropout=settings.dropout,
                        target_modules=_PROJECTIONS,
                        alora_invocation_tokens=[0],  # never matched: the offsets are always given
                        task_type="CAUSAL_LM",
                    ),
                )
            self.network = twin
            for name, parameter in twin.named_parameters():
                parameter.requires_grad_("lora_" in name)
            self.adapter = settings.adapter

        def forward(self, layers: Sequence[tuple[Any, Any]], lengths: Any) -> Any:
            """(B, 2) logits from right-padded keys and values of prefixes of ``lengths`` positions."""
            rows, width = len(lengths), layers[0][0].shape[2]
            device = self.vector.device
            lengths = lengths.to(device)
            cache = DynamicCache()
            for keys, values in layers:
                layer = DynamicLayer()
                layer.lazy_initialization(keys, values)
                layer.keys, layer.values = keys, values  # update() would copy the whole prefix once more
                cache.layers.append(layer)
            mask = torch.ones(rows, width + self.tokens, dtype=torch.long, device=device)
            mask[:, :width] = torch.arange(width, device=device) < lengths[:, None]
            inputs = {
                "inputs_embeds": self.vector.to(layers[0][0].dtype).expand(rows, self.tokens, -1),
                "position_ids": lengths[:, None] + torch.arange(self.tokens, device=device),
                "attention_mask": mask,
                "past_key_values": cache,
                "use_cache": True,
                "output_hidden_states": True,
                "logits_to_keep": 1,
            }
            if self.adapter:
                # Without the offsets PEFT would only warn, and run the bare model.
                inputs["alora_offsets"] = [self.tokens] * rows
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message=".*(?i:alora).*")
                out = self.network(**inputs)
            return self.head(out.hidden_states[-1][:, -1].float())

        def learned(self) -> dict[str, Any]:
            return {
                name: parameter.detach().cpu().clone()
                for name, parameter in self.named_parameters()
                if parameter.requires_grad
            }

        def adopt(self, weights: dict[str, Any]) -> None:
            own = {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}
            if set(own) != set(weights) or any(own[name].shape != weights[name].shape for name in own):
                raise ValueError(
                    "the saved stop weights do not fit this model; train again with: prunebench train stop"
                )
            with torch.no_grad():
                for name, parameter in own.items():
                    parameter.copy_(weights[name])

    return Reader


def _batches(order: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(order), size):
        yield order[start : start + size]


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
