"""Processes beside this one. They end with it, however it ends: a killed run leaves nobody at work."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from typing import Any, TypeVar

from prunebench.bench.errors import CrashError

T = TypeVar("T")
_SECONDS_BETWEEN_LOOKS = 0.5
_counter: Any = None
"""In a process of a :class:`Crew` the number that all of them add to."""
_given: Any = None


def process_pool(count: int) -> ProcessPoolExecutor:
    """A pool of ``count`` fresh processes."""
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_end_with_parent)


class Crew:
    """A pool of processes that tell how far they are while they work; see :func:`crew_of`."""

    def __init__(self, pool: ProcessPoolExecutor, counter: Any, tick: Callable[[int], None]) -> None:
        self.submit, self._counter, self._tick, self._told = pool.submit, counter, tick, 0

    def results(self, futures: list[Future[T]]) -> Iterator[T]:
        """What the jobs give, in their order; meanwhile what the processes count is told.

        Raises CrashError where somebody else ended a process.
        """
        for future in futures:
            while not wait([future], _SECONDS_BETWEEN_LOOKS).done:
                self._tell()
            self._tell()
            try:
                yield future.result()
            except BrokenProcessPool as error:
                raise CrashError(
                    "one of the processes was ended from outside, as a machine does that is short of memory; what was "
                    "finished is kept, and the same command goes on"
                ) from error

    def _tell(self) -> None:
        counted = int(self._counter.value)
        self._tick(counted - self._told)
        self._told = counted


@contextmanager
def crew_of(count: int, tick: Callable[[int], None], given: object = None) -> Iterator[Crew]:
    """``count`` fresh processes; ``tick`` is told what they :func:`count`. An error ends them in the midst of a job.

    What is ``given`` to all of them they have by :func:`given`.
    """
    context = get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    counter = context.Value("q", 0)
    with ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(theirs, counter, given)) as pool:
        try:
            yield Crew(pool, counter, tick)
        except BaseException:
            ours.close()  # which is how they know
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    ours.close()


def count(steps: int) -> None:
    """Called in a process of a crew: so much more is done."""
    with _counter.get_lock():
        _counter.value += steps


def given() -> Any:
    """Called in a process of a crew: what all of them were given at their start."""
    return _given


def _begin(parents: connection.Connection, counter: Any, given: object) -> None:
    global _counter, _given
    _counter, _given = counter, given
    _end_with_parent(parents)


def _end_with_parent(*others: connection.Connection) -> None:
    """Or when the other side of another connection is closed.

    Otherwise the queue that it waits at stays open, since its siblings hold it too.
    """
    parent = parent_process()
    assert parent is not None, "called in a process that another one started"

    def watch(sentinel: int = parent.sentinel) -> None:
        connection.wait([sentinel, *others])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
