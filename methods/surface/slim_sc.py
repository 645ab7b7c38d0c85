"""Slim-SC: of two paths that say nearly the same, one is enough."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from prunebench.methods.base import Pruner, Scores, Setting, Signal, Source
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner

_MARKERS = re.compile(r"(?:\b(?:wait|alternatively|hmm|another way|on second thought)\b[\s,.]*)+", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")

Texts = Sequence[str]


@pruner
@dataclass
class SlimSC(Pruner):
    """Repeatedly the most similar remaining pair loses one member; the round in which a path goes is its score.

    arXiv 2509.13990; later = higher = keep, while the source thresholds the similarity itself. Needs the whole pool.
    ``similarity``:

    - ``jaccard`` of token ``n``-gram sets, the STOP paper's Type I baseline; the only one that reads ``n``;
    - ``tfidf``: thoughts, split where a marker phrase ("wait", "alternatively", ...) begins, as TF-IDF vectors of their
      words, with the thoughts of the pool as documents;
    - ``embedding``: a thought is the mean of its sentence embeddings by the sentence-transformers model in the local
      folder ``embedder`` (extra ``prunebench[embedding]``); nothing is downloaded.

    Over thoughts, the similarity of two paths is the mean over all thoughts of both of the best cosine with a thought
    of the other path; the source takes the best of the newest thought alone. ``drop`` chooses the member of the pair:
    ``random``, or ``less-diverse`` (the one more similar to all remaining paths). Ties break by path id.
    """

    name = "slim-sc"
    source = Source.EXTERNAL
    requires = frozenset({Signal.TOKEN_IDS, Signal.TEXT})
    paper = "arXiv 2509.13990"
    redundancy = True
    extra_cost = "none (embedding: an encoder reads every prefix)"

    n: int = 2
    drop: Literal["random", "less-diverse"] = "random"
    seed: int = 0
    similarity: Literal["jaccard", "tfidf", "embedding"] = "jaccard"
    embedder: str = ""

    @classmethod
    def configurations(cls, setting: Setting) -> Sequence[Self]:
        """Three n-gram sizes and ``tfidf``, each with both ways to drop; ``embedding`` needs a folder of yours."""
        drops: tuple[Literal["random", "less-diverse"], ...] = ("random", "less-diverse")
        counted = [cls(n=n, drop=drop) for n in (1, 2, 3) for drop in drops]
        return [*counted, *(cls(drop=drop, similarity="tfidf") for drop in drops)]

    def score(self, pool: Pool) -> Scores:
        order = np.argsort(pool.paths, kind="stable")
        similarity = self._similarity([pool.token_ids[row] for row in order], [pool.text[row] for row in order])
        scores: Scores = np.empty(len(pool))
        scores[order] = self._rounds(similarity, f"{self.seed}\x1f{pool.task}\x1f{pool.problem}")
        if self.similarity == "embedding":
            self._charge(pool)
        return scores

    def _charge(self, pool: Pool) -> None:
        """The encoder's arithmetic, on texts as long as in the generator's tokens."""
        weights = list(self._encoder().parameters())
        parameters = sum(tensor.numel() for tensor in weights)
        held = sum(tensor.numel() * tensor.element_size() for tensor in weights)
        pool.charge(reencoded_tokens=pool.lengths, flops=2.0 * parameters * pool.lengths, model_bytes=held)

    def _similarity(self, token_ids: Sequence[NDArray[Any]], texts: Texts) -> NDArray[np.float64]:
        if self.similarity == "jaccard":
            return jaccard(token_ids, self.n)
        return thought_similarity(
            [thoughts(text) for text in texts], _tfidf if self.similarity == "tfidf" else self._embed
        )

    def _rounds(self, similarity: NDArray[np.float64], key: str) -> Scores:
        """(N,): the round in which each path is dropped, N for the last one. ``similarity`` is used up."""
        np.fill_diagonal(similarity, -2.0)  # a cosine may be -1
        digest = hashlib.sha256(key.encode()).digest()
        generator = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        count = len(similarity)
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

    def _embed(self, pieces: Texts) -> NDArray[np.float64]:
        """(thoughts, H): means of sentence embeddings. Every distinct sentence is encoded once."""
        sentences = [[part for part in _SENTENCE.split(piece) if part.strip()] or [piece] for piece in pieces]
        distinct = sorted({sentence for parts in sentences for sentence in parts})
        number = {sentence: index for index, sentence in enumerate(distinct)}
        encoded = np.asarray(self._encoder().encode(distinct, show_progress_bar=False), np.float64)
        return np.stack([encoded[[number[sentence] for sentence in parts]].mean(axis=0) for parts in sentences])

    def _encoder(self) -> Any:
        """The sentence encoder, loaded once. Raises ValueError where the package or the folder is missing."""
        if not hasattr(self, "encoder_"):
            try:
                package = import_module("sentence_transformers")
            except ModuleNotFoundError as error:
                raise ValueError(
                    "slim-sc: similarity 'embedding' needs sentence-transformers; "
                    "install it with: pip install 'prunebench[embedding]'"
                ) from error
            if not self.embedder or not Path(self.embedder).is_dir():
                raise ValueError(
                    f"slim-sc: embedder = '{self.embedder}' is no folder; "
                    "give the local folder of a sentence-transformers model"
                )
            self.encoder_ = package.SentenceTransformer(self.embedder, local_files_only=True)
        return self.encoder_


def thoughts(text: str) -> list[str]:
    """A text cut before every run of marker phrases; at least one piece, and none that is blank beside another."""
    cuts = [0, *(match.start() for match in _MARKERS.finditer(text)), len(text)]
    return [text[start:end] for start, end in pairwise(cuts) if text[start:end].strip()] or [text]


def thought_similarity(paths: Sequence[Texts], vectors: Callable[[Texts], NDArray[np.float64]]) -> NDArray[np.float64]:
    """(N, N) in [-1, 1]: over all thoughts of two paths, the mean best cosine with a thought of the other path.

    ``vectors`` maps T distinct thoughts to (T, H). A thought without a vector (all zero) is like its own kind only.
    """
    distinct = sorted({piece for path in paths for piece in path})
    number = {piece: index for index, piece in enumerate(distinct)}
    members = [[number[piece] for piece in path] for path in paths]
    cosine = _cosine(vectors(distinct))
    best = np.stack([cosine[:, rows].max(axis=1) for rows in members], axis=1)  # (thoughts, paths)
    sums = np.stack([best[rows].sum(axis=0) for rows in members])
    sizes = np.array([len(rows) for rows in members])
    similarity: NDArray[np.float64] = (sums + sums.T) / (sizes[:, None] + sizes[None, :])
    return similarity


def _cosine(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, T), rounded so that what is equal but for the order of a sum ties."""
    lengths = np.linalg.norm(vectors, axis=1)
    empty = lengths == 0
    unit = vectors / np.where(empty, 1.0, lengths)[:, None]
    return np.asarray(np.round(unit @ unit.T, 9) + (empty[:, None] & empty[None, :]), np.float64)


def _tfidf(pieces: Texts) -> NDArray[np.float64]:
    """(pieces, words): words are what white space separates; smooth idf over the pieces."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not any(piece.strip() for piece in pieces):
        return np.zeros((len(pieces), 1))
    vectorizer = TfidfVectorizer(tokenizer=str.split, token_pattern=None, lowercase=True)
    return np.asarray(vectorizer.fit_transform(pieces).toarray(), np.float64)


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
