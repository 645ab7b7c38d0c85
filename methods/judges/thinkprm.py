"""ThinkPRM: a generative verifier reviews the prefix in words, and its verdict is read as a probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from prunebench.methods.base import PretrainedJudge, Scores, Setting, Signal
from prunebench.methods.judges.verifier import (
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

_NOTHING = np.zeros(0, np.int64)


@pruner
@dataclass
class ThinkPrm(PretrainedJudge):
    """Verification by a written critique (ThinkPRM, arXiv 2504.16828; higher = keep, as in the source).

    The verifier reads problem and prefix and writes a critique, greedily and at most ``max_new_tokens`` long. Where it
    comes to its verdict the critique is cut, the question for the verdict is put behind it, and the score is
    P(yes) / (P(yes) + P(no)) for the next token. A critique that runs out of tokens is asked for its verdict where it
    stands; 0 tokens ask for it at once. Equal prefixes are judged once.
    """

    name = "thinkprm"
    requires = frozenset({Signal.TEXT})
    paper = "arXiv 2504.16828"
    pointwise = True
    probability = True
    generative = True
    role = "verifier"
    extra_cost = "a verifier reads every distinct prefix and writes a critique"

    model: str = "embedded"
    language: Language = "words"
    max_new_tokens: int = 64

    @classmethod
    def configurations(cls, setting: Setting) -> Sequence[Self]:
        """Critiques of at most L/2 and L tokens, no less than 32 and 64."""
        amounts = (max(32, setting.prefix_tokens // 2), max(64, setting.prefix_tokens))
        return [cls(language=language_of(setting), max_new_tokens=amount) for amount in amounts]

    def score(self, pool: Pool) -> Scores:
        generate, prompts = verifier_of(self), PROMPTS[self.language]
        texts, place = distinct_texts(pool)
        contexts = [prompts.critique.format(problem=pool.prompt, prefix=text) for text in texts]
        read = [generate.encode(context) for context in contexts]
        critiques = generate.complete(read, self.max_new_tokens) if self.max_new_tokens > 0 else [_NOTHING] * len(read)
        asked = []
        for context, critique in zip(contexts, critiques, strict=True):
            review = generate.decode(critique).partition(prompts.verdict.strip())[0].rstrip(" ")
            asked.append(generate.encode(context + review + prompts.verdict))
        # The context is read anew; the critique as written, and the question for the verdict, come behind it.
        written = np.array([len(critique) for critique in critiques]) + len(generate.encode(prompts.verdict))
        charge_verifier(pool, generate, np.array([len(ids) for ids in read])[place], written[place])
        scores: Scores = yes_probabilities(generate, asked, prompts)[place]
        return scores
