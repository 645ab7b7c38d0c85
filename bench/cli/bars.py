"""How far a command is: bars on a terminal; elsewhere a line from time to time, and one when a stretch has ended."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from prunebench.bench.progress import Tick

SECONDS_BETWEEN_LINES = 30.0


class Bars:
    """Bars on stderr and sentences on stdout: a :class:`prunebench.bench.progress.Progress`."""

    def __init__(self, console: Console) -> None:
        self.tokens_of: Counter[TaskID] = Counter()
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(), _Tokens(self.tokens_of),
        )  # fmt: skip
        self.shown = Progress(*columns, console=console, disable=not console.is_terminal)
        self._latest: TaskID | None = None
        self._lock, self._said = threading.Lock(), time.monotonic()
        self._ended: set[TaskID] = set()

    def stretch(self, name: str, total: int | None = None, /) -> Tick:
        self._latest = bar = self.shown.add_task(name, total=total)

        def tick(steps: int) -> None:
            self.shown.advance(bar, steps)
            self._line(bar)

        return tick

    def tokens(self) -> Tick:
        bar = self._latest
        assert bar is not None, "tokens belong to a stretch"

        def tick(tokens: int) -> None:
            with self._lock:
                self.tokens_of[bar] += tokens
            self._line(bar)

        return tick

    def say(self, sentence: str, /) -> None:
        typer.echo(sentence)

    @contextmanager
    def beating(self) -> Iterator[None]:
        """While the block runs, a line comes even if no step is done for long."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(1.0):
                self.beat()

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def beat(self) -> None:
        """The line of the latest stretch, if none came for long."""
        if self._latest is not None:
            self._line(self._latest)

    def _line(self, bar: TaskID) -> None:
        """Where no bars are."""
        if self.shown.console.is_terminal:
            return
        (task,) = (task for task in self.shown.tasks if task.id == bar)
        with self._lock:
            now, ends = time.monotonic(), task.finished and bar not in self._ended
            if not ends and now - self._said < SECONDS_BETWEEN_LINES:
                return
            self._said = now
            self._ended |= {bar} if ends else set()
        if task.finished and not ends:
            typer.echo(f"after {task.description}: at work, {(task.elapsed or 0.0) - _seconds(task):,.0f} s", err=True)
            return
        of_all = "" if task.total is None else f" of {task.total:,.0f}"
        counted = (f"{task.completed:,.0f}{of_all}", tokens_of(task, self.tokens_of[bar]), f"{_seconds(task):,.0f} s")
        typer.echo(f"{task.description}: {', '.join(filter(None, counted))}", err=True)


class _Tokens(ProgressColumn):
    """The tokens of a stretch, and how many in a second."""

    def __init__(self, tokens: Counter[TaskID]) -> None:
        super().__init__()
        self._tokens = tokens

    def render(self, task: Task) -> Text:
        return Text(tokens_of(task, self._tokens[task.id]))


def tokens_of(task: Task, tokens: int) -> str:
    """``12,345 tokens, 410/s``; nothing where none were counted."""
    seconds = _seconds(task)
    return f"{tokens:,} tokens, {tokens / seconds:,.0f}/s" if tokens and seconds else ""


def _seconds(task: Task) -> float:
    """Since its stretch began, and no longer than to its end: others run after it."""
    return (task.finished_time if task.finished else task.elapsed) or 0.0


@contextmanager
def bars() -> Iterator[Bars]:
    """Shown while the block runs."""
    progress = Bars(Console(stderr=True))
    with progress.shown, progress.beating():
        yield progress
