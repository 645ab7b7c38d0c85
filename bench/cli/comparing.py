"""Running a comparison, and showing what came out of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from prunebench.bench.cli.app import command_line, watching
from prunebench.bench.cli.at_hand import known, processes_on
from prunebench.bench.errors import UserError
from prunebench.bench.progress import left_out_lines

if TYPE_CHECKING:
    from prunebench.bench.config import RunConfig
    from prunebench.bench.engines.registry import EngineKind
    from prunebench.bench.evaluation.inputs import Inputs
    from prunebench.bench.evaluation.results import Results
    from prunebench.bench.rollouts.first_look import FirstLook


def compare_with(
    config: RunConfig,
    out: Path,
    inputs: Inputs,
    device: str,
    kind: EngineKind | None = None,
    look: FirstLook | None = None,
    planned: bool = False,
) -> Results:
    """Run it and show its tables. ``planned``: say first what its sampling takes."""
    from prunebench.bench.cli.planning import sampling_plan
    from prunebench.bench.engines.load import DEFAULT_ENGINE, load_engine
    from prunebench.bench.engines.ray import Cluster
    from prunebench.bench.evaluation.comparison import chosen, run_comparison
    from prunebench.bench.rollouts.sampling import tasks_of
    from prunebench.bench.rollouts.store import IMPORTED
    from prunebench.figures.outputs import write_outputs

    if inputs.store is None:
        tasks_of(config)
    require_methods(config.methods)
    _refuse_another(out, config, inputs.store)
    kind = kind or DEFAULT_ENGINE
    engine = None if config.model == IMPORTED else load_engine(config.model, device, config.model_options, kind)
    if planned and engine is not None:
        chosen(engine, config, inputs)  # what cannot take part is said before anything is sampled
        for said in sampling_plan(engine, config, out / "rollouts", kind, device, piloted=True):
            typer.echo(said)
    with watching() as progress:
        results = run_comparison(
            engine,
            config,
            out,
            inputs,
            command=command_line(),
            progress=progress,
            processes=processes_on(device),
            cluster=Cluster.of(kind, device, config.gpus_per_worker),
            look=look,
        )
        tick = progress.stretch("tables and figures", 1)
        removed = write_outputs(results, out)
        tick(1)
    _show(results, out)
    if removed:
        typer.echo(f"removed, being of the earlier result: {', '.join(removed)}")
    return results


def _refuse_another(out: Path, config: RunConfig, store: Path | None) -> None:
    """Raises UserError where ``out`` holds another comparison; other methods of the same one join it."""
    from prunebench.bench.evaluation.comparison import RESULTS
    from prunebench.bench.evaluation.inputs import Inputs
    from prunebench.bench.evaluation.results import Results
    from prunebench.bench.rollouts.store import RolloutStore

    there = Results.held(out / RESULTS)
    if there is None:
        return
    asked, settings = config.model_dump(mode="json"), there.setup["config"]
    other = [
        f"{name} = {settings[name]}, not {asked[name]}"
        for name in settings
        if name in asked and name != "methods" and settings[name] != asked[name]
    ]
    earlier = Inputs.of(there.setup).store or out / "rollouts"
    moved = store if store is not None and store.resolve() != earlier.resolve() else None
    if moved is not None and RolloutStore.open(moved).digest() != there.hashes["rollouts"]:
        other.append(f"rollouts of {earlier}")
    if other:
        raise UserError(f"{out} holds another comparison ({'; '.join(other)}): choose another --out, or delete it")


def require_methods(methods: Sequence[str], procedures: bool = True) -> None:
    """Raises UserError for a name that no method has, nor, where they are asked for, a procedure."""
    from prunebench.bench.policies.procedures import PROCEDURES
    from prunebench.bench.training.loading import parts_of
    from prunebench.methods.entries import UnknownNameError
    from prunebench.methods.registry import PRUNERS

    names = [*PRUNERS.names(), *(PROCEDURES if procedures else ())]
    for name in methods:
        for part in () if procedures and name in PROCEDURES else parts_of(name):
            if part not in names:
                raise UserError(f"{UnknownNameError('method', part, names)} (a file of your own: --plugin FILE)")
            known(lambda part=part: PRUNERS.get(part))  # type: ignore[misc]


def _remarks(results: Results, task: str) -> dict[str, list[str]]:
    """What is said of rows, each remark with the methods that it is said of."""
    remarks: dict[str, list[str]] = {}
    for row in results.rows:
        if row.task == task and row.note:
            remarks.setdefault(row.note, []).append(row.method)
    return remarks


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
        if note.task not in others:
            console.print(note.text, style="dim")
    for remark, names in _remarks(results, task).items():
        console.print(f"{', '.join(names)}: {remark}")
    for line in left_out_lines(results.left_out):
        console.print(line)
    written = sorted(path.name for path in out.iterdir() if path.is_file() and not path.name.startswith("."))
    console.print(f"written to {out}: {', '.join(written)}")
