"""Rollouts and labels: planning, sampling, importing, replaying recorded answers, labelling."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunebench.bench.cli.app import (
    BRING,
    RUN,
    ConfigFile,
    Data,
    Device,
    Engine,
    Model,
    ModelOption,
    Paths,
    Plugin,
    Prefix,
    Preset,
    Problems,
    Record,
    Seed,
    Split,
    Task,
    Temperature,
    Trust,
    app,
    config_from,
    data_of,
    engine_of_store,
    load_plugins,
    model_options_of,
    pairs_of,
    processes_on,
    watching,
)
from prunebench.bench.errors import UserError


@app.command(rich_help_panel=RUN)
def rollouts(
    preset_name: Preset = None,
    config_file: ConfigFile = None,
    task: Task = None,
    data: Data = None,
    model: Model = None,
    model_option: ModelOption = None,
    problems: Problems = None,
    n: Paths = None,
    prefix: Prefix = None,
    temperature: Temperature = None,
    seed: Seed = None,
    split: Split = None,
    record: Record = None,
    plugin: Plugin = None,
    engine: Engine = "transformers",
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="The rollout store.")] = Path("runs/rollouts"),
) -> None:
    """Sample and grade complete paths into a store; the same command resumes."""
    from prunebench.bench.engines.load import load_engine, parse_engine
    from prunebench.bench.engines.ray import Cluster
    from prunebench.bench.rollouts.sampling import problems_of, sample_configured, tasks_of

    load_plugins(plugin)
    kind = parse_engine(engine)
    config = config_from(
        preset_name, config_file, tasks=task, data=data_of(data), model=model,
        model_options=model_options_of(model_option), problems=problems, n=n,
        prefix_tokens=prefix, temperature=temperature, seed=seed, split=split, record=record,
    )  # fmt: skip
    cluster = Cluster.of(kind, device, config.gpus_per_worker)
    sampler = load_engine(config.model, device, config.model_options, kind)
    chosen = problems_of(tasks_of(config), config.split, config.problems, config.seed)
    with watching() as progress:
        store = sample_configured(
            sampler, config, chosen, out, progress=progress, processes=processes_on(device), cluster=cluster
        )
    typer.echo(f"{len(store.problems())} problems x {config.n} paths in {out}")


@app.command(name="import", rich_help_panel=BRING)
def import_(
    format_: Annotated[
        str, typer.Argument(metavar="FORMAT", help="plain, matrix, lm-eval, lighteval, matharena or deepconf.")
    ],
    path: Annotated[Path, typer.Argument(help="A file, or a folder of files of that format.")],
    task: Annotated[str | None, typer.Option(help="Name of the task (default: that of the file).")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Folder or id of the model's tokenizer, for sources without tokens.")
    ] = None,
    grading: Annotated[str, typer.Option(help="equivalence, or string for equal text only.")] = "equivalence",
    field: Annotated[
        list[str] | None, typer.Option("--field", help="NAME=VALUE, see docs/importing.md; may be given several times.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The rollout store.")] = Path("runs/imported"),
) -> None:
    """Bring rollouts that were made elsewhere into a store; compare them with: prunebench compare --store OUT."""
    from prunebench.bench.rollouts.importers import Options, import_rollouts

    options = Options(task, tokenizer, grading, pairs_of("--field", field, "NAME=VALUE"))
    with watching() as progress:
        report = import_rollouts(format_, path, out, options, progress)
    for line in report.lines():
        typer.echo(line)
    typer.echo(f"in {out}; next: prunebench compare --store {out}")


@app.command(rich_help_panel=RUN)
def label(
    store: Annotated[Path, typer.Argument(help="A rollout store (see: prunebench rollouts).")],
    continuations: Annotated[int, typer.Option(help="K: continuations per prefix.")] = 32,
    prefix: Annotated[int, typer.Option(help="Tokens per prefix.")] = 40,
    prefixes: Annotated[int | None, typer.Option(help="At most so many distinct prefixes per problem.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the continuations' noise.")] = 1,
    engine: Engine = "transformers",
    model_option: Trust = None,
    plugin: Plugin = None,
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="The label store.")] = Path("runs/labels"),
) -> None:
    """Monte Carlo labels: how often the continuations of each stored prefix come out right."""
    from prunebench.bench.engines.base import Sampling
    from prunebench.bench.engines.load import parse_engine
    from prunebench.bench.engines.ray import Cluster
    from prunebench.bench.rollouts.labelling import label_prefixes, prefixes_of
    from prunebench.bench.rollouts.opening import is_imported, require_model, task_of
    from prunebench.bench.rollouts.store import RolloutStore

    load_plugins(plugin)
    rollout_store = RolloutStore.open(store)
    if is_imported(rollout_store):
        raise UserError(
            f"{store}: imported rollouts; their model is not at hand, so their prefixes cannot be continued"
        )
    kind = parse_engine(engine)
    sampler = engine_of_store(rollout_store, device, model_option, kind)
    require_model(rollout_store, store, sampler)
    cuts = [
        cut
        for stored in rollout_store.read(hidden=False)
        for cut in prefixes_of(task_of(rollout_store, stored.task), stored, prefix, prefixes)
    ]
    sampling = Sampling(**rollout_store.manifest["sampling"])
    with watching() as progress:
        labels = label_prefixes(
            sampler,
            cuts,
            out,
            continuations=continuations,
            sampling=sampling,
            seed=seed,
            progress=progress,
            cluster=Cluster.of(kind, device),
        )
    typer.echo(f"{len(labels)} labels of {continuations} continuations in {out}")
