"""The command line. Everything heavy is imported inside the commands, so that help and lists answer at once."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from bench.errors import UserError

if TYPE_CHECKING:
    from bench.ablation import Axis
    from bench.comparison import Inputs
    from bench.config import RunConfig
    from bench.engines.transformers import TransformersEngine
    from bench.reasoner.config import LabelPlan
    from bench.results import Results
    from methods.base import Pruner

app = typer.Typer(
    help="Compare path pruning methods for parallel reasoning: same rollouts, same grader, honest intervals.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
perf = typer.Typer(help="Measure the reasoner's acceptance card and the cost of a check.", no_args_is_help=True)
app.add_typer(perf, name="perf")

REASONER = Path(__file__).parent / "reasoner"

Preset = Annotated[str, typer.Option(help="Name of a preset (see: prunebench list presets).")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="A YAML file like the presets, instead of one.")]
Task = Annotated[list[str] | None, typer.Option("--task", help="Task name; may be given several times.")]
Model = Annotated[str | None, typer.Option(help="'embedded', a local checkpoint folder, or a hub id.")]
Problems = Annotated[int | None, typer.Option(help="Problems per task.")]
Paths = Annotated[int | None, typer.Option("--n", help="Paths per problem.")]
Kept = Annotated[int | None, typer.Option("--k", help="Paths kept by the pruner.")]
Prefix = Annotated[int | None, typer.Option("--prefix", help="Checkpoint: tokens of a path when it is scored.")]
Temperature = Annotated[float | None, typer.Option(help="Sampling temperature.")]
Seed = Annotated[int | None, typer.Option(help="Seed of problems and sampling noise.")]
Split = Annotated[str | None, typer.Option(help="train, validation or test.")]
Methods = Annotated[
    str | None, typer.Option(help="Names joined by commas, ensembles as mean-rank(stop,entropy); or all.")
]
Plugin = Annotated[
    list[Path] | None, typer.Option("--plugin", help="A Python file with pruners; may be given several times.")
]
Judge = Annotated[
    list[str] | None,
    typer.Option(
        "--judge", help="METHOD=FOLDER_OR_ID: the model of a method that uses one; may be given several times."
    ),
]
Learned = Annotated[Path, typer.Option(help="Folder of learned files and tuned configurations.")]
Record = Annotated[
    list[str] | None, typer.Option(help="Signal to record; may be given several times. None given: every signal.")
]
Recipe = Annotated[str, typer.Option(help="How many prefixes and continuations are labelled: cpu or paper.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]


def main() -> None:
    """Entry point: a UserError becomes one sentence and exit code 2."""
    try:
        app()
    except UserError as error:
        typer.echo(f"prunebench: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("prunebench: stopped; the same command goes on from here", err=True)
        sys.exit(130)


@app.command()
def demo(out: Annotated[Path, typer.Option(help="Where results go.")] = Path("runs/demo")) -> None:
    """Sample, score and compare: the shipped reasoner on 12 held-out problems of every synthetic family."""
    from bench.comparison import Inputs
    from bench.config import preset

    _require_weights()
    _compare(preset("demo"), out, Inputs(REASONER / "learned", tuple(_shipped_labels())), "cpu")


@app.command()
def compare(
    preset_name: Annotated[str, typer.Option("--preset", help="Preset to start from.")] = "demo",
    config_file: ConfigFile = None,
    task: Task = None,
    model: Model = None,
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
    draws: Annotated[int | None, typer.Option(help="Pools drawn per problem at equal cost.")] = None,
    reproduce: Annotated[
        Path | None, typer.Option(help="A results.json: run it again and say whether the numbers are equal.")
    ] = None,
    learned: Annotated[
        Path | None, typer.Option(help="Folder of learned files and tuned configurations (default: the shipped one).")
    ] = None,
    labels: Annotated[list[Path] | None, typer.Option(help="Label stores of these problems.")] = None,
    device: Device = "cpu",
    out: Annotated[Path | None, typer.Option(help="Where results go (default: runs/compare).")] = None,
) -> None:
    """Compare methods on any tasks and model: rollouts, scores, main table, figures."""
    from bench.comparison import Inputs
    from bench.stored import config_of

    if reproduce is not None:
        _reproduce(reproduce, out or Path("runs/reproduced"), device)
        return
    _plugins(plugin)
    options = {
        "tasks": task, "n": n, "k": k, "prefix_tokens": prefix, "problems": problems, "seed": seed,
        "methods": _names(methods), "policy": policy, "budget": _tokens(budget), "draws": draws,
    }  # fmt: skip
    if store is None:
        config = _config(
            preset_name, config_file, **options, model=model, temperature=temperature, split=split, record=record
        )
    else:
        sampled = {"--model": model, "--temperature": temperature, "--split": split, "--record": record,
                   "--config": config_file}  # fmt: skip
        _refuse_with_store(sampled)
        config = config_of(store, **options)
    shipped = config.model == "embedded"
    inputs = Inputs(
        learned or (REASONER / "learned" if shipped else Path("runs/learned")),
        tuple(labels if labels is not None else (_shipped_labels() if shipped else [])),
        _judged(judge),
        tuple(plugin or ()),
        store,
    )
    _compare(config, out or Path("runs/compare"), inputs, device)


@app.command()
def rollouts(
    preset_name: Annotated[str, typer.Option("--preset", help="Preset to start from.")] = "demo",
    config_file: ConfigFile = None,
    task: Task = None,
    model: Model = None,
    problems: Problems = None,
    n: Paths = None,
    prefix: Prefix = None,
    temperature: Temperature = None,
    seed: Seed = None,
    split: Split = None,
    record: Record = None,
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="The rollout store.")] = Path("runs/rollouts"),
) -> None:
    """Sample and grade complete paths into a store; the same command resumes."""
    from bench.rollouts import problems_of, sample_rollouts

    config = _config(
        preset_name, config_file, tasks=task, model=model, problems=problems, n=n,
        prefix_tokens=prefix, temperature=temperature, seed=seed, split=split, record=record,
    )  # fmt: skip
    engine = _engine(config.model, device)
    chosen = problems_of(_tasks(config), config.split, config.problems, config.seed)
    with _watching() as watch:
        store = sample_rollouts(
            engine,
            chosen,
            out,
            n=config.n,
            sampling=config.sampling,
            seed=config.seed,
            recording=config.recording,
            processes=_processes(device),
            progress=watch.stretch("sampling paths", len(chosen) * config.n),
        )
    typer.echo(f"{len(store.problems())} problems x {config.n} paths in {out}")


@app.command(name="import")
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
    from bench.importers import Options, import_rollouts

    options = Options(task, tokenizer, grading, _pairs("--field", field, "NAME=VALUE"))
    with _watching() as watch:
        report = import_rollouts(format_, path, out, options, watch.stretch("importing paths", None))
    for line in report.lines():
        typer.echo(line)
    typer.echo(f"in {out}; next: prunebench compare --store {out}")


replay = typer.Typer(help="Published baselines on rollouts made elsewhere.", no_args_is_help=True)
app.add_typer(replay, name="replay")


@replay.command("matrix")
def replay_matrix(
    path: Annotated[Path, typer.Argument(help="A JSON file, or a folder of them, in the matrix format.")],
    grading: Annotated[str, typer.Option(help="string (as published), or equivalence.")] = "string",
    shuffles: Annotated[int, typer.Option(help="Orders of the paths that the means are over.")] = 100,
    paths: Annotated[int, typer.Option(help="Paths per problem: the first ones of every order.")] = 64,
) -> None:
    """Self-consistency, ESC and adaptive-consistency on recorded answers: accuracy, tokens, longest path."""
    from rich.console import Console
    from rich.table import Table

    from bench.matrix_replay import replay as run

    table = Table("task", "method", "accuracy %", "tokens", "longest path", box=None)
    for row in run(path, grading, shuffles, paths):
        table.add_row(row.task, row.method, f"{row.accuracy:.2f}", f"{row.tokens:,.0f}", f"{row.longest_path:,.0f}")
    Console().print(table)
    typer.echo(f"{paths} paths, means over {shuffles} orders, answers are equal by {grading}")


@app.command()
def label(
    store: Annotated[Path, typer.Argument(help="A rollout store (see: prunebench rollouts).")],
    continuations: Annotated[int, typer.Option(help="K: continuations per prefix.")] = 32,
    prefix: Annotated[int, typer.Option(help="Tokens per prefix.")] = 40,
    prefixes: Annotated[int | None, typer.Option(help="At most so many distinct prefixes per problem.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the continuations' noise.")] = 1,
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="The label store.")] = Path("runs/labels"),
) -> None:
    """Monte Carlo labels: how often the continuations of each stored prefix come out right."""
    from bench.engines.base import Sampling
    from bench.potential import cuts_of, label_cuts
    from bench.store import RolloutStore
    from bench.stored import is_imported
    from tasks import catalogue

    rollout_store = RolloutStore.open(store)
    if is_imported(rollout_store):
        raise UserError(
            f"{store}: imported rollouts; their model is not at hand, so their prefixes cannot be continued"
        )
    engine = _engine(str(rollout_store.manifest["model"]), device)
    if engine.digest != rollout_store.manifest["model_hash"]:
        raise UserError(f"{store}: sampled from model {rollout_store.manifest['model_hash']}, this is {engine.digest}")
    cuts = [
        cut
        for stored in rollout_store.read(hidden=False)
        for cut in cuts_of(catalogue.get(stored.task), stored, prefix, prefixes)
    ]
    sampling = Sampling(**rollout_store.manifest["sampling"])
    with _watching() as watch:
        labels = label_cuts(
            engine,
            cuts,
            out,
            continuations=continuations,
            sampling=sampling,
            seed=seed,
            progress=watch.stretch("labelling prefixes", len(cuts)),
        )
    typer.echo(f"{len(labels)} labels of {continuations} continuations in {out}")


@app.command()
def train(
    method: Annotated[list[str] | None, typer.Argument(help="Methods to tune and train; none: all of them.")] = None,
    data: Annotated[
        Path, typer.Option(help="Folder with train/ and validation/, each <name>/{rollouts,labels}.")
    ] = Path("runs/reasoner/data"),
    model: Annotated[str, typer.Option(help="'embedded', a local checkpoint folder, or a hub id.")] = "embedded",
    prefix: Annotated[int, typer.Option(help="Tokens per prefix.")] = 40,
    device: Device = "cpu",
    seed: Annotated[int, typer.Option(help="Seed of the training; another one goes into another folder.")] = 0,
    plugin: Plugin = None,
    judge: Judge = None,
    out: Annotated[Path, typer.Option(help="Where learned files, cards and curves go.")] = Path("runs/learned"),
) -> None:
    """Tune (and fit, where there is something to fit) methods on labelled prefixes; split by problem.

    The training prefixes are those of L/2, L and 2L that have labels. The same command goes on after a stop.
    """
    from bench.training import Judges, labelled_folder, reads_of, setting_of, train_method, tunable
    from figures.training_curve import write_training_curve
    from methods.registry import PRUNERS

    _plugins(plugin)
    names = list(method or tunable())
    for name in names:
        _known(lambda name=name: PRUNERS.get(name))  # type: ignore[misc]
    engine = _engine(model, device)
    judges = Judges(_judged(judge), out, device)
    train_set, validation, sampling_digest = labelled_folder(engine, data, prefix, reads_of(names))
    for name in names:
        card = train_method(
            name,
            train_set,
            validation,
            setting_of(engine, prefix),
            out,
            model_hash=engine.digest,
            sampling_digest=sampling_digest,
            seed=seed,
            judges=judges,
            progress=typer.echo,
        )
        write_training_curve(card, out)
        typer.echo(f"{name}: validation AUROC {card.validation_auroc:.3f} -> {out / name}.json")


@app.command()
def ablate(
    method: Annotated[str, typer.Argument(help="A learnable method, such as stop.")] = "stop",
    axis: Annotated[str, typer.Option(help="tokens, rank, labels, adapter or prefix.")] = "tokens",
    data: Annotated[
        Path, typer.Option(help="Folder with train/, validation/ (rollouts and labels) and test/ (rollouts).")
    ] = Path("runs/reasoner/data"),
    model: Annotated[str, typer.Option(help="'embedded', a local checkpoint folder, or a hub id.")] = "embedded",
    learned: Learned = REASONER / "learned",
    prefix: Annotated[int, typer.Option(help="Tokens per prefix.")] = 40,
    k: Annotated[int, typer.Option(help="Paths kept by the pruner.")] = 8,
    value: Annotated[list[str] | None, typer.Option(help="Only these values of the axis.")] = None,
    seeds: Annotated[int, typer.Option(help="Trainings per value.")] = 3,
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="Where results and trained files go.")] = Path("runs/ablation"),
) -> None:
    """What one choice in training is worth (STOP paper, Tables 3-6): every value is trained with several seeds.

    The settings that stay are the tuned ones. The same command goes on after a stop.
    """
    from rich.console import Console
    from rich.markdown import Markdown

    from bench.ablation import ablate as run
    from bench.ablation import to_markdown
    from bench.training import labelled_folder, load_method, reads_of, test_records
    from methods.base import LearnablePruner
    from methods.registry import PRUNERS

    _known(lambda: PRUNERS.get(method))
    engine = _engine(model, device)
    tuned = load_method(method, learned, engine.digest, prefix).pruner
    if not isinstance(tuned, LearnablePruner):
        raise UserError(f"'{method}' has nothing to train, so there is nothing to ablate; take stop")
    train_set, validation, _ = labelled_folder(engine, data, prefix, reads_of([method]))
    records = test_records(engine, data, prefix, reads_of([method]))
    chosen = cast("Axis", axis)  # an unknown one is refused there
    rows = run(tuned, chosen, train_set, validation, records, k, out, values=value, seeds=seeds, progress=typer.echo)
    Console().print(Markdown(to_markdown(rows)))
    typer.echo(f"written to {out}: {axis}.csv, {axis}.md")


@app.command(name="list")
def list_(
    what: Annotated[str, typer.Argument(help="methods, tasks or presets.")] = "methods",
    markdown: Annotated[bool, typer.Option("--markdown", help="As a Markdown table.")] = False,
) -> None:
    """What is registered: methods with quadrant and source, tasks, presets."""
    from rich.console import Console
    from rich.table import Table

    columns, rows = _listing(what)
    if markdown:
        lines = [columns, ["---"] * len(columns), *rows]
        typer.echo("\n".join(f"| {' | '.join(cells)} |" for cells in lines))
        return
    table = Table(*columns, box=None, pad_edge=False)
    for cells in rows:
        table.add_row(*cells)
    Console().print(table)


def _listing(what: str) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of one list."""
    if what == "methods":
        from bench.procedures import PROCEDURES, CompletedAnswers
        from methods.registry import PRUNERS

        rows = []
        for name, entry in PRUNERS.items():
            reads = ", ".join(sorted(signal.value for signal in entry.requires)) or "-"
            rows.append([name, *_kind(entry), reads, entry.extra_cost, entry.paper])
        for name, procedure in PROCEDURES.items():
            scored = PRUNERS.get(procedure.method) if procedure.method else CompletedAnswers
            reads = ", ".join(sorted(signal.value for signal in scored.requires)) or "answers"
            rows.append([name, *_kind(scored), reads, procedure.extra_cost, procedure.paper])
        return ["method", "quadrant", "learnable", "reads", "extra cost", "paper"], rows
    if what == "tasks":
        from tasks import catalogue

        tasks = [catalogue.get(name) for name in catalogue.names()]
        return ["task", "answer", "licence"], [[task.name, task.answer_type, task.licence] for task in tasks]
    if what == "presets":
        from bench.config import preset_names

        return ["preset"], [[name] for name in preset_names()]
    raise UserError(f"nothing is called '{what}': list methods, tasks or presets")


def _kind(entry: type[Pruner]) -> tuple[str, str]:
    """Quadrant, and whether it learns."""
    return entry.quadrant().value, "yes" if entry.learnable else "no"


@app.command(name="new-pruner")
def new_pruner(
    name: Annotated[str, typer.Argument(help="Lower-case words joined by hyphens.")],
    quadrant: Annotated[str, typer.Option(help="I, II, III or IV.")] = "III",
    folder: Annotated[Path, typer.Option(help="Where the file goes.")] = Path(),
) -> None:
    """Write a pruner of your own: one runnable file with a docstring to fill in."""
    from bench.plugins import write_pruner

    path = write_pruner(name, quadrant, folder)
    typer.echo(f"{path} written; check it with: prunebench check-plugin {path}")


@app.command(name="check-plugin")
def check_plugin(path: Annotated[Path, typer.Argument(help="A Python file with pruners.")]) -> None:
    """Run the conformance suite on the pruners of a file; exit code 1 when one fails."""
    from bench.plugins import check_plugin as check

    reports = check(path)
    for report in reports:
        typer.echo(str(report))
    if not all(report.passed for report in reports):
        raise typer.Exit(1)


@app.command()
def plan(
    preset_name: Annotated[str, typer.Option("--preset", help="Preset to plan.")] = "demo",
    config_file: ConfigFile = None,
    task: Task = None,
    model: Model = None,
    problems: Problems = None,
    n: Paths = None,
    k: Kept = None,
    prefix: Prefix = None,
    speed: Annotated[
        float | None, typer.Option(help="Tokens per second; measured in a short trial if not given.")
    ] = None,
    mean_tokens: Annotated[int | None, typer.Option(help="Expected tokens per path (default: the cap).")] = None,
    recipe: Recipe = "cpu",
    device: Device = "cpu",
) -> None:
    """Tokens, time and memory of a comparison and its labels, before they are spent."""
    from bench.perf import tokens_per_second
    from bench.plan import plan_of
    from bench.rollouts import problems_of

    config = _config(
        preset_name, config_file, tasks=task, model=model, problems=problems, n=n, k=k, prefix_tokens=prefix
    )
    tasks = _tasks(config)
    engine = _engine(config.model, device)
    if speed is None:
        ((_, first), *_rest) = problems_of(tasks[:1], config.split, 1, config.seed)
        speed = tokens_per_second(engine, first.prompt)
    for line in plan_of(config, _label_plan(recipe), len(tasks), engine.model.config, speed, mean_tokens):
        typer.echo(line)


@app.command()
def reasoner(
    work: Annotated[Path, typer.Option(help="Checkpoints, rollouts and labels.")] = Path("runs/reasoner"),
    recipe: Recipe = "cpu",
    workers: Annotated[int, typer.Option(help="Processes of one thread each.")] = 2,
) -> None:
    """Rebuild the embedded reasoner and all that hangs on it: weights, labels, learned pruners, test labels, card."""
    from bench.reasoner.build import build

    _label_plan(recipe)
    build(work, recipe, workers, typer.echo)


@app.command()
def doctor() -> None:
    """Look at the installation; exit code 1 when something is wrong."""
    from bench.doctor import diagnose

    checks = diagnose()
    for check in checks:
        typer.echo(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.detail}")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


@perf.command("reasoner")
def perf_reasoner() -> None:
    """The acceptance card of the shipped reasoner, as it was measured on validation problems."""
    import json

    from rich.console import Console
    from rich.table import Table

    from bench.engines.transformers import model_digest
    from bench.reasoner.card import CARD
    from bench.reasoner.config import WEIGHTS

    if not CARD.exists():
        raise UserError("no acceptance card yet; make it with: prunebench reasoner")
    card = json.loads(CARD.read_text())
    if card["model_hash"] != model_digest(str(WEIGHTS)):
        raise UserError(f"{CARD}: measured on other weights; make it again with: prunebench reasoner")
    table = Table(title=f"Acceptance card of the embedded reasoner ({card['model_hash']})", box=None)
    table.add_column("line")
    table.add_column("asked")
    for family in card["families"]:
        table.add_column(family["family"], justify="right")
    for rows in zip(*(family["lines"] for family in card["families"]), strict=True):
        low, high = rows[0]["low"], rows[0]["high"]
        asked = " and ".join(
            p for p in (f">= {low:g}" if low is not None else "", f"<= {high:g}" if high is not None else "") if p
        )
        table.add_row(
            rows[0]["name"],
            asked,
            *(f"{row['value']:.3g} {'met' if row['met'] else '[bold]NOT MET[/]'}" for row in rows),
        )
    for name in card["families"][0]["remarks"]:
        table.add_row(name, "", *(f"{family['remarks'][name]:.3g}" for family in card["families"]))
    Console().print(table)


@perf.command("check")
def perf_check(
    rows: Annotated[int, typer.Option(help="Prefixes per pool.")] = 64,
    prefix: Annotated[list[int] | None, typer.Option(help="Prefix lengths; default 512 and the demo's own.")] = None,
    device: Device = "cpu",
) -> None:
    """STOP's check by the kept cache against encoding the prefixes again: a ratio within one run."""
    from bench.config import preset
    from bench.perf import check_cost
    from bench.training import load_method
    from methods.learned.stop import Stop

    _require_weights()
    engine = _engine("embedded", device)
    stop = load_method("stop", REASONER / "learned", engine.digest, preset("demo").prefix_tokens).pruner
    assert isinstance(stop, Stop)
    for length in prefix or [512, preset("demo").prefix_tokens]:
        cost = check_cost(engine, stop, length, rows)
        goal = " (goal: at most 1/20)" if length == 512 else ""
        typer.echo(
            f"L={length} B={rows} A={stop.tokens}: check {cost.check_seconds:.4f} s, re-encoding "
            f"{cost.reencode_seconds:.4f} s, ratio 1/{1 / cost.ratio:.1f}{goal}"
        )


# --- what the commands share --------------------------------------------------------------------------------------


def _compare(config: RunConfig, out: Path, inputs: Inputs, device: str) -> Results:
    from bench.comparison import run_comparison
    from bench.store import IMPORTED
    from figures.outputs import write_outputs

    if inputs.store is None:
        _tasks(config)
    _methods(config)
    engine = None if config.model == IMPORTED else _engine(config.model, device)
    with _watching() as watch:
        results = run_comparison(
            engine,
            config,
            out,
            inputs,
            command=" ".join(["prunebench", *sys.argv[1:]]),
            watch=watch,
            processes=_processes(device),
        )
        tick = watch.stretch("tables and figures", 1)
        write_outputs(results, out)
        tick(1)
    _show(results, out)
    return results


def _reproduce(path: Path, out: Path, device: str) -> None:
    """Run the comparison of a results.json again and hold the numbers together; exit code 1 if they differ."""
    from bench.comparison import Inputs
    from bench.config import configured
    from bench.reproduce import differences, read_results

    before = read_results(path)
    (out / "results.json").unlink(missing_ok=True)  # what an earlier reproduction left is no run
    settings = before.setup["config"]
    inputs = Inputs.of(before.setup)
    _plugins(list(inputs.plugins))
    after = _compare(configured(str(path), settings, {}), out, inputs, device)
    found = differences(before, after)
    for line in found:
        typer.echo(line)
    if found:
        typer.echo(f"NOT reproduced: {len(found)} differences to {path}")
        raise typer.Exit(1)
    typer.echo(f"reproduced: every number equals that of {path} (measured seconds aside)")


def _refuse_with_store(options: dict[str, Any]) -> None:
    """Options that say how to sample mean nothing for rollouts that are there."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise UserError(f"{', '.join(given)}: the rollouts of --store were sampled already; leave it out")


def _tokens(text: str | None) -> float | None:
    """``300k`` is 300 * 1,024 tokens."""
    if text is None:
        return None
    number = text[:-1] if text.endswith("k") else text
    try:
        return float(number) * (1024 if text.endswith("k") else 1)
    except ValueError as error:
        raise UserError(f"--budget {text}: write a number of tokens, such as 16384 or 16k") from error


def _show(results: Results, out: Path) -> None:
    from rich.console import Console

    from figures.equal_cost_table import EqualCostTable
    from figures.main_table import rich_by_task, rich_table

    console = Console()
    task = "all" if any(row.task == "all" for row in results.rows) else results.rows[0].task
    console.print(rich_table(results, task, console.width))
    if task == "all":
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


def _config(preset_name: str, config_file: Path | None, **overrides: Any) -> RunConfig:
    from bench.config import load_config, preset

    given = {name: value for name, value in overrides.items() if value is not None}
    return load_config(config_file, **given) if config_file else preset(preset_name, **given)


def _tasks(config: RunConfig) -> list[Any]:
    from tasks import catalogue

    return _known(lambda: catalogue.expand(config.tasks))  # type: ignore[no-any-return]


def _methods(config: RunConfig) -> None:
    from bench.procedures import PROCEDURES
    from bench.training import parts_of
    from methods.registry import PRUNERS, UnknownNameError

    known = [*PRUNERS.names(), *PROCEDURES]
    for name in config.methods:
        for part in () if name in PROCEDURES else parts_of(name):
            if part not in known:
                raise UserError(f"{UnknownNameError('method', part, known)} (a file of your own: --plugin FILE)")
            _known(lambda part=part: PRUNERS.get(part))  # type: ignore[misc]


def _processes(device: str) -> int:
    """How many processes sample: on a CPU one per core, at most four."""
    return max(1, min(4, os.cpu_count() or 1)) if device == "cpu" else 1


def _names(text: str | None) -> list[str] | None:
    """``a,b(c,d)`` -> a and b(c,d); ``all`` is every method."""
    if text is None:
        return None
    return [] if text == "all" else [name.strip() for name in re.split(r",(?![^(]*\))", text) if name.strip()]


def _judged(pairs: list[str] | None) -> dict[str, str]:
    """Method -> folder or hub id."""
    return _pairs("--judge", pairs, "METHOD=FOLDER_OR_ID, as in --judge prm=Qwen/Qwen2.5-Math-PRM-7B")


def _pairs(option: str, pairs: list[str] | None, form: str) -> dict[str, str]:
    """What stands before and behind the first equals sign."""
    for pair in pairs or []:
        if "=" not in pair:
            raise UserError(f"{option} {pair}: write {form}")
    return {name.strip(): value for name, _, value in (pair.partition("=") for pair in pairs or [])}


def _plugins(paths: list[Path] | None) -> None:
    from bench.plugins import load_plugin

    for path in paths or []:
        load_plugin(path)


def _label_plan(recipe: str) -> LabelPlan:
    from bench.reasoner.config import RECIPES

    if recipe not in RECIPES:
        raise UserError(f"unknown recipe '{recipe}': known are {', '.join(RECIPES)}")
    return RECIPES[recipe]


def _known(look: Callable[[], Any]) -> Any:
    """Look a name up; an unknown one is the user's error."""
    try:
        return look()
    except ValueError as error:
        raise UserError(str(error)) from error


def _engine(model: str, device: str) -> TransformersEngine:
    import logging

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging as transformers_logging

    from bench.engines.transformers import TransformersEngine

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("datasets").setLevel(logging.ERROR)
    return TransformersEngine.load(model, device=device)


def _require_weights() -> None:
    if not (REASONER / "weights" / "model.safetensors").exists():
        raise UserError("the shipped reasoner is missing (bench/reasoner/weights); rebuild it with: make reasoner")


def _shipped_labels() -> list[Path]:
    folder = REASONER / "labels"
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


class _RichWatch:
    """Progress bars for :class:`bench.comparison.Watch`."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress

    def stretch(self, name: str, total: int | None) -> Callable[[int], None]:
        bar = self._progress.add_task(name, total=total)
        return lambda count: self._progress.advance(bar, count)


@contextmanager
def _watching() -> Iterator[_RichWatch]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield _RichWatch(progress)


if __name__ == "__main__":
    main()
