r"""The boxes of a text: ``\boxed{42}``, ``\fbox{42}``, ``\boxed 3``, and several of them that make up one answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_BOX = r"\\{1,2}(?:boxed|fbox|framebox)"
_MARKS = re.compile(
    rf"(?P<opened>{_BOX}\s{{0,3}}\{{)"
    rf"|{_BOX}\s{{0,3}}(?P<bare>[+-]?\d[\d.,]*|[A-Z]|\\[dt]?frac(?:\d\d|\{{[^{{}}]{{1,40}}\}}\{{[^{{}}]{{1,40}}\}}))"
    r"(?=[^A-Za-z\d])"
    r"|\\.|[{}]",
    re.DOTALL,
)
_PLACEHOLDER = re.compile(
    r"(?:\\text\{|\\[lc]?dots|[\s{}.…_])*(?:(?:your |the |final )*answer(?: here)?[\s}]*)?", re.IGNORECASE
)
_BETWEEN = re.compile(
    r"(?:[\s$,;&]|\\[()\[\],;:! ]|\\q?quad(?![A-Za-z])|\\text\{\s*(?:and|or),?\s*\}|\b(?:and|or)\b"
    r"|\b[A-Za-z](?:_\{?\d\}?)?\s*=)*"
)
_LISTED = re.compile(r"(?<!\\)[,;&]|\b(?:and|or)\b")
LONGEST_PLACEHOLDER = 60
LONGEST_BETWEEN = 40
"""Characters between two parts of one answer."""


@dataclass(frozen=True)
class Piece:
    """A part of a text that stands out: where it begins and ends, and what it says."""

    start: int
    end: int
    content: str


def boxes(text: str) -> list[Piece]:
    """The complete boxes that hold an answer, by their places; of one within another the inner. Linear in the text."""
    opened: list[re.Match[str]] = []
    found: list[Piece] = []
    for mark in _MARKS.finditer(text):
        if mark["bare"]:
            found.append(Piece(mark.start(), mark.end(), mark["bare"].rstrip(".,")))
        elif mark[0] == "{" or mark["opened"]:
            opened.append(mark)
        elif mark[0] == "}" and opened:
            begin = opened.pop()
            content = text[begin.end() : mark.start()].strip() if begin["opened"] else ""
            within = bool(found) and found[-1].start > begin.start()
            if begin["opened"] and not within and not _holds_place(content):
                found.append(Piece(begin.start(), mark.end(), content))
    return found


def _holds_place(content: str) -> bool:
    """Whether a box only shows where an answer belongs."""
    return len(content) <= LONGEST_PLACEHOLDER and _PLACEHOLDER.fullmatch(content) is not None


def joined_box(text: str) -> str | None:
    """The last box; with those before it that only commas, "and" or "or" part from it, as one list."""
    found = boxes(text)
    if not found:
        return None
    first = len(found) - 1
    while first and listed(text, found[first - 1], found[first]):
        first -= 1
    return listing([piece.content for piece in found[first:]])


def listed(text: str, one: Piece, other: Piece) -> bool:
    """Whether two neighbours are parts of one list."""
    between = text[one.end : other.start]
    if len(between) > LONGEST_BETWEEN:
        return False
    return _LISTED.search(between) is not None and _BETWEEN.fullmatch(between) is not None


def listing(parts: Sequence[str]) -> str:
    """Parts as one answer: the same again counts once."""
    return ", ".join(dict.fromkeys(parts))
