"""What can be made again is held as long as there is room: the columns of pools too many for the memory."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Generic, TypeVar

import numpy as np

from prunebench.methods.pool import Pool

T = TypeVar("T")


class ByteLimitedCache(Generic[T]):
    """Values of at most ``room`` bytes in all, the last one apart; the least recently used ones go first."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._held: dict[Hashable, tuple[T, int]] = {}
        self._bytes = 0

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of ``key``, made where it is not held."""
        entry = self._held.pop(key, None)
        if entry is None:
            value = make()
            entry = value, bytes_of(value)
            self._bytes += entry[1]
        self._held[key] = entry  # the last to go
        while self._bytes > self.room and len(self._held) > 1:
            self._bytes -= self._held.pop(next(iter(self._held)))[1]
        return entry[0]


def bytes_of(value: Any) -> int:
    """Memory of the arrays and texts in a column, a pool, or a mapping or tuple of these; each counts once."""
    seen: set[int] = set()

    def count(part: Any) -> int:
        if id(part) in seen:
            return 0
        seen.add(id(part))
        if isinstance(part, np.ndarray):
            return count(part.base) if isinstance(part.base, np.ndarray) else part.nbytes
        if isinstance(part, str):
            return len(part)
        if isinstance(part, Pool):
            return count(part.signals)
        if isinstance(part, Mapping):
            return sum(map(count, part.values()))
        return sum(map(count, part)) if isinstance(part, tuple) else 0

    return count(value)
