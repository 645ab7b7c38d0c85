"""Comparing methods: the demo, any tasks and model, stored rollouts, and a comparison run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from prunebench.bench.cli.app import (
    EMBEDDED,
    RUN,
    ConfigFile,
    Data,
    Device,
    Engine,
    Judge,
    Kept,
    Methods,
    Model,
    ModelOption,
    Paths,
    Plugin,
    Prefix,
    Preset,
    Problems,
    Record,
    Seed,
    Split,
    Task,
    Temperature,
    app,
    config_from,
    data_of,
    judged,
    learned_for,
    load_plugins,
    model_options_of,
    names_of,
    require_trust,
    require_weights,
    shipped_labels,
    tokens_of,
)
from prunebench.bench.cli.comparing import compare_with
from prunebench.bench.errors import UserError


@app.command(rich_help_panel=RUN)
def demo(out: Annotated[Path, typer.Option(help="Where results go.")] = Path("runs/demo")) -> None:
    """Sample, score and compare: the shipped reasoner on 12 held-out problems of every synthetic family."""
    from prunebench.bench.config import preset
    from prunebench.bench.evaluation.comparison import Inputs

    require_weights()
    compare_with(preset("demo"), out, Inputs(EMBEDDED.learned, tuple(shipped_labels(EMBEDDED.name))), "cpu")


@app.command(rich_help_panel=RUN)
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
    learned: Annotated[
        Path | None, typer.Option(help="Folder of learned files and tuned configurations (default: the shipped one).")
    ] = None,
    labels: Annotated[list[Path] | None, typer.Option(help="Label stores of these problems.")] = None,
    engine: Engine = "transformers",
    device: Device = "cpu",
    out: Annotated[Path | None, typer.Option(help="Where results go (default: runs/compare).")] = None,
) -> None:
    """Compare methods on any tasks and model: rollouts, scores, main table, figures."""
    from prunebench.bench.engines.load import kind_for_store, parse_engine
    from prunebench.bench.evaluation.comparison import Inputs
    from prunebench.bench.rollouts.opening import config_of
    from prunebench.bench.rollouts.store import RolloutStore

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
    kind = parse_engine(engine)
    sampling: str | None = config.sampling.digest
    if store is not None:
        manifest = RolloutStore.open(store).manifest
        sampling = manifest.get("sampling_digest")
        kind = kind_for_store(manifest.get("engine", ""), kind)
    # What is shipped was learned from the shipped model's own cache, not from one on a server.
    at_hand = config.model if kind.reads else ""
    inputs = Inputs(
        learned_for(at_hand, learned),
        tuple(shipped_labels(at_hand, sampling, config.model_options) if labels is None else labels),
        judged(judge),
        tuple(plugin or ()),
        store,
    )
    compare_with(config, out or Path("runs/compare"), inputs, device, kind)


def _refuse_with_store(options: dict[str, Any]) -> None:
    """Options that say how to sample mean nothing for rollouts that are there."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise UserError(f"{', '.join(given)}: the rollouts of --store were sampled already; leave it out")
