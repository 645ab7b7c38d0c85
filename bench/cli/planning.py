"""What a comparison will cost, before it is run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunebench.bench.config import RunConfig
from prunebench.bench.engines.base import Engine, Request, Sampling
from prunebench.bench.errors import UserError
from prunebench.bench.perf.clock import seconds_of, tokens_per_second
from prunebench.bench.rollouts.sampling import problems_of, tasks_of
from prunebench.bench.training.data import training_lengths
from prunebench.bench.training.label_plans import RECIPES, LabelPlan
from prunebench.bench.training.learn import training_tasks
from prunebench.tasks.task import Task

PILOT_PROBLEMS, PILOT_PATHS = 4, 8


@dataclass(frozen=True)
class Extent:
    """What a plan counts with: evaluated problems, problems to learn from, tokens per second and per path.

    ``mean_tokens`` None: every path is taken to run to its cap. ``kv_bytes`` is kept per token; None: not known.
    """

    problems: int
    train_problems: int
    tokens_per_second: float
    mean_tokens: int | None = None
    kv_bytes: int | None = None


def plan_of(config: RunConfig, recipe: LabelPlan, extent: Extent, control: bool = True) -> list[str]:
    """Lines that say paths, tokens, time and memory; ``control``: with the labels of the potential control."""
    length = extent.mean_tokens or config.max_new_tokens
    bound = "expected" if extent.mean_tokens else "at most"
    paths = extent.problems * config.n
    rest = max(0, length - config.prefix_tokens)
    kept_tokens = config.n * config.prefix_tokens + config.k * rest
    chosen = extent.train_problems
    lengths = list(zip(training_lengths(config.prefix_tokens), recipe.train_prefixes, strict=True))
    each = sum(prefixes * max(0, length - cut) for cut, prefixes in lengths)
    speed = extent.tokens_per_second
    lines = [
        f"{extent.problems} problems x {config.n} paths = {paths:,} paths of {bound} {length:,} tokens each",
        f"at {speed:,.0f} tokens/s:",
        _cost("rollouts for a replay (all paths to their end)", paths * length, speed),
        _cost(f"the same online, keeping {config.k} of {config.n}", extent.problems * kept_tokens, speed),
    ]
    if chosen:
        cuts = ", ".join(f"{prefixes} prefixes of {cut}" for cut, prefixes in lengths)
        sampled, labels = chosen * recipe.train_paths * length, chosen * each * recipe.train_continuations
        lines += [
            _cost(f"training rollouts ({chosen} problems x {recipe.train_paths} paths)", sampled, speed),
            _cost(f"training labels ({chosen} problems x {cuts} x K={recipe.train_continuations})", labels, speed),
        ]
    if control:
        tokens = paths * recipe.test_continuations * rest
        what = f"labels of these prefixes for the potential control (K={recipe.test_continuations}, before duplicates)"
        lines.append(_cost(what, tokens, speed))
    if extent.kv_bytes is None:
        lines.append("key-value cache: not known, as the model is not at hand and kv_bytes_per_token is not set")
    else:
        uncut, cut = (tokens * extent.kv_bytes / 2**20 for tokens in (config.n * length, kept_tokens))
        lines.append(f"key-value cache per pool: {uncut:,.0f} MiB uncut, {cut:,.0f} MiB after the cut")
    return lines


def _cost(what: str, tokens: int, tokens_per_second: float) -> str:
    hours = tokens / tokens_per_second / 3600
    time = f"{hours:,.1f} device-hours" if hours >= 2 else f"{60 * hours:,.1f} minutes"
    return f"  {what}: {tokens:,} tokens, {time}"


@dataclass(frozen=True)
class Pilot:
    """A few paths of a few problems, sampled to plan by: tokens per second and per path, and of the longest prompt."""

    speed: float
    mean_tokens: int
    prompt_tokens: int

    @classmethod
    def of(cls, engine: Engine, config: RunConfig) -> Pilot:
        """Sample the first paths of the first problems. Raises UserError for a prompt that the model cannot take."""
        chosen = problems_of(tasks_of(config), config.split, PILOT_PROBLEMS, config.seed)[:PILOT_PROBLEMS]
        prompts = [engine.encode_prompt(problem.prompt) for _, problem in chosen]
        longest = max(map(len, prompts))
        if longest + 1 >= engine.context:
            raise UserError(
                f"a prompt has {longest} tokens, and the context of {engine.name} is {engine.context} tokens"
            )
        sampling = Sampling(
            config.temperature,
            config.top_p,
            config.top_k,
            config.min_p,
            min(config.max_new_tokens, engine.context - longest),
        )
        requests = [Request(p.id, ids, tuple(range(PILOT_PATHS))) for (_, p), ids in zip(chosen, prompts, strict=True)]
        lengths: list[int] = []
        seconds = seconds_of(
            lambda: lengths.extend(
                len(path.token_ids)
                for rollout in engine.sample(requests, sampling, config.seed)
                for path in rollout.paths
            )
        )
        return cls(sum(lengths) / seconds, max(1, round(float(np.mean(lengths)))), longest)

    def fitted(self, config: RunConfig, engine: Engine, prefix: int | None) -> RunConfig:
        """``config`` with a cap that the context allows, and a checkpoint inside the paths."""
        cap = min(config.max_new_tokens, engine.context - self.prompt_tokens)
        position = prefix or (
            config.prefix_tokens if 2 * config.prefix_tokens <= self.mean_tokens else max(1, self.mean_tokens // 8)
        )
        if position >= cap:
            raise UserError(f"--prefix {position}: paths end at {cap} tokens at the latest; check earlier")
        return config.model_copy(update={"max_new_tokens": cap, "prefix_tokens": position})


def extent_of(
    config: RunConfig,
    engine: Engine | None,
    speed: float | None = None,
    mean_tokens: int | None = None,
    learning: bool = True,
) -> Extent:
    """What a plan counts with; the number of problems is the benchmark's where the data are not at hand.

    Training takes the recipe's number of problems, or all of a task that has fewer; none without ``learning``.

    Raises UserError for data that cannot be had or do not serve.
    """
    count = sum(_count(task, config.split, config.problems, task.expected) for task in tasks_of(config))
    most = RECIPES[config.recipe].train_problems
    learned_from = [task for task in training_tasks(config) if "train" in task.splits] if learning else []
    taught = sum(_count(task, "train", most, most) for task in learned_from)
    if speed is None:
        assert engine is not None
        ((_, first), *_rest) = problems_of(tasks_of(config)[:1], config.split, 1, config.seed)
        speed = tokens_per_second(engine, first.prompt)
    arithmetic = engine.arithmetic if engine else None
    kv = config.kv_bytes_per_token or (arithmetic.kv_bytes if arithmetic else None)
    return Extent(count, taught, speed, mean_tokens, kv)


def _count(task: Task, split: str, limit: int | None, otherwise: int | None) -> int:
    """How many problems of a split there are, up to ``limit``; ``otherwise`` where that would have to be fetched."""
    if task.remote and otherwise is not None:
        return min(otherwise, limit or otherwise)
    return len(problems_of([task], split, limit, 0))
