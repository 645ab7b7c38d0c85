"""Experiments of the paper on what is there: rollouts, labelled data, recorded answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple, cast

import typer

from prunebench.bench.cli.app import RUN, app, command_line, watching
from prunebench.bench.cli.at_hand import engine_of_store, known
from prunebench.bench.cli.options import device_given
from prunebench.bench.cli.settings import keys_of, model_options_of, set_option, settings_of
from prunebench.bench.errors import UserError
from prunebench.bench.progress import Spoken
from prunebench.bench.training.at_hand import learned_for


@dataclass(frozen=True)
class MotivationSettings:
    """``continuations`` of every prefix of these lengths: first ``problems`` of every task, first ``paths`` of each."""

    prefix: tuple[int, ...] = (10, 20, 40, 80, 160, 240)
    problems: int = 5
    paths: int = 16
    continuations: int = 16
    seed: int = 1
    trust_remote_code: bool = False


@dataclass(frozen=True)
class AttentionSettings:
    """Problem ``number`` (from 1) of a ``task`` (None: of all), its paths scored at ``prefix`` tokens."""

    task: str | None = None
    number: int = 1
    prefix: int = 40
    learned: Path | None = None
    trust_remote_code: bool = False


@dataclass(frozen=True)
class AblationSettings:
    """``seeds`` trainings of ``method`` for every value of ``axis`` (or only these), ``k`` paths kept at ``prefix``."""

    method: str = "stop"
    axis: str = "tokens"
    value: tuple[str, ...] = ()
    seeds: int = 3
    prefix: int = 40
    k: int = 8
    model: str = "embedded"
    learned: Path | None = None


@dataclass(frozen=True)
class MatrixSettings:
    """The first ``paths`` of so many ``shuffles`` of every problem's; ``grading``: string, or equivalence."""

    grading: str = "string"
    shuffles: int = 100
    paths: int = 64


def _motivation(source: Path, out: Path, device: str, settings: Sequence[str]) -> None:
    """The potential of paths along their length, and the share that is doomed."""
    from prunebench.bench.evaluation.formats import with_interval
    from prunebench.bench.evaluation.potential_curve import FALLEN, RISEN, Selection, measure_potential
    from prunebench.bench.rollouts.store import RolloutStore

    asked = settings_of(MotivationSettings, settings)
    selection = Selection(asked.prefix, asked.problems, asked.paths, asked.continuations, asked.seed)
    engine = engine_of_store(RolloutStore.open(source), device, asked.trust_remote_code)
    with watching() as progress:
        curve = measure_potential(engine, source, selection, out, command=command_line(), progress=progress)
    for length in curve.lengths:
        doomed = curve.doomed(length)
        typer.echo(f"at {length} tokens {with_interval(doomed.scaled(100), 0)} % of the paths are doomed")
    for text, share in (
        (f"fallen below {FALLEN:g}, above {RISEN:g} at any later length", curve.recovered_later()),
        (f"above {RISEN:g}, below {FALLEN:g} at any later length", curve.fell_later()),
    ):
        typer.echo(f"of the paths {text}: {with_interval(share.scaled(100))} %")
    typer.echo(f"in {out}: motivation.json, .csv; draw: prunebench figures RUN motivation --data motivation={out}")


def _attention(source: Path, out: Path, device: str, settings: Sequence[str]) -> None:
    """What the [STOP] tokens attend to on the path with the highest score and on that with the lowest."""
    from prunebench.bench.evaluation.attention import record_attention
    from prunebench.bench.rollouts.store import RolloutStore
    from prunebench.bench.training.loading import load_method
    from prunebench.methods.learned.stop import Stop

    asked = settings_of(AttentionSettings, settings)
    engine = engine_of_store(RolloutStore.open(source), device, asked.trust_remote_code)
    stop = load_method("stop", learned_for(engine.name, asked.learned), engine.digest, asked.prefix).pruner
    assert isinstance(stop, Stop)
    attention = record_attention(
        engine, stop, source, out, prefix=asked.prefix, task=asked.task, number=asked.number, command=command_line()
    )
    for path in attention.paths:
        typer.echo(f"{path.role} score {path.score:.3f}: path {path.path}, {'right' if path.correct else 'wrong'}")
    typer.echo(f"in {out}: attention.json, .csv; draw: prunebench figures RUN attention --data attention={out}")


def _ablations(source: Path, out: Path, device: str, settings: Sequence[str]) -> None:
    """What one choice in training is worth (STOP paper, Tables 3-6). The settings that stay are the tuned ones."""
    from rich.console import Console
    from rich.markdown import Markdown

    from prunebench.bench.engines.load import load_local
    from prunebench.bench.evaluation.ablation import Axis, ablate, to_markdown
    from prunebench.bench.training.data import labelled_folder, test_records
    from prunebench.bench.training.loading import load_method, reads_of
    from prunebench.methods.base import LearnablePruner
    from prunebench.methods.registry import PRUNERS

    asked, options = model_options_of(settings, AblationSettings)
    known(lambda: PRUNERS.get(asked.method))
    engine = load_local(asked.model, device, options)
    tuned = load_method(asked.method, learned_for(engine.name, asked.learned), engine.digest, asked.prefix).pruner
    if not isinstance(tuned, LearnablePruner):
        raise UserError(f"'{asked.method}' has nothing to train, so there is nothing to ablate; take stop")
    train_set, validation, _ = labelled_folder(engine, source, asked.prefix, reads_of([asked.method]))
    records = test_records(engine, source, asked.prefix, reads_of([asked.method]))
    rows = ablate(
        tuned, cast("Axis", asked.axis), train_set, validation, records, asked.k, out, values=asked.value or None,
        seeds=asked.seeds, progress=Spoken(typer.echo),
    )  # fmt: skip
    Console().print(Markdown(to_markdown(rows)))
    typer.echo(f"written to {out}: {asked.axis}.csv, {asked.axis}.md")


def _matrix(source: Path, _out: Path, _device: str, settings: Sequence[str]) -> None:
    """Self-consistency, ESC and adaptive-consistency on recorded answers: accuracy, tokens, longest path."""
    from rich.console import Console
    from rich.table import Table

    from prunebench.bench.evaluation.matrix_replay import replay_matrix

    asked = settings_of(MatrixSettings, settings)
    table = Table("task", "method", "accuracy %", "tokens", "longest path", box=None)
    for row in replay_matrix(source, asked.grading, asked.shuffles, asked.paths):
        table.add_row(row.task, row.method, f"{row.accuracy:.2f}", f"{row.tokens:,.0f}", f"{row.longest_path:,.0f}")
    Console().print(table)
    typer.echo(f"{asked.paths} paths, means over {asked.shuffles} orders, answers are equal by {asked.grading}")


class Study(NamedTuple):
    """What is run, its settings, what it starts from, and the folder it writes (None: none, and no model runs)."""

    run: Callable[[Path, Path, str, Sequence[str]], None]
    settings: type
    source: str
    out: Path | None


STUDIES = {
    "motivation": Study(_motivation, MotivationSettings, "rollouts", Path("runs/motivation")),
    "attention": Study(_attention, AttentionSettings, "rollouts", Path("runs/attention")),
    "ablations": Study(_ablations, AblationSettings, "train/, validation/ and test/ data", Path("runs/ablations")),
    "matrix": Study(_matrix, MatrixSettings, "recorded answers", None),
}


@app.command(rich_help_panel=RUN)
def study(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help=f"{', '.join(STUDIES)}.")],
    source: Annotated[
        Path, typer.Argument(help="; ".join(f"{name}: {kind.source}" for name, kind in STUDIES.items()) + ".")
    ],
    settings: Annotated[
        list[str] | None,
        set_option("; ".join(f"{name}: {keys_of(kind.settings)}" for name, kind in STUDIES.items())),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where results go (default: runs/WHAT).")] = None,
) -> None:
    """Potentials along the path, what [STOP] attends to, choices in training, baselines on recorded answers.

    The same command goes on after a stop. ablations takes the options of a model as well: dtype, revision, ...
    """
    if what not in STUDIES:
        raise UserError(f"no study is called '{what}': known are {', '.join(STUDIES)}")
    chosen, device = STUDIES[what], device_given(context)
    if chosen.out is None and (refused := [name for name, value in (("--out", out), ("--device", device)) if value]):
        raise UserError(f"{', '.join(refused)}: {what} writes nothing and runs no model; leave it out")
    chosen.run(source, out or chosen.out or Path(), device or "cpu", settings or ())
