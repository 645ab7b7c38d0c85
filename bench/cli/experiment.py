"""Whole ways in one command: an experiment from rollouts to the report, and advice for problems of one's own."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunebench.bench.cli.app import BRING, RUN, app, command_line, watching
from prunebench.bench.cli.at_hand import label_plan, processes_on
from prunebench.bench.cli.comparing import compare_with, require_methods
from prunebench.bench.cli.options import (
    RUN_KEYS,
    Judge,
    Model,
    Prefix,
    RunSettings,
    Task,
    device_of,
    first_look,
    judged,
)
from prunebench.bench.cli.settings import config_from, keys_of, names_of, set_option, settings_of, standard_taken
from prunebench.bench.engines.shipped import REASONERS, SYNTHETIC
from prunebench.bench.errors import UserError
from prunebench.bench.training.at_hand import learned_for, shipped_labels

if TYPE_CHECKING:
    from prunebench.bench.config import RunConfig
    from prunebench.bench.engines.base import Engine
    from prunebench.bench.evaluation.inputs import Inputs
    from prunebench.bench.guideline.advise import Advised
    from prunebench.bench.rollouts.first_look import FirstLook

ADVISED = "step,text-classifier,entropy,self-certainty,deepconf,perplexity,margin,random"
LONG = "stop"
"""Advised where it need not be trained."""
SWEPT = ("stop", "step", "text-classifier", "entropy", "perplexity", "deepconf", "random")


@dataclass(frozen=True)
class PlanSettings:
    """Tokens per second of the device (None: a short trial tells), and expected tokens per path (None: the cap)."""

    speed: float | None = None
    mean_tokens: int | None = None


@app.command(rich_help_panel=BRING)
def advise(
    context: typer.Context,
    task: Annotated[list[str], typer.Option("--task", help="A file of your own or a task's name.")],
    model: Model = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Methods to try, joined by commas; what learns and is not shipped is trained first (default: "
            f"{ADVISED.replace(',', ', ')}; and {LONG}, which learns for half an hour, where it is shipped)."
        ),
    ] = None,
    prefix: Prefix = None,
    plan_only: Annotated[bool, typer.Option("--plan-only", help="Say what it would take, and stop.")] = False,
    settings: RunSettings = None,
    out: Annotated[Path, typer.Option(help="Where everything goes; the same command goes on from there.")] = Path(
        "runs/advice"
    ),
) -> None:
    """Which pruner and which retention ratio for these problems and this model, and is it worth it?

    The checkpoint is an eighth of a path and the budget a quarter of the paths, unless --prefix or --set budget=16k
    says so.
    """
    from prunebench.bench.engines.load import load_engine
    from prunebench.bench.guideline.advise import advice
    from prunebench.methods.registry import PRUNERS

    config = _own_config(settings, task, model)
    shipped = REASONERS[config.model].learned if _is_shipped(config) else None
    usual = f"{LONG},{ADVISED}" if shipped and (shipped / f"{LONG}.json").exists() else ADVISED
    recipe, names = label_plan(config.recipe), names_of(methods or usual)
    require_methods(names, procedures=False)
    if said := standard_taken(None, settings, config):
        typer.echo(said)
    learning = [name for name in names if "(" not in name and PRUNERS.get(name).learnable]
    taught = [name for name in learning if not (shipped and (shipped / f"{name}.json").exists())]
    at_hand = [name for name in learning if name not in taught]
    device = device_of(context)
    engine = load_engine(config.model, device, config.model_options)
    _require_same_tasks(out, config)
    config = _planned(engine, config, prefix, names, taught, out, device, None if plan_only else first_look(context))
    if at_hand:
        typer.echo(f"  shipped for {config.model} and not trained again: {', '.join(at_hand)}")
    if plan_only:
        return
    if said := _replaced(out / "recommendation.json"):
        typer.echo(said)
    with watching() as progress:
        advised = advice(
            engine, config, recipe, taught, [name for name in names if name not in taught], out, shipped=shipped,
            budget=config.budget, processes=processes_on(device), command=command_line(), progress=progress,
            look=first_look(context),
        )  # fmt: skip
    for line in advised.recommendation.lines():
        typer.echo(line)
    typer.echo(f"in {out}: recommendation.json, sweep/sweep.csv; all in one table, that ratio of all stored paths:")
    typer.echo(_table(out, config, advised, context.obj))


def _require_same_tasks(out: Path, config: RunConfig) -> None:
    """Raises UserError where paths in ``out`` are those of a task that was another one then."""
    from prunebench.bench.rollouts.sampling import tasks_of
    from prunebench.bench.rollouts.shards import MANIFEST
    from prunebench.bench.rollouts.store import RolloutStore

    if (out / "rollouts" / MANIFEST).exists():
        RolloutStore.open(out / "rollouts").require_same(tasks_of(config))


def _replaced(file: Path) -> str | None:
    """Which advice in ``file`` this one takes the place of, in a sentence; None where there is no other."""
    from prunebench.bench.guideline.recommendation import Recommendation

    before = Recommendation.read(file).command if file.exists() else command_line()
    return None if before == command_line() else f"{file}: this advice takes the place of that of: {before}"


def _planned(
    engine: Engine,
    config: RunConfig,
    prefix: int | None,
    names: Sequence[str],
    taught: Sequence[str],
    out: Path,
    device: str,
    look: FirstLook | None,
) -> RunConfig:
    """Show the plan of an advice; its settings, fitted to the paths of a pilot.

    To be run, paths are sampled to their end and looked at; only to be planned (no ``look``), for some seconds.
    """
    from prunebench.bench.cli.own_task import too_few
    from prunebench.bench.cli.planning import done_in, extent_of, plan_of
    from prunebench.bench.cli.trial import Pilot
    from prunebench.bench.guideline.sweep import playable_of
    from prunebench.bench.training.learn import nothing_to_learn_from
    from prunebench.bench.training.loading import entry_of

    if look is None:
        typer.echo("a trial of the first problems, about a minute at most: how long paths are, and how fast they come")
        pilot = Pilot.of(engine, config, None)
    else:
        with watching() as progress:
            pilot = Pilot.of(engine, config, progress)
            pilot.looked_at(engine, look, progress)
    config = pilot.fitted(config, prefix)
    learning = bool(taught) and nothing_to_learn_from(config) is None
    extent = extent_of(config, engine, learning=learning, device=device, pilot=pilot)
    names, _ = playable_of({name: entry_of(name) for name in names})
    done = done_in(out, engine, config, extent)
    typer.echo(f"plan ({config.n} paths, checkpoint at {config.prefix_tokens} tokens, everything goes to {out}):")
    recipe = label_plan(config.recipe)
    for line in plan_of(config, recipe, extent, control=False, swept=names, taught=taught, done=done):
        typer.echo(f"  {line}")
    if said := too_few(extent.problems):
        typer.echo(f"  {said}")
    return config


def _own_config(settings: Sequence[str] | None, task: Sequence[str], model: str | None) -> RunConfig:
    """The settings of an advice: tasks that have problems to learn from are learned from, not those of the preset."""
    from prunebench.bench.rollouts.sampling import tasks_of

    unused = ("prefix_tokens", "methods", "policy", "vote", "draws")
    config = config_from(None, settings, unused, {"recipe": "small"}, tasks=task, model=model)
    named = any(pair.partition("=")[0].strip() == "train_tasks" for pair in settings or ())
    if named or not all("train" in found.splits for found in tasks_of(config)):
        return config
    return config.model_copy(update={"train_tasks": ()})


def _table(out: Path, config: RunConfig, advised: Advised, plugins: Sequence[Path]) -> str:
    """The command that makes a table of the same methods on the same paths, at the ratio that was chosen."""
    options: list[object] = ["--store", out / "rollouts", "--methods", ",".join([*advised.methods, "none"])]
    options += ["--prefix", config.prefix_tokens, "--k", max(1, round(advised.recommendation.choice.gamma * config.n))]
    if advised.learned.is_dir():
        options += ["--learned", advised.learned]
    if config.budget is not None:
        options += ["--set", f"budget={config.budget:g}"]
    if config.model_options.trust_remote_code:
        options += ["--set", "trust_remote_code=true"]
    for plugin in plugins:
        options += ["--plugin", plugin]
    return shlex.join(["prunebench", "compare", *map(str, options), "--out", str(out / "table")])


@app.command(rich_help_panel=RUN)
def run(
    context: typer.Context,
    config: Annotated[
        str | None,
        typer.Argument(
            metavar="PRESET", help="A preset, such as paper/ds-qwen-1.5b, or a file like one (default: the model's)."
        ),
    ] = None,
    task: Task = None,
    model: Model = None,
    judge: Judge = None,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="Say how many paths, tokens, hours and memory it takes, and stop.")
    ] = False,
    settings: Annotated[list[str] | None, set_option(f"{RUN_KEYS}; with --plan-only: {keys_of(PlanSettings)}")] = None,
    out: Annotated[Path | None, typer.Option(help="Where everything goes (default: runs/PRESET).")] = None,
) -> None:
    """A whole experiment: rollouts, labels, training, comparison, sweep, figures and report; resumes."""
    from prunebench.bench.engines.load import load_engine

    of_plan = [pair for pair in settings or () if pair.partition("=")[0] in PlanSettings.__dataclass_fields__]
    others = [pair for pair in settings or () if pair not in of_plan]
    experiment = config_from(config, others, tasks=task, model=model)
    device = device_of(context)
    require_methods(experiment.methods)
    judges, out = judged(judge), out or Path("runs") / (config or "experiment")
    if said := standard_taken(config, others, experiment):
        typer.echo(said)
    if of_plan and not plan_only:
        raise UserError(f"--set {of_plan[0]}: a plan counts with it; add --plan-only, or leave it out")
    asked = settings_of(PlanSettings, of_plan)
    at_hand = asked.speed is not None and experiment.kv_bytes_per_token is not None
    engine = None if plan_only and at_hand else load_engine(experiment.model, device, experiment.model_options)
    if plan_only or not (out / "results.json").exists():
        _plan(engine, experiment, asked, judges, device, out)
    if plan_only:
        return
    assert engine is not None
    look = first_look(context)
    inputs = _prepared(engine, experiment, judges, device, out, look)
    compare_with(experiment, out, inputs, device, look=look)
    _swept(engine, experiment, inputs, device, out)


def _plan(
    engine: Engine | None, config: RunConfig, asked: PlanSettings, judges: dict[str, str], device: str, out: Path
) -> None:
    from prunebench.bench.cli.planning import done_in, extent_of, plan_of
    from prunebench.bench.policies.procedures import PROCEDURES
    from prunebench.bench.training.loading import base_name, uses_judge
    from prunebench.methods.registry import PRUNERS

    ours = _is_shipped(config)
    every = [name for name in PRUNERS.names() if ours or name in judges or not uses_judge(name)]
    methods = config.methods or [*every, *PROCEDURES]
    swept = _sweepable(config)
    extent = extent_of(config, engine, asked.speed, asked.mean_tokens, not ours, device)
    taught = [
        name for name in methods if not ours and name not in PROCEDURES and PRUNERS.get(base_name(name)).learnable
    ]
    done = {} if engine is None else {"done": done_in(out, engine, config, extent)}
    for line in plan_of(
        config, label_plan(config.recipe), extent, control=not ours, methods=methods, swept=swept, taught=taught, **done
    ):
        typer.echo(line)


def _is_shipped(config: RunConfig) -> bool:
    """Whether its learned files and labels are there from the beginning."""
    return config.model in REASONERS and not config.model_options.changes


def _prepared(
    engine: Engine, config: RunConfig, judges: dict[str, str], device: str, out: Path, look: FirstLook
) -> Inputs:
    """Learned files and labels: what is shipped, or for any other model what is made now, in ``out``."""
    from prunebench.bench.evaluation.inputs import Inputs
    from prunebench.bench.rollouts.sampling import sample_split
    from prunebench.bench.training.data import label_test_prefixes
    from prunebench.bench.training.learn import learn
    from prunebench.bench.training.loading import Judges, tunable, uses_judge

    if _is_shipped(config):
        labels = shipped_labels(config.model, config.sampling.digest, config.model_options)
        return Inputs(learned_for(config.model, None), tuple(labels), judges)
    wanted = config.methods or [name for name in tunable() if name in judges or not uses_judge(name)]
    recipe, processes = label_plan(config.recipe), processes_on(device)
    with watching() as progress:
        learned = learn(
            engine, config, recipe, [name for name in wanted if name in tunable()], out / "training",
            judges=Judges(judges, device, shipped=config.model in SYNTHETIC), processes=processes, progress=progress,
            look=look,
        )  # fmt: skip
        store = sample_split(engine, config, out / "rollouts", progress=progress, processes=processes, look=look)
        labels = [label_test_prefixes(engine, config, recipe, store, out / "labels", progress=progress)]
    return Inputs(learned, tuple(labels), judges)


def _sweepable(config: RunConfig) -> list[str]:
    """The methods of an experiment that a sweep can play: no procedures, which keep as many paths as they see fit."""
    from prunebench.bench.guideline.sweep import playable_of
    from prunebench.bench.policies.procedures import PROCEDURES
    from prunebench.bench.training.loading import entry_of

    names, _ = playable_of({name: entry_of(name) for name in config.methods or SWEPT if name not in PROCEDURES})
    return names


def _swept(engine: Engine, config: RunConfig, inputs: Inputs, device: str, out: Path) -> None:
    """The sweep over the rollouts of a comparison, its laws, and the report of all of it."""
    from prunebench.bench.guideline.guideline import write_guidelines
    from prunebench.bench.guideline.sweep import Grid, budgets_of, sweep_by_name
    from prunebench.bench.training.loading import Judges
    from prunebench.figures.report import write_report

    grid = Grid((config.prefix_tokens,), budgets_of(out / "rollouts"), seed=config.seed)
    with watching() as progress:
        sweep = sweep_by_name(
            engine, out / "rollouts", _sweepable(config), inputs.learned, config.prefix_tokens, grid, out / "sweep",
            judges=Judges(inputs.judges, device, shipped=config.model in SYNTHETIC), command=command_line(),
            progress=progress,
        )  # fmt: skip
        refused = write_guidelines(sweep, out / "sweep")
        written = write_report(out, out / "report.html", {}, progress)
    for name, reason in refused.items():
        typer.echo(f"no guideline of {name}: {reason}")
    typer.echo(f"{written}; everything is in {out}")
