"""What a pruner says of itself: its class attributes, its hyper-parameters, the configurations that it proposes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from prunebench.methods.base import LearnablePruner, PretrainedJudge, Pruner, Setting, Source
from prunebench.methods.signals import PRIVILEGED, Signal

NAME = re.compile(r"[a-z0-9]+([-.][a-z0-9]+)*")
"""What a registered name looks like: lower-case words joined by hyphens (``qwen2.5-judge`` is fine)."""

_SETTINGS = (
    Setting(prefix_tokens=1, vocabulary_size=16, hidden_size=8, layers=1),
    Setting(prefix_tokens=64, vocabulary_size=512, hidden_size=192, layers=6),
    Setting(prefix_tokens=8192, vocabulary_size=151_936, hidden_size=4096, layers=36),
)


def declaration_faults(pruner: Pruner) -> Iterator[str]:
    """What is wrong with what the class says of itself."""
    kind: Any = type(pruner)
    if not isinstance(pruner, Pruner):
        yield "It must be an instance of a subclass of prunebench.methods.base.Pruner."
        return
    settings = [name for name, hint in vars(kind).get("__annotations__", {}).items() if "ClassVar" not in str(hint)]
    if settings and "__dataclass_fields__" not in vars(kind):
        yield f"The class must be decorated with @dataclass, so that {', '.join(settings)} can be set."
    for declared in ("name", "source", "learnable", "requires", "paper", "draws", "pointwise", "probability"):
        if declared in getattr(kind, "__dataclass_fields__", {}) and declared in pruner.hyperparameters():
            yield f"'{declared}' is a hyper-parameter; annotate it as ClassVar."
    name = getattr(kind, "name", None)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        yield f"'name' must be lower-case words joined by hyphens, not {name!r}."
    paper = getattr(kind, "paper", None)
    if not isinstance(paper, str) or not paper.strip():
        yield "'paper' must say where the method comes from."
    if not isinstance(kind.draws, int) or kind.draws < 1:
        yield f"'draws' must be a positive integer, not {kind.draws!r}."
    elif kind.draws > 1 and "seed" not in pruner.hyperparameters():
        yield "With 'draws' above 1 the class needs a hyper-parameter 'seed'."
    if kind.learnable is not issubclass(kind, (LearnablePruner, PretrainedJudge)):
        yield f"'learnable' is {kind.learnable!r}; it must be True exactly for a LearnablePruner or a PretrainedJudge."
    source = getattr(kind, "source", None)
    if not isinstance(source, Source):
        yield f"'source' must be a prunebench.methods.base.Source, not {source!r}."
    ours = kind.__module__.startswith("prunebench.methods.controls.")
    if source is Source.CONTROL and not ours:
        yield "Only the suite's own controls may declare Source.CONTROL."
    requires = getattr(kind, "requires", None)
    if not isinstance(requires, frozenset) or not all(isinstance(signal, Signal) for signal in requires):
        yield f"'requires' must be a frozenset of prunebench.methods.base.Signal, not {requires!r}."
    elif requires & PRIVILEGED and not (source is Source.CONTROL and ours):
        names = ", ".join(sorted(signal.name for signal in requires & PRIVILEGED))
        yield f"It requires {names}: privileged signals are for the suite's own controls."


def _json_able(values: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(json.dumps(values, allow_nan=False)) == values)
    except (TypeError, ValueError):
        return False


def hyperparameter_faults(pruner: Pruner) -> Iterator[str]:
    """What is wrong with the constructor and what it takes."""
    values = pruner.hyperparameters()
    if not _json_able(values):
        yield f"The hyper-parameters must survive JSON (text, numbers, booleans, None, lists): {values!r}."
    try:
        fresh = type(pruner)(**values)
    except Exception as error:  # a foreign constructor may raise anything
        yield f"Its own hyper-parameters do not construct it again: {error}."
        return
    if fresh.hyperparameters() != values:
        yield f"The constructor changes hyper-parameters: {values!r} become {fresh.hyperparameters()!r}."
    extra = sorted(set(vars(fresh)) - set(values))
    if extra:
        yield f"The constructor must only store hyper-parameters; it also sets {', '.join(extra)}."


def configuration_faults(kind: type[Pruner]) -> Iterator[str]:
    """What is wrong with the configurations that it proposes, for experiments of three sizes."""
    for setting in _SETTINGS:
        try:
            proposed = list(kind.configurations(setting))
        except Exception as error:
            yield f"configurations({setting}) raised {named(error)}."
            return
        if not 1 <= len(proposed) <= 8:
            yield f"configurations({setting}) gave {len(proposed)}; it must give 1 to 8."
        if any(type(configuration) is not kind for configuration in proposed):
            yield f"configurations({setting}) must give instances of {kind.__name__} only."
            return
        values = [configuration.hyperparameters() for configuration in proposed]
        if any(value in values[:index] for index, value in enumerate(values)):
            yield f"configurations({setting}) repeats a configuration."
        if not all(map(_json_able, values)):
            yield f"configurations({setting}) proposes hyper-parameters that do not survive JSON."


def named(error: Exception) -> str:
    return f"{type(error).__name__} ({error})"
