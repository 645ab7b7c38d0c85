"""Why prefixes can be pruned, and what STOP looks at: potentials along the path, attention on two prefixes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunebench.bench.cli.app import RUN, Device, Trust, app, command_line, engine_of_store, learned_for, watching
from prunebench.bench.errors import UserError


@app.command(rich_help_panel=RUN)
def motivation(
    store: Annotated[Path, typer.Option(help="Rollouts (prunebench rollouts, or those of a comparison).")],
    prefix: Annotated[str, typer.Option(help="Lengths joined by commas.")] = "10,20,40,80,160,240",
    problems: Annotated[int, typer.Option(help="Problems per task.")] = 5,
    paths: Annotated[int, typer.Option(help="Paths per problem.")] = 16,
    continuations: Annotated[int, typer.Option(help="K: continuations per prefix.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of the continuations' noise.")] = 1,
    model_option: Trust = None,
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="Where labels and results go.")] = Path("runs/motivation"),
) -> None:
    """The potential of paths along their length, and the share that is doomed; the same command resumes."""
    from prunebench.bench.evaluation.potential_curve import FALLEN, RISEN, Selection, measure_potential
    from prunebench.bench.rollouts.store import RolloutStore

    try:
        lengths = tuple(int(one) for one in prefix.split(","))
    except ValueError as error:
        raise UserError(f"--prefix {prefix}: write numbers of tokens joined by commas") from error
    selection = Selection(lengths, problems, paths, continuations, seed)
    engine = engine_of_store(RolloutStore.open(store), device, model_option)
    with watching() as progress:
        found = measure_potential(engine, store, selection, out, command=command_line(), progress=progress)
    for length in found.lengths:
        doomed = found.doomed(length)
        typer.echo(f"at {length} tokens {100 * doomed.mean:.0f} % of the paths are doomed "
                   f"[{100 * doomed.low:.0f}, {100 * doomed.high:.0f}]")  # fmt: skip
    for text, one in (
        (f"fallen below {FALLEN:g}, above {RISEN:g} at any later length", found.recovered_later()),
        (f"above {RISEN:g}, below {FALLEN:g} at any later length", found.fell_later()),
    ):
        typer.echo(f"of the paths {text}: {100 * one.mean:.1f} % [{100 * one.low:.1f}, {100 * one.high:.1f}]")
    typer.echo(f"in {out}: motivation.json, .csv; draw: prunebench figures RUN motivation --data motivation={out}")


@app.command(rich_help_panel=RUN)
def attention(
    store: Annotated[Path, typer.Option(help="Rollouts (prunebench rollouts, or those of a comparison).")],
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    number: Annotated[int, typer.Option(help="Which of its problems, from 1.")] = 1,
    prefix: Annotated[int, typer.Option(help="Tokens of a path when it is scored.")] = 40,
    learned: Annotated[Path | None, typer.Option(help="Folder of learned files (default: the shipped one).")] = None,
    model_option: Trust = None,
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="Where the weights go.")] = Path("runs/attention"),
) -> None:
    """What the [STOP] tokens attend to on the path with the highest score and on that with the lowest."""
    from prunebench.bench.evaluation.attention import record_attention
    from prunebench.bench.rollouts.store import RolloutStore
    from prunebench.bench.training.loading import load_method
    from prunebench.methods.learned.stop import Stop

    engine = engine_of_store(RolloutStore.open(store), device, model_option)
    stop = load_method("stop", learned_for(engine.name, learned), engine.digest, prefix).pruner
    assert isinstance(stop, Stop)
    found = record_attention(engine, stop, store, out, prefix=prefix, task=task, number=number, command=command_line())
    for path in found.paths:
        typer.echo(f"{path.role} score {path.score:.3f}: path {path.path}, {'right' if path.correct else 'wrong'}")
    typer.echo(f"in {out}: attention.json, .csv; draw: prunebench figures RUN attention --data attention={out}")
