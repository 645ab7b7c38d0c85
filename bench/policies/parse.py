"""Policies as text: one table of kinds, one parser."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from prunebench.bench.errors import UserError
from prunebench.bench.policies.contract import POLICIES, FinishedRule, Policy
from prunebench.bench.policies.funnel import Funnel
from prunebench.methods.entries import BrokenPluginError, UnknownNameError


def parse_policy(text: str) -> Policy:
    """The policy whose ``str()`` is ``text``, such as ``topk:8``, ``topk:8:keep`` or ``patience:2,stable=3,every=40``.

    The first value needs no name; names come in any order and may be left out for their defaults. Raises UserError
    with a right example for anything else.
    """
    kind, _, rest = text.strip().partition(":")
    try:
        policy = POLICIES.get(kind)
    except BrokenPluginError as error:
        raise UserError(str(error)) from error
    except UnknownNameError:
        kinds = dict(POLICIES.items())
        near = difflib.get_close_matches(kind, kinds, n=1)
        examples = ", ".join(known.example for known in kinds.values())
        advice = f"did you mean {kinds[near[0]].example}?" if near else f"write one such as {examples}"
        raise UserError(f"unknown policy '{text}'; {advice}") from None
    body, *ends = rest.split(":")
    values: dict[str, Any] = {}
    for name, value in [*_named(policy, body), *(_end(policy, end) for end in ends)]:
        values[name] = _read(policy, text, name, value, values)
    if policy.main_parameter() not in (None, *values):
        raise UserError(f"policy '{text}' needs a {policy.main_parameter()}; write it as in {policy.example}")
    return policy(**values)


def _named(policy: type[Policy], body: str) -> Iterable[tuple[str, str]]:
    """(name, text) of each hyper-parameter in ``a,b,name=c``; what has no name is the main one's, commas included."""
    parts = [part.strip() for part in body.split(",")]
    main = ",".join(part for part in parts if "=" not in part)
    if main:
        yield policy.main_parameter() or main, main
    for part in parts:
        if "=" in part:
            name, _, value = part.partition("=")
            yield name.strip(), value.strip()


def _end(policy: type[Policy], end: str) -> tuple[str, str]:
    """(name, text) of what stands behind a second colon: how many the last check of a funnel keeps, or the rule."""
    return ("last" if policy is Funnel and end.strip().isdecimal() else "finished"), end.strip()


def _read(policy: type[Policy], text: str, name: str, value: str, before: dict[str, Any]) -> Any:
    """The value of one hyper-parameter. Raises UserError for an unknown or repeated name and for a wrong value."""
    types = get_type_hints(policy)
    names = [field.name for field in fields(policy)]  # type: ignore[arg-type]
    wrong = f"policy '{text}': "
    right = f"; write it as in {policy.example}"
    if name == "finished" and name not in names:
        raise UserError(f"{wrong}'{value}': {policy.kind} has no rule for finished paths{right}")
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        advice = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(names)}"
        raise UserError(f"{wrong}there is no '{name}', {advice}{right}")
    if name in before:
        raise UserError(f"{wrong}{name} stands twice{right}")
    read, what = _READERS[types[name]]
    try:
        return read(value)
    except ValueError:
        raise UserError(f"{wrong}{name} = '{value}' is not {what}{right}") from None


def _whole(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]+", text):
        raise ValueError(text)
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or "_" in text:
        raise ValueError(text)
    return value


def _stages(text: str) -> tuple[tuple[int, int], ...]:
    stages = [stage.split("@") for stage in text.split(",")]
    return tuple((_whole(paths), _whole(tokens)) for paths, tokens in stages)


def _rule(text: str) -> FinishedRule:
    if text not in get_args(FinishedRule):
        raise ValueError(text)
    return text  # type: ignore[return-value]


_READERS: dict[Any, tuple[Callable[[str], Any], str]] = {
    int: (_whole, "a whole number"),
    int | None: (_whole, "a whole number"),
    float: (_finite, "a number"),
    tuple[tuple[int, int], ...]: (_stages, "a list of PATHS@TOKENS"),
    FinishedRule: (_rule, f"one of {', '.join(get_args(FinishedRule))}"),
}
