"""The whole way from questions to answers, for a notebook or the command line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prunebench.bench.config import RunConfig, usual_config
from prunebench.bench.engines.base import Engine
from prunebench.bench.engines.load import load_engine, parse_engine
from prunebench.bench.engines.served import refusal
from prunebench.bench.engines.shipped import REASONER_PROMPT, REASONER_SUFFIX, REASONERS, SYNTHETIC
from prunebench.bench.errors import UserError
from prunebench.bench.policies import KeepAll, TopK
from prunebench.bench.progress import SILENT, Progress
from prunebench.bench.provenance import code_digest
from prunebench.bench.rollouts.sampling import problems_of
from prunebench.bench.solving.answers import answered
from prunebench.bench.solving.solver import Solution, Solver
from prunebench.bench.training.loading import Judges, Learned, entry_of, load_method, reads_of
from prunebench.methods.controls.none import NoPruning
from prunebench.methods.signals import PRIVILEGED
from prunebench.tasks.questions import Questions
from prunebench.tasks.task import Problem, Task

READ = frozenset(
    {"model", "n", "k", "prefix_tokens", "temperature", "max_new_tokens", "top_p", "top_k", "min_p", "seed", "split",
     "vote", "model_options"}
)  # fmt: skip
"""The keys of a configuration that solving looks at."""

Asked = Path | Task | Iterable[str | Mapping[str, Any]]


def solve(
    problems: Asked,
    *,
    model: str = "embedded",
    method: str = "stop",
    n: int | None = None,
    k: int | None = None,
    prefix: int | None = None,
    learned: Learned | None = None,
    judges: Mapping[str, str] = {},
    engine: str | Engine = "transformers",
    device: str = "cpu",
    answer_type: str = "math",
    out: Path | None = None,
    limit: int | None = None,
    progress: Progress = SILENT,
    **settings: Any,
) -> Iterator[Solution]:
    """Answer ``problems`` with ``n`` paths each, of which ``method`` keeps ``k`` after ``prefix`` tokens.

    ``problems``: texts, mappings with a ``question`` and perhaps an ``id``, a file of such rows, or a task; at most
    ``limit`` of them. ``settings`` are keys of :class:`prunebench.bench.config.RunConfig` (``seed``, ``temperature``,
    ``max_new_tokens``, ``vote``, ...). What is not given is the shipped reasoner's own, or the standard setting for
    another model. ``learned``: the folder of what the method learned (None: what is shipped with the model). With
    ``out`` every solution is a line of ``out/answers.jsonl``, and what is there is not solved again. ``progress`` says
    what there is to say of the method, as that it was tuned at another length, and what the problems will take.

    Yields a :class:`Solution` per problem, in order. Raises UserError for what cannot be run.
    """
    model = model if isinstance(engine, str) else engine.name
    given = {"model": model, "n": n, "k": k, "prefix_tokens": prefix, **settings}
    config = configured({name: value for name, value in given.items() if value is not None})
    asked = chosen(problems, config, answer_type, limit)
    loaded = engine
    if isinstance(loaded, str):
        loaded = load_engine(model, device, config.model_options, parse_engine(loaded))
    solver, identity = prepared(loaded, config, method, learned or learned_with(loaded), judges, progress)
    return answered(solver, asked, identity, out, progress)


def configured(given: Mapping[str, Any]) -> RunConfig:
    """The settings of a run whose problems are no task's. Raises UserError."""
    for name in given.keys() & RunConfig.model_fields.keys() - READ:
        raise UserError(f"{name}: solving makes no use of it; leave it out")
    return usual_config(**{"model": "embedded", "tasks": ["questions"], "problems": None, **given})


def learned_with(engine: Engine) -> Path:
    """What is shipped with a reasoner, learned from its own cache; else where training puts what is learned."""
    as_shipped = engine.name in REASONERS and engine.reads and not engine.options.changes
    return REASONERS[engine.name].learned if as_shipped else Path("runs/learned")


def chosen(problems: Asked, config: RunConfig, answer_type: str, limit: int | None) -> list[tuple[Task, Problem]]:
    """The problems to solve, each with the task that reads its answers. Raises UserError where there are none."""
    if isinstance(problems, Task):
        return problems_of([problems], config.split, limit if problems.endless else None, config.seed)[:limit]
    prompt, suffix = (REASONER_PROMPT, REASONER_SUFFIX) if config.model in SYNTHETIC else (None, None)
    return problems_of([Questions(problems, answer_type, prompt, suffix)], "test", limit, config.seed)


def prepared(
    engine: Engine, config: RunConfig, method: str, learned: Learned, judges: Mapping[str, str], progress: Progress
) -> tuple[Solver, str]:
    """A solver that is ready, and what tells its answers from those of other settings. Raises UserError."""
    entry_of(method)  # refuses an unknown one
    reads = reads_of([method])
    if hidden := sorted(signal.name for signal in reads & PRIVILEGED):
        raise UserError(f"--method {method}: it reads {', '.join(hidden)}, which nobody knows of a new problem")
    if not engine.reads and (reason := refusal(method, reads)):
        raise UserError(reason)
    if config.prefix_tokens >= engine.context:
        raise UserError(f"--prefix {config.prefix_tokens}: the context of {engine.name} is {engine.context} tokens")
    bound = Judges(judges, engine.device, shipped=engine.name in SYNTHETIC)
    ready = load_method(method, learned, engine.digest, config.prefix_tokens, bound)
    if ready.note:
        progress.say(f"{method}: {ready.note}")
    policy = KeepAll() if isinstance(ready.pruner, NoPruning) else TopK(config.k)
    card = asdict(ready.card) if ready.card else None
    content = [
        engine.digest, engine.backend, method, ready.pruner.hyperparameters(), card, bound.digests, config.n, config.k,
        config.prefix_tokens, config.sampling.digest, config.seed, config.vote, code_digest(),
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return Solver(engine, ready.pruner, policy, config, reads), digest
