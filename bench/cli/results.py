"""What looks at a written run: its figures and report, its numbers held together, rebuilt, made once more."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunebench.bench.cli.app import LOOK, app, watching
from prunebench.bench.cli.at_hand import load_plugins
from prunebench.bench.cli.comparing import compare_with
from prunebench.bench.cli.options import device_given
from prunebench.bench.cli.settings import pairs_of
from prunebench.bench.errors import UserError
from prunebench.bench.progress import left_out_lines

if TYPE_CHECKING:
    from rich.table import Table

    from prunebench.bench.config import RunConfig
    from prunebench.bench.evaluation.inputs import Inputs
    from prunebench.bench.evaluation.results import PairRow, Results

Run = Annotated[Path, typer.Argument(help="Folder of a comparison.")]
Beside = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        help="NAME=FOLDER: where its sweep, motivation, ablations, attention or curves lie, if not beside the run.",
    ),
]
Store = Annotated[Path | None, typer.Option(help="Its rollouts (default: those that the results name).")]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        help="Code that the run names and that may start: a plugin, a task file, trust_remote_code; several times."
    ),
]
DEMO = Path("runs/demo")
SHOWN = 10
"""So many differences are printed; the others are counted."""
FILE_WIDTH = 200
"""Characters of a line in a file or a pipe, where no terminal says how many there are."""


@app.command(rich_help_panel=LOOK)
def figures(
    run: Run = DEMO,
    names: Annotated[list[str] | None, typer.Argument(help="Figures by name; none: all that the run allows.")] = None,
    data: Beside = None,
    paper: Annotated[bool, typer.Option("--paper", help="Add the published numbers as open markers.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where figures go (default: figures in the run folder).")] = None,
) -> None:
    """Draw the figures of a run: PNG, SVG and the data as CSV."""
    from prunebench.figures.gallery import draw_figures
    from prunebench.figures.run_folder import RunFolder

    target = out or run / "figures"
    with watching() as progress:
        gallery = draw_figures(RunFolder(run, _beside(data)), target, names or (), paper=paper, progress=progress)
    for line in left_out_lines(gallery.left_out):
        typer.echo(line)
    typer.echo(f"written to {target}: {', '.join(path.name for path in gallery.written)}")


@app.command(rich_help_panel=LOOK)
def report(
    runs: Annotated[list[Path] | None, typer.Argument(help="Folders of comparisons (default: runs/demo).")] = None,
    data: Beside = None,
    out: Annotated[
        Path | None, typer.Option(help="The file (default: report.html in the run); the folder of several runs.")
    ] = None,
) -> None:
    """A run as one HTML file: tables, figures, a calculator, every path. Several runs: a leaderboard of the methods."""
    from prunebench.figures.report import write_leaderboard, write_report
    from prunebench.figures.run_folder import RunFolder
    from prunebench.figures.side_by_side import SideBySide, told_apart

    run, *others = runs or [DEMO]
    if twice := [folder for folder in others if folder.resolve() == run.resolve() or others.count(folder) > 1]:
        raise UserError(f"{twice[0]}: named twice; once is enough")
    if others:
        if out is not None and out.suffix:
            raise UserError(f"--out {out}: several runs make several files; name a folder")
        if data:
            raise UserError("--data: the tables of several runs show their comparisons only; leave it out")
        folders, target = [RunFolder(folder) for folder in (run, *others)], out or Path("runs/side-by-side")
        results = told_apart({folder.path: folder.results for folder in folders if folder.task})  # refused without rows
        written = write_leaderboard(results, target / "leaderboard.html")
        SideBySide(results).write(target)
        typer.echo(f"{written}: open it in a browser; beside it side_by_side.md, .csv, .png and .svg")
        return
    with watching() as progress:
        written = write_report(run, out or run / "report.html", _beside(data), progress)
    typer.echo(f"{written}: {written.stat().st_size / 1e6:.1f} MB; open it in a browser")


@app.command(rich_help_panel=LOOK)
def versus(
    context: typer.Context,
    run: Run,
    methods: Annotated[
        list[str] | None,
        typer.Argument(help="A method, and those that it is held against; none: what decides, on all problems."),
    ] = None,
    store: Store = None,
    trust: Trust = None,
) -> None:
    """Which method is ahead, which are equal, and what is open: paired differences over problems, no model runs.

    Without names: every pair of representatives, and every method against the best one that learns nothing.
    """
    from rich.console import Console

    from prunebench.bench.evaluation.rebuild import reopened, require_of_results
    from prunebench.bench.evaluation.reproduce import code_in
    from prunebench.bench.evaluation.results import MARGIN
    from prunebench.bench.evaluation.tables.versus import deciding_pairs, require_others
    from prunebench.bench.evaluation.tables.versus import versus as held_against

    named = list(methods or ())
    if len(set(named)) < len(named) > 2:
        raise UserError(f"{next(name for name in named if named.count(name) > 1)}: named twice; once is enough")
    pairs = [(named[0], other) for other in named[1:]]
    require_others(pairs)
    results, config, inputs = _written(context, run, trust, runs=False)
    _require_rows(run, results, named)
    if len(named) == 1:
        raise UserError(f"{named[0]}: name the methods that it is held against")
    with watching() as progress:
        written = reopened(run, store, code_in(config, inputs), progress)
        pairs = pairs or deciding_pairs(written.results.representatives, written.candidates, written.replays)
        differences = held_against(
            written.records, written.replays, written.candidates, written.setting, pairs, progress
        )
    require_of_results(written, differences)
    primary = differences[-1]
    held = f"{len(pairs)} pairs, Holm over them" if len(pairs) > 1 else "one pair"
    said = (
        f"a method minus the other, points [95 %]; {primary.n_problems} problems, {held}; "
        f"p equal: two one-sided tests within {MARGIN:g} points; "
        f"more problems: to find the difference seen, or to show it within {MARGIN:g} points, whichever takes fewer"
    )
    width = None if Console().is_terminal or "COLUMNS" in os.environ else FILE_WIDTH
    Console(width=width).print(said, _pair_table(differences, whole=not methods), sep="\n")


@app.command(rich_help_panel=LOOK)
def rebuild(
    context: typer.Context,
    run: Run,
    store: Store = None,
    trust: Trust = None,
    sampling: Annotated[
        bool, typer.Option("--sampling", help="From its settings instead: sample and score once more.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Where results go (default: runs/rebuilt/ and its name).")] = None,
) -> None:
    """The tables and figures of a comparison again from its scores, without a model; says whether they are equal."""
    from prunebench.bench.evaluation.comparison import RESULTS
    from prunebench.bench.evaluation.rebuild import TAKEN_OVER, rebuilt, reopened
    from prunebench.bench.evaluation.reproduce import code_in
    from prunebench.bench.evaluation.results import Results
    from prunebench.figures.outputs import write_outputs

    out = out or Path("runs/rebuilt") / run.resolve().name
    if out.resolve() == run.resolve():
        raise UserError(f"--out {out}: this is the comparison itself; choose another folder")
    if sampling:
        _reproduced(context, run, store, trust, out)
        return
    if (device := device_given(context)) is not None:
        raise UserError(f"--device {device}: no model runs without --sampling; leave it out")
    ours, config, inputs = _written(context, run, trust, runs=False)
    there = Results.held(out / RESULTS)
    if there is not None and (there.problems, there.hashes) != (ours.problems, ours.hashes):
        raise UserError(f"--out {out}: holds another comparison; choose another folder, or delete it")
    with watching() as progress:
        written = reopened(run, store, code_in(config, inputs), progress)
    (out / RESULTS).unlink(missing_ok=True)
    after = rebuilt(written, out)
    write_outputs(after, out)
    after.write(out / RESULTS)
    tables = [f"the table '{name.replace('_', ' ')}'" for name in TAKEN_OVER if getattr(after, name)]
    kept = f"{' and '.join(['measured seconds', *tables])} were taken over, not rebuilt"
    _hold_together(written.results, after, f"NOT rebuilt: {{}} differences to {run}; {kept}")
    typer.echo(f"{out}: every number equals that of {run}; {kept}")


def _pair_table(differences: Sequence[PairRow], whole: bool) -> Table:
    """Pairs of methods and what is established of them; of the ``whole`` comparison all problems pooled only."""
    from rich.table import Table

    from prunebench.bench.evaluation.formats import p_value, with_interval

    table = Table(box=None)
    for header in (*([] if whole else ["task"]), "method", "against"):
        table.add_column(header, overflow="fold")
    table.add_column("avg@k", no_wrap=True)
    for header in ("p (Holm)", "p equal", *([] if whole else ["maj@k"]), "verdict"):
        table.add_column(header)
    for row in differences:
        avg, maj = (with_interval(difference, signed=True) for difference in (row.avg, row.maj))
        names, p_values = (row.method, row.other), (p_value(row.p_holm), p_value(row.p_equal))
        if not whole:
            table.add_row(row.task, *names, avg, *p_values, maj, row.verdict)
        elif row.task == differences[-1].task:
            table.add_row(*names, avg, *p_values, row.verdict)
    return table


def _reproduced(context: typer.Context, run: Path, store: Path | None, trust: list[str] | None, out: Path) -> None:
    """A comparison once more from its settings; says whether the numbers are equal."""
    if store is not None:
        raise UserError(f"--store {store}: with --sampling the paths are sampled again; leave it out")
    before, config, inputs = _written(context, run, trust)
    (out / "results.json").unlink(missing_ok=True)  # what an earlier reproduction left is no run
    after = compare_with(config, out, inputs, device_given(context) or "cpu")
    path = run / "results.json"
    _hold_together(before, after, f"NOT reproduced: {{}} differences to {path}")
    typer.echo(f"reproduced: every number equals that of {path} (measured seconds aside)")


def _beside(data: list[str] | None) -> dict[str, Path]:
    """Name -> folder. Raises UserError for a name that nothing is drawn from."""
    from prunebench.figures.run_folder import COMMANDS

    folders = pairs_of("--data", data, "NAME=FOLDER, as in --data sweep=runs/sweep")
    for name in folders.keys() - set(COMMANDS):
        raise UserError(f"--data {name}={folders[name]}: nothing is called '{name}'; known are {', '.join(COMMANDS)}")
    return {name: Path(folder) for name, folder in folders.items()}


def _require_rows(run: Path, results: Results, methods: Sequence[str]) -> None:
    """Raises UserError for a method that took no part, with those that did; and where none is named nor was chosen."""
    from prunebench.bench.policies.procedures import PROCEDURES
    from prunebench.methods.entries import UnknownNameError
    from prunebench.methods.registry import PRUNERS

    there = list(dict.fromkeys(row.method for row in results.rows))
    if not methods and not results.representatives:
        said = "no methods were chosen on validation problems; name those to compare"
        raise UserError(f"{run}: {said}: {', '.join(there)}")
    for name in methods:
        if name not in there and name in (*PRUNERS.names(), *PROCEDURES):
            raise UserError(f"{run}: '{name}' took no part; there are {', '.join(there)}")
        if name not in there:
            raise UserError(f"{run}: {UnknownNameError('method', name, there)}")


def _written(
    context: typer.Context, run: Path, trust: list[str] | None, runs: bool = True
) -> tuple[Results, RunConfig, Inputs]:
    """A run as it was written, its plugins loaded; those that are not named are not, where no method ``runs``.

    Raises UserError for code of other people that the run names and ``trust`` does not, and the other way round.
    """
    from prunebench.bench.config import configured
    from prunebench.bench.evaluation.inputs import Inputs
    from prunebench.bench.evaluation.reproduce import code_in, read_results, require_named

    path = run / "results.json"
    results = read_results(path)
    inputs = Inputs.of(results.setup)
    here, trusted = ({Path(name).resolve() for name in names} for names in (context.obj, trust or ()))
    named = [plugin for plugin in inputs.plugins if plugin.resolve() in here | trusted]
    waiting = [plugin for plugin in named if plugin.resolve() not in here]
    try:
        config = configured(str(path), results.setup["config"], {})
    except UserError as error:  # a vote or a policy of a plugin, perhaps
        if not waiting:
            others = "".join(f"; a plugin may bring it: --trust {plugin}" for plugin in inputs.plugins)
            raise UserError(f"{error}{others}") from error
        load_plugins(waiting)
        waiting, config = [], configured(str(path), results.setup["config"], {})
    of_run = inputs if runs else replace(inputs, plugins=())
    require_named(path, config, of_run, [f"--trust {name}" for name in (*(trust or ()), *named)])
    for name in trust or ():
        code = code_in(config, inputs)
        if f"--trust {name}" not in code and Path(name).resolve() not in {plugin.resolve() for plugin in named}:
            raise UserError(f"--trust {name}: {path} names no such code; it names {', '.join(code) or 'none'}")
    load_plugins(waiting)
    return results, config, inputs


def _hold_together(before: Results, after: Results, sentence: str) -> None:
    """Say the first differences and their number, and end with exit code 1 if there is one."""
    from prunebench.bench.evaluation.reproduce import differences

    lines = differences(before, after)
    for line in lines[:SHOWN]:
        typer.echo(line)
    if len(lines) > SHOWN:
        typer.echo(f"... and {len(lines) - SHOWN} more")
    if lines:
        typer.echo(sentence.format(len(lines)))
        raise typer.Exit(1)
