"""ThinkPRM: a generative verifier reviews the prefix in words, and its verdict is read as a probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from prunebench.methods.base import Cost, PretrainedJudge, Scores, Setting, Signal
from prunebench.methods.judges.verifier import (
    PROMPTS,
    Language,
    distinct_texts,
    language_of,
    verifier_cost,
    verifier_of,
    yes_probabilities,
)
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner


@pruner
@dataclass
class ThinkPrm(PretrainedJudge):
    """Verification by a written critique (ThinkPRM, arXiv 2504.16828; higher = keep, as in the source).

    The verifier reads problem and prefix and writes a critique, greedily and at most ``max_new_tokens`` long. Where it
    comes to its verdict the critique is cut, the question for the verdict is put behind it, and the score is
    P(yes) / (P(yes) + P(no)) for the next token. A critique that runs out of tokens is asked for its verdict where it
    stands; 0 tokens ask for it at once. Equal prefixes are judged once.
    """

    name: ClassVar[str] = "thinkprm"
    requires: ClassVar[frozenset[Signal]] = frozenset({Signal.TEXT})
    paper: ClassVar[str] = "arXiv 2504.16828"
    pointwise: ClassVar[bool] = True
    probability: ClassVar[bool] = True
    generative: ClassVar[bool] = True
    role: ClassVar[str] = "verifier"
    extra_cost: ClassVar[str] = "a verifier reads every distinct prefix and writes a critique"

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
        contexts = self._contexts(pool, texts)
        asked = []
        for context, written in zip(contexts, self._critiques(contexts), strict=True):
            review = written.partition(prompts.verdict.strip())[0].rstrip(" ")
            asked.append(generate.encode(context + review + prompts.verdict))
        scores: Scores = yes_probabilities(generate, asked, prompts)[place]
        return scores

    def cost(self, pool: Pool) -> Cost:
        """Per distinct prefix: its context, read anew; the critique as written, and the question for the verdict."""
        generate = verifier_of(self)
        contexts = self._contexts(pool, distinct_texts(pool)[0])
        if any(context not in getattr(self, "written_", {}) for context in contexts):
            self._critiques(contexts)
        written = sum(self.written_[context] for context in contexts)
        question = len(contexts) * len(generate.encode(PROMPTS[self.language].verdict))
        return verifier_cost(generate, sum(len(generate.encode(context)) for context in contexts), written + question)

    def _contexts(self, pool: Pool, texts: Sequence[str]) -> list[str]:
        return [PROMPTS[self.language].critique.format(problem=pool.prompt, prefix=text) for text in texts]

    def _critiques(self, contexts: Sequence[str]) -> list[str]:
        """What the verifier writes behind each context; the lengths stay known until the next pool, for the cost."""
        generate = verifier_of(self)
        written: list[str] = [""] * len(contexts)
        self.written_ = dict.fromkeys(contexts, 0)
        if self.max_new_tokens > 0:
            tokens = generate.complete([generate.encode(context) for context in contexts], self.max_new_tokens)
            written = [generate.decode(ids) for ids in tokens]
            self.written_ = {context: len(ids) for context, ids in zip(contexts, tokens, strict=True)}
        return written
