"""How a long piece of work shows that it goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from threading import Lock
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

    def tokens(self) -> Tick:
        """Count the tokens of the stretch that began last: they tell that it goes on, long before a step is done."""
        ...

    def say(self, sentence: str, /) -> None: ...


@dataclass(frozen=True)
class Spoken:
    """Only sentences are shown: each is given to ``say``. Tokens are told to ``count``."""

    say: Callable[[str], None]
    count: Tick = uncounted

    def stretch(self, _name: str, _total: int | None = None, /) -> Tick:
        return uncounted

    def tokens(self) -> Tick:
        return self.count


def left_out_lines(reasons: Mapping[str, str]) -> Iterator[str]:
    """What was left out, a line for each reason, by ``reasons`` of names; a command that trains one trains them all."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        bare = reason.removeprefix(f"method '{name}' ").removeprefix(f"{name} ")
        names.setdefault(bare.replace(f" train {name}", " train {}"), []).append(name)
    for reason, alike in names.items():
        yield f"left out: {', '.join(alike)}: " + reason.replace(" train {}", " ".join((" train", *alike)))


SILENT: Progress = Spoken(lambda _sentence: None)
"""For callers who do not watch."""


class TokenCount:
    """Passes on the tokens of one request while they are drawn, and at its end those that an engine did not tell."""

    def __init__(self, tick: Tick) -> None:
        self._tick, self._told, self._lock = tick, 0, Lock()

    def __call__(self, tokens: int) -> None:
        with self._lock:
            self._told += tokens
        self._tick(tokens)

    def ended(self, tokens: int) -> None:
        """The request has come to so many tokens."""
        self(max(0, tokens - self._told))
