"""STOP: a few learned tokens that read the frozen model's own cache and say how the path will end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.base import LearnablePruner, NotFittedError, Scores, Setting, Signal, Source
from prunebench.methods.generator import LearnedTokens, PrefixCache
from prunebench.methods.learned.fitting import Schedule, fingerprint, fit_module
from prunebench.methods.learned.stop_reader import SCALE, StopReader, probabilities
from prunebench.methods.pool import Pool, PrefixDataset
from prunebench.methods.registry import pruner

_LORA = re.compile(r"(?P<module>layers\.\d+\..+)\.lora_(?P<half>[AB])\.")
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
                return probabilities(torch.nn.functional.linear(torch.from_numpy(states), *head))
            cache = pool.kv()
            return self._reader(cache.model).scores(cache)

    def _learned_tokens(self) -> LearnedTokens:
        """Vector and adapter as an engine takes them that runs the frozen model itself."""
        if not hasattr(self, "weights_"):
            raise NotFittedError(self.name)
        halves: dict[str, dict[str, NDArray[np.float32]]] = {}
        for name, tensor in self.weights_.items():
            if half := _LORA.search(name):
                halves.setdefault(half["module"], {})[half["half"]] = tensor.numpy()
        adapter = {module: (matrices["A"], matrices["B"]) for module, matrices in halves.items()}
        return LearnedTokens(self.weights_["vector"].numpy(), self.tokens, adapter, SCALE)

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
        self._reader_ = StopReader(model, self)
        self._model_ = model

    def _reader(self, model: Any) -> StopReader:
        """The reader with the learned weights, attached to ``model`` once."""
        if not hasattr(self, "weights_"):
            raise NotFittedError(self.name)
        if getattr(self, "_model_", None) is not model or "_reader_" not in self.__dict__:
            self._attach(model)
            self._reader_.adopt(self.weights_)
        return self._reader_


class Lesson:
    """The kept caches of the training prefixes, and the loss of any batch of them."""

    def __init__(self, reader: StopReader, caches: Sequence[PrefixCache], targets: NDArray[np.float64]) -> None:
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
