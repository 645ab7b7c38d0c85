"""DeepPrune: a judge of pairs says which prefixes will end in the same answer; one of a kind goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.base import LearnablePruner, NotFittedError, Scores, Setting, Signal, Source
from prunebench.methods.judges.text_classifier import TextClassifier
from prunebench.methods.pool import LabelledPool, Pool, PrefixDataset
from prunebench.methods.registry import pruner


@pruner
@dataclass
class DeepPrune(LearnablePruner):
    """Greedy clustering by a learned P(two prefixes end in the same answer) (arXiv 2510.08483, THU-KEG/DeepPrune).

    The judge of the paper is a language model of 4B parameters that reads both texts. Here it is a logistic regression
    on the TF-IDF vectors x, y (V,) of the n-grams of the two texts, features |x - y| and x * y (2V,); it learns from
    pairs of one pool and the classes of their final answers. Pairs with a path that gave none are left out, and at most
    ``pairs`` are drawn per pool, by ``seed``, task, problem, checkpoint and path ids.

    Clustering: the paths are visited in order of their ids; each joins the first cluster whose representative (its
    first path) has P(same) > ``threshold``, else it opens a cluster. The source keeps the representatives and has no
    score; here (higher = keep)

        score = -rank + size / (N + 1)

    with rank = how many paths of the cluster came before (0 for its representative), size = how many paths the cluster
    has, N = how many the pool has. The fraction lies in (0, 1): first all representatives, those of larger clusters
    before the others, then all second members, and so on.
    """

    name = "deepprune"
    source = Source.EXTERNAL
    requires = frozenset({Signal.TEXT})
    paper = "arXiv 2510.08483"
    redundancy = True
    extra_cost = "reads every text and compares it with one per cluster"

    threshold: float = 0.5
    C: float = 1.0
    ngram_max: int = 3
    min_df: int = 3
    pairs: int = 200
    seed: int = 0

    @classmethod
    def configurations(cls, setting: Setting) -> Sequence[Self]:
        return [cls(threshold=threshold, C=c) for threshold in (0.3, 0.5, 0.7) for c in (0.1, 1.0)]

    def fit(self, train: PrefixDataset, validation: PrefixDataset) -> Self:
        """Raises ValueError where final answers are not known, or where all pairs are of one kind."""
        from scipy.sparse import vstack
        from sklearn.linear_model import LogisticRegression

        chosen = [self._pairs_of(labelled) for labelled in train]
        same = np.concatenate([labels for _, _, labels in chosen])
        if len(np.unique(same)) < 2:
            raise ValueError(
                f"deepprune: {len(same)} training pairs, and none of them ends in "
                f"{'different answers' if same.any() else 'the same answer'}; train on more problems"
            )
        self._vectorizer_ = self._new_vectorizer()
        self._vectorizer_.fit([text for labelled in train for text in labelled.pool.text])
        self.vocabulary_: dict[str, int] = {word: int(i) for word, i in self._vectorizer_.vocabulary_.items()}
        self.idf_ = self._vectorizer_.idf_
        rows = []
        for labelled, (first, second, _) in zip(train, chosen, strict=True):
            vectors = self._vectorizer_.transform(list(labelled.pool.text))
            rows.append(_features(vectors[first], vectors[second]))
        model = LogisticRegression(C=self.C, max_iter=2000).fit(vstack(rows), same)
        self.coefficients_, self.intercept_ = model.coef_[0], model.intercept_
        return self

    def _pairs_of(self, labelled: LabelledPool) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Rows of the chosen pairs of a pool, and whether each ends in the same answer."""
        pool, final = labelled.pool, labelled.final_class
        if final is None:
            raise ValueError(
                f"deepprune learns from the final answers of the paths, and problem '{pool.problem}' has none "
                "(LabelledPool.final_class is None); train on pools of complete rollouts"
            )
        rows = np.argsort(pool.paths, kind="stable")
        rows = rows[final[rows] >= 0]
        first, second = np.triu_indices(len(rows), 1)
        if len(first) > self.pairs:
            key = f"{self.seed}\x1f{pool.task}\x1f{pool.problem}\x1f{pool.position}\x1f{pool.paths[rows].tolist()}"
            digest = hashlib.sha256(key.encode()).digest()
            random = np.random.default_rng(int.from_bytes(digest[:8], "big"))
            kept = np.sort(random.choice(len(first), self.pairs, replace=False))
            first, second = first[kept], second[kept]
        first, second = rows[first], rows[second]
        return first, second, final[first] == final[second]

    def score(self, pool: Pool) -> Scores:
        vectors = self._vectors(pool)
        clusters, compared = self._clusters(pool, vectors)
        self._charge(pool, compared, np.diff(vectors.indptr))
        scores: Scores = np.empty(len(pool))
        for members in clusters:
            scores[members] = len(members) / (len(pool) + 1) - np.arange(len(members))
        return scores

    def _charge(self, pool: Pool, compared: Sequence[tuple[int, int]], ngrams: NDArray[np.int64]) -> None:
        """Reading, two operations per n-gram; and of every comparison two per weight that either text calls for."""
        weights = np.zeros(len(pool))
        for row, other in compared:
            weights[row] += 2 * (ngrams[row] + ngrams[other])
        pool.charge(reencoded_tokens=pool.lengths, flops=2.0 * self.ngram_max * pool.lengths + 2.0 * weights)

    def _vectors(self, pool: Pool) -> Any:
        """(N, V) sparse."""
        if not hasattr(self, "coefficients_"):
            raise NotFittedError(self.name)
        return self._vectorizer_.transform(list(pool.text)).tocsr()

    def _clusters(self, pool: Pool, vectors: Any) -> tuple[list[list[int]], list[tuple[int, int]]]:
        """Rows of every cluster in order of path id, and the pairs (row, representative) that were compared."""
        same = self._same(vectors)
        clusters: list[list[int]] = []
        compared: list[tuple[int, int]] = []
        for row in np.argsort(pool.paths, kind="stable").tolist():
            heads = [members[0] for members in clusters]
            like = same[row, heads] > self.threshold
            asked = int(like.argmax()) + 1 if like.any() else len(heads)
            compared += [(row, head) for head in heads[:asked]]
            if like.any():
                clusters[asked - 1].append(row)
            else:
                clusters.append([row])
        return clusters, compared

    def _same(self, vectors: Any) -> NDArray[np.float64]:
        """(N, N): P(same answer) of every pair of rows of a sparse (N, V), by the n-grams that occur in the pool."""
        there = np.unique(vectors.indices)
        dense = vectors[:, there].toarray()
        gaps, products = self.coefficients_[there], self.coefficients_[vectors.shape[1] + there]
        margin = (dense * products) @ dense.T + self.intercept_[0]
        margin += np.array([np.abs(dense - row) @ gaps for row in dense])
        return np.asarray(np.exp(-np.logaddexp(0, -margin)), np.float64)

    def save(self, path: Path) -> None:
        from safetensors.numpy import save_file

        if not hasattr(self, "coefficients_"):
            raise NotFittedError(self.name)
        words = sorted(self.vocabulary_, key=self.vocabulary_.__getitem__)
        arrays = {"coefficients": self.coefficients_, "intercept": self.intercept_, "idf": self.idf_}
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        save_file(contiguous, str(path), metadata={"vocabulary": json.dumps(words)})

    def load(self, path: Path) -> Self:
        from safetensors import safe_open

        with safe_open(str(path), framework="numpy") as file:
            self.coefficients_, self.intercept_ = file.get_tensor("coefficients"), file.get_tensor("intercept")
            self.idf_ = file.get_tensor("idf")
            words = json.loads(file.metadata()["vocabulary"])
        self.vocabulary_ = {word: i for i, word in enumerate(words)}
        self._vectorizer_ = self._new_vectorizer(self.vocabulary_)
        self._vectorizer_.idf_ = self.idf_
        return self

    def _new_vectorizer(self, vocabulary: dict[str, int] | None = None) -> Any:
        """The very n-grams of ``text-classifier``."""
        return TextClassifier(ngram_max=self.ngram_max, min_df=self.min_df)._new_vectorizer(vocabulary)


def _features(first: Any, second: Any) -> Any:
    """(pairs, 2V) sparse from two (pairs, V): |x - y|, then x * y."""
    from scipy.sparse import hstack

    return hstack([abs(first - second), first.multiply(second)]).tocsr()
