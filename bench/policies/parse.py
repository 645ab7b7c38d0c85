"""Policies as text: one table of kinds, one parser."""

from __future__ import annotations

import difflib
from functools import partial
from typing import Any, get_args

from prunebench.bench.errors import UserError
from prunebench.bench.parameters import Reader, finite, pairs_in, values_of, whole
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
    written = [*pairs_in(body, policy.main_parameter() or ""), *(_end(policy, end) for end in ends)]
    try:
        values = values_of(policy, written, _READERS, partial(_without_rule, policy, ends))
    except UserError as error:
        raise UserError(f"policy '{text}': {error}; write it as in {policy.example}") from None
    if policy.main_parameter() not in (None, *values):
        raise UserError(f"policy '{text}' needs a {policy.main_parameter()}; write it as in {policy.example}")
    return policy(**values)


def _end(policy: type[Policy], end: str) -> tuple[str, str]:
    """(name, text) of what stands behind a second colon: how many the last check of a funnel keeps, or the rule."""
    return ("last" if policy is Funnel and end.strip().isdecimal() else "finished"), end.strip()


def _without_rule(policy: type[Policy], ends: list[str], name: str) -> str | None:
    """What to say of a rule for finished paths where there is no choice."""
    return (
        f"'{ends[-1].strip()}': {policy.kind} has no rule for finished paths" if name == "finished" and ends else None
    )


def _stages(text: str) -> tuple[tuple[int, int], ...]:
    stages = [stage.split("@") for stage in text.split(",")]
    return tuple((whole(paths), whole(tokens)) for paths, tokens in stages)


def _rule(text: str) -> FinishedRule:
    if text not in get_args(FinishedRule):
        raise ValueError(text)
    return text  # type: ignore[return-value]


_READERS: dict[Any, Reader] = {
    int: (whole, "a whole number"),
    float: (finite, "a number"),
    tuple[tuple[int, int], ...]: (_stages, "a list of PATHS@TOKENS"),
    FinishedRule: (_rule, f"one of {', '.join(get_args(FinishedRule))}"),
}
