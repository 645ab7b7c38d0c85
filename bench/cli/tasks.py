"""Parts of one's own: a task or a pruner written from a template, and a look at it, or at the installation."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from prunebench.bench.cli.app import CHECK, EXTEND, app
from prunebench.bench.cli.options import Data, data_of
from prunebench.bench.cli.rollouts import OF_COMPARISONS
from prunebench.bench.cli.settings import config_from, keys_of, set_option, settings_of
from prunebench.bench.engines.shipped import SYNTHETIC
from prunebench.bench.errors import UserError

NOT_TRIED = OF_COMPARISONS | {"n", "k", "prefix_tokens", "problems", "split", "record", "gpus_per_worker"}
"""Keys that two paths of one problem do not look at."""
KINDS = ("task", "python-task", "pruner")


@dataclass(frozen=True)
class Columns:
    """Columns of the question and the answer (None: guessed)."""

    problem: str | None = None
    answer: str | None = None


@app.command(rich_help_panel=EXTEND)
def new(
    context: typer.Context,
    kind: Annotated[
        str,
        typer.Argument(help="task: problems in a file; python-task: problems that a program makes; or pruner."),
    ],
    name: Annotated[str, typer.Argument(help="Its name; with a folder in front, where its file goes.")],
    data: Annotated[
        Path | None, typer.Option(help="task: a CSV, JSON, JSON Lines, XML or Parquet file with the problems.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="task: a shipped reasoner, if it shall solve them.")] = None,
    quadrant: Annotated[str | None, typer.Option(help="pruner: I, II, III (default) or IV.")] = None,
    settings: Annotated[list[str] | None, set_option(f"task: {keys_of(Columns)}, its columns")] = None,
) -> None:
    """Write a task or a pruner of your own: one file, to adapt and to name wherever a shipped one is named."""
    from prunebench.bench.cli.own_task import split_sizes, write_python_task, write_task
    from prunebench.bench.plugins import write_pruner

    if kind not in KINDS:
        raise UserError(f"nothing is called '{kind}': write {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    of_task: dict[str, object] = {"--data": data, "--model": model, "--set": settings or None}
    of_pruner: dict[str, object] = {"--quadrant": quadrant}
    unused = {"task": of_pruner, "python-task": of_task | of_pruner, "pruner": of_task}[kind]
    if refused := [option for option, value in unused.items() if value is not None]:
        raise UserError(f"{', '.join(refused)}: a new {kind} makes no use of it; leave it out")
    folder, name = Path(name).parent, Path(name).name
    if kind == "pruner":
        file = write_pruner(name, quadrant or "III", folder)
    elif kind == "python-task":
        file = write_python_task(name, folder)
    elif data is None:
        raise UserError(
            "name the file with the problems: --data FILE (or write python-task for problems that a program makes)"
        )
    else:
        columns = settings_of(Columns, settings)
        file, about = write_task(
            name, data, folder, problem=columns.problem, answer=columns.answer, shipped_model=model in SYNTHETIC
        )
        typer.echo(about)
        for line in split_sizes(file):
            typer.echo(line)
    with_model = f" --model {model}" if model else ""
    plugins = "".join(f" --plugin {plugin}" for plugin in context.obj)
    typer.echo(f"{file} written; next: prunebench check {file}{with_model}{plugins}")


@app.command(rich_help_panel=CHECK)
def check(
    what: Annotated[
        str | None,
        typer.Argument(help="A file with a task or with pruners, or a shipped task (default: the installation)."),
    ] = None,
    data: Data = None,
    model: Annotated[
        str | None,
        typer.Option(help="Of a task: count tokens as it does, sample two short paths of it (folder, id, shipped)."),
    ] = None,
    settings: Annotated[list[str] | None, set_option("how that model is loaded and sampled, as for rollouts")] = None,
) -> None:
    """A task before anything is spent on it; the conformance suite on the pruners of a file; the installation.

    Exit code 1 where a pruner fails or something is wrong with the installation.
    """
    if what is not None and not _is_plugin(Path(what)):
        _task(what, data, model, settings)
        return
    refused = [option for option, value in (("--data", data), ("--model", model), ("--set", settings)) if value]
    if refused:
        raise UserError(f"{', '.join(refused)}: only a task is looked at with it; leave it out")
    passed = _installation() if what is None else _plugin(Path(what))
    if not passed:
        raise typer.Exit(1)


def _is_plugin(path: Path) -> bool:
    """Whether a Python file holds no class derived from a task."""
    if path.suffix != ".py" or not path.is_file():
        return path.suffix == ".py"
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return True
    bases = (ast.unparse(base) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for base in node.bases)
    return not any(base.endswith("Task") for base in bases)


def _task(name: str, data: list[str] | None, model: str | None, settings: list[str] | None) -> None:
    """Prompts, gold answers, duplicates and lengths, and what is read out of two paths of the model."""
    from prunebench.bench.cli.own_task import examination
    from prunebench.bench.engines.load import load_engine
    from prunebench.bench.rollouts.sampling import tasks_of

    if settings and model is None:
        raise UserError(f"--set {settings[0]}: the options of a model; name it with --model")
    config = config_from(None, settings, NOT_TRIED, tasks=[name], data=data_of(data), model=model)
    if model is not None:
        typer.echo(f"loading {model} ...", err=True)
    engine = None if model is None else load_engine(model, "cpu", config.model_options)
    for task in tasks_of(config):
        for line in examination(task, engine, config):
            typer.echo(line)


def _plugin(path: Path) -> bool:
    from prunebench.bench.plugins import check_plugin

    reports = check_plugin(path)
    for report in reports:
        typer.echo(str(report))
    return all(report.passed for report in reports)


def _installation() -> bool:
    from prunebench.bench.cli.doctor import diagnose

    findings = diagnose()
    for finding in findings:
        typer.echo(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name}: {finding.detail}")
    return all(finding.ok for finding in findings)
