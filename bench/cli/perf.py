"""Measuring: speed against its goals, the acceptance card, devices and engines side by side."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any, NamedTuple

import typer

from prunebench.bench.cli.app import CHECK, app
from prunebench.bench.cli.at_hand import require_weights
from prunebench.bench.cli.options import device_given
from prunebench.bench.cli.settings import keys_of, set_option, settings_of
from prunebench.bench.errors import UserError
from prunebench.bench.progress import Progress, Spoken


@dataclass(frozen=True)
class Nothing:
    """A measurement without settings."""


@dataclass(frozen=True)
class Card:
    name: str = "embedded"


@dataclass(frozen=True)
class Check:
    """``rows`` prefixes per pool, of these lengths in tokens (empty: 512 and the demo's own)."""

    rows: int = 64
    prefix: tuple[int, ...] = ()


@dataclass(frozen=True)
class Agreement:
    """``problems`` of every synthetic family with ``rows`` paths each."""

    problems: int = 10
    rows: int = 64


@dataclass(frozen=True)
class Decoding:
    """Paths of ``total`` tokens, scored at ``prefix``, ``rows`` at a time; ``memory``: tokens of keys and values."""

    shape: str = "qwen2-1.5b"
    prefix: int = 2048
    total: int = 12_000
    rows: tuple[int, ...] = (64, 512)
    memory: int = 2_200_000
    problems: int = 16


@dataclass(frozen=True)
class Online:
    """``problems`` in flight with ``rows`` paths each; every time is the median of so many ``repeats``."""

    problems: int = 16
    rows: int = 64
    repeats: int = 3


@dataclass(frozen=True)
class Cluster:
    """A :class:`prunebench.bench.perf.cluster_cases.ClusterCase`; ``measure``: first hold it to a measured run."""

    problems: int = 1000
    paths: int = 1024
    tokens: int = 32_768
    prefix: int = 2048
    gpus: int = 64
    simulated: int = 2
    kv_gigabytes: float = 115.0
    share: float = 0.5
    fixed: float = 0.0
    rate: float = 0.0
    price: float = 3.0
    measure: bool = True


def _goals(_: Nothing, device: str, progress: Progress) -> dict[str, Any]:
    from prunebench.bench.perf.goals import measure_goals

    require_weights()
    return measure_goals(device, progress).described()


def _card(card: Card, _: str, progress: Progress) -> dict[str, Any]:
    """The acceptance card of a shipped reasoner, as it was measured on validation problems."""
    import json

    from prunebench.bench.engines.options import ModelOptions
    from prunebench.bench.engines.shipped import REASONERS
    from prunebench.bench.engines.sources import source_of

    if card.name not in REASONERS:
        raise UserError(f"unknown reasoner '{card.name}': shipped are {', '.join(REASONERS)}")
    reasoner = REASONERS[card.name]
    if not reasoner.card.exists():
        raise UserError(f"no acceptance card of {card.name} yet; make it with: make reasoner NAME={card.name}")
    content: dict[str, Any] = json.loads(reasoner.card.read_text())
    if content["model_hash"] != source_of(card.name, ModelOptions()).digest:
        raise UserError(f"{reasoner.card}: measured on other weights; make it again: make reasoner NAME={card.name}")
    progress.say(_card_table(card.name, content))
    return content


def _card_table(name: str, card: dict[str, Any]) -> str:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Acceptance card of {name} ({card['model_hash']})", box=None)
    table.add_column("line")
    table.add_column("asked")
    for family in card["families"]:
        table.add_column(family["family"], justify="right")
    for rows in zip(*(family["lines"] for family in card["families"]), strict=True):
        low, high = rows[0]["low"], rows[0]["high"]
        bounds = (f">= {low:g}" if low is not None else "", f"<= {high:g}" if high is not None else "")
        values = (f"{row['value']:.3g} {'met' if row['met'] else '[bold]NOT MET[/]'}" for row in rows)
        table.add_row(rows[0]["name"], " and ".join(bound for bound in bounds if bound), *values)
    for remark in card["families"][0]["remarks"]:
        table.add_row(remark, "", *(f"{family['remarks'][remark]:.3g}" for family in card["families"]))
    console = Console()
    with console.capture() as text:
        console.print(table)
    return text.get().rstrip("\n")


def _check(check: Check, device: str, progress: Progress) -> dict[str, Any]:
    """STOP's check by the kept cache against encoding the prefixes again: a ratio within one run."""
    from prunebench.bench.config import preset
    from prunebench.bench.engines.load import load_local
    from prunebench.bench.perf.clock import check_cost
    from prunebench.bench.perf.online import shipped_stop

    require_weights()
    engine = load_local("embedded", device)
    stop = shipped_stop(engine, preset("demo").prefix_tokens)
    costs = {}
    for length in check.prefix or (512, preset("demo").prefix_tokens):
        costs[length] = cost = check_cost(engine, stop, length, check.rows)
        goal = " (goal: at most 1/20)" if length == 512 else ""
        progress.say(
            f"L={length} B={check.rows} A={stop.tokens}: check {cost.check_seconds:.4f} s, re-encoding "
            f"{cost.reencode_seconds:.4f} s, ratio 1/{1 / cost.ratio:.1f}{goal}"
        )
    return {str(length): asdict(cost) for length, cost in costs.items()}


def _agreement(agreement: Agreement, device: str, progress: Progress) -> dict[str, Any]:
    """Whether a device tells what the CPU tells: log-probabilities, draws, STOP's choice."""
    from prunebench.bench.config import preset
    from prunebench.bench.engines.load import load_local
    from prunebench.bench.perf.agreement import agreement as measured
    from prunebench.bench.perf.online import shipped_stop
    from prunebench.bench.rollouts.sampling import problems_of, tasks_of

    require_weights()
    config = preset("demo", problems=agreement.problems)
    engines = load_local("embedded", "cpu"), load_local("embedded", device)
    first, second = (shipped_stop(engine, config.prefix_tokens) for engine in engines)
    chosen = problems_of(tasks_of(config), config.split, config.problems, config.seed)
    kept = max(1, agreement.rows * config.k // config.n)
    result = measured(*engines, (first, second), chosen, config.prefix_tokens, agreement.rows, kept)
    for name, value in asdict(result).items():
        progress.say(f"{name}: {value}")
    for claim, met in result.met.items():
        progress.say(f"{'met    ' if met else 'NOT MET'}  {claim}")
    return {**asdict(result), "met": result.met}


def _decoding(decoding: Decoding, device: str, progress: Progress) -> dict[str, Any]:
    """Decoding against the memory limit, the check, what pruning 64 to 8 saves in seconds, memory before and after."""
    from prunebench.bench.perf.decoding import EnginePlan, measure_engine

    plan = EnginePlan(decoding.prefix, decoding.total, decoding.rows, decoding.memory, decoding.problems)
    speed = measure_engine(decoding.shape, device, plan, progress)
    return {**asdict(speed), "check_speed_up": 1 / speed.check.ratio, "ratio": speed.saved.ratio}


def _engines(online: Online, device: str, progress: Progress) -> dict[str, Any]:
    """The default engine against vLLM: Launch, STOP's check and Resume, and what pruning saves, at equal memory."""
    import os

    from prunebench.bench.engines.load import load_local
    from prunebench.bench.perf.online import compare_engines, demo_case
    from prunebench.bench.provenance import device_name

    require_weights()
    if device == "cpu":
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "0"  # one thread, as the default engine takes
    engine = load_local("embedded", device)
    case, requests = demo_case(engine, online.problems, online.rows, online.repeats)
    paths = f"{len(requests)} problems x {online.rows} paths -> {case.kept} at {case.prefix} tokens"
    progress.say(f"{device_name(device)}: {paths}")

    def vllm(kv_tokens: int) -> Any:
        from prunebench.bench.engines.vllm.engine import VllmEngine

        return VllmEngine.beside(engine, kv_tokens=kv_tokens)

    runs = compare_engines(engine, vllm, case, requests, progress)
    return {"device": device_name(device), "runs": [{**asdict(run), "ratio": run.ratio} for run in runs]}


def _cluster(cluster: Cluster, _: str, progress: Progress) -> dict[str, Any]:
    """Pruning on a batch-served cluster, simulated, and held to a measured run of the shipped reasoner."""
    from prunebench.bench.perf.cluster_cases import ClusterCase, described, outcomes

    numbers = {name: value for name, value in asdict(cluster).items() if name != "measure"}
    case = ClusterCase(**{**numbers, "simulated": min(cluster.simulated, cluster.gpus)})
    reproduced = _reproduced(progress) if cluster.measure else []
    progress.say(f"{case}: room for {case.capacity:,} tokens on each, {case.cost}")
    of_policies = outcomes(case, progress)
    return {"reproduced": reproduced, **described(case, of_policies)}


def _reproduced(progress: Progress) -> list[dict[str, Any]]:
    """Measured runs of the shipped reasoner, and what the simulation says about them."""
    from prunebench.bench.engines.load import load_local
    from prunebench.bench.perf.cluster_cases import reproduce, step_cost
    from prunebench.bench.perf.online import demo_case
    from prunebench.bench.provenance import device_name

    require_weights()
    engine = load_local("embedded", "cpu")
    case, requests = demo_case(engine, problems=16, rows=64, repeats=3)
    engine.rows_in_flight, engine.tokens_in_flight = 16 * 64, sys.maxsize
    cost = step_cost(engine, (8, 64, 256, 1024), (case.prefix, 160, 320))
    progress.say(f"{device_name('cpu')}: {cost}")
    runs = []
    for some in (requests, requests[:1]):
        run = reproduce(engine, case, some, cost)
        progress.say(run.sentence)
        runs.append({**asdict(run), "told": run.sentence})
    return runs


class Measurement(NamedTuple):
    """What is measured, its settings, and the device it is measured on where none is named (None: it takes none)."""

    settings: type
    run: Callable[[Any, str, Progress], dict[str, Any]]
    device: str | None = "cpu"


MEASUREMENTS = {
    "goals": Measurement(Nothing, _goals),
    "reasoner": Measurement(Card, _card, None),
    "check": Measurement(Check, _check),
    "agreement": Measurement(Agreement, _agreement, "cuda"),
    "engine": Measurement(Decoding, _decoding),
    "engines": Measurement(Online, _engines),
    "cluster": Measurement(Cluster, _cluster, None),
}


@app.command(rich_help_panel=CHECK)
def perf(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help=f"{', '.join(MEASUREMENTS)}.")] = "goals",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; sentences go to standard error.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        set_option("; ".join(f"{name}: {keys_of(kind.settings) or 'none'}" for name, kind in MEASUREMENTS.items())),
    ] = None,
) -> None:
    """Speed as ratios within one run, against its goals; the reasoner's card; devices and engines side by side.

    agreement holds the CPU against --device (default: cuda).
    Exit code 1 where a device does not tell what the CPU tells.
    """
    import json

    if what not in MEASUREMENTS:
        raise UserError(f"nothing is called '{what}': measure {', '.join(MEASUREMENTS)}")
    measurement, device = MEASUREMENTS[what], device_given(context)
    if device is not None and measurement.device is None:
        raise UserError(f"--device {device}: perf {what} takes no device; leave it out")
    content = measurement.run(
        settings_of(measurement.settings, settings),
        device or measurement.device or "cpu",
        Spoken(lambda sentence: typer.echo(sentence, err=as_json)),
    )
    if as_json:
        typer.echo(json.dumps(content, indent=1))
    if what == "agreement" and not all(content["met"].values()):
        raise typer.Exit(1)
