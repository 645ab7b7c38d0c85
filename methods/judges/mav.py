"""MAV: several verifiers, each asked about one aspect, and the share of them that approve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.base import Generate, PretrainedJudge, Scores, Setting, Signal
from prunebench.methods.judges.verifier import (
    ASPECTS,
    PROMPTS,
    Language,
    charge_verifier,
    distinct_texts,
    language_of,
    verifier_of,
    yes_probabilities,
)
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner


@pruner
@dataclass
class Mav(PretrainedJudge):
    """Multi-agent verification (MAV, arXiv 2502.20379; higher = keep, as in the source): mean of m binary verdicts.

    Each of the ``aspects`` is one verifier: the same model, prompted for that aspect. Its verdict is 1 if
    P(yes) >= P(no) for the next token (greedy, no words in between), else 0; the score is their mean, one of m + 1
    values. Nothing breaks the many ties that this leaves: they go to whoever ranks the paths. The source also lets
    different models verify. Equal prefixes are judged once.
    """

    name = "mav"
    requires = frozenset({Signal.TEXT})
    paper = "arXiv 2502.20379"
    pointwise = True
    generative = True
    role = "verifier"
    extra_cost = "a verifier reads every distinct prefix once per aspect"

    model: str = "embedded"
    language: Language = "words"
    aspects: list[str] = field(default_factory=lambda: list(ASPECTS))

    @classmethod
    def configurations(cls, setting: Setting) -> Sequence[Self]:
        """All aspects, those of the parts only, and the prefix as a whole only."""
        sets = (ASPECTS, ("reading", "computing"), ("whole",))
        return [cls(language=language_of(setting), aspects=list(names)) for names in sets]

    def score(self, pool: Pool) -> Scores:
        generate, prompts = verifier_of(self), PROMPTS[self.language]
        texts, place = distinct_texts(pool)
        contexts = self._contexts(generate, pool, texts)
        tokens = np.array([len(context) for context in contexts]).reshape(len(texts), len(self.aspects)).sum(axis=1)
        charge_verifier(pool, generate, tokens[place])
        approved = yes_probabilities(generate, contexts, prompts) >= 0.5
        scores: Scores = approved.reshape(len(texts), len(self.aspects)).mean(axis=1, dtype=np.float64)[place]
        return scores

    def _contexts(self, generate: Generate, pool: Pool, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """One per text and aspect, the aspects of a text behind one another."""
        if not self.aspects:
            raise ValueError(f"mav: no aspects; name at least one of {', '.join(ASPECTS)}")
        prompts = PROMPTS[self.language]
        return [generate.encode(prompts.aspect(aspect, pool.prompt, text)) for text in texts for aspect in self.aspects]
