"""Problems of one's own: describing them, looking at them, and the whole way to a recommendation."""

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
    Judge,
    Kept,
    Methods,
    Model,
    ModelOption,
    Paths,
    Plugin,
    Prefix,
    Problems,
    Recipe,
    Seed,
    Task,
    app,
    command_line,
    config_from,
    data_of,
    judged,
    label_plan,
    learned_for,
    load_plugins,
    model_options_of,
    names_of,
    processes_on,
    shipped_labels,
    tokens_of,
    watching,
)
from prunebench.bench.engines.load import load_engine
from prunebench.bench.errors import UserError

CHEAP = "step,text-classifier"
SWEPT = ("stop", "step", "text-classifier", "entropy", "perplexity", "deepconf", "random")
UNTRAINED = "entropy,self-certainty,deepconf,perplexity,margin,random"


@app.command(name="new-task", rich_help_panel=BRING)
def new_task(
    name: Annotated[str, typer.Argument(help="Name of the task.")],
    data: Annotated[
        Path | None, typer.Option(help="A CSV, JSON, JSON Lines or Parquet file with the problems.")
    ] = None,
    problem: Annotated[str | None, typer.Option(help="Column of the question (default: guessed).")] = None,
    answer: Annotated[str | None, typer.Option(help="Column of the answer (default: guessed).")] = None,
    model: Annotated[str | None, typer.Option(help="A shipped reasoner, if it shall solve them.")] = None,
    python: Annotated[bool, typer.Option("--python", help="A Python file for problems that a program makes.")] = False,
    plugin: Plugin = None,
    folder: Annotated[Path, typer.Option(help="Where the file goes.")] = Path(),
) -> None:
    """Describe problems of your own in one file, which is then named like a task."""
    from prunebench.bench.cli.own_task import write_python_task, write_task
    from prunebench.bench.engines.shipped import REASONERS

    load_plugins(plugin)
    if python:
        file = write_python_task(name, folder)
    elif data is None:
        raise UserError("name the file with the problems: --data FILE (or --python for problems that a program makes)")
    else:
        file, found = write_task(name, data, folder, problem=problem, answer=answer, shipped_model=model in REASONERS)
        typer.echo(found)
    typer.echo(f"{file} written; next: prunebench check-task {file}")


@app.command(name="check-task", rich_help_panel=BRING)
def check_task(
    task: Annotated[str, typer.Argument(help="A file of your own, or the name of a shipped task.")],
    data: Data = None,
    model: Annotated[str | None, typer.Option(help="Count tokens as this model does (folder, id, shipped).")] = None,
    model_option: ModelOption = None,
    plugin: Plugin = None,
) -> None:
    """Show prompts, gold answers, duplicates and lengths of a task, before anything is spent on it."""
    from prunebench.bench.cli.own_task import examination
    from prunebench.bench.config import configured
    from prunebench.bench.rollouts.sampling import tasks_of

    load_plugins(plugin)
    settings = {"tasks": [task], "model": model or "embedded", "n": 2, "k": 1, "prefix_tokens": 1, "temperature": 1.0,
                "max_new_tokens": 2, "data": data_of(data) or {}}  # fmt: skip
    config = configured("options", settings, settings)
    engine = None if model is None else load_engine(model, "cpu", model_options_of(model_option))
    for one in tasks_of(config):
        for line in examination(one, engine):
            typer.echo(line)


@app.command(rich_help_panel=RUN)
def plan(
    preset_name: Annotated[
        str | None, typer.Argument(metavar="[PRESET]", help="A preset (default: the model's own).")
    ] = None,
    config_file: ConfigFile = None,
    task: Task = None,
    data: Data = None,
    model: Model = None,
    model_option: ModelOption = None,
    problems: Problems = None,
    n: Paths = None,
    k: Kept = None,
    prefix: Prefix = None,
    speed: Annotated[
        float | None, typer.Option(help="Tokens per second of the device; measured in a short trial if not given.")
    ] = None,
    mean_tokens: Annotated[int | None, typer.Option(help="Expected tokens per path (default: the cap).")] = None,
    recipe: Annotated[str | None, typer.Option(help="Plan of the labels (default: the preset's).")] = None,
    device: Device = "cpu",
) -> None:
    """Paths, tokens, time and memory of a comparison and its labels, before they are spent."""
    from prunebench.bench.cli.planning import extent_of, plan_of

    config = config_from(
        preset_name, config_file, tasks=task, data=data_of(data), model=model,
        model_options=model_options_of(model_option), problems=problems, n=n, k=k,
        prefix_tokens=prefix, recipe=recipe,
    )  # fmt: skip
    at_hand = speed is not None and config.kv_bytes_per_token is not None
    engine = None if at_hand else load_engine(config.model, device, config.model_options)
    extent = extent_of(config, engine, speed, mean_tokens)
    for line in plan_of(config, label_plan(config.recipe), extent):
        typer.echo(line)


@app.command(rich_help_panel=BRING)
def advise(
    task: Annotated[list[str], typer.Option("--task", help="A file of your own or a task's name.")],
    data: Data = None,
    model: Model = None,
    model_option: ModelOption = None,
    train: Annotated[
        str, typer.Option(help="Methods to train first, joined by commas; none: nothing is trained.")
    ] = CHEAP,
    methods: Annotated[str, typer.Option(help="Methods without training to try as well.")] = UNTRAINED,
    problems: Annotated[int | None, typer.Option(help="At most so many test problems per task.")] = None,
    n: Annotated[int | None, typer.Option("--n", help="Paths that are sampled per test problem.")] = None,
    prefix: Annotated[
        int | None, typer.Option("--prefix", help="Checkpoint in tokens (default: an eighth of a path).")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Generator tokens per problem (default: a quarter of the paths).")
    ] = None,
    recipe: Recipe = "small",
    seed: Seed = None,
    plugin: Plugin = None,
    plan_only: Annotated[bool, typer.Option("--plan-only", help="Say what it would take, and stop.")] = False,
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="Where everything goes; the same command goes on from there.")] = Path(
        "runs/advice"
    ),
) -> None:
    """Which pruner and which retention ratio for these problems and this model, and is it worth it?"""
    from prunebench.bench.cli.planning import Pilot, extent_of, plan_of
    from prunebench.bench.guideline.advise import advice

    load_plugins(plugin)
    config = config_from(
        None, None, tasks=task, data=data_of(data), model=model, model_options=model_options_of(model_option),
        problems=problems, n=n, seed=seed, recipe=recipe,
    )  # fmt: skip
    engine = load_engine(config.model, device, config.model_options)
    pilot = Pilot.of(engine, config)
    config = pilot.fitted(config, engine, prefix)
    taught = [] if train == "none" else names_of(train) or []
    extent = extent_of(config, engine, pilot.speed * processes_on(device), pilot.mean_tokens, bool(taught))
    typer.echo(f"plan ({config.n} paths, checkpoint at {config.prefix_tokens} tokens, everything goes to {out}):")
    for line in plan_of(config, label_plan(recipe), extent, control=False):
        typer.echo(f"  {line}")
    if plan_only:
        return
    with watching() as progress:
        found = advice(
            engine, config, label_plan(recipe), taught, names_of(methods) or [], out,
            budget=None if budget is None else tokens_of(budget), processes=processes_on(device),
            command=command_line(), progress=progress,
        )  # fmt: skip
    for line in found.lines():
        typer.echo(line)
    typer.echo(f"in {out}: recommendation.json, sweep/sweep.csv; a table: prunebench compare --store {out}/rollouts")


@app.command(rich_help_panel=RUN)
def run(
    preset_name: Annotated[
        str, typer.Argument(metavar="PRESET", help="A preset, such as paper/ds-qwen-1.5b, or a file like one.")
    ],
    task: Task = None,
    data: Data = None,
    model: Model = None,
    model_option: ModelOption = None,
    problems: Problems = None,
    methods: Methods = None,
    judge: Judge = None,
    device: Device = "cpu",
    out: Annotated[Path | None, typer.Option(help="Where everything goes (default: runs/PRESET).")] = None,
) -> None:
    """A whole experiment: rollouts, labels, training, comparison, sweep, figures and report; resumes."""
    from prunebench.bench.cli.comparing import compare_with
    from prunebench.bench.engines.shipped import REASONERS
    from prunebench.bench.evaluation.comparison import Inputs
    from prunebench.bench.guideline.guideline import write_guidelines
    from prunebench.bench.guideline.sweep import Grid, budgets_of, playable_of, sweep_by_name
    from prunebench.bench.rollouts.sampling import sample_split
    from prunebench.bench.training.data import label_test_prefixes
    from prunebench.bench.training.learn import learn
    from prunebench.bench.training.loading import Judges, entry_of, tunable, uses_judge
    from prunebench.figures.report import write_report

    config = config_from(
        preset_name,
        None,
        tasks=task,
        data=data_of(data),
        model=model,
        model_options=model_options_of(model_option),
        problems=problems,
        methods=names_of(methods),
    )
    out = out or Path("runs") / preset_name
    shipped, processes = config.model in REASONERS, processes_on(device)
    learned = learned_for(config.model, None)
    labels = shipped_labels(config.model, config.sampling.digest, config.model_options)
    engine = load_engine(config.model, device, config.model_options)
    judges = Judges(judged(judge), device, shipped=shipped)
    with watching() as progress:
        if not shipped or config.model_options.given:
            wanted = config.methods or [name for name in tunable() if name in judged(judge) or not uses_judge(name)]
            names = [name for name in wanted if name in tunable()]
            recipe = label_plan(config.recipe)
            learned = learn(
                engine, config, recipe, names, out / "training", judges=judges, processes=processes, progress=progress
            )
            store = sample_split(engine, config, out / "rollouts", progress=progress, processes=processes)
            labels = [label_test_prefixes(engine, config, recipe, store, out / "labels", progress=progress)]
    compare_with(config, out, Inputs(learned, tuple(labels), judged(judge)), device)
    with watching() as progress:
        names, _ = playable_of({name: entry_of(name) for name in config.methods or SWEPT})
        grid = Grid((config.prefix_tokens,), budgets_of(out / "rollouts"), seed=config.seed)
        found = sweep_by_name(
            engine, out / "rollouts", names, learned, config.prefix_tokens, grid, out / "sweep",
            judges=Judges(judged(judge), device, shipped=shipped), command=command_line(), progress=progress,
        )  # fmt: skip
        refused = write_guidelines(found, out / "sweep")
        tick = progress.stretch("figures and report", None)
        written = write_report(out, out / "report.html", {}, tick)
    for name, reason in refused.items():
        typer.echo(f"no guideline of {name}: {reason}")
    typer.echo(f"{written}; everything is in {out}")
