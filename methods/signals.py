"""The signals: what a method may read of a pool, one entry each.

What an engine records of a token is computed by the entry's formula; sampling, stores and re-reading know no other
place. An entry is added by :func:`signal` from any file, and is recorded by ``prunebench rollouts --set record=NAME``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from prunebench.methods.entries import Registry, UnknownNameError

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

Formula = Callable[..., Any]
"""From (R, V) raw log-probabilities (temperature 1, nothing banned) and (R,) sampled tokens, both torch tensors, to
(R,) numbers. A wide one takes a width k besides and gives (R, at most k)."""


class _Constants(type):
    """``Signal.ENTROPY`` is the signal ``entropy``, whoever added it; ``for signal in Signal`` names them all."""

    def __getattr__(cls, constant: str) -> Signal:
        if not constant.isupper():
            raise AttributeError(constant)
        try:
            return SIGNALS.get(constant.lower())
        except UnknownNameError as error:
            raise AttributeError(str(error)) from error

    def __iter__(cls) -> Iterator[Signal]:
        return (entry for _, entry in SIGNALS.items())


@dataclass(frozen=True, eq=False)
class Signal(metaclass=_Constants):
    """One thing that a method may read of a pool; there is one of each name.

    ``what`` it is, with its unit. ``formula``: how it is had of every token while sampling, or by encoding a prefix
    again; None for what is no number of a token. ``recorded``: sampling records it unless it is told what to record.
    ``wide``: k numbers per token, of the first tokens of a path only.
    """

    name: str
    what: str = field(repr=False)
    formula: Formula | None = field(default=None, repr=False)
    recorded: bool = field(default=False, repr=False)
    wide: bool = field(default=False, repr=False)

    @property
    def recordable(self) -> bool:
        return self.recorded or self.formula is not None

    @property
    def address(self) -> tuple[str, str, str]:
        """Its name, and the module and file that added it: what :func:`signal_from` has it from in another process."""
        made_by: Any = self.formula or Signal
        return self.name, made_by.__module__, inspect.getfile(made_by)

    def __reduce__(self) -> tuple[Callable[..., Signal], tuple[str, str, str]]:
        return signal_from, self.address


SIGNALS: Registry[Signal] = Registry("signal", Signal, ("prunebench.methods.signals",), "prunebench.signals")


def signal(name: str, what: str, *, recorded: bool = False, wide: bool = False) -> Callable[[Formula], Signal]:
    """Decorator: the signal that a :data:`Formula` computes; see :class:`Signal`. Raises ValueError for a bad name."""

    if not _NAME.fullmatch(name):
        raise ValueError(f"signal '{name}': a name is lower-case words joined by underscores, as in next_entropy")

    def add(formula: Formula) -> Signal:
        return SIGNALS.register(name, formula)(Signal(name, what, formula, recorded, wide))

    return add


def _add(name: str, what: str, recorded: bool = False) -> None:
    SIGNALS.register(name)(Signal(name, what, recorded=recorded))


def signal_named(name: str) -> Signal | None:
    """The signal of that name; None where nobody here has added it."""
    try:
        return SIGNALS.get(name)
    except UnknownNameError:
        return None


def signal_from(name: str, module: str, file: str) -> Signal:
    """See :meth:`Registry.elsewhere`."""
    return SIGNALS.elsewhere(name, module, file)


_add("text", "the prefix texts, without the prompt")
_add("token_ids", "the token ids of the prefixes")


_LEAST = -1e4
"""Instead of log 0: finite, so that it counts nothing under a probability of 0."""


@signal("logprobs", "log-probability of the sampled token, in nats", recorded=True)
def _logprobs(logprobs: Any, tokens: Any) -> Any:
    return logprobs.gather(1, tokens[:, None])[:, 0]


@signal("topk_logprobs", "the k largest log-probabilities, largest first", recorded=True, wide=True)
def _topk_logprobs(logprobs: Any, tokens: Any, k: int) -> Any:
    return logprobs.topk(min(k, logprobs.shape[-1]), dim=-1).values


@signal("entropy", "entropy of the next-token distribution, in nats", recorded=True)
def _entropy(logprobs: Any, tokens: Any) -> Any:
    return -(logprobs.exp() * logprobs.clamp_min(_LEAST)).sum(-1)


@signal("self_certainty", "KL(uniform || p) of the next-token distribution p, in nats", recorded=True)
def _self_certainty(logprobs: Any, tokens: Any) -> Any:
    return -logprobs.mean(-1) - float(np.log(logprobs.shape[-1]))


@signal("varentropy", "variance of -log p under the next-token distribution p, in nats squared")
def _varentropy(logprobs: Any, tokens: Any) -> Any:
    probabilities, least = logprobs.exp(), logprobs.clamp_min(_LEAST)
    entropy = -(probabilities * least).sum(-1, keepdim=True)
    return (probabilities * (least + entropy) ** 2).sum(-1)


_add("hidden_state", "the residual stream at the last prefix token, by layer", recorded=True)
_add("all_layers", "the residual streams of all layers at the last prefix token")
_add("states", "the residual stream after each prefix token, by layer")
_add("kv_cache", "the generating model's keys and values over prompt and prefix")
_add("probe", "answers and opinions of the generating model, asked behind the prefix")
_add("forced_answers", "the answer that each prefix gives when one is forced behind it; recorded, or had by a probe")
_add("outcome", "the verdicts of the complete paths; privileged")
_add("potential", "Monte Carlo success rates of the prefixes; privileged")

PRIVILEGED = frozenset({Signal.OUTCOME, Signal.POTENTIAL})
"""``bench`` gives these to its own controls only."""


def recorded_signals() -> tuple[Signal, ...]:
    """What sampling records where nobody says what."""
    return tuple(entry for entry in Signal if entry.recorded)


class MissingSignalError(ValueError):
    """A pool was asked for a signal that was not recorded."""

    def __init__(self, signal: Signal, detail: str = "") -> None:
        hint = f"; record it with: prunebench rollouts --set record={signal.name}" if signal.recordable else ""
        super().__init__(f"signal '{signal.name}'{detail} was not recorded for this pool{hint}")
        self.signal = signal
