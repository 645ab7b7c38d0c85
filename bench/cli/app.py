"""The command line's one application, its groups, and how it answers."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from prunebench.bench.errors import UserError
from prunebench.bench.progress import Tick

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

LOOK, RUN, BRING, EXTEND, CHECK = "Look at results", "Run", "Bring your own", "Extend", "Check"
"""The groups of the help page, in its order."""

_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}


def main() -> None:
    """Entry point."""
    reported(lambda: app(plugins_first(sys.argv[1:]), prog_name="prunebench"))


@app.callback()
def prunebench(
    context: typer.Context,
    plugin: Annotated[
        list[Path] | None,
        typer.Option(
            "--plugin",
            help="A Python file that adds methods, votes, answer types, figures, ...; several times, anywhere.",
        ),
    ] = None,
) -> None:
    """Compare path pruning methods for parallel reasoning: same rollouts, same grader, honest intervals."""
    context.obj = tuple(plugin or ())
    if plugin:
        from prunebench.bench.plugins import load_plugin

        for path in plugin:
            load_plugin(path)


def plugins_first(arguments: Sequence[str]) -> list[str]:
    """The arguments with every ``--plugin FILE`` in front: they belong to no single command."""
    front: list[str] = []
    rest = iter(arguments)
    others: list[str] = []
    for argument in rest:
        if argument == "--plugin":
            front += [argument, *islice(rest, 1)]
        else:
            (front if argument.startswith("--plugin=") else others).append(argument)
    return [*front, *others]


def reported(run: Callable[[], object]) -> None:
    """Run; a UserError becomes one sentence and exit code 2, and so does a disk that takes nothing."""
    try:
        run()
    except UserError as error:
        typer.echo(f"prunebench: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        place = f" {error.filename}" if error.filename else ""
        said = f"cannot write{place} ({error.strerror}): make room or choose another folder; what is finished is kept"
        typer.echo(f"prunebench: {UserError(said)}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("prunebench: stopped; the same command goes on from here", err=True)
        sys.exit(130)


def command_line() -> str:
    """What was typed, for the record."""
    return " ".join(["prunebench", *sys.argv[1:]])


class Bars:
    """Bars on stderr and sentences on stdout: a :class:`prunebench.bench.progress.Progress`."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars

    def stretch(self, name: str, total: int | None = None, /) -> Tick:
        bar = self._bars.add_task(name, total=total)
        return lambda count: self._bars.advance(bar, count)

    def say(self, sentence: str, /) -> None:
        typer.echo(sentence)


@contextmanager
def watching() -> Iterator[Bars]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bars:
        yield Bars(bars)
