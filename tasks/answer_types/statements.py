"""Final answers that a text declares in words: "The answer is 42.", "**Final Answer**", "#### 42", a tag."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_QUOTES = "*_`\"'“”"
_MARKUP = rf"[{_QUOTES}]{{0,4}}"
_BLANK = r"[ \t]{0,4}"
_ANSWER = (
    r"(?:(?:final|correct|right|best|overall)[\s_]{1,3}){0,3}(?:answers?|ans)|final[\s_]{1,3}(?:result|value|solution)"
)
_CHOICE = r"(?:(?:final|correct|right|best)[\s_]{1,3}){1,3}(?:choice|option)|(?:choice|option)(?=[^A-Za-z]{0,4}:)"
_LINK = (
    r"[:=：]|(?:is|are|was|would be|will be|should be|must be|equals)\b"
    r"(?:\s{1,3}(?:therefore|thus|then|simply|just|indeed|clearly|exactly|equal to|given by)\b)?\s{0,3}[:：]?"
)
_TO_WHAT = (
    r"(?:\s{1,3}(?:to|of|for)\s{1,3}(?:the|this|your)\s{1,3}(?:\w{1,15}\s{1,3}){0,3}?(?:question|problem|puzzle))?"
)


def _declared(nouns: str) -> str:
    return (
        rf"(?<![A-Za-z])(?P<noun>{nouns}){_MARKUP}{_BLANK}(?:\([A-Za-z]{{0,6}}\))?{_TO_WHAT}{_BLANK}{_MARKUP}"
        rf"{_BLANK}(?:{_LINK})"
    )


_HEADING = rf"^[ \t]{{0,4}}(?:#{{1,6}}{_BLANK}{_MARKUP}|\*\*)(?:final[ \t]{{1,3}})?answer{_BLANK}{_MARKUP}{_BLANK}$"
_OTHERS = rf"|{_HEADING}|^[ \t]{{0,4}}final[ \t]{{1,3}}answer{_BLANK}$|答案(?:是|为|[:：])"
_FLAGS = re.IGNORECASE | re.MULTILINE
DECLARED = re.compile(_declared(_ANSWER) + _OTHERS, _FLAGS)
"""Where a final answer is about to be said."""
DECLARED_CHOICE = re.compile(
    _declared(f"{_ANSWER}|{_CHOICE}")
    + rf"{_OTHERS}|\b(?:I|we)(?:'ll| will| would)?\s(?:choose|pick|select|go with)\s(?:option\s)?",
    _FLAGS,
)
_DOUBT = re.compile(
    r"\b(?:if|whether|unless|suppose|supposing|assume|assuming|maybe|perhaps|why|how|not)\s{1,3}(?:that\s{1,3})?"
    r"(?:(?:the|my|your|our|its|their)\s{1,3})?$",
    re.IGNORECASE,
)
_HASHES = re.compile(r"^[ \t]{0,4}####[ \t]{0,4}(?P<line>[^\s#].*)\n", re.MULTILINE)
_TAG = re.compile(r"<answer>(?P<line>(?:(?!<answer>).){1,1000}?)</answer>", re.IGNORECASE | re.DOTALL)
_DISPLAYED = re.compile(r"\s{0,20}(?:\$\$(?P<dollars>.+?)\$\$|\\\[(?P<brackets>.+?)\\\])", re.DOTALL)
_SENTENCE_END = re.compile(r"(?<!\b[A-Z])(?<!\b[A-Z][a-z])(?:[.?]|(?<!\d)!)(?=[*_`\"'”)]{0,4}\s)|[\n。]")
_LEADING = re.compile(rf"[\s{_QUOTES}>]{{0,30}}")

LONGEST = 1000
"""Characters of a statement; what is longer states no answer."""
LOOKED_AT = 20
"""So many of the last statements of a text are looked at."""

Reader = Callable[[str], str | None]


def stated(text: str, value: Reader, alone: Reader, heads: re.Pattern[str] = DECLARED) -> str | None:
    """The last final answer that a text declares and ``value`` reads in the sentence; ``alone`` reads a whole line.

    A sentence that has no end yet states nothing.
    """
    candidates = [(match.end(), _sentence(text, match.end()), value) for match in _heads(text, heads)]
    for pattern in (_HASHES, _TAG):
        candidates += [(match.start(), match["line"], alone) for match in [*pattern.finditer(text)][-LOOKED_AT:]]
    for _, sentence, read in sorted(candidates, key=lambda candidate: candidate[0], reverse=True)[:LOOKED_AT]:
        answer = None if sentence is None else read(sentence)
        if answer is not None:
            return answer
    return None


def _heads(text: str, heads: re.Pattern[str]) -> Iterator[re.Match[str]]:
    for match in [*heads.finditer(text)][-LOOKED_AT:]:
        if _DOUBT.search(text[max(0, match.start() - 40) : match.start()]) is None:
            yield match


def _sentence(text: str, start: int) -> str | None:
    """The sentence, or the displayed formula, that begins at ``start``; None where it does not end."""
    rest = text[start : start + LONGEST]
    displayed = _DISPLAYED.match(rest)
    if displayed:
        return f"${(displayed['dollars'] or displayed['brackets']).strip()}$"
    leading = _LEADING.match(rest)
    begin = leading.end() if leading else 0
    end = _SENTENCE_END.search(rest, begin)
    if end is None or (end[0] == "?"):
        return None
    marks = rest[:begin].rpartition("\n")[2].strip()
    return f"{marks}{rest[begin : end.start()]}".strip() or None


def only_line(text: str) -> str | None:
    """The line of a text that has only one."""
    lines = text.strip().splitlines()
    return lines[0].strip() if len(lines) == 1 and len(lines[0]) <= LONGEST else None


def last_line(text: str) -> str | None:
    """The last line that is not empty."""
    line = text.rstrip()[-LONGEST - 1 :].rpartition("\n")[2].strip()
    return line if 0 < len(line) <= LONGEST else None
