"""What is registered: lists of methods, tasks and presets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from prunebench.bench.cli.app import CHECK, app
from prunebench.bench.errors import UserError

if TYPE_CHECKING:
    from prunebench.methods.base import Pruner
    from prunebench.tasks.task import Task


@app.command(name="list", rich_help_panel=CHECK)
def list_(
    what: Annotated[str, typer.Argument(help="methods, tasks or presets.")] = "methods",
) -> None:
    """What is registered: methods with quadrant and source, tasks, presets. Written elsewhere it is Markdown."""
    from rich.console import Console
    from rich.table import Table

    columns, rows = _listing(what)
    console = Console()
    if not console.is_terminal:
        lines = [columns, ["---"] * len(columns), *rows]
        typer.echo("\n".join(f"| {' | '.join(cells)} |" for cells in lines))
        return
    table = Table(*columns, box=None, pad_edge=False)
    for cells in rows:
        table.add_row(*cells)
    console.print(table)


def _listing(what: str) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of one list."""
    if what == "methods":
        from prunebench.bench.policies.procedures import PROCEDURES, CompletedAnswers
        from prunebench.methods.registry import PRUNERS

        rows = []
        for name, entry in PRUNERS.items():
            reads = ", ".join(sorted(signal.name for signal in entry.requires)) or "-"
            rows.append([name, *_kind(entry), reads, entry.extra_cost, entry.paper])
        for name, procedure in PROCEDURES.items():
            scored = PRUNERS.get(procedure.method) if procedure.method else CompletedAnswers
            reads = ", ".join(sorted(signal.name for signal in scored.requires)) or "answers"
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
    revision = "-" if task.dataset is None else (task.revision or "unverified")[:12]
    use = "training" if task.train_only else "evaluation"
    return [task.name, task.answer_type, count, task.dataset or "made here", revision, use, task.licence]


def _kind(entry: type[Pruner]) -> tuple[str, str]:
    """Quadrant, and whether it learns."""
    return entry.quadrant().value, "yes" if entry.learnable else "no"
