"""Figures of a run that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunebench.bench.cli.app import app, watching


@app.command()
def figures(
    names: Annotated[list[str] | None, typer.Argument(help="Figures by name; none: all that the run allows.")] = None,
    run: Annotated[Path, typer.Option(help="Folder with a results.json.")] = Path("runs/demo"),
    out: Annotated[Path | None, typer.Option(help="Where figures go (default: figures in the run folder).")] = None,
    paper: Annotated[bool, typer.Option("--paper", help="Add the published numbers as open markers.")] = False,
    sweep: Annotated[Path | None, typer.Option(help="Folder of a sweep (default: in or beside the run).")] = None,
    motivation: Annotated[Path | None, typer.Option(help="Folder of the motivation experiment.")] = None,
    ablations: Annotated[Path | None, typer.Option(help="Folder of the ablations.")] = None,
    attention: Annotated[Path | None, typer.Option(help="Folder of recorded attention.")] = None,
) -> None:
    """Draw the figures of a run: PNG, SVG and the data as CSV."""
    from prunebench.figures.catalogue import FIGURES, draw_figures
    from prunebench.figures.run_folder import RunFolder

    given = {"sweep": sweep, "motivation": motivation, "ablations": ablations, "attention": attention}
    folder = RunFolder(run, {name: path for name, path in given.items() if path is not None})
    target = out or run / "figures"
    with watching() as progress:
        tick = progress.stretch("figures", len(names or FIGURES))
        gallery = draw_figures(folder, target, names or (), paper=paper, progress=tick)
    for name, reason in gallery.left_out.items():
        typer.echo(f"left out: {name}: {reason}")
    typer.echo(f"written to {target}: {', '.join(path.name for path in gallery.written)}")
