"""Training: learned methods, ablations, and the embedded reasoner itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunebench.bench.cli.app import (
    BRING,
    RUN,
    Device,
    Judge,
    ModelOption,
    Plugin,
    app,
    judged,
    known,
    load_plugins,
    model_options_of,
)
from prunebench.bench.engines.load import load_local
from prunebench.bench.progress import Spoken

if TYPE_CHECKING:
    pass


@app.command(rich_help_panel=RUN)
def train(
    method: Annotated[list[str] | None, typer.Argument(help="Methods to tune and train; none: all of them.")] = None,
    data: Annotated[
        Path, typer.Option(help="Folder with train/ and validation/, each <name>/{rollouts,labels}.")
    ] = Path("runs/reasoner/data"),
    model: Annotated[str, typer.Option(help="'embedded', a local checkpoint folder, or a hub id.")] = "embedded",
    model_option: ModelOption = None,
    prefix: Annotated[int, typer.Option(help="Tokens per prefix.")] = 40,
    device: Device = "cpu",
    seed: Annotated[int, typer.Option(help="Seed of the training; another one goes into another folder.")] = 0,
    plugin: Plugin = None,
    judge: Judge = None,
    out: Annotated[Path, typer.Option(help="Where learned files, cards and curves go.")] = Path("runs/learned"),
) -> None:
    """Tune (and fit, where there is something to fit) methods on labelled prefixes; split by problem.

    The training prefixes are those of L/2, L and 2L that have labels. The same command goes on after a stop.
    """
    from prunebench.bench.training.loading import Judges, tunable
    from prunebench.bench.training.tuning import train_methods
    from prunebench.figures.training_curve import write_training_curve
    from prunebench.methods.registry import PRUNERS

    load_plugins(plugin)
    names = list(method or tunable())
    for name in names:
        known(lambda name=name: PRUNERS.get(name))  # type: ignore[misc]
    engine = load_local(model, device, model_options_of(model_option))
    judges = Judges(judged(judge), device)
    cards = train_methods(engine, data, names, out, prefix, seed=seed, judges=judges, progress=Spoken(typer.echo))
    for name, card in zip(names, cards, strict=True):
        write_training_curve(card, out)
        typer.echo(f"{name}: validation AUROC {card.validation_auroc:.3f} -> {out / name}.json")


@app.command(name="import-stop", rich_help_panel=BRING)
def import_stop(
    folder: Annotated[Path, typer.Argument(help="A STOP checkpoint as the paper's code saves it.")],
    model: Annotated[str, typer.Option(help="The model that it belongs to: a folder, a hub id, a shipped reasoner.")],
    model_option: ModelOption = None,
    prefix: Annotated[int, typer.Option(help="Tokens per prefix that it was trained for.")] = 2048,
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="Folder of learned files, for --learned.")] = Path("runs/imported-stop"),
) -> None:
    """Bring a STOP that was trained elsewhere: its files as learned files with a card; nothing in them is run."""
    from prunebench.bench.training.import_stop import import_stop as run

    card = run(folder, load_local(model, device, model_options_of(model_option)), prefix, out)
    settings = ", ".join(f"{name} {card.configuration[name]}" for name in ("tokens", "rank"))
    typer.echo(f"{settings}: in {out}; next: prunebench compare --model {model} --learned {out} --methods stop,none")
