"""Comparing methods: the demo, any tasks and model, stored rollouts, and a comparison run again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunebench.bench.cli.app import (
    EMBEDDED,
    BaseUrl,
    ConfigFile,
    Data,
    Device,
    Engine,
    Judge,
    Kept,
    KvMemory,
    Methods,
    Model,
    ModelOption,
    Paths,
    Plugin,
    Prefix,
    Preset,
    Problems,
    RayAddress,
    Record,
    Seed,
    Split,
    Task,
    Temperature,
    Workers,
    app,
    check_methods,
    cluster_of,
    command_line,
    config_from,
    data_of,
    judged,
    learned_for,
    load_plugins,
    model_options_of,
    names_of,
    processes_on,
    require_trust,
    require_weights,
    shipped_labels,
    tokens_of,
    watching,
)
from prunebench.bench.engines.load import DEFAULT_ENGINE, EngineChoice, load_engine
from prunebench.bench.errors import UserError

if TYPE_CHECKING:
    from prunebench.bench.config import RunConfig
    from prunebench.bench.engines.ray import Cluster
    from prunebench.bench.evaluation.comparison import Inputs
    from prunebench.bench.evaluation.results import Results


@app.command()
def demo(out: Annotated[Path, typer.Option(help="Where results go.")] = Path("runs/demo")) -> None:
    """Sample, score and compare: the shipped reasoner on 12 held-out problems of every synthetic family."""
    from prunebench.bench.config import preset
    from prunebench.bench.evaluation.comparison import Inputs

    require_weights()
    compare_with(preset("demo"), out, Inputs(EMBEDDED.learned, tuple(shipped_labels(EMBEDDED.name))), "cpu")


@app.command()
def compare(
    preset_name: Preset = None,
    config_file: ConfigFile = None,
    task: Task = None,
    data: Data = None,
    model: Model = None,
    model_option: ModelOption = None,
    problems: Problems = None,
    n: Paths = None,
    k: Kept = None,
    prefix: Prefix = None,
    temperature: Temperature = None,
    seed: Seed = None,
    split: Split = None,
    methods: Methods = None,
    policy: Annotated[
        str | None, typer.Option(help="topk:8, ratio:0.125, funnel:64@32,32@64,16@96 ... (see docs/policies.md).")
    ] = None,
    plugin: Plugin = None,
    judge: Judge = None,
    record: Record = None,
    store: Annotated[
        Path | None, typer.Option(help="Rollouts that are there already (prunebench rollouts, or import).")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Generator tokens per problem at equal cost, as in 16384 or 16k.")
    ] = None,
    draws: Annotated[
        int | None, typer.Option(help="Pools drawn per problem at equal cost; 0: leave that table out.")
    ] = None,
    reproduce: Annotated[
        Path | None, typer.Option(help="A results.json: run it again and say whether the numbers are equal.")
    ] = None,
    learned: Annotated[
        Path | None, typer.Option(help="Folder of learned files and tuned configurations (default: the shipped one).")
    ] = None,
    labels: Annotated[list[Path] | None, typer.Option(help="Label stores of these problems.")] = None,
    engine_kind: Engine = "transformers",
    judge_engine: Annotated[
        str, typer.Option(help="What runs the models of generative judges: transformers or vllm.")
    ] = "transformers",
    base_url: BaseUrl = None,
    kv_memory: KvMemory = None,
    workers: Workers = None,
    ray_address: RayAddress = None,
    device: Device = "cpu",
    out: Annotated[Path | None, typer.Option(help="Where results go (default: runs/compare).")] = None,
) -> None:
    """Compare methods on any tasks and model: rollouts, scores, main table, figures."""
    from prunebench.bench.engines.openai import BACKEND
    from prunebench.bench.evaluation.comparison import Inputs
    from prunebench.bench.rollouts.opening import config_of
    from prunebench.bench.rollouts.store import RolloutStore

    if reproduce is not None:
        _reproduce(reproduce, out or Path("runs/reproduced"), device, plugin, task, model_option)
        return
    load_plugins(plugin)
    options = {
        "tasks": task, "n": n, "k": k, "prefix_tokens": prefix, "problems": problems, "seed": seed,
        "methods": names_of(methods), "policy": policy, "budget": None if budget is None else tokens_of(budget),
        "draws": draws,
    }  # fmt: skip
    if store is None:
        config = config_from(
            preset_name,
            config_file,
            **options,
            data=data_of(data),
            model=model,
            model_options=model_options_of(model_option),
            temperature=temperature,
            split=split,
            record=record,
        )
    else:
        sampled = {"--model": model, "--temperature": temperature, "--split": split, "--record": record,
                   "--config": config_file, "--data": data, "--preset": preset_name}  # fmt: skip
        _refuse_with_store(sampled)
        config = config_of(store, **options)
        require_trust(store, config.model_options, model_option)
    choice = EngineChoice(engine_kind, base_url, kv_memory)
    sampling: str | None = config.sampling.digest
    if store is not None:
        manifest = RolloutStore.open(store).manifest
        sampling = manifest.get("sampling_digest")
        if manifest.get("engine") == BACKEND:
            choice = EngineChoice("openai")
    # What is shipped was learned from the shipped model's own cache, not from one on a server.
    at_hand = config.model if choice.kind != "openai" else ""
    inputs = Inputs(
        learned_for(at_hand, learned),
        tuple(shipped_labels(at_hand, sampling, config.model_options) if labels is None else labels),
        judged(judge),
        tuple(plugin or ()),
        store,
        judge_engine,
    )
    cluster = cluster_of(workers, ray_address, device, config.gpus_per_worker, choice)
    compare_with(config, out or Path("runs/compare"), inputs, device, choice, cluster)


def compare_with(
    config: RunConfig,
    out: Path,
    inputs: Inputs,
    device: str,
    choice: EngineChoice = DEFAULT_ENGINE,
    cluster: Cluster | None = None,
) -> Results:
    from prunebench.bench.evaluation.comparison import run_comparison
    from prunebench.bench.rollouts.sampling import tasks_of
    from prunebench.bench.rollouts.store import IMPORTED
    from prunebench.figures.outputs import write_outputs

    if inputs.store is None:
        tasks_of(config)
    check_methods(config)
    engine = None if config.model == IMPORTED else load_engine(config.model, device, config.model_options, choice)
    with watching() as progress:
        results = run_comparison(
            engine,
            config,
            out,
            inputs,
            command=command_line(),
            progress=progress,
            processes=processes_on(device),
            cluster=cluster,
        )
        tick = progress.stretch("tables and figures", 1)
        write_outputs(results, out)
        tick(1)
    _show(results, out)
    return results


def _code_named(
    plugin: Sequence[Path] | None, task: Sequence[str] | None, model_option: Sequence[str] | None
) -> frozenset[str]:
    """The options that were given and name code of other people."""
    named = {"--plugin": plugin, "--task": task, "--model-option": model_option}
    return frozenset(f"{option} {value}" for option, values in named.items() for value in values or ())


def _reproduce(
    path: Path,
    out: Path,
    device: str,
    plugin: Sequence[Path] | None,
    task: Sequence[str] | None,
    model_option: Sequence[str] | None,
) -> None:
    """Run the comparison of a results.json again and hold the numbers together; exit code 1 if they differ.

    Raises UserError for code of other people that the file names and the command line does not.
    """
    from prunebench.bench.config import configured
    from prunebench.bench.evaluation.comparison import Inputs
    from prunebench.bench.evaluation.reproduce import differences, read_results, require_named

    before = read_results(path)
    settings = before.setup["config"]
    inputs = Inputs.of(before.setup)
    config = configured(str(path), settings, {})
    require_named(path, config, inputs, _code_named(plugin, task, model_option))
    (out / "results.json").unlink(missing_ok=True)  # what an earlier reproduction left is no run
    load_plugins(list(inputs.plugins))
    after = compare_with(config, out, inputs, device)
    found = differences(before, after)
    for line in found:
        typer.echo(line)
    if found:
        typer.echo(f"NOT reproduced: {len(found)} differences to {path}")
        raise typer.Exit(1)
    typer.echo(f"reproduced: every number equals that of {path} (measured seconds aside)")


WrittenRun = Annotated[Path, typer.Argument(help="Folder with results.json and decisions.parquet.")]
OwnTask = Annotated[list[str] | None, typer.Option("--task", help="A task file of the comparison, so that it may run.")]
ItsStore = Annotated[Path | None, typer.Option(help="Its rollouts (default: those that the results name).")]


@app.command()
def versus(
    run: WrittenRun,
    method: Annotated[str, typer.Argument(help="The method that is held against others.")],
    others: Annotated[list[str], typer.Argument(help="The methods that it is held against.")],
    store: ItsStore = None,
    plugin: Plugin = None,
    task: OwnTask = None,
    model_option: ModelOption = None,
) -> None:
    """Whether one method is ahead of others in a comparison: paired differences over its problems, no model runs."""
    from rich.console import Console
    from rich.table import Table

    from prunebench.bench.evaluation.rebuild import reopened
    from prunebench.bench.evaluation.tables.versus import versus as held_against
    from prunebench.figures.main_table import p_value, with_interval

    load_plugins(plugin)
    found = held_against(reopened(run, store, _code_named(plugin, task, model_option)), method, others)
    table = Table("task", "against", "avg@k", "p (Holm)", "maj@k", box=None)
    for row in found:
        avg, maj = (with_interval(one.mean, one.low, one.high, signed=True) for one in (row.avg, row.maj))
        table.add_row(row.task, row.other, avg, p_value(row.p_holm), maj)
    Console().print(f"{method} minus the other, points [95 %]; {found[-1].n_problems} problems", table, sep="\n")


@app.command()
def rebuild(
    run: WrittenRun,
    store: ItsStore = None,
    plugin: Plugin = None,
    task: OwnTask = None,
    model_option: ModelOption = None,
    out: Annotated[Path | None, typer.Option(help="Where results go (default: runs/rebuilt).")] = None,
) -> None:
    """The tables and figures of a comparison again from its scores, without a model; says whether they are equal."""
    from prunebench.bench.evaluation.rebuild import TAKEN_OVER, rebuilt, reopened
    from prunebench.bench.evaluation.reproduce import differences
    from prunebench.figures.outputs import write_outputs

    target = out or Path("runs/rebuilt")
    if target.resolve() == run.resolve():
        raise UserError(f"--out {target}: this is the comparison itself; choose another folder")
    load_plugins(plugin)
    written = reopened(run, store, _code_named(plugin, task, model_option))
    before, after = written.results, rebuilt(written)
    (target / "results.json").unlink(missing_ok=True)
    write_outputs(after, target)
    found = differences(before, after)
    for line in found:
        typer.echo(line)
    kept = f"measured seconds and the tables {', '.join(TAKEN_OVER)} were taken over"
    if found:
        typer.echo(f"NOT rebuilt: {len(found)} differences to {run}; {kept}")
        raise typer.Exit(1)
    typer.echo(f"{target}: every number equals that of {run}; {kept}")


def _refuse_with_store(options: dict[str, Any]) -> None:
    """Options that say how to sample mean nothing for rollouts that are there."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise UserError(f"{', '.join(given)}: the rollouts of --store were sampled already; leave it out")


def _show(results: Results, out: Path) -> None:
    from rich.console import Console

    from prunebench.bench.evaluation.results import POOLED
    from prunebench.figures.equal_cost_table import EqualCostTable
    from prunebench.figures.main_table import rich_by_task, rich_table

    console = Console()
    task = results.task
    console.print(rich_table(results, task, console.width))
    if task == POOLED:
        console.print(rich_by_task(results))
    if results.equal_cost:
        console.print(EqualCostTable(results).terminal())
    others = {row.task for row in results.rows} - {task}
    for note in results.notes:
        if not any(note.startswith(f"{other}: ") for other in others):
            console.print(note, style="dim")
    for name, reason in results.left_out.items():
        console.print(f"left out: {name}: {reason}")
    written = sorted(path.name for path in out.iterdir() if path.is_file())
    console.print(f"written to {out}: {', '.join(written)}")
