"""Near-duplicate problems across splits: an evaluated prompt that repeats most of a training prompt.

Equal ids are a leak and are refused where methods are loaded. This finds what equal ids cannot: the same problem under
another id, with another layout, or with a few words changed. It compares wording, not meaning: a short problem in which
every number is new shares few n-grams with its model and is not found.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prunebench.tasks.errors import UserError

Tokens = tuple[str, ...]
Index = dict[Tokens, list[str]]

_TOKEN = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+|[^\w\s]|_")

BOILERPLATE_SHARE = 0.1
"""An n-gram in more than this share of the training problems, and in ``BOILERPLATE_COUNT`` of them at least, is part of
the instructions that a task's problems have in common: it says nothing about two problems being the same one."""
BOILERPLATE_COUNT = 10
"""Below this, few training problems would make every shared n-gram look common."""


@dataclass(frozen=True)
class NearDuplicate:
    """Two problems by id; ``overlap`` is the share (0 to 1) of the evaluated one's n-grams that the other has."""

    evaluated: str
    trained: str
    overlap: float


def near_duplicates(
    evaluated: Mapping[str, str], trained: Mapping[str, str], n: int = 8, share: float = 0.5
) -> list[NearDuplicate]:
    """All pairs whose overlap is at least ``share``, the closest first.

    Both mappings lead from problem id to prompt. Overlap is the share of the evaluated prompt's distinct n-grams that
    occur in one training prompt, boilerplate left out on both sides. A prompt below ``n`` tokens is one n-gram of its
    own length. Where all is boilerplate, a pair counts only when the two prompts are the same tokens throughout. Pairs
    of equal ids are left out. Raises UserError unless ``n`` >= 1 and 0 < ``share`` <= 1.
    """
    if n < 1:
        raise UserError(f"n = {n}: an n-gram has at least one token; 8 is the default")
    if not 0 < share <= 1:
        raise UserError(f"share = {share}: choose a share above 0 and at most 1; 0.5 is the default")
    texts = {problem: tokens(prompt) for problem, prompt in trained.items()}
    index = _index((problem, ngrams(text, n)) for problem, text in texts.items())
    whole = _index((problem, {text}) for problem, text in texts.items())
    boilerplate = _boilerplate(index, len(trained))
    pairs = []
    for problem, prompt in evaluated.items():
        text = tokens(prompt)
        telling = ngrams(text, n) - boilerplate
        shared = _shared(telling, index) if telling else _shared({text}, whole)
        for other, count in shared.items():
            overlap = count / max(1, len(telling))
            if other != problem and overlap >= share:
                pairs.append(NearDuplicate(problem, other, overlap))
    return sorted(pairs, key=lambda pair: (-pair.overlap, pair.evaluated, pair.trained))


def note(duplicates: Sequence[NearDuplicate], evaluated_count: int) -> str | None:
    """A sentence for the notes under a table: how many evaluated problems, and the three closest pairs; None for none.

    ``duplicates`` as :func:`near_duplicates` returns them, for ``evaluated_count`` evaluated problems.
    """
    if not duplicates:
        return None
    concerned = len({pair.evaluated for pair in duplicates})
    closest = ", ".join(f"{pair.evaluated} and {pair.trained} ({100 * pair.overlap:.0f} %)" for pair in duplicates[:3])
    return (
        f"{concerned} of {evaluated_count} evaluated problems nearly repeat a training problem; "
        f"the closest by wording: {closest}"
    )


def tokens(prompt: str) -> Tokens:
    """Lower-case words, whole numbers (decimals too), and every other sign by itself; spaces and line ends are lost."""
    return tuple(_TOKEN.findall(prompt.lower()))


def ngrams(text: Tokens, n: int) -> set[Tokens]:
    """The distinct n-grams of ``text``; the whole of it when it is shorter."""
    return {text[start : start + n] for start in range(max(1, len(text) - n + 1))}


def _index(problems: Iterable[tuple[str, set[Tokens]]]) -> Index:
    """From each n-gram to the problems that hold it."""
    index: Index = defaultdict(list)
    for problem, grams in problems:
        for gram in grams:
            index[gram].append(problem)
    return index


def _boilerplate(index: Index, problems: int) -> set[Tokens]:
    counts = ((gram, len(holders)) for gram, holders in index.items())
    return {gram for gram, count in counts if count >= BOILERPLATE_COUNT and count / problems > BOILERPLATE_SHARE}


def _shared(grams: Iterable[Tokens], index: Index) -> Counter[str]:
    """How many of ``grams`` each training problem holds. Only problems that hold one are looked at."""
    return Counter(problem for gram in grams for problem in index.get(gram, ()))
