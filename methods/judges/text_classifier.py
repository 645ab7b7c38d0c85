"""The cheapest learnable judge: n-grams and logistic regression. It tells how much of any gain is surface text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from prunebench.methods.base import LearnablePruner, NotFittedError, Scores, Setting, Signal, Source
from prunebench.methods.pool import Pool, PrefixDataset
from prunebench.methods.registry import pruner


@pruner
@dataclass
class TextClassifier(LearnablePruner):
    """TF-IDF over token n-grams (tokens are what single spaces separate), logistic regression on soft labels.

    Every prefix enters twice, as a success with weight s and as a failure with weight 1 - s. It reads the prefix only:
    in a linear model the prompt's features are the same for all paths of a problem and cannot change their order.
    """

    name = "text-classifier"
    source = Source.EXTERNAL
    requires = frozenset({Signal.TEXT})
    paper = "baseline (scikit-learn)"
    extra_cost = "reads every text again, some operations a token"
    pointwise = True

    ngram_max: int = 3
    C: float = 1.0
    min_df: int = 3

    @classmethod
    def configurations(cls, setting: Setting) -> Sequence[Self]:
        return [cls(ngram_max=n, C=c) for n in (1, 3, 5) for c in (0.3, 3.0)]

    def fit(self, train: PrefixDataset, validation: PrefixDataset) -> Self:
        from sklearn.linear_model import LogisticRegression

        self._vectorizer_ = self._new_vectorizer()
        features = self._vectorizer_.fit_transform([text for labelled in train for text in labelled.pool.text])
        self.vocabulary_: dict[str, int] = {word: int(i) for word, i in self._vectorizer_.vocabulary_.items()}
        self.idf_ = self._vectorizer_.idf_
        from scipy.sparse import vstack

        weights = np.concatenate([train.success, 1 - train.success])
        classes = np.repeat([1, 0], len(train.success))
        model = LogisticRegression(C=self.C, max_iter=2000)
        model.fit(vstack([features, features]), classes, sample_weight=weights)
        self.coefficients_ = model.coef_[0]
        return self

    def score(self, pool: Pool) -> Scores:
        if not hasattr(self, "coefficients_"):
            raise NotFittedError(self.name)
        scores = np.asarray(self._vectorizer_.transform(list(pool.text)) @ self.coefficients_, np.float64)
        # A judge outside the model reads the text anew; its own arithmetic is two operations per n-gram.
        pool.charge(reencoded_tokens=pool.lengths, flops=2.0 * self.ngram_max * pool.lengths)
        return scores

    def save(self, path: Path) -> None:
        from safetensors.numpy import save_file

        if not hasattr(self, "coefficients_"):
            raise NotFittedError(self.name)
        words = sorted(self.vocabulary_, key=self.vocabulary_.__getitem__)
        arrays = {"coefficients": np.ascontiguousarray(self.coefficients_), "idf": np.ascontiguousarray(self.idf_)}
        save_file(arrays, str(path), metadata={"vocabulary": json.dumps(words)})

    def load(self, path: Path) -> Self:
        from safetensors import safe_open

        with safe_open(str(path), framework="numpy") as file:
            self.coefficients_, self.idf_ = file.get_tensor("coefficients"), file.get_tensor("idf")
            words = json.loads(file.metadata()["vocabulary"])
        self.vocabulary_ = {word: i for i, word in enumerate(words)}
        self._vectorizer_ = self._new_vectorizer(self.vocabulary_)
        self._vectorizer_.idf_ = self.idf_
        return self

    def _new_vectorizer(self, vocabulary: dict[str, int] | None = None) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer

        return TfidfVectorizer(
            analyzer="word",
            tokenizer=_split,
            token_pattern=None,
            lowercase=False,
            ngram_range=(1, self.ngram_max),
            min_df=self.min_df if vocabulary is None else 1,
            sublinear_tf=True,
            vocabulary=vocabulary,
        )


def _split(text: str) -> list[str]:
    return text.split(" ")
