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
        found = self._held.pop(key, None)
        if found is None:
            value = make()
            found = value, bytes_of(value)
            self._bytes += found[1]
        self._held[key] = found  # the last to go
        while self._bytes > self.room and len(self._held) > 1:
            self._bytes -= self._held.pop(next(iter(self._held)))[1]
        return found[0]


def bytes_of(value: Any) -> int:
    """Memory of the arrays and texts in a column, a pool, or a mapping or tuple of these; each counts once."""
    seen: set[int] = set()

    def count(one: Any) -> int:
        if id(one) in seen:
            return 0
        seen.add(id(one))
        if isinstance(one, np.ndarray):
            return count(one.base) if isinstance(one.base, np.ndarray) else one.nbytes
        if isinstance(one, str):
            return len(one)
        if isinstance(one, Pool):
            return count(one.signals)
        if isinstance(one, Mapping):
            return sum(map(count, one.values()))
        return sum(map(count, one)) if isinstance(one, tuple) else 0

    return count(value)
