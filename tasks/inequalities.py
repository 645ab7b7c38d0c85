r"""Inequalities as :mod:`tasks.expression` reads them: chains from their least side on, alternatives as sets."""

from __future__ import annotations

import re

from prunebench.tasks.spelling import UnreadError

AND = re.compile(r",? (?:and|or) |,? ?\\(?:land|lor)(?![A-Za-z])", re.IGNORECASE)
"""What joins parts of an answer."""
RELATION = re.compile(r"[<>]|\\(?:le|ge|ne|in)(?![A-Za-z])")
_ORDER = re.compile(r"(<|>|\\le(?![A-Za-z])|\\ge(?![A-Za-z]))")
_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}


def rising(text: str) -> str:
    """A chain of inequalities from its least side on: ``1<x<2`` for ``2>x>1``."""
    parts = [part.strip() for part in _ORDER.split(text)]
    whole = all(part.count(mark) == part.count(other) for part in parts for mark, other in ("{}", "()", "[]"))
    if len(parts) < 5 or not set(parts[1::2]) <= {">", r"\ge"} or not whole or re.search("[,;=]", text):
        return text
    return " ".join(_FLIPPED.get(part, part) for part in reversed(parts))


def joined(text: str) -> str:
    """Inequalities of one variable as a set: ``x<2 or x>5``, ``x>1 and x<2``. Raises UnreadError for others."""
    words = {word.strip(", \\").lower().removeprefix("l") for word in AND.findall(text)}
    variables, lows, highs = zip(*map(_interval, AND.split(text)), strict=True)
    if len(set(variables)) > 1:
        raise UnreadError(text)
    if words == {"or"}:
        return r" \cup ".join(f"{low},{high}" for low, high in zip(lows, highs, strict=True))
    low, high = ([bound for bound in bounds if "infty" not in bound] for bounds in (lows, highs))
    if words != {"and"} or len(low) != 1 or len(high) != 1:
        raise UnreadError(text)
    return f"{low[0]},{high[0]}"


def _interval(condition: str) -> tuple[str, str, str]:
    """The variable of an inequality with numbers as bounds, and the two ends of where it may lie."""
    sides = [side.strip() for side in _ORDER.split(rising(condition))]
    if len(sides) == 3 and re.fullmatch("[A-Za-z]", sides[2]):
        sides = [sides[2], _FLIPPED[sides[1]], sides[0]]
    match sides:
        case [variable, ("<" | r"\le") as sign, bound]:
            low, high = r"(-\infty", bound + (")" if sign == "<" else "]")
        case [variable, (">" | r"\ge") as sign, bound]:
            low, high = ("(" if sign == ">" else "[") + bound, r"\infty)"
        case [least, ("<" | r"\le") as first, variable, ("<" | r"\le") as second, most]:
            low, high = ("(" if first == "<" else "[") + least, most + (")" if second == "<" else "]")
        case _:
            raise UnreadError(condition)
    bounds = re.sub(r"\\[A-Za-z]+", "", low + high)
    if not re.fullmatch("[A-Za-z]", variable) or re.search(r"[A-Za-z,;=]", bounds):
        raise UnreadError(condition)
    return variable, low, high
