"""Measuring: the acceptance card, what the engine makes of a device, whether two devices agree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from prunebench.bench.cli.app import (
    CHECK,
    Device,
    app,
    require_weights,
)
from prunebench.bench.engines.load import load_local
from prunebench.bench.errors import UserError

JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the numbers there as well.")]

perf = typer.Typer(help="Speed as ratios within one run; the reasoner's card; devices and engines side by side.")
app.add_typer(perf, name="perf", rich_help_panel=CHECK)


@perf.callback(invoke_without_command=True)
def perf_all(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
    device: Device = "cpu",
) -> None:
    """Decoding, check, saving, replay, training, help and grading against their goals: about four minutes.

    The commands below measure one thing each.
    """
    import json

    from prunebench.bench.perf.goals import measure

    if context.invoked_subcommand is not None:
        return
    require_weights()
    found = measure(device, (lambda _: None) if as_json else typer.echo)
    if as_json:
        typer.echo(json.dumps(found.described(), indent=1))


@perf.command("reasoner")
def perf_reasoner(name: Annotated[str, typer.Argument(help="Which one.")] = "embedded") -> None:
    """The acceptance card of a shipped reasoner, as it was measured on validation problems."""
    import json

    from rich.console import Console
    from rich.table import Table

    from prunebench.bench.engines.shipped import REASONERS
    from prunebench.bench.engines.transformers.engine import model_digest

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
    from prunebench.bench.config import preset
    from prunebench.bench.perf.clock import check_cost
    from prunebench.bench.perf.online import shipped_stop

    require_weights()
    engine = load_local("embedded", device)
    stop = shipped_stop(engine, preset("demo").prefix_tokens)
    for length in prefix or [512, preset("demo").prefix_tokens]:
        cost = check_cost(engine, stop, length, rows)
        goal = " (goal: at most 1/20)" if length == 512 else ""
        typer.echo(
            f"L={length} B={rows} A={stop.tokens}: check {cost.check_seconds:.4f} s, re-encoding "
            f"{cost.reencode_seconds:.4f} s, ratio 1/{1 / cost.ratio:.1f}{goal}"
        )


@perf.command("agreement")
def perf_agreement(
    device: Annotated[str, typer.Option(help="What is held against the CPU: cuda, or cpu itself.")] = "cuda",
    problems: Annotated[int, typer.Option(help="Problems of every synthetic family.")] = 10,
    rows: Annotated[int, typer.Option(help="Paths per problem.")] = 64,
    json_file: JsonFile = None,
) -> None:
    """Whether a device tells what the CPU tells: log-probabilities, draws, STOP's choice; exit code 1 if not."""
    from dataclasses import asdict

    from prunebench.bench.config import preset
    from prunebench.bench.perf.agreement import agreement
    from prunebench.bench.perf.online import shipped_stop
    from prunebench.bench.rollouts.sampling import problems_of, tasks_of

    require_weights()
    config = preset("demo", problems=problems)
    engines = load_local("embedded", "cpu"), load_local("embedded", device)
    first, second = (shipped_stop(engine, config.prefix_tokens) for engine in engines)
    chosen = problems_of(tasks_of(config), config.split, config.problems, config.seed)
    kept = max(1, rows * config.k // config.n)
    found = agreement(*engines, (first, second), chosen, config.prefix_tokens, rows, kept)
    for name, value in asdict(found).items():
        typer.echo(f"{name}: {value}")
    for claim, met in found.met.items():
        typer.echo(f"{'met    ' if met else 'NOT MET'}  {claim}")
    _write_json(json_file, {**asdict(found), "met": found.met})
    if not all(found.met.values()):
        raise typer.Exit(1)


@perf.command("engine")
def perf_engine(
    shape: Annotated[str, typer.Option(help="qwen2-1.5b, tiny, embedded or embedded-base.")] = "qwen2-1.5b",
    device: Device = "cpu",
    prefix: Annotated[int, typer.Option(help="Tokens of a path when it is scored.")] = 2048,
    total: Annotated[int, typer.Option(help="Tokens of a complete path.")] = 12_000,
    rows: Annotated[list[int] | None, typer.Option(help="Rows that decode together; default 64 and 512.")] = None,
    memory: Annotated[int, typer.Option(help="Tokens whose keys and values the device can hold.")] = 2_200_000,
    problems: Annotated[int, typer.Option(help="Problems in flight.")] = 16,
    json_file: JsonFile = None,
) -> None:
    """Decoding against the memory limit, the check, what pruning 64 to 8 saves in seconds, memory before and after."""
    from dataclasses import asdict

    from prunebench.bench.perf.decoding import Plan, measure

    plan = Plan(prefix, total, tuple(rows or (64, 512)), memory, problems)
    found = measure(shape, device, plan, typer.echo)
    _write_json(json_file, {**asdict(found), "check_speed_up": 1 / found.check.ratio, "ratio": found.saved.ratio})


@perf.command("engines")
def perf_engines(
    problems: Annotated[int, typer.Option(help="Problems in flight.")] = 16,
    rows: Annotated[int, typer.Option(help="Paths per problem.")] = 64,
    repeats: Annotated[int, typer.Option(help="Every time is the median of so many.")] = 3,
    device: Device = "cpu",
    json_file: JsonFile = None,
) -> None:
    """The default engine against vLLM: Launch, STOP's check and Resume, and what pruning saves, at equal memory."""
    import os
    from dataclasses import asdict

    from prunebench.bench.perf.online import Run, compare_engines, demo_trial
    from prunebench.bench.provenance import device_name

    require_weights()
    if device == "cpu":
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "0"  # one thread, as the default engine takes
    engine = load_local("embedded", device)
    trial, requests = demo_trial(engine, problems, rows, repeats)
    paths = f"{len(requests)} problems x {rows} paths -> {trial.kept} at {trial.prefix} tokens"
    typer.echo(f"{device_name(device)}: {paths}")

    def tell(run: Run) -> None:
        typer.echo(run.told)

    def vllm(kv_tokens: int) -> Any:
        from prunebench.bench.engines.vllm.engine import VllmEngine

        return VllmEngine.beside(engine, kv_tokens=kv_tokens)

    runs = compare_engines(engine, vllm, trial, requests, tell)
    told = [{**asdict(run), "ratio": run.ratio} for run in runs]
    _write_json(json_file, {"device": device_name(device), "runs": told})


@perf.command("cluster")
def perf_cluster(
    problems: Annotated[int, typer.Option(help="Problems of the run.")] = 1000,
    paths: Annotated[int, typer.Option(help="Paths per problem.")] = 1024,
    tokens: Annotated[int, typer.Option(help="Mean length of a path.")] = 32_768,
    prefix: Annotated[int, typer.Option(help="Tokens of a path when it is scored.")] = 2048,
    gpus: Annotated[int, typer.Option(help="Devices, each with a copy of the model.")] = 64,
    simulated: Annotated[int, typer.Option(help="So many of them are simulated, the rest is scaled up.")] = 2,
    kv_gigabytes: Annotated[float, typer.Option(help="What keys and values may take on each.")] = 115.0,
    share: Annotated[float, typer.Option(help="Share of bandwidth and products that is reached.")] = 0.5,
    fixed: Annotated[float, typer.Option(help="Seconds on top of every step.")] = 0.0,
    rate: Annotated[float, typer.Option(help="Problems that arrive per second; 0: all are there.")] = 0.0,
    price: Annotated[float, typer.Option(help="Of one device for an hour, in any money.")] = 3.0,
    measure: Annotated[bool, typer.Option(help="First hold the simulation to a measured run.")] = True,
    json_file: JsonFile = None,
) -> None:
    """Pruning on a batch-served cluster, simulated, and held to a measured run of the shipped reasoner."""
    from dataclasses import asdict

    from prunebench.bench.perf.cluster_cases import Case, Reproduced, described, outcomes, reproduce, step_cost
    from prunebench.bench.perf.online import demo_trial
    from prunebench.bench.provenance import device_name

    case = Case(
        problems=problems, paths=paths, tokens=tokens, prefix=prefix, gpus=gpus, simulated=min(simulated, gpus),
        kv_gigabytes=kv_gigabytes, share=share, fixed=fixed, rate=rate, price=price,
    )  # fmt: skip
    runs: list[Reproduced] = []
    if measure:
        require_weights()
        engine = load_local("embedded", "cpu")
        trial, requests = demo_trial(engine, problems=16, rows=64, repeats=3)
        engine.rows_in_flight = 16 * 64
        cost = step_cost(engine, (8, 64, 256, 1024), (trial.prefix, 160, 320))
        typer.echo(f"{device_name('cpu')}: {cost}")
        for some in (requests, requests[:1]):
            runs.append(reproduce(engine, trial, some, cost))
            typer.echo(runs[-1].told)
    typer.echo(f"{case}: room for {case.capacity:,} tokens on each, {case.cost}")
    found = outcomes(
        case,
        lambda one: typer.echo(
            f"{one.policy}: {one.decoded / 1e9:.1f}G tokens decoded, {one.recomputed / 1e9:.2f}G encoded again, "
            f"{one.hours:.1f} h, {one.gpu_hours:.0f} GPU-hours, price {one.price:.0f}; a problem takes "
            f"{one.latency_median:.2f} h (95 %: {one.latency_95:.2f}), memory in use {one.occupancy:.0%}"
        ),
    )
    _write_json(
        json_file, {"reproduced": [{**asdict(run), "told": run.told} for run in runs], **described(case, found)}
    )


def _write_json(path: Path | None, content: dict[str, Any]) -> None:
    import json

    from prunebench.bench.files import write_atomically

    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
