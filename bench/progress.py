"""How a long piece of work shows that it goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

Tick = Callable[[int], None]
"""Is told how many more steps are done."""


def uncounted(_steps: int) -> None:
    """Nobody counts."""


class Progress(Protocol):
    """Shows named stretches of counted steps, and sentences."""

    def stretch(self, name: str, total: int | None = None, /) -> Tick:
        """Begin a stretch of ``total`` steps (None: not known)."""
        ...

    def say(self, sentence: str, /) -> None: ...


@dataclass(frozen=True)
class Spoken:
    """Only sentences are shown: each is given to ``say``."""

    say: Callable[[str], None]

    def stretch(self, _name: str, _total: int | None = None, /) -> Tick:
        return uncounted


def left_out_lines(reasons: Mapping[str, str]) -> Iterator[str]:
    """What was left out, a line for each reason, by ``reasons`` of names."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    yield from (f"left out: {', '.join(alike)}: {reason}" for reason, alike in names.items())


SILENT: Progress = Spoken(lambda _sentence: None)
"""For callers who do not watch."""
