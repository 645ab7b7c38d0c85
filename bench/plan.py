"""What a comparison will cost, before it is run."""

from __future__ import annotations

from typing import Any

from bench.config import RunConfig
from bench.reasoner.config import LabelPlan
from bench.training import training_lengths


def plan_of(
    config: RunConfig, recipe: LabelPlan, tasks: int, model: Any, tokens_per_second: float, mean_tokens: int | None
) -> list[str]:
    """Lines that say paths, tokens, time and memory. ``model`` is a transformers configuration."""
    length = mean_tokens or config.max_new_tokens
    bound = "expected" if mean_tokens else "at most"
    problems = config.problems * tasks
    paths = problems * config.n
    rest = max(0, length - config.prefix_tokens)
    pruned = problems * (config.n * config.prefix_tokens + config.k * rest)
    chosen = recipe.train_problems * tasks
    lengths = list(zip(training_lengths(config.prefix_tokens), recipe.train_prefixes, strict=True))
    each = sum(prefixes * max(0, length - cut) for cut, prefixes in lengths)
    train = chosen * each * recipe.train_continuations
    held = paths * recipe.test_continuations * rest
    kv_heads = getattr(model, "num_key_value_heads", None) or model.num_attention_heads
    head = getattr(model, "head_dim", None) or model.hidden_size // model.num_attention_heads
    row_bytes = 2 * model.num_hidden_layers * kv_heads * head * 4
    lines = [
        f"{problems} problems x {config.n} paths = {paths:,} paths of {bound} {length:,} tokens each",
        f"at {tokens_per_second:,.0f} tokens/s on this machine:",
        _cost("rollouts for a replay (all paths to their end)", paths * length, tokens_per_second),
        _cost(f"the same online, keeping {config.k} of {config.n}", pruned, tokens_per_second),
        _cost(
            f"training labels ({chosen} problems x {', '.join(f'{p} prefixes of {cut}' for cut, p in lengths)} x "
            f"K={recipe.train_continuations})",
            train,
            tokens_per_second,
        ),
        _cost(
            f"labels of these prefixes for the potential control (K={recipe.test_continuations}, before duplicates)",
            held,
            tokens_per_second,
        ),
        f"key-value cache per pool: {config.n * length * row_bytes / 2**20:,.0f} MiB uncut (fp32), "
        f"{(config.n * config.prefix_tokens + config.k * rest) * row_bytes / 2**20:,.0f} MiB after the cut",
    ]
    return lines


def _cost(what: str, tokens: int, tokens_per_second: float) -> str:
    minutes = tokens / tokens_per_second / 60
    return f"  {what}: {tokens:,} tokens, {minutes:,.1f} minutes"
