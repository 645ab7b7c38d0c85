"""Tuning and training of methods."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from prunebench.bench.cli.app import RUN, app, watching
from prunebench.bench.cli.at_hand import known, training_data
from prunebench.bench.cli.options import Judge, device_of, judged
from prunebench.bench.cli.settings import keys_of, model_options_of, set_option


@dataclass(frozen=True)
class TrainSettings:
    """Tokens per ``prefix``; ``seed`` of the training: another one goes into another folder."""

    prefix: int = 40
    seed: int = 0


@app.command(rich_help_panel=RUN)
def train(
    context: typer.Context,
    methods: Annotated[list[str] | None, typer.Argument(help="Methods to tune and train; none: all of them.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with train/ and validation/, each <name>/{rollouts,labels}; default: what is shipped for a "
            "shipped reasoner."
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="As in prunebench rollouts.")] = "embedded",
    judge: Judge = None,
    settings: Annotated[list[str] | None, set_option(f"{keys_of(TrainSettings)}, and the options of a model")] = None,
    out: Annotated[Path, typer.Option(help="Where learned files, cards and curves go.")] = Path("runs/learned"),
) -> None:
    """Tune (and fit, where there is something to fit) methods on labelled prefixes; split by problem.

    The training prefixes are those of L/2, L and 2L that have labels. The same command goes on after a stop. What was
    trained by the same code from the same data is not trained again.
    """
    from prunebench.bench.engines.load import load_local
    from prunebench.bench.engines.sources import source_of
    from prunebench.bench.training.cards import Card
    from prunebench.bench.training.loading import Judges, tunable
    from prunebench.bench.training.tuning import already_trained, train_methods
    from prunebench.methods.registry import PRUNERS

    asked, options = model_options_of(settings, TrainSettings)
    data = training_data(data, model)
    names = list(methods or tunable())
    for name in names:
        known(lambda name=name: PRUNERS.get(name))  # type: ignore[misc]
    device = device_of(context)
    judges, model_hash = Judges(judged(judge), device), options.digest(source_of(model, options).digest)
    done, _ = already_trained(names, data, out, asked.prefix, model_hash=model_hash, seed=asked.seed, judges=judges)
    waiting, undrawn = [name for name in names if name not in done], list[Card]()
    for name, card in done.items():
        typer.echo(f"{name}: already trained, nothing done (validation AUROC {card.validation_auroc:.3f})")
        if any(one["history"] for one in card.candidates) and not (out / f"{name}_curve.png").exists():
            undrawn.append(card)  # a stop came between
    if not waiting and not undrawn:
        return
    from prunebench.figures.training_curve import write_training_curve  # a second of its own

    for card in undrawn:
        write_training_curve(card, out)
    if not waiting:
        return
    with watching() as progress:
        cards = train_methods(
            load_local(model, device, options), data, waiting, out, asked.prefix, seed=asked.seed, judges=judges,
            progress=progress,
        )  # fmt: skip
        for name, card in zip(waiting, cards, strict=True):
            write_training_curve(card, out)
            typer.echo(f"{name}: validation AUROC {card.validation_auroc:.3f} -> {out / name}.json")
