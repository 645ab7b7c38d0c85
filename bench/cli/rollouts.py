"""Rollouts and their labels: sampling, labelling, importing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from prunebench.bench.cli.app import BRING, RUN, app, watching
from prunebench.bench.cli.at_hand import engine_of_store, processes_on
from prunebench.bench.cli.options import (
    Config,
    Data,
    Engine,
    Model,
    Paths,
    Problems,
    RunSettings,
    Store,
    Task,
    data_of,
    device_of,
    first_look,
)
from prunebench.bench.cli.settings import (
    config_from,
    keys_of,
    model_options_of,
    pairs_of,
    set_option,
    settings_of,
    standard_taken,
)
from prunebench.bench.errors import UserError
from prunebench.tasks.answer_types import names

OF_COMPARISONS = frozenset(
    {"methods", "policy", "vote", "budget", "draws", "recipe", "train_tasks", "kv_bytes_per_token"}
)
"""Keys that sampling does not look at."""


@dataclass(frozen=True)
class LabelSettings:
    """At most so many distinct ``prefixes`` per problem (None: all); ``seed`` of the continuations' noise."""

    prefixes: int | None = None
    seed: int = 1
    trust_remote_code: bool = False


@dataclass(frozen=True)
class SourceSettings:
    """``tokenizer``: folder or id of the model's, for sources without tokens; ``grading``: equivalence, or string."""

    tokenizer: str | None = None
    grading: str = "equivalence"


@dataclass(frozen=True)
class CheckpointSettings:
    """``prefix``: the tokens per prefix that a STOP was trained for."""

    prefix: int = 2048
    device: str = "cpu"


@app.command(rich_help_panel=RUN)
def rollouts(
    context: typer.Context,
    config: Config = None,
    task: Task = None,
    data: Data = None,
    model: Model = None,
    problems: Problems = None,
    n: Paths = None,
    engine: Engine = "transformers",
    settings: RunSettings = None,
    out: Annotated[Path, typer.Option(help="The rollout store.")] = Path("runs/rollouts"),
) -> None:
    """Sample and grade complete paths into a store; the same command resumes."""
    from prunebench.bench.cli.planning import sampling_plan
    from prunebench.bench.engines.load import load_engine, parse_engine
    from prunebench.bench.engines.ray import Cluster
    from prunebench.bench.rollouts.sampling import problems_of, sample_configured, tasks_of

    kind, device = parse_engine(engine), device_of(context)
    run = config_from(
        config, settings, OF_COMPARISONS, tasks=task, data=data_of(data), model=model, problems=problems, n=n
    )
    sampler = load_engine(run.model, device, run.model_options, kind)
    chosen = problems_of(tasks_of(run), run.split, run.problems, run.seed)
    for said in (standard_taken(config, settings, run), *sampling_plan(sampler, run, out, kind, device)):
        if said:
            typer.echo(said)
    cluster = Cluster.of(kind, device, run.gpus_per_worker)
    with watching() as progress:
        store = sample_configured(
            sampler, run, chosen, out, progress=progress, processes=processes_on(device), cluster=cluster,
            look=first_look(context),
        )  # fmt: skip
    typer.echo(f"{len(store.problems())} problems x {run.n} paths in {out}")


@app.command(rich_help_panel=RUN)
def label(
    context: typer.Context,
    store: Store,
    continuations: Annotated[int, typer.Option(help="K: continuations per prefix.")] = 32,
    prefix: Annotated[int, typer.Option(help="Tokens per prefix.")] = 40,
    engine: Engine = "transformers",
    settings: Annotated[list[str] | None, set_option(keys_of(LabelSettings))] = None,
    out: Annotated[Path, typer.Option(help="The label store.")] = Path("runs/labels"),
) -> None:
    """Monte Carlo labels: how often the continuations of each stored prefix come out right."""
    from prunebench.bench.cli.planning import labelling_plan
    from prunebench.bench.engines.base import Sampling
    from prunebench.bench.engines.load import parse_engine
    from prunebench.bench.engines.ray import Cluster
    from prunebench.bench.rollouts.labelling import label_prefixes, prefixes_of
    from prunebench.bench.rollouts.opening import is_imported, require_model, task_of
    from prunebench.bench.rollouts.store import RolloutStore

    asked = settings_of(LabelSettings, settings)
    rollout_store = RolloutStore.open(store)
    if is_imported(rollout_store):
        raise UserError(
            f"{store}: imported rollouts; their model is not at hand, so their prefixes cannot be continued"
        )
    kind, device = parse_engine(engine), device_of(context)
    sampler = engine_of_store(rollout_store, device, asked.trust_remote_code, kind)
    require_model(rollout_store, store, sampler)
    cuts = [
        cut
        for stored in rollout_store.read(hidden=False)
        for cut in prefixes_of(task_of(rollout_store, stored.task), stored, prefix, asked.prefixes)
    ]
    if said := labelling_plan(sampler, cuts, rollout_store, continuations, out, kind):
        typer.echo(said)
    with watching() as progress:
        labels = label_prefixes(
            sampler, cuts, out, continuations=continuations, sampling=Sampling(**rollout_store.manifest["sampling"]),
            seed=asked.seed, progress=progress, cluster=Cluster.of(kind, device),
        )  # fmt: skip
    typer.echo(f"{len(labels)} labels of {continuations} continuations in {out}")


@app.command(name="import", rich_help_panel=BRING)
def import_(
    form: Annotated[
        str, typer.Argument(metavar="FORMAT", help="plain, matrix, lm-eval, lighteval, matharena, deepconf; or stop.")
    ],
    path: Annotated[
        Path,
        typer.Argument(help="A file or folder of that format; stop: a checkpoint as the STOP paper's code saves it."),
    ],
    task: Annotated[str | None, typer.Option(help="Name of the task (default: that of the file).")] = None,
    model: Annotated[str | None, typer.Option(help="stop: the model that it belongs to.")] = None,
    answer_type: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(names())} (default: choice where every gold answer is a letter, else math)."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        set_option(
            f"{keys_of(SourceSettings)}, and what the format lets be chosen (see docs/importing.md); "
            f"stop: {keys_of(CheckpointSettings)}, and the options of a model"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The store, or the folder of learned files (default: runs/imported[-stop]).")
    ] = None,
) -> None:
    """Bring rollouts that were made elsewhere into a store, or a STOP that was trained elsewhere as learned files.

    Nothing in the files is run.
    """
    if form == "stop":
        if task is not None or answer_type is not None or model is None:
            raise UserError(
                "import stop: name the model that it belongs to with --model, and no --task or --answer-type"
            )
        _import_stop(path, model, settings, out or Path("runs/imported-stop"))
        return
    if model is not None:
        raise UserError(f"--model {model}: belongs to stop; a tokenizer is named by --set tokenizer=FOLDER_OR_ID")
    _import_rollouts(form, path, task, answer_type, settings, out or Path("runs/imported"))


def _import_rollouts(
    form: str, path: Path, task: str | None, answer_type: str | None, settings: list[str] | None, out: Path
) -> None:
    from prunebench.bench.rollouts.importers import Options, import_rollouts

    values = pairs_of("--set", settings, "KEY=VALUE")
    of_source = [f"{key}={value}" for key, value in values.items() if key in ("tokenizer", "grading")]
    asked = settings_of(SourceSettings, of_source)
    fields = {key: value for key, value in values.items() if key not in ("tokenizer", "grading")}
    options = Options(task, asked.tokenizer, asked.grading, fields, answer_type)
    with watching() as progress:
        report = import_rollouts(form, path, out, options, progress)
    for line in report.lines():
        typer.echo(line)
    typer.echo(f"in {out}; next: prunebench compare --store {out}")


def _import_stop(folder: Path, model: str, settings: list[str] | None, out: Path) -> None:
    from prunebench.bench.engines.load import load_local
    from prunebench.bench.training.import_stop import import_stop

    asked, options = model_options_of(settings, CheckpointSettings)
    card = import_stop(folder, load_local(model, asked.device, options), asked.prefix, out)
    of_stop = ", ".join(f"{name} {card.configuration[name]}" for name in ("tokens", "rank"))
    typer.echo(f"{of_stop}: in {out}; next: prunebench compare --model {model} --learned {out} --methods stop,none")
