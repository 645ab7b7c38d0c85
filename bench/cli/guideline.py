"""The guideline: sweeping retention ratios, fitting laws, and asking them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunebench.bench.cli.app import LOOK, RUN, app, command_line, watching
from prunebench.bench.cli.at_hand import engine_of_store
from prunebench.bench.cli.options import Judge, Learned, device_of, judged
from prunebench.bench.cli.settings import keys_of, names_of, set_option, settings_of
from prunebench.bench.engines.shipped import REASONERS, SYNTHETIC
from prunebench.bench.errors import UserError
from prunebench.bench.progress import left_out_lines
from prunebench.bench.training.at_hand import learned_for

if TYPE_CHECKING:
    from prunebench.bench.guideline.sweep import Grid, Sweep

SPENT = 0.9
"""Less of a budget than this share leaves so much to pruned paths alone that a gain is partly theirs."""
DEFAULT = "stop,step,text-classifier,entropy,perplexity,deepconf,random"
IMPORTED = "entropy,perplexity,length,random"
"""Of rollouts whose model is not at hand."""


@dataclass(frozen=True)
class SweepSettings:
    """Prefix lengths, budgets in generator tokens per problem, and retention ratios, joined by commas.

    ``draws`` pools are drawn per problem, of at most so many ``problems`` per task. ``trained_for``: the checkpoint
    that learned methods were trained for.
    """

    prefix: str = "20,40,80"
    budget: str = "1k,2k,4k,8k,16k"
    gamma: str = "1,1/2,1/4,1/8,1/16,1/32"
    draws: int = 20
    problems: int | None = None
    trained_for: int = 40
    seed: int = 0
    trust_remote_code: bool = False


@app.command(rich_help_panel=RUN)
def sweep(
    context: typer.Context,
    store: Annotated[Path, typer.Option(help="Rollouts with many paths per problem (prunebench rollouts --n 256).")],
    methods: Annotated[
        str | None,
        typer.Option(
            help=f"Names joined by commas (default: {DEFAULT.replace(',', ', ')}; of imported rollouts "
            f"{IMPORTED.replace(',', ', ')})."
        ),
    ] = None,
    learned: Learned = None,
    judge: Judge = None,
    settings: Annotated[list[str] | None, set_option(keys_of(SweepSettings))] = None,
    out: Annotated[Path, typer.Option(help="Where the sweep and the guideline go.")] = Path("runs/sweep"),
) -> None:
    """Accuracy by retention ratio, prefix length and budget, and the laws that fit it; the same command resumes."""
    from prunebench.bench.config import tokens_of
    from prunebench.bench.guideline.guideline import too_few, write_guidelines
    from prunebench.bench.guideline.sweep import Grid, sweep_by_name
    from prunebench.bench.rollouts.opening import first_problems, is_imported, require_model
    from prunebench.bench.rollouts.store import RolloutStore
    from prunebench.bench.training.loading import Judges

    asked = settings_of(SweepSettings, settings)
    grid = Grid(
        tuple(int(tokens_of(text)) for text in asked.prefix.split(",")),
        tuple(tokens_of(text) for text in asked.budget.split(",")),
        tuple(_ratio(text) for text in asked.gamma.split(",")),
        asked.draws,
        asked.seed,
    )
    opened, device = RolloutStore.open(store), device_of(context)
    model = str(opened.manifest["model"])
    engine = None if is_imported(opened) else engine_of_store(opened, device, asked.trust_remote_code)
    if engine is not None:
        require_model(opened, store, engine)
    names = names_of(methods or (IMPORTED if engine is None else DEFAULT))
    _refuse_another(out, opened.digest(), grid)
    of_task = Counter(task for task, _ in first_problems(opened, asked.problems))
    if (said := too_few(min(of_task.values(), default=0))) is not None:
        typer.echo(f"no guideline will come of it: {said}")
    with watching() as progress:
        result = sweep_by_name(
            engine, store, names, learned_for(model, learned), asked.trained_for, grid, out,
            judges=Judges(judged(judge), device, shipped=model in SYNTHETIC), problems=asked.problems,
            asked=methods is not None, command=command_line(), progress=progress,
        )  # fmt: skip
        tick = progress.stretch("fitting laws", 1)
        refused = write_guidelines(result, out)
        tick(1)
    for line in _said(result, refused, out):
        typer.echo(line)


def _refuse_another(out: Path, store: str, grid: Grid) -> None:
    """Raises UserError where ``out`` holds a sweep of other rollouts or over another grid, as an advice's."""
    from prunebench.bench.guideline.guideline import SWEEP
    from prunebench.bench.guideline.sweep import Sweep

    if not (out / SWEEP).exists():
        return
    held = Sweep.read(out)
    there = {(cell.prefix, cell.budget, cell.gamma) for cell in held.cells}
    asked = {(prefix, budget, gamma) for prefix in grid.prefixes for budget in grid.budgets for gamma in grid.gammas}
    if held.store != store or not there <= asked:
        raise UserError(f"{out} holds another sweep ({held.command}): choose another --out, or delete it")


def _said(result: Sweep, refused: Mapping[str, str], out: Path) -> Iterator[str]:
    """What came of a sweep, and where it lies."""
    yield from (f"no guideline of {name}: {reason}" for name, reason in refused.items())
    yield from left_out_lines(result.left_out)
    if not set(result.methods) - {"length", "random"}:
        yield "no score was swept, only the length of the prefixes and chance: what a guideline says is about these"
    whole = {(cell.budget, cell.task): cell for cell in result.cells if cell.gamma == 1 and not cell.capped}
    if short := sorted({budget for (budget, _), cell in whole.items() if cell.cost < SPENT * budget}):
        budgets = ", ".join(f"{budget:,.0f}" for budget in short)
        yield (
            f"keeping all spends less than {SPENT:.0%} of these budgets, as a path more is too much: {budgets}; a gain "
            "there is partly that of the rest: take larger ones"
        )
    written, then = "sweep.json, sweep.csv", ""
    if set(result.methods) - set(refused) - {"random"}:
        written, then = f"{written}, guideline-<method>.json", f"; next: prunebench guideline --file {out} ..."
    yield f"in {out}: {written}{then}"


@app.command(rich_help_panel=LOOK)
def guideline(
    budget: Annotated[str, typer.Option(help="Generator tokens per problem, as in 300k.")],
    prefix: Annotated[str, typer.Option(help="Tokens of a path when it is scored, as in 2048 or 2k.")],
    task_length: Annotated[str, typer.Option(help="Mean tokens of a complete path, as in 12k.")],
    file: Annotated[
        str, typer.Option(help="A guideline, the folder of a sweep, or the shipped reasoner whose guideline is asked.")
    ] = "embedded",
    method: Annotated[str | None, typer.Option(help="Only this method (default: the best one).")] = None,
) -> None:
    """How many paths to sample and to keep for a budget, what that gains, and what it rests on."""
    from prunebench.bench.config import tokens_of
    from prunebench.bench.guideline.answer import advise
    from prunebench.bench.guideline.guideline import read_guidelines

    guidelines = read_guidelines(REASONERS[file].guideline if file in REASONERS else Path(file))
    for line in advise(guidelines, tokens_of(budget), tokens_of(prefix), tokens_of(task_length), method).lines():
        typer.echo(line)


def _ratio(text: str) -> float:
    top, _, bottom = text.strip().partition("/")
    try:
        return float(top) / float(bottom or 1)
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(f"--set gamma={text}: write ratios such as 1/8 or 0.125") from error
