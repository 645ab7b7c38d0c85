"""How a generative verifier is spoken to, and how its verdict is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.base import Generate, JudgeMissingError, PretrainedJudge, Setting
from prunebench.methods.pool import Pool

Language = Literal["words", "english"]

ASPECTS = ("reading", "computing", "whole")
"""What a verifier can be asked about: the set-up, the computations, the prefix as a whole."""


@dataclass(frozen=True)
class Prompts:
    """The texts of one language; ``{problem}`` and ``{prefix}`` stand for what is judged.

    ``critique`` asks for a review that ends in ``verdict`` and an answer; ``aspects`` ask for the answer alone. ``yes``
    and ``no`` are the two answers as they follow a text: their first tokens are compared.
    """

    critique: str
    verdict: str
    aspects: Mapping[str, str]
    yes: str
    no: str

    def aspect(self, name: str, problem: str, prefix: str) -> str:
        if name not in self.aspects:
            raise ValueError(f"mav: unknown aspect '{name}'; known: {', '.join(self.aspects)}")
        return self.aspects[name].format(problem=problem, prefix=prefix)


_BEGINNING = "Problem:\n{problem}\n\nA solution of this problem begins as follows:\n{prefix}\n\n"
_ANSWER = " An unfinished last step is no error. Answer Yes or No.\nVerdict:"

PROMPTS: Mapping[Language, Prompts] = {
    "words": Prompts(
        critique="<bos> {problem} {prefix} check: ",
        verdict=" check:",
        aspects={
            "reading": "<bos> {problem} {prefix} check: find",
            "computing": "<bos> {problem} {prefix} check: do",
            "whole": "<bos> {problem} {prefix} check: check:",
        },
        yes="yes",
        no="no",
    ),
    "english": Prompts(
        critique=_BEGINNING
        + "Review the steps written so far. Work each of them out again and say whether it is right; an unfinished "
        "last step is no error. Then write a last line: Verdict: Yes if no step is wrong, Verdict: No otherwise."
        "\n\nReview:\n",
        verdict="\nVerdict:",
        aspects={
            "reading": _BEGINNING + "Does it take up the problem as it is stated, with the right quantities?" + _ANSWER,
            "computing": _BEGINNING + "Are all computations in it right?" + _ANSWER,
            "whole": _BEGINNING + "Is everything in it right so far?" + _ANSWER,
        },
        yes=" Yes",
        no=" No",
    ),
}
"""``words`` is what the shipped verifier was taught; ``english`` is for instruction-tuned models, as plain text."""

_WORDS_AT_MOST = 1_000


def language_of(setting: Setting) -> Language:
    """The language for a generator: a vocabulary of at most 1,000 tokens is one of words."""
    return "words" if setting.vocabulary_size <= _WORDS_AT_MOST else "english"


def verifier_of(judge: PretrainedJudge) -> Generate:
    """The model that was bound to a generative judge. Raises JudgeMissingError."""
    if not judge.ready or judge.generate_ is None:
        raise JudgeMissingError(judge.name)
    return judge.generate_


def distinct_texts(pool: Pool) -> tuple[list[str], NDArray[np.int64]]:
    """The different prefix texts in alphabetical order, and int64 (N,) the place of every path's among them."""
    texts = sorted(set(pool.text))
    place = {text: number for number, text in enumerate(texts)}
    return texts, np.array([place[text] for text in pool.text], np.int64)


def yes_probabilities(
    generate: Generate, contexts: Sequence[NDArray[np.int64]], prompts: Prompts
) -> NDArray[np.float64]:
    """(contexts,) P(yes) / (P(yes) + P(no)) right after each context."""
    yes, no = (int(generate.encode(word)[0]) for word in (prompts.yes, prompts.no))
    if yes == no:
        raise ValueError(
            f"the verifier's tokenizer begins '{prompts.yes}' and '{prompts.no}' with the same token, so its verdict "
            "cannot be read; name another verifier or another language"
        )
    logprobs = generate.next_logprobs(contexts, (yes, no))
    odds: NDArray[np.float64] = np.logaddexp(0.0, logprobs[:, 1] - logprobs[:, 0])
    return np.exp(-odds)


def charge_verifier(
    pool: Pool, generate: Generate, read: NDArray[np.int64], written: NDArray[np.int64] | int = 0
) -> None:
    """Charge every distinct prefix: (N,) tokens read anew and written; 2 FLOPs per parameter of the verifier each."""
    flops = 2.0 * generate.parameters * (read + written)
    pool.charge(
        reencoded_tokens=read, probe_tokens=written, flops=flops, model_bytes=generate.weight_bytes, read=pool.text
    )
