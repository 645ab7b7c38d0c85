"""Solving problems with pruning: from a benchmark's winner, or an advice, to answers."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunebench.bench.cli.app import RUN, app, watching
from prunebench.bench.cli.comparing import require_methods
from prunebench.bench.cli.options import RUN_KEYS, Engine, Model, Paths, Prefix, device_of, judged
from prunebench.bench.cli.settings import keys_of, set_option, sorted_settings
from prunebench.bench.errors import UserError

if TYPE_CHECKING:
    from prunebench.bench.solving import Asked, Solution


@dataclass(frozen=True)
class SolveSettings:
    """``answer_type`` of questions; ``learned``: folder of what methods learned; ``judge``: METHOD=FOLDER_OR_ID."""

    answer_type: str = "math"
    learned: str | None = None
    judge: tuple[str, ...] = ()
    limit: int | None = None


@app.command(rich_help_panel=RUN)
def solve(
    context: typer.Context,
    problems: Annotated[str, typer.Argument(help="A file with a question per row, a task, or one question.")],
    model: Model = None,
    method: Annotated[str | None, typer.Option(help="What scores the prefixes (default: stop).")] = None,
    n: Paths = None,
    k: Annotated[
        int | None, typer.Option("--k", help="Paths that go on (default, as for --n and --prefix: the model's own).")
    ] = None,
    prefix: Prefix = None,
    recommended: Annotated[
        Path | None, typer.Option(help="Folder of an advice: its method, N, k, prefix and learned files.")
    ] = None,
    engine: Engine = "transformers",
    settings: Annotated[list[str] | None, set_option(f"{keys_of(SolveSettings)}; {RUN_KEYS}")] = None,
    out: Annotated[Path, typer.Option(help="Where answers.jsonl goes; the same command resumes.")] = Path("runs/solve"),
) -> None:
    """Answer problems with pruning: N paths begun, the best k finished, their vote; needs no gold answers."""
    from prunebench.bench.config import RunConfig
    from prunebench.bench.engines.options import ModelOptions
    from prunebench.bench.solving import solve as solutions
    from prunebench.tasks.task import Task

    if method is not None:
        require_methods([method], procedures=False)
    own, of_run, of_model = sorted_settings(settings, SolveSettings, RunConfig, ModelOptions)
    if "problems" in of_run:
        raise UserError("--set problems: the first ones only are --set limit=NUMBER")
    given: dict[str, Any] = {"model": model, "method": method, "n": n, "k": k, "prefix": prefix}
    given |= {"learned": Path(own["learned"]) if "learned" in own else None}
    given = {name: value for name, value in given.items() if value is not None}
    options = _recommended(recommended, given) if recommended is not None else {}
    options |= given
    options |= of_run | ({"model_options": of_model} if of_model else {})
    asked, done = _asked(problems), []
    if isinstance(asked, Task):
        if "answer_type" in own:
            raise UserError(f"--set answer_type: {asked.name} says itself how its answers are read; leave it out")
        typer.echo(f"{asked.name}: its problems of the split {of_run.get('split', 'test')}")
    with watching() as progress:
        found = solutions(
            asked, **options, judges=judged(list(own.get("judge", ()))), engine=engine, device=device_of(context),
            answer_type=own.get("answer_type", "math"), out=out, limit=own.get("limit"), progress=progress,
        )  # fmt: skip
        tick = progress.stretch("solving", None)
        for solution in found:
            typer.echo(_line(solution))
            done.append(solution)
            tick(1)
    typer.echo(f"{_total(done)}; in {out / 'answers.jsonl'}")


def _asked(text: str) -> Asked:
    """What the argument names. Raises UserError for a name that is nothing."""
    from prunebench.tasks import catalogue
    from prunebench.tasks.catalogue import UnknownTaskError
    from prunebench.tasks.rows import is_data_file

    if is_data_file(Path(text)):
        return Path(text)
    if len(text.split()) > 1:
        return [text]
    try:
        return catalogue.get(text)
    except UnknownTaskError as error:
        raise UserError(f"{text}: no file of questions (.jsonl, .csv, ...) and no question; {error}") from error


def _recommended(folder: Path, given: Collection[str]) -> dict[str, Any]:
    """The settings of an advice. Where it says not to prune, all of its paths are kept.

    Raises UserError where it says so, and what is ``given`` would prune all the same.
    """
    from prunebench.bench.guideline.recommendation import Recommendation

    advice = Recommendation.read(folder)
    if not advice.worth_it:
        if pruning := [f"--{name}" for name in ("method", "n", "k", "prefix") if name in given]:
            raise UserError(
                f"{folder}: recommends no pruning, of {advice.none_paths} paths all are kept; leave out "
                f"{', '.join(pruning)}, or prune on your own account without --recommended"
            )
        typer.echo(f"{folder}: recommends no pruning; all {advice.none_paths} paths are kept")
        paths = advice.none_paths
        return {"model": advice.model, "method": "none", "n": paths, "k": paths, "prefix": advice.choice.prefix}
    choice = advice.choice
    learned = sorted(card.parent for card in (folder / "training").glob(f"*/learned/{choice.method}.json"))
    found = {"learned": learned[-1]} if learned else {}
    return {
        "model": advice.model, "method": choice.method, "n": choice.n, "k": choice.k, "prefix": choice.prefix, **found
    }  # fmt: skip


def _line(solution: Solution) -> str:
    ledger = solution.ledger
    answer = "no answer" if solution.answer is None else solution.answer
    tokens = f"{ledger.tokens:,} tokens, about {_share(solution.tokens_saved)} saved"
    seconds = f"{ledger.seconds:.1f} s, about {_share(solution.seconds_saved)} saved"
    return f"{solution.problem}: {answer} ({_votes(solution)}; {tokens}; {seconds})"


def _votes(solution: Solution) -> str:
    """How the paths voted that state an answer."""
    silent = sum(answer is None for answer in solution.answers)
    said = f"{solution.share:.0%} of {len(solution.kept)} paths"
    said += f", {silent} of which state no answer" if silent else ""
    rivals = sum(math.isclose(weight, max(solution.votes.values())) for weight in solution.votes.values()) - 1
    return said + (
        f", as many as {rivals} other {'answer has' if rivals == 1 else 'answers have'}" if rivals > 0 else ""
    )


def _share(value: float) -> str:
    return f"{round(value, 2) + 0.0:.0%}"  # no minus before a zero


def _total(solutions: Sequence[Solution]) -> str:
    ledgers = [solution.ledger for solution in solutions]
    tokens, whole_tokens = sum(it.tokens for it in ledgers), sum(it.whole_tokens for it in ledgers)
    seconds, whole_seconds = sum(it.seconds for it in ledgers), sum(it.whole_seconds for it in ledgers)
    of_tokens = f"{tokens:,} of about {whole_tokens:,.0f} tokens"
    of_seconds = f"{seconds:.1f} of about {whole_seconds:.1f} s"
    return f"{len(ledgers)} {'problem' if len(ledgers) == 1 else 'problems'}: {of_tokens}, {of_seconds}"
