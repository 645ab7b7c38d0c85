"""STOP: a few learned tokens that read the frozen model's own cache and say how the path will end."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

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
    cross-entropy against the Monte Carlo success rate, plus ``ranking`` times the logistic loss of the pairs of one
    pool, each counted by the gap between its success rates; then a batch holds whole pools. The prefix cache is
    computed once and kept over the epochs: no gradient flows into it. Prefixes of all lengths are mixed in every batch.

    ``epochs`` 0: as many as make about ``steps`` updates, however few prefixes there are. The rate decays to nothing
    and the weights of the last quarter are averaged; with ``patience`` the best epoch on validation problems is kept
    instead, and so many epochs without a better one end the training.

    ``rank`` with alpha = 2 * rank; ``adapter=False`` trains vector and head only ("STOP without adapter").
    """

    name = "stop"
    source = Source.INTERNAL
    requires = frozenset({Signal.KV_CACHE})
    paper = "arXiv 2604.16029"
    pointwise = True
    probability = True
    extra_cost = "reads 4 learned tokens behind every path"

    _ranked: ClassVar[tuple[float, ...]] = (0.0, 1.0)
    """Weights of the ranking loss to choose from."""

    tokens: int = 4
    rank: int = 32
    dropout: float = 0.05
    learning_rate: float = 1e-3
    epochs: int = 0
    batch: int = 128
    adapter: bool = True
    seed: int = 0
    patience: int = 0
    steps: int = 400
    ranking: float = 0.0

    @classmethod
    def configurations(cls, setting: Setting) -> Sequence[Self]:
        """Small models need larger steps than the paper's 2e-5, and a rank of at most a quarter of the width."""
        rank = max(4, min(128, setting.hidden_size // 4))
        rates, weights = (3e-4, 1e-3, 3e-3, 1e-2), cls._ranked
        return [cls(rank=rank, learning_rate=rate, ranking=weight) for weight in weights for rate in rates]

    def score(self, pool: Pool) -> Scores:
        import torch

        states = pool.behind(self._learned_tokens())
        with torch.no_grad():
            if states is not None:
                head = self.weights_["head.weight"], self.weights_["head.bias"]
                scores = probabilities(torch.nn.functional.linear(torch.from_numpy(states), *head))
            else:
                cache = pool.kv()
                scores = self._reader(cache.model).scores(cache)
        first, place = pool.distinct()
        return scores[first][place]  # threads round the rows of a product differently: equal prefixes score alike

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
        kept = [labelled.pool.kv() for labelled in train]
        equal = [labelled.pool.distinct() for labelled in validation]  # what is equal is read once
        judged = [labelled.pool.kv(rows.tolist()) for labelled, (rows, _) in zip(validation, equal, strict=True)]
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self._attach(kept[0].model)
        reader, lesson = self._reader_, Lesson(self._reader_, kept, targets, self.ranking)
        batch = max(1, round(self.batch * len(lesson.units) / len(targets)))
        epochs = self.epochs or max(1, round(self.steps / math.ceil(len(lesson.units) / batch)))
        self.history_: list[dict[str, float]] = fit_module(
            reader.module,
            lesson.losses,
            len(lesson.units),
            lambda: [reader.scores(cache)[which] for cache, (_, which) in zip(judged, equal, strict=True)],
            validation,
            Schedule(self.learning_rate, epochs, batch, self.patience, self.seed),
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
    """The kept caches of the training prefixes, and the loss of any batch of them.

    ``units`` are the rows that stay together in a batch: one each, or those of one pool where they are ranked.
    """

    def __init__(
        self, reader: StopReader, caches: Sequence[PrefixCache], targets: NDArray[np.float64], ranking: float = 0.0
    ) -> None:
        import torch

        self.reader, self.caches, self.ranking = reader, caches, ranking
        self.rows = [(pool, row) for pool, cache in enumerate(caches) for row in range(len(cache.lengths))]
        sizes = [len(cache.lengths) for cache in caches] if ranking else [1] * len(self.rows)
        self.units = np.split(np.arange(len(self.rows)), np.cumsum(sizes)[:-1])
        lengths = np.concatenate([cache.lengths for cache in caches])
        self.widths = np.array([lengths[unit].max() for unit in self.units])
        self.targets = torch.from_numpy(targets).float()

    def losses(self, batch: NDArray[np.int64]) -> Iterator[Any]:
        """Parts of the mean loss of a batch of units, one per width class: short rows are not padded to long ones.

        Which rows a step learns from does not depend on their lengths.
        """
        import torch
        from torch.nn import functional

        total = sum(len(self.units[unit]) for unit in batch)
        for part in of_like_width(batch, self.widths):
            rows = np.concatenate([self.units[unit] for unit in part])
            layers, lengths = _stack(self.caches, [self.rows[i] for i in rows])
            logits = self.reader(layers, lengths)
            wanted = self.targets[torch.from_numpy(rows)].to(logits.device)
            loss = functional.cross_entropy(logits, torch.stack([1 - wanted, wanted], 1), reduction="sum") / total
            if self.ranking:
                sizes = [len(self.units[unit]) for unit in part]
                odds = (logits[:, 1] - logits[:, 0]).split(sizes)
                pairs = sum(map(pairwise_loss, odds, torch.split(wanted, sizes)))
                loss = loss + self.ranking * pairs / len(batch)
            yield loss


def pairwise_loss(odds: Any, success: Any) -> Any:
    """Mean of log(1 + exp(odds_j - odds_i)) over the pairs of one pool with s_i > s_j, by their gaps; 0 without a gap.

    The smooth form of 1 - :func:`prunebench.methods.pool.within_problem_auroc`; both (rows,) tensors.
    """
    from torch.nn import functional

    gaps = (success[:, None] - success[None, :]).clamp(min=0)
    losses = functional.softplus(odds[None, :] - odds[:, None])
    return (gaps * losses).sum() / gaps.sum().clamp(min=1e-9)


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
