"""What is registered and installed: lists, pruners of one's own, the doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunebench.bench.cli.app import CHECK, EXTEND, app
from prunebench.bench.errors import UserError

if TYPE_CHECKING:
    from prunebench.methods.base import Pruner
    from prunebench.tasks.task import Task


@app.command(name="list", rich_help_panel=CHECK)
def list_(
    what: Annotated[str, typer.Argument(help="methods, tasks or presets.")] = "methods",
    markdown: Annotated[bool, typer.Option("--markdown", help="As a Markdown table.")] = False,
) -> None:
    """What is registered: methods with quadrant and source, tasks, presets."""
    from rich.console import Console
    from rich.table import Table

    columns, rows = _listing(what)
    if markdown:
        lines = [columns, ["---"] * len(columns), *rows]
        typer.echo("\n".join(f"| {' | '.join(cells)} |" for cells in lines))
        return
    table = Table(*columns, box=None, pad_edge=False)
    for cells in rows:
        table.add_row(*cells)
    Console().print(table)


def _listing(what: str) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of one list."""
    if what == "methods":
        from prunebench.bench.policies.procedures import PROCEDURES, CompletedAnswers
        from prunebench.methods.registry import PRUNERS

        rows = []
        for name, entry in PRUNERS.items():
            reads = ", ".join(sorted(signal.value for signal in entry.requires)) or "-"
            rows.append([name, *_kind(entry), reads, entry.extra_cost, entry.paper])
        for name, procedure in PROCEDURES.items():
            scored = PRUNERS.get(procedure.method) if procedure.method else CompletedAnswers
            reads = ", ".join(sorted(signal.value for signal in scored.requires)) or "answers"
            rows.append([name, *_kind(scored), reads, procedure.extra_cost, procedure.paper])
        return ["method", "quadrant", "learnable", "reads", "extra cost", "paper"], rows
    if what == "tasks":
        from prunebench.tasks import catalogue

        columns = ["task", "answer", "test problems", "data set", "revision", "use", "licence"]
        return columns, [_task_row(catalogue.get(name)) for name in catalogue.names()]
    if what == "presets":
        from prunebench.bench.config import preset_names

        return ["preset"], [[name] for name in preset_names()]
    raise UserError(f"nothing is called '{what}': list methods, tasks or presets")


def _task_row(task: Task) -> list[str]:
    count = "any" if task.endless else "-" if task.expected is None else str(task.expected)
    revision = "-" if task.dataset is None else task.revision or "unverified"
    use = "training" if task.train_only else "evaluation"
    return [task.name, task.answer_type, count, task.dataset or "made here", revision, use, task.licence]


def _kind(entry: type[Pruner]) -> tuple[str, str]:
    """Quadrant, and whether it learns."""
    return entry.quadrant().value, "yes" if entry.learnable else "no"


@app.command(name="new-pruner", rich_help_panel=EXTEND)
def new_pruner(
    name: Annotated[str, typer.Argument(help="Lower-case words joined by hyphens.")],
    quadrant: Annotated[str, typer.Option(help="I, II, III or IV.")] = "III",
    folder: Annotated[Path, typer.Option(help="Where the file goes.")] = Path(),
) -> None:
    """Write a pruner of your own: one runnable file with a docstring to fill in."""
    from prunebench.bench.plugins import write_pruner

    path = write_pruner(name, quadrant, folder)
    typer.echo(f"{path} written; check it with: prunebench check-plugin {path}")


@app.command(name="check-plugin", rich_help_panel=EXTEND)
def check_plugin(path: Annotated[Path, typer.Argument(help="A Python file with pruners.")]) -> None:
    """Run the conformance suite on the pruners of a file; exit code 1 when one fails."""
    from prunebench.bench.plugins import check_plugin as check

    reports = check(path)
    for report in reports:
        typer.echo(str(report))
    if not all(report.passed for report in reports):
        raise typer.Exit(1)


@app.command(rich_help_panel=CHECK)
def doctor() -> None:
    """Look at the installation; exit code 1 when something is wrong."""
    from prunebench.bench.cli.doctor import diagnose

    checks = diagnose()
    for check in checks:
        typer.echo(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.detail}")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)
