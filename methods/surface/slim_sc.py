"""Slim-SC: of two paths that say nearly the same, one is enough."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from methods.base import Pruner, Scores, Setting, Signal, Source
from methods.pool import Pool
from methods.registry import pruner


@pruner
@dataclass
class SlimSC(Pruner):
    """Jaccard similarity of token n-gram sets; the redundant member of the most similar pair goes first.

    arXiv 2509.13990, in the form of the STOP paper's Type I baseline. Repeatedly the most similar remaining pair loses
    one member; the score of a path is the round in which it is dropped (later = higher = keep). ``drop`` chooses the
    member: ``random``, or ``less-diverse`` (the one more similar to all remaining paths). Needs the whole pool.
    """

    name: ClassVar[str] = "slim-sc"
    source: ClassVar[Source] = Source.EXTERNAL
    requires: ClassVar[frozenset[Signal]] = frozenset({Signal.TOKEN_IDS})
    paper: ClassVar[str] = "arXiv 2509.13990"

    n: int = 2
    drop: Literal["random", "less-diverse"] = "random"
    seed: int = 0

    @classmethod
    def configurations(cls, setting: Setting) -> Sequence[Self]:
        return [cls(n=n, drop=drop) for n in (1, 2, 3, 4) for drop in ("random", "less-diverse")]

    def score(self, pool: Pool) -> Scores:
        similarity = jaccard(pool.token_ids, self.n)
        np.fill_diagonal(similarity, -1.0)
        key = hashlib.sha256(f"{self.seed}\x1f{pool.task}\x1f{pool.problem}".encode()).digest()
        generator = np.random.default_rng(int.from_bytes(key[:8], "big"))
        count = len(pool)
        total = similarity.sum(1)
        scores = np.full(count, float(count))
        for round_ in range(count - 1):
            first, second = divmod(int(similarity.argmax()), count)
            if self.drop == "random":
                gone = (first, second)[int(generator.integers(2))]
            else:
                gone = first if total[first] > total[second] + 1e-9 else second  # a tie, up to rounding: the later
            scores[gone] = round_
            total -= similarity[:, gone]
            similarity[gone] = similarity[:, gone] = -2.0
        return scores


def jaccard(token_ids: Sequence[NDArray[Any]], n: int) -> NDArray[np.float64]:
    """(N, N): shared over all distinct n-grams of two paths; 1 where both have none."""
    count = len(token_ids)
    windows = np.concatenate(
        [sliding_window_view(ids, n) if len(ids) >= n else np.zeros((0, n), np.int64) for ids in token_ids]
    )
    owner = np.repeat(np.arange(count), [max(0, len(ids) - n + 1) for ids in token_ids])
    gram = np.zeros(len(windows), np.int64)
    for column in windows.T:  # number the n-grams one token at a time: no product overflows
        gram = np.unique(gram * (int(column.max(initial=0)) + 1) + column, return_inverse=True)[1]
    kinds = int(gram.max(initial=0)) + 1
    owner, gram = np.divmod(np.unique(owner * kinds + gram), kinds)
    sizes = np.bincount(owner, minlength=count)
    several = np.bincount(gram, minlength=kinds)[gram] > 1  # what one path alone has is shared with none
    common, gram = np.unique(gram[several], return_inverse=True)
    present = np.zeros((count, len(common)), np.float32)
    present[owner[several], gram] = 1.0
    shared = (present @ present.T).astype(np.float64)
    np.fill_diagonal(shared, sizes)
    union = sizes[:, None] + sizes[None, :] - shared
    result: NDArray[np.float64] = np.divide(shared, union, out=np.ones_like(shared), where=union > 0)
    return result
