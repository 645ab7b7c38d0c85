"""Parameters of a dataclass as text: ``value,name=value``, as engines and policies are written."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from types import NoneType
from typing import Any, get_args, get_type_hints

from prunebench.bench.errors import UserError

Reader = tuple[Callable[[str], Any], str]
"""Reads a value, raising ValueError for a wrong one; what a right one is, in words."""


def pairs_in(text: str, first: str = "") -> list[tuple[str, str]]:
    """(name, text) of each parameter in ``value,name=value``; a value without a name is that of ``first``.

    Commas part only where a name follows: all others belong to their value.
    """
    parts = [part.strip() for part in re.split(r",(?=\s*\w+\s*=)", text)]
    named = [part.partition("=") for part in parts if re.match(r"\w+\s*=", part)]
    unnamed = [(first or part, part) for part in parts if part and not re.match(r"\w+\s*=", part)]
    return [*unnamed, *((name.strip(), value.strip()) for name, _, value in named)]


def values_of(
    kind: type,
    pairs: Iterable[tuple[str, str]],
    readers: Mapping[Any, Reader],
    elsewhere: Callable[[str], str | None] = lambda name: None,
) -> dict[str, Any]:
    """The values of ``pairs``, read by the types of the fields of ``kind``.

    Raises UserError for a name that it does not have (``elsewhere`` may know more of it), for one that stands twice,
    and for a wrong value.
    """
    types, names = get_type_hints(kind), [field.name for field in fields(kind)]
    values: dict[str, Any] = {}
    for name, text in pairs:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            advice = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(names)}"
            raise UserError(elsewhere(name) or f"there is no '{name}', {advice}")
        if name in values:
            raise UserError(f"{name} stands twice")
        read, what = _reader(types[name], readers)
        try:
            values[name] = read(text)
        except ValueError:
            raise UserError(f"{name} = '{text}' is not {what}") from None
    return values


def _reader(hint: Any, readers: Mapping[Any, Reader]) -> Reader:
    """That of the type; of ``int | None`` that of ``int``."""
    types = [kind for kind in get_args(hint) if kind is not NoneType]
    return readers[hint if hint in readers else types[0]]


def whole(text: str) -> int:
    """An integer in digits. Raises ValueError."""
    if not re.fullmatch(r"-?[0-9]+", text):
        raise ValueError(text)
    return int(text)


def finite(text: str) -> float:
    """A number that is not infinite. Raises ValueError."""
    value = float(text)
    if not math.isfinite(value) or "_" in text:
        raise ValueError(text)
    return value
