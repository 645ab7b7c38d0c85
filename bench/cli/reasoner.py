"""``python -m prunebench.bench.cli.reasoner`` makes a shipped reasoner again: work in the repository (see Makefile)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunebench.bench.cli.app import reported
from prunebench.bench.cli.at_hand import label_plan
from prunebench.bench.errors import UserError
from prunebench.bench.progress import Spoken

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def reasoner(
    name: Annotated[
        str, typer.Option(help="embedded, embedded-base, smollm2, or toy, which tries the chain.")
    ] = "embedded",
    work: Annotated[Path, typer.Option(help="Checkpoints, rollouts and labels.")] = Path("runs/reasoner"),
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Plan of the labels: small, cpu, embedded, cpu-base, gpu, paper, real, toy; default: its own."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes of one thread each.")] = 2,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    until: Annotated[str, typer.Option(help="weights, rollouts, labels or all.")] = "all",
) -> None:
    """Rebuild a shipped reasoner and all that hangs on it: weights, labels, learned pruners, test labels, card."""
    from prunebench.bench.engines.shipped import REASONERS
    from prunebench.bench.reasoner.build import UNTIL, build

    if name not in REASONERS:
        raise UserError(f"unknown reasoner '{name}': shipped are {', '.join(REASONERS)}")
    if until not in UNTIL:
        raise UserError(f"--until {until}: write {', '.join(UNTIL)}")
    chosen = REASONERS[name]
    label_plan(recipe or chosen.recipe)
    build(chosen, work, recipe or chosen.recipe, workers, Spoken(typer.echo), device, until)


if __name__ == "__main__":
    reported(app)
