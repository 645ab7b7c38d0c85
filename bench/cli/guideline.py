"""The guideline: sweeping retention ratios, fitting laws, and asking them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunebench.bench.cli.app import (
    LOOK,
    RUN,
    Device,
    Judge,
    Trust,
    app,
    command_line,
    engine_of_store,
    judged,
    learned_for,
    names_of,
    tokens_of,
    watching,
)
from prunebench.bench.errors import UserError

DEFAULT = "stop,step,text-classifier,entropy,perplexity,deepconf,random"


@app.command(rich_help_panel=RUN)
def sweep(
    store: Annotated[Path, typer.Option(help="Rollouts with many paths per problem (prunebench rollouts --n 256).")],
    methods: Annotated[str, typer.Option(help="Names joined by commas.")] = DEFAULT,
    prefix: Annotated[str, typer.Option(help="Prefix lengths joined by commas.")] = "20,40,80",
    budget: Annotated[str, typer.Option(help="Generator tokens per problem, joined by commas.")] = "1k,2k,4k,8k,16k",
    gamma: Annotated[str, typer.Option(help="Retention ratios joined by commas.")] = "1,1/2,1/4,1/8,1/16,1/32",
    draws: Annotated[int, typer.Option(help="Pools drawn per problem.")] = 20,
    problems: Annotated[int | None, typer.Option(help="At most so many problems per task.")] = None,
    trained_for: Annotated[int, typer.Option(help="The checkpoint that learned methods were trained for.")] = 40,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    learned: Annotated[Path | None, typer.Option(help="Folder of learned files (default: the shipped one).")] = None,
    judge: Judge = None,
    model_option: Trust = None,
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="Where the sweep and the guideline go.")] = Path("runs/sweep"),
) -> None:
    """Accuracy by retention ratio, prefix length and budget, and the laws that fit it; the same command resumes."""
    from prunebench.bench.engines.shipped import REASONERS
    from prunebench.bench.guideline.guideline import write_guidelines
    from prunebench.bench.guideline.sweep import Grid, sweep_by_name
    from prunebench.bench.rollouts.opening import is_imported, require_model
    from prunebench.bench.rollouts.store import RolloutStore
    from prunebench.bench.training.loading import Judges

    grid = Grid(
        tuple(int(tokens_of(one)) for one in prefix.split(",")),
        tuple(tokens_of(one) for one in budget.split(",")),
        tuple(_ratio(one) for one in gamma.split(",")),
        draws,
        seed,
    )
    opened = RolloutStore.open(store)
    model = str(opened.manifest["model"])
    engine = None if is_imported(opened) else engine_of_store(opened, device, model_option)
    if engine is not None:
        require_model(opened, store, engine)
    folder = learned_for(model, learned)
    with watching() as progress:
        found = sweep_by_name(
            engine,
            store,
            names_of(methods) or [],
            folder,
            trained_for,
            grid,
            out,
            judges=Judges(judged(judge), device, shipped=model in REASONERS),
            problems=problems,
            command=command_line(),
            progress=progress,
        )
        tick = progress.stretch("fitting laws", 1)
        refused = write_guidelines(found, out)
        tick(1)
    for name, reason in refused.items():
        typer.echo(f"no guideline of {name}: {reason}")
    for name, reason in found.left_out.items():
        typer.echo(f"left out: {name}: {reason}")
    typer.echo(f"in {out}: sweep.json, sweep.csv, guideline-<method>.json; next: prunebench guideline --file {out} ...")


@app.command(rich_help_panel=LOOK)
def guideline(
    budget: Annotated[str, typer.Option(help="Generator tokens per problem, as in 300k.")],
    prefix: Annotated[str, typer.Option(help="Tokens of a path when it is scored, as in 2048 or 2k.")],
    task_length: Annotated[str, typer.Option(help="Mean tokens of a complete path, as in 12k.")],
    model: Annotated[str, typer.Option(help="A shipped reasoner whose guideline is at hand.")] = "embedded",
    file: Annotated[Path | None, typer.Option(help="A guideline of your own, or the folder of a sweep.")] = None,
    method: Annotated[str | None, typer.Option(help="Only this method (default: the best one).")] = None,
) -> None:
    """How many paths to sample and to keep for a budget, what that gains, and what it rests on."""
    from prunebench.bench.engines.shipped import REASONERS
    from prunebench.bench.guideline.answer import advise
    from prunebench.bench.guideline.guideline import read_guidelines

    if file is None and model not in REASONERS:
        raise UserError(f"no guideline of model '{model}' is shipped; make one with: prunebench sweep, and give --file")
    found = read_guidelines(file or REASONERS[model].guideline)
    for line in advise(found, tokens_of(budget), tokens_of(prefix), tokens_of(task_length), method).lines():
        typer.echo(line)


def _ratio(text: str) -> float:
    top, _, bottom = text.strip().partition("/")
    try:
        ratio = float(top) / float(bottom or 1)
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(f"--gamma {text}: write ratios such as 1/8 or 0.125") from error
    return ratio
