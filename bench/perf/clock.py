"""Measurements of speed, as ratios within one run: absolute seconds belong to a machine, ratios travel."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from prunebench.bench.engines.base import Engine
from prunebench.bench.engines.tokenization import pool_of_ids
from prunebench.methods.base import Signal
from prunebench.methods.generator import LearnedTokens, PrefixCache
from prunebench.methods.learned.stop import Stop
from prunebench.methods.pool import Generator, Pool

if TYPE_CHECKING:
    from collections.abc import Sequence


REPEATS = 5


@dataclass(frozen=True)
class CheckCost:
    """Median seconds of one check of B prefixes of L tokens by the kept cache, and of encoding them again."""

    prefix_tokens: int
    rows: int
    stop_tokens: int
    check_seconds: float
    reencode_seconds: float

    @property
    def ratio(self) -> float:
        return self.check_seconds / self.reencode_seconds


@dataclass
class _Held:
    """A generator that still has the cache, as an online run would."""

    engine: Generator
    cache: PrefixCache
    replay_seconds: float = 0.0

    def kv(self, pool: Pool, rows: Sequence[int]) -> PrefixCache:
        return self.cache

    def behind(self, pool: Pool, learned: LearnedTokens) -> None:
        return None


def anew(pool: Pool) -> Pool:
    """The same prefixes, to be encoded once more: the engine keeps its last answer, which it knows by the object."""
    return replace(pool, signals={Signal.TOKEN_IDS: (*pool.token_ids,)})


def arbitrary_pool(engine: Engine, rows: int, prefix_tokens: int, prompt_tokens: int = 32) -> Pool:
    """Random prefixes behind a random prompt, to be read by ``engine``: what they say does not matter."""
    random = np.random.default_rng(0)
    prefixes = tuple(random.integers(4, 400, prefix_tokens) for _ in range(rows))
    return replace(pool_of_ids(prefixes, random.integers(4, 400, prompt_tokens)), generator=engine)


def check_cost(engine: Engine, stop: Stop, prefix_tokens: int, rows: int = 64) -> CheckCost:
    """Both sides in turn, :data:`REPEATS` times."""
    pool = arbitrary_pool(engine, rows, prefix_tokens)
    held = replace(pool, generator=_Held(engine, pool.kv()))  # type: ignore[arg-type]
    stop.score(held)
    checks, encodings = [], []
    for _ in range(REPEATS):
        checks.append(seconds_of(lambda: stop.score(held)))
        encodings.append(seconds_of(anew(pool).kv))
    return CheckCost(prefix_tokens, rows, stop.tokens, statistics.median(checks), statistics.median(encodings))


def seconds_of(action: Callable[[], object]) -> float:
    """Seconds until the work of ``action`` is done, on a GPU as well."""
    finish_work()
    started = time.perf_counter()
    action()
    finish_work()
    return time.perf_counter() - started


def median_seconds(action: Callable[[], object]) -> float:
    """Of :data:`REPEATS` times."""
    return statistics.median(seconds_of(action) for _ in range(REPEATS))


def in_turn(actions: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median seconds of each, after one run of each that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for repeat in range(repeats + 1):
        for name, action in actions.items():
            taken = seconds_of(action)
            if repeat:
                seconds[name].append(taken)
    return {name: statistics.median(values) for name, values in seconds.items()}


_SPINNING = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
while True:
    pass
"""


@contextmanager
def beside_a_busy_process() -> Iterator[int]:
    """Another process that never waits meanwhile; its id. It ends with this one."""
    process = subprocess.Popen([sys.executable, "-c", _SPINNING], stdin=subprocess.PIPE)
    try:
        yield process.pid
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def finish_work() -> None:
    """Wait for what a GPU, if there is one, still has to do."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
