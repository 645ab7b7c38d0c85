"""A progress that hands every count of every stretch to a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prunebench.bench.progress import uncounted


@dataclass(frozen=True)
class Counted:
    count: Callable[[int], object]
    count_tokens: Callable[[int], object] = uncounted

    def stretch(self, _name: str, _total: int | None = None, /) -> Callable[[int], object]:
        return self.count

    def tokens(self) -> Callable[[int], object]:
        return self.count_tokens

    def say(self, sentence: str, /) -> None:
        pass
