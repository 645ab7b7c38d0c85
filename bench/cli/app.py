"""The command line's one application, its groups, and how it answers."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunebench.bench.errors import CrashError, UserError

if TYPE_CHECKING:
    from prunebench.bench.cli.bars import Bars

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

LOOK, RUN, BRING, EXTEND, CHECK = "Look at results", "Run", "Bring your own", "Extend", "Check"
"""The groups of the help page, in its order."""

ON_DEVICE = (
    "compare", "run", "rollouts", "label", "train", "sweep", "study", "solve", "advise", "rebuild", "perf",
)  # fmt: skip
"""The commands that compute on a --device."""

FORCED = ("rollouts", "compare", "run", "advise")
"""The commands that stop at a first problem which has next to no answers, unless --force says to go on."""

INTERRUPTED = 130
"""The exit code of a command that was stopped from the keyboard."""

_USAGE: Any = typer.BadParameter.__base__
"""What the library raises for an option that there is not, one that is missing, and a value of a wrong type."""

_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}


def main() -> None:
    """Entry point."""
    reported(lambda: sys.exit(app(common_first(sys.argv[1:]), prog_name="prunebench", standalone_mode=False)))


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
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="rollouts, compare, run, advise: go on though the first problem has next to no answers; anywhere.",
        ),
    ] = False,
    device: Annotated[
        str | None,
        typer.Option("--device", help=f"cpu or cuda (default: cpu), of {', '.join(ON_DEVICE)}; anywhere."),
    ] = None,
) -> None:
    """Compare path pruning methods for parallel reasoning: same rollouts, same grader, honest intervals."""
    context.obj = tuple(plugin or ())
    if force and context.invoked_subcommand not in FORCED:
        raise UserError(f"--force: {context.invoked_subcommand} makes no use of it; leave it out")
    if device is not None and context.invoked_subcommand not in ON_DEVICE:
        raise UserError(f"--device {device}: {context.invoked_subcommand} makes no use of it; leave it out")
    if plugin:
        from prunebench.bench.plugins import load_plugin

        for path in plugin:
            load_plugin(path)


def common_first(arguments: Sequence[str]) -> list[str]:
    """The arguments with ``--force``, ``--device NAME`` and every ``--plugin FILE`` in front: they belong to no single
    command."""
    front: list[str] = []
    rest = iter(arguments)
    others: list[str] = []
    for argument in rest:
        if argument in ("--plugin", "--device"):
            front += [argument, *islice(rest, 1)]
        else:
            common = argument == "--force" or argument.startswith(("--plugin=", "--device="))
            (front if common else others).append(argument)
    return [*front, *others]


def reported(run: Callable[[], object]) -> None:
    """Run; a UserError becomes one sentence and exit code 2 (1 where a method of one's own crashed), and so does a disk
    that takes nothing."""
    try:
        run()
    except _USAGE as error:
        help_page = f"see {error.ctx.command_path} --help" if error.ctx else "see prunebench --help"
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(error.format_message())
        else:
            typer.echo(f"prunebench: {error.format_message().rstrip('.')}; {help_page}", err=True)
        sys.exit(2)
    except UserError as error:
        typer.echo(f"prunebench: {error}", err=True)
        sys.exit(1 if isinstance(error, CrashError) else 2)
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        place = f" {error.filename}" if error.filename else ""
        said = f"cannot write{place} ({error.strerror}): make room or choose another folder; what is finished is kept"
        typer.echo(f"prunebench: {UserError(said)}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as error:  # the library makes the one the other
        if isinstance(error, SystemExit) and error.code != INTERRUPTED:
            raise
        typer.echo("prunebench: stopped; the same command goes on from here", err=True)
        sys.exit(INTERRUPTED)


def command_line() -> str:
    """What was typed, for the record."""
    return " ".join(["prunebench", *sys.argv[1:]])


@contextmanager
def watching() -> Iterator[Bars]:
    """A progress on stderr."""
    from prunebench.bench.cli.bars import bars

    with bars() as progress:
        yield progress
