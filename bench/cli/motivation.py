"""Why prefixes can be pruned: potentials along the path."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.app import Device, app, engine_of, watching
from bench.errors import UserError


@app.command()
def motivation(
    store: Annotated[Path, typer.Option(help="Rollouts (prunebench rollouts, or those of a comparison).")],
    prefix: Annotated[str, typer.Option(help="Lengths joined by commas.")] = "10,20,40,80,160,240",
    problems: Annotated[int, typer.Option(help="Problems per task.")] = 5,
    paths: Annotated[int, typer.Option(help="Paths per problem.")] = 16,
    continuations: Annotated[int, typer.Option(help="K: continuations per prefix.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of the continuations' noise.")] = 1,
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="Where labels and results go.")] = Path("runs/motivation"),
) -> None:
    """The potential of paths along their length, and the share that is doomed; the same command resumes."""
    from bench.motivation import Extent, measure
    from bench.store import RolloutStore

    try:
        lengths = tuple(int(one) for one in prefix.split(","))
    except ValueError as error:
        raise UserError(f"--prefix {prefix}: write numbers of tokens joined by commas") from error
    extent = Extent(lengths, problems, paths, continuations, seed)
    engine = engine_of(str(RolloutStore.open(store).manifest["model"]), device)
    with watching() as watch:
        found = measure(
            engine, store, extent, out, command=" ".join(["prunebench", *sys.argv[1:]]), stretch=watch.stretch
        )
    for length in found.lengths:
        doomed = found.doomed(length)
        typer.echo(f"at {length} tokens {100 * doomed.mean:.0f} % of the paths are doomed "
                   f"[{100 * doomed.low:.0f}, {100 * doomed.high:.0f}]")  # fmt: skip
    typer.echo(f"in {out}: motivation.json, motivation.csv; draw it with: prunebench figures motivation")
