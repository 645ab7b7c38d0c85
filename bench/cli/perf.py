"""Measuring: the acceptance card, the cost of a check."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.cli.app import (
    REASONER,
    Device,
    app,
    engine_of,
    require_weights,
)
from bench.errors import UserError

perf = typer.Typer(help="Measure the reasoner's acceptance card and the cost of a check.", no_args_is_help=True)
app.add_typer(perf, name="perf")


@perf.command("reasoner")
def perf_reasoner(name: Annotated[str, typer.Argument(help="Which one.")] = "embedded") -> None:
    """The acceptance card of a shipped reasoner, as it was measured on validation problems."""
    import json

    from rich.console import Console
    from rich.table import Table

    from bench.engines.transformers import model_digest
    from bench.reasoner.config import REASONERS

    if name not in REASONERS:
        raise UserError(f"unknown reasoner '{name}': shipped are {', '.join(REASONERS)}")
    reasoner = REASONERS[name]
    if not reasoner.card.exists():
        raise UserError(f"no acceptance card of {name} yet; make it with: prunebench reasoner --name {name}")
    card = json.loads(reasoner.card.read_text())
    if card["model_hash"] != model_digest(str(reasoner.weights)):
        raise UserError(f"{reasoner.card}: measured on other weights; make it again with: prunebench reasoner")
    table = Table(title=f"Acceptance card of {name} ({card['model_hash']})", box=None)
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

    require_weights()
    engine = engine_of("embedded", device)
    stop = load_method("stop", REASONER / "learned", engine.digest, preset("demo").prefix_tokens).pruner
    assert isinstance(stop, Stop)
    for length in prefix or [512, preset("demo").prefix_tokens]:
        cost = check_cost(engine, stop, length, rows)
        goal = " (goal: at most 1/20)" if length == 512 else ""
        typer.echo(
            f"L={length} B={rows} A={stop.tokens}: check {cost.check_seconds:.4f} s, re-encoding "
            f"{cost.reencode_seconds:.4f} s, ratio 1/{1 / cost.ratio:.1f}{goal}"
        )
