"""The report of a run, and several runs beside one another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunebench.bench.cli.app import app, watching


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder with a results.json.")] = Path("runs/demo"),
    out: Annotated[Path | None, typer.Option(help="The file (default: report.html in the run folder).")] = None,
    sweep: Annotated[Path | None, typer.Option(help="Folder of a sweep (default: in or beside the run).")] = None,
) -> None:
    """One self-contained HTML file: words, tables, figures, a calculator, and every path."""
    from prunebench.figures.catalogue import FIGURES
    from prunebench.figures.report import write_report

    with watching() as progress:
        tick = progress.stretch("figures and report", len(FIGURES))
        written = write_report(run, out or run / "report.html", {"sweep": sweep} if sweep else None, tick)
    typer.echo(f"{written}: {written.stat().st_size / 1e6:.1f} MB; open it in a browser")


@app.command("side-by-side")
def side_by_side(
    runs: Annotated[list[Path], typer.Argument(help="Folders with a results.json, one per model.")],
    out: Annotated[Path, typer.Option(help="Where the tables go.")] = Path("runs/side-by-side"),
) -> None:
    """Tables over several runs: every method on every task and model, with the paper's numbers beside them."""
    from prunebench.figures.run_folder import RunFolder
    from prunebench.figures.side_by_side import SideBySide

    folders = [RunFolder(run) for run in runs]
    SideBySide([folder.results for folder in folders if folder.task]).write(out)  # one without rows is refused
    typer.echo(f"written to {out}: side_by_side.md, .csv, .png and .svg")
