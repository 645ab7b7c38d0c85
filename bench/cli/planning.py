"""What a comparison will cost, before it is run."""

from __future__ import annotations

from dataclasses import dataclass

from prunebench.bench.config import RunConfig
from prunebench.bench.training.data import training_lengths
from prunebench.bench.training.label_plans import LabelPlan


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
