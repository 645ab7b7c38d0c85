"""Experiments of the paper on what is there: rollouts, labelled data, recorded answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, cast

import typer

from prunebench.bench.cli.app import RUN, app, command_line, watching
from prunebench.bench.cli.at_hand import engine_of_store, known
from prunebench.bench.cli.options import device_given
from prunebench.bench.cli.settings import keys_of, model_options_of, set_option, settings_of
from prunebench.bench.engines.shipped import SYNTHETIC
from prunebench.bench.errors import UserError
from prunebench.bench.training.at_hand import learned_for

if TYPE_CHECKING:
    from prunebench.bench.engines.base import LocalEngine
    from prunebench.bench.evaluation.ablation import AblationRow, Axis
    from prunebench.bench.progress import Progress


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
class CurveSettings:
    """Every one of ``methods`` over every axis, ``seeds`` draws of the data each, ``k`` paths kept at ``prefix``."""

    methods: tuple[str, ...] = ("stop", "stop-without-adapter", "otv", "step", "linear-probe", "mlp-probe",
                                "prm-retrain", "text-classifier")  # fmt: skip
    axes: tuple[str, ...] = ("problems", "labels", "prefixes")
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
    from prunebench.bench.evaluation.ablation import to_markdown

    asked, options = model_options_of(settings, AblationSettings)
    _require_learnable([asked.method])
    with watching() as progress:
        engine = load_local(asked.model, device, options)
        train_over = _trainings(engine, source, asked.method, asked.prefix, asked.learned, progress)
        rows = train_over(cast("Axis", asked.axis), asked.k, out, asked.value or None, asked.seeds)
    Console().print(Markdown(to_markdown(rows)))
    typer.echo(f"written to {out}: {asked.axis}.csv, {asked.axis}.md")


def _curves(source: Path, out: Path, device: str, settings: Sequence[str]) -> None:
    """How much learned methods need to learn from: problems, continuations per label, prefixes per problem."""
    from prunebench.bench.engines.load import load_local
    from prunebench.bench.evaluation.results import rows_csv
    from prunebench.bench.files import write_atomically

    asked, options = model_options_of(settings, CurveSettings)
    _require_learnable(asked.methods)
    rows = []
    with watching() as progress:
        engine = load_local(asked.model, device, options)
        for method in asked.methods:
            train_over = _trainings(engine, source, method, asked.prefix, asked.learned, progress)
            for axis in asked.axes:
                rows += train_over(cast("Axis", axis), asked.k, out / method, None, asked.seeds)
            write_atomically(out / "curves.csv", rows_csv(rows).encode())
    typer.echo(f"in {out}: curves.csv; draw: prunebench figures RUN learning_curves --data curves={out}")


def _require_learnable(names: Sequence[str]) -> None:
    """Raises UserError for a method that is unknown or learns nothing."""
    from prunebench.methods.base import LearnablePruner
    from prunebench.methods.registry import PRUNERS

    for name in names:
        known(lambda name=name: PRUNERS.get(name))  # type: ignore[misc]
        if not issubclass(PRUNERS.get(name), LearnablePruner):
            raise UserError(f"'{name}' has nothing to train, so there is nothing to ablate; take stop")


def _trainings(
    engine: LocalEngine, source: Path, method: str, prefix: int, learned: Path | None, progress: Progress
) -> Callable[[Axis, int, Path, Sequence[str] | None, int], list[AblationRow]]:
    """What trains a method, in its tuned configuration, over an axis: (axis, k, folder, values, seeds) -> rows."""
    from prunebench.bench.evaluation.ablation import ablate
    from prunebench.bench.training.data import labelled_folder, test_records
    from prunebench.bench.training.loading import Judges, load_method, reads_of
    from prunebench.methods.base import LearnablePruner

    judges = Judges({}, shipped=engine.name in SYNTHETIC)
    tuned = load_method(method, learned_for(engine.name, learned), engine.digest, prefix, judges).pruner
    assert isinstance(tuned, LearnablePruner)
    train, validation, _ = labelled_folder(engine, source, prefix, reads_of([method]), progress)
    records = test_records(engine, source, prefix, reads_of([method]))

    def over(axis: Axis, k: int, out: Path, values: Sequence[str] | None, seeds: int) -> list[AblationRow]:
        return ablate(
            tuned,
            axis,
            train,
            validation,
            records,
            k,
            out,
            values=values,
            seeds=seeds,
            judges=judges,
            progress=progress,
        )

    return over


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
    "curves": Study(_curves, CurveSettings, "train/, validation/ and test/ data", Path("runs/curves")),
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
    """Potentials along the path, what [STOP] attends to, choices in training, learning curves, recorded answers.

    The same command goes on after a stop. ablations and curves take the options of a model as well: dtype, ...
    """
    if what not in STUDIES:
        raise UserError(f"no study is called '{what}': known are {', '.join(STUDIES)}")
    chosen, device = STUDIES[what], device_given(context)
    if chosen.out is None and (refused := [name for name, value in (("--out", out), ("--device", device)) if value]):
        raise UserError(f"{', '.join(refused)}: {what} writes nothing and runs no model; leave it out")
    chosen.run(source, out or chosen.out or Path(), device or "cpu", settings or ())
