"""A comparison from a notebook: methods, a model and tasks in, tables out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prunebench.bench.config import RunConfig, usual_config
from prunebench.bench.engines.base import Engine
from prunebench.bench.engines.load import load_engine, parse_engine
from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.comparison import run_comparison
from prunebench.bench.evaluation.inputs import Inputs
from prunebench.bench.evaluation.results import Results
from prunebench.bench.progress import SILENT, Progress
from prunebench.bench.rollouts.store import IMPORTED
from prunebench.bench.rollouts.stored_config import config_of
from prunebench.bench.training.at_hand import learned_for, shipped_labels


def compare(
    tasks: Sequence[str] = (),
    *,
    methods: Sequence[str] = (),
    model: str = "embedded",
    problems: int | None = None,
    n: int | None = None,
    k: int | None = None,
    prefix: int | None = None,
    store: Path | str | None = None,
    learned: Path | str | None = None,
    labels: Sequence[Path | str] | None = None,
    judges: Mapping[str, str] = {},
    engine: str | Engine = "transformers",
    device: str = "cpu",
    out: Path | str = "runs/compare",
    progress: Progress = SILENT,
    **settings: Any,
) -> Results:
    """Compare ``methods`` (none: all) on ``tasks``: of each problem ``n`` paths, ``k`` kept after ``prefix`` tokens.

    What is not given is the shipped reasoner's own, or the standard setting for another ``model``; ``problems`` are so
    many per task; ``settings`` are keys of :class:`prunebench.bench.config.RunConfig` (``seed``, ``temperature``,
    ``max_new_tokens``, ``policy``, ``vote``, ``draws``, ...). ``store``: rollouts that are there already; their model,
    tasks and sampling are taken, and ``engine`` reads them again. ``learned``: a folder of learned files before those
    that are shipped; ``labels``: label stores of these problems (None: those that are shipped). ``out`` keeps rollouts,
    replays and the results: the same call goes on from there and computes nothing twice. ``progress`` counts.

    Returns the results: accuracies and differences in points, tokens per problem, NaN where undefined; ``to_frame()``
    makes a table of them, and every figure takes them (``from prunebench.figures.forest import forest``). Raises
    UserError, one sentence, for what cannot be run.
    """
    given = {"tasks": list(tasks) or None, "methods": list(methods) or None, "problems": problems, "n": n, "k": k,
             "prefix_tokens": prefix, **settings}  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    name = model if isinstance(engine, str) else engine.name
    config = usual_config(name, **given) if store is None else _of(store, given)
    loaded: Engine | None = None if isinstance(engine, str) else engine
    if isinstance(engine, str) and config.model != IMPORTED:
        loaded = load_engine(config.model, device, config.model_options, parse_engine(engine))
    at_hand = config.model if loaded is None or loaded.reads else ""
    sampling = config.sampling.digest if store is None else None
    inputs = Inputs(
        learned_for(at_hand, None if learned is None else Path(learned), config.model_options),
        tuple(map(Path, labels) if labels is not None else shipped_labels(at_hand, sampling, config.model_options)),
        judges,
        store=None if store is None else Path(store),
    )
    return run_comparison(loaded, config, Path(out), inputs, command="prunebench.bench.compare", progress=progress)


def _of(store: Path | str, given: Mapping[str, Any]) -> RunConfig:
    """The settings of rollouts that are there. Raises UserError where a model's own code would run by a file's word."""
    config = config_of(Path(store), **given)
    if config.model_options.trust_remote_code:
        raise UserError(f"{store}: its model brings code of its own; load it yourself and give it as engine=")
    return config
