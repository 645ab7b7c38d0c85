"""What is at hand: shipped weights, labels and learned files, plans of labels, plugins, the model of a store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunebench.bench.engines.shipped import REASONERS
from prunebench.bench.errors import UserError

if TYPE_CHECKING:
    from prunebench.bench.engines import base
    from prunebench.bench.engines.options import ModelOptions
    from prunebench.bench.engines.registry import EngineKind
    from prunebench.bench.rollouts.store import RolloutStore
    from prunebench.bench.training.label_plans import LabelPlan

EMBEDDED = REASONERS["embedded"]


def require_weights() -> None:
    if not (EMBEDDED.weights / "model.safetensors").exists():
        raise UserError("the shipped reasoner is missing (bench/reasoner/weights); rebuild it with: make reasoner")


def training_data(folder: Path | None, model: str) -> Path:
    """The labelled prefixes in ``folder``; where none is named, those that are shipped for a shipped reasoner.

    Raises UserError where there are none.
    """
    if folder is not None:
        return folder
    shipped = (
        [] if model not in REASONERS else sorted(path for path in REASONERS[model].data.glob("*") if path.is_dir())
    )
    if not shipped:
        raise UserError(
            f"no labelled prefixes are shipped for model '{model}': give yours with --data FOLDER; "
            "prunebench rollouts and prunebench label make them (docs/add-a-pruner.md)"
        )
    return shipped[0]


def label_plan(recipe: str) -> LabelPlan:
    from prunebench.bench.training.label_plans import RECIPES

    if recipe not in RECIPES:
        raise UserError(f"unknown recipe '{recipe}': known are {', '.join(RECIPES)}")
    return RECIPES[recipe]


def load_plugins(paths: Iterable[Path]) -> None:
    from prunebench.bench.plugins import load_plugin

    for path in paths:
        load_plugin(path)


def known(look: Callable[[], Any]) -> Any:
    """Look a name up; an unknown one is the user's error."""
    try:
        return look()
    except ValueError as error:
        raise UserError(str(error)) from error


def processes_on(device: str) -> int:
    """How many processes sample: on a CPU one per core, at most four."""
    return max(1, min(4, os.cpu_count() or 1)) if device == "cpu" else 1


def engine_of_store(
    store: RolloutStore, device: str, trusted: bool = False, kind: EngineKind | None = None
) -> base.Engine:
    """The model that sampled the rollouts of a store, loaded as it was then. Raises UserError for imported ones."""
    from pydantic import ValidationError

    from prunebench.bench.engines.load import DEFAULT_ENGINE, load_engine
    from prunebench.bench.engines.options import ModelOptions
    from prunebench.bench.rollouts.opening import is_imported

    folder = store.shards.folder
    if is_imported(store):
        raise UserError(
            f"{folder}: these rollouts were imported, and their model is not at hand: nothing can be run on it"
        )
    try:
        options = ModelOptions(**store.manifest.get("model_options", {}))
    except (ValidationError, TypeError) as error:
        raise UserError(f"{folder}: its model_options are not those of this version; use another store") from error
    require_trust(folder, options, trusted)
    return load_engine(str(store.manifest["model"]), device, options, kind or DEFAULT_ENGINE)


def require_trust(store: Path, options: ModelOptions, trusted: bool) -> None:
    """A file does not decide that the code of a model runs. Raises UserError unless the command line says so."""
    if options.trust_remote_code and not trusted:
        raise UserError(
            f"{store}: its model brings code of its own; if you trust it, say so: --set trust_remote_code=true"
        )
