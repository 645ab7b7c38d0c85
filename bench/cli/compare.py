"""Comparing methods: the demo, any tasks and model, rollouts that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunebench.bench.cli.app import RUN, app
from prunebench.bench.cli.at_hand import EMBEDDED, require_trust, require_weights
from prunebench.bench.cli.comparing import compare_with
from prunebench.bench.cli.options import (
    Config,
    Data,
    Engine,
    Judge,
    Learned,
    Methods,
    Model,
    Paths,
    Prefix,
    Problems,
    RunSettings,
    Task,
    data_of,
    device_given,
    first_look,
    judged,
)
from prunebench.bench.cli.settings import config_from, names_of, overrides_of, standard_taken
from prunebench.bench.errors import UserError
from prunebench.bench.training.at_hand import learned_for, shipped_labels

if TYPE_CHECKING:
    from prunebench.bench.config import RunConfig
    from prunebench.bench.engines.registry import EngineKind
    from prunebench.bench.rollouts.store import RolloutStore

OF_EXPERIMENTS = frozenset({"recipe", "train_tasks", "kv_bytes_per_token"})
"""Keys that a comparison does not look at."""
WITH_STORE = frozenset(
    {"tasks", "n", "k", "prefix_tokens", "problems", "seed", "methods", "policy", "vote", "budget", "draws"}
)
"""What can be asked of rollouts that are there; everything else says how to sample."""


@app.command(rich_help_panel=RUN)
def demo() -> None:
    """Sample, score and compare: the shipped reasoner on five held-out problems of every synthetic family."""
    from prunebench.bench.config import preset
    from prunebench.bench.evaluation.inputs import Inputs

    require_weights()
    labels = tuple(shipped_labels(EMBEDDED.name))
    compare_with(preset("demo"), Path("runs/demo"), Inputs(EMBEDDED.learned, labels), "cpu")


@app.command(rich_help_panel=RUN)
def compare(
    context: typer.Context,
    config: Config = None,
    task: Task = None,
    data: Data = None,
    model: Model = None,
    problems: Problems = None,
    n: Paths = None,
    k: Annotated[int | None, typer.Option("--k", help="Paths kept by the pruner.")] = None,
    prefix: Prefix = None,
    methods: Methods = None,
    policy: Annotated[
        str | None, typer.Option(help="topk:8, ratio:0.125, funnel:64@32,32@64,16@96 ... (see docs/policies.md).")
    ] = None,
    judge: Judge = None,
    store: Annotated[
        Path | None, typer.Option(help="Rollouts that are there already (prunebench rollouts, or import).")
    ] = None,
    learned: Learned = None,
    labels: Annotated[list[Path] | None, typer.Option(help="Label stores of these problems.")] = None,
    engine: Engine = "transformers",
    settings: RunSettings = None,
    out: Annotated[Path, typer.Option(help="Where results go.")] = Path("runs/compare"),
) -> None:
    """Compare methods on any tasks and model: rollouts, scores, main table, figures."""
    from prunebench.bench.engines.load import parse_engine
    from prunebench.bench.evaluation.inputs import Inputs

    asked: dict[str, Any] = {
        "tasks": task, "data": data_of(data), "model": model, "problems": problems, "n": n, "k": k,
        "prefix_tokens": prefix, "methods": None if methods is None else names_of(methods), "policy": policy,
    }  # fmt: skip
    kind, device = parse_engine(engine), device_given(context)
    if policy is not None and k is not None:
        raise UserError(f"--k {k}: --policy {policy} says how many paths are kept; give one of them")
    if store is None:
        run = config_from(config, settings, OF_EXPERIMENTS, **asked)
        sampling: str | None = run.sampling.digest
    else:
        run, kind, sampling = _stored(store, {"--config": config, "--device": device}, asked, settings, kind)
    # What is shipped was learned from the shipped model's own cache, not from one on a server.
    at_hand = run.model if kind.reads else ""
    inputs = Inputs(
        learned_for(at_hand, learned, run.model_options),
        tuple(shipped_labels(at_hand, sampling, run.model_options) if labels is None else labels),
        judged(judge),
        context.obj,
        store,
    )
    if store is None and (said := standard_taken(config, settings, run)):
        typer.echo(said)
    compare_with(run, out, inputs, device or "cpu", kind, first_look(context), planned=store is None)


def _stored(
    folder: Path,
    options: Mapping[str, str | None],
    asked: Mapping[str, Any],
    settings: Sequence[str] | None,
    kind: EngineKind,
) -> tuple[RunConfig, EngineKind, str | None]:
    """The comparison of stored rollouts, what reads them again, and the digest of their sampling settings.

    Raises UserError for whatever is given and says how to sample.
    """
    from prunebench.bench.rollouts.store import RolloutStore
    from prunebench.bench.rollouts.stored_config import config_of

    overrides = overrides_of(settings, asked)
    trusted = overrides.get("model_options") == {"trust_remote_code": True}
    refused = ["--config"] if options["--config"] is not None else []
    sampling = overrides.keys() - WITH_STORE - {"model_options"}
    refused += [f"--{key}" if asked.get(key) is not None else f"--set {key}" for key in sampling]
    refused += [f"--set {key}" for key in overrides.get("model_options", {}) if not trusted]
    if refused:
        raise UserError(f"{', '.join(sorted(refused))}: the rollouts of --store were sampled already; leave it out")
    store = RolloutStore.open(folder)
    run = config_of(folder, typer.echo, **{name: value for name, value in overrides.items() if name in WITH_STORE})
    require_trust(folder, run.model_options, trusted)
    return run, _reader(store, kind, options["--device"]), store.manifest.get("sampling_digest")


def _reader(store: RolloutStore, kind: EngineKind, device: str | None) -> EngineKind:
    """What reads the paths of a store again. Raises UserError where the command line asks for what cannot be."""
    from prunebench.bench.engines.load import DEFAULT_ENGINE, kind_for_store
    from prunebench.bench.rollouts.opening import is_imported

    folder, asked = store.shards.folder, replace(kind, workers=None, address=None, gpus_per_worker=None)
    if asked != kind:
        raise UserError(f"--engine {kind.name},workers={kind.workers}: nothing is sampled from --store; leave it out")
    if is_imported(store):
        refused = [f"--engine {kind.name}"] if kind != DEFAULT_ENGINE else []
        refused += [f"--device {device}"] if device is not None else []
        if refused:
            raise UserError(f"{', '.join(refused)}: {folder} was imported, and its model is not at hand; leave it out")
    reader = kind_for_store(store.manifest.get("engine", ""), kind)
    if kind not in (reader, DEFAULT_ENGINE):
        raise UserError(f"--engine {kind.name}: {folder} was sampled on a server by {reader.name}; leave it out")
    return reader
