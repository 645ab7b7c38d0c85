"""The default engine and vLLM side by side: what pruning saves in tokens, and how much of that in seconds.

Real pools of the shipped reasoner, launched, checked by STOP and resumed online, against all paths to their ends. Both
engines get the same requests and the same memory for keys and values: what the default engine took at its peak. Each
computes on one thread.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from prunebench.bench.config import preset
from prunebench.bench.engines.base import NOTHING, Engine, LivePool, Phases, Request, Sampling
from prunebench.bench.engines.shipped import REASONERS
from prunebench.bench.engines.tokenization import pool_of_ids
from prunebench.bench.progress import Progress
from prunebench.bench.rollouts.sampling import problems_of, tasks_of
from prunebench.bench.training.loading import load_method
from prunebench.methods.learned.stop import Stop

if TYPE_CHECKING:
    from prunebench.bench.engines.transformers.engine import TransformersEngine
    from prunebench.bench.engines.vllm.engine import VllmEngine


@dataclass(frozen=True)
class OnlineCase:
    """What is measured: paths that ``stop`` scores at ``prefix`` tokens, ``kept`` of which go on; medians."""

    stop: Stop
    sampling: Sampling
    prefix: int
    kept: int
    repeats: int


@dataclass(frozen=True)
class OnlinePhases(Phases):
    """One online run; ``recomputed_tokens`` of the kept prefixes were encoded again."""

    recomputed_tokens: int


@dataclass(frozen=True)
class OnlineRun:
    """One engine on so many problems at once: all paths to their ends, and pruned. Medians of the repeats."""

    engine: str
    problems: int
    kv_tokens: int
    whole_tokens: int
    whole_seconds: float
    pruned: OnlinePhases

    @property
    def tokens_saved(self) -> float:
        return 1 - self.pruned.tokens / self.whole_tokens

    @property
    def seconds_saved(self) -> float:
        return 1 - self.pruned.seconds / self.whole_seconds

    @property
    def ratio(self) -> float:
        """The share of the saving in tokens that becomes one in seconds."""
        return self.seconds_saved / self.tokens_saved

    @property
    def sentence(self) -> str:
        pruned = self.pruned
        return (
            f"{self.engine}, {self.problems} in flight, room for {self.kv_tokens:,} tokens: launch "
            f"{pruned.launch_tokens / pruned.launch_seconds:.0f} tokens/s, check {pruned.check_seconds:.2f} s, resume "
            f"{pruned.resume_tokens / pruned.resume_seconds:.0f} tokens/s ({pruned.recomputed_tokens} tokens encoded "
            f"again); {pruned.seconds:.1f} s instead of {self.whole_seconds:.1f} s: {self.tokens_saved:.1%} of the "
            f"tokens and {self.seconds_saved:.1%} of the seconds are saved, ratio {self.ratio:.2f}"
            + (" (goal: at least 0.9)" if self.problems > 1 else "")
        )


def shipped_stop(engine: Engine, prefix: int) -> Stop:
    """STOP as it was trained for the shipped reasoner, which ``engine`` has loaded."""
    stop = load_method("stop", REASONERS["embedded"].learned, engine.digest, prefix).pruner
    assert isinstance(stop, Stop)
    return stop


def demo_case(engine: Engine, problems: int, rows: int, repeats: int) -> tuple[OnlineCase, list[Request]]:
    """As many ``problems`` of the demo, evenly from its families, with ``rows`` paths, cut in the demo's proportion."""
    config = preset("demo")
    tasks = tasks_of(config)
    chosen = problems_of(tasks, config.split, -(-problems // len(tasks)), config.seed)[:problems]
    requests = [Request(p.id, engine.encode_prompt(p.prompt), tuple(range(rows))) for _, p in chosen]
    kept = max(1, rows * config.k // config.n)
    stop = shipped_stop(engine, config.prefix_tokens)
    return OnlineCase(stop, config.sampling, config.prefix_tokens, kept, repeats), requests


def compare_engines(
    default: TransformersEngine,
    other: Callable[[int], VllmEngine],
    case: OnlineCase,
    requests: Sequence[Request],
    progress: Progress,
) -> list[OnlineRun]:
    """Both engines on all ``requests`` in flight, then on the first one alone; ``progress`` says each run.

    ``other`` starts the other engine with room for so many tokens of keys and values.
    """
    default.rows_in_flight = sum(len(request.paths) for request in requests)
    default.tokens_in_flight = sys.maxsize
    _online(default, case, requests[:1])  # what is made once is not timed
    runs: list[OnlineRun] = []

    def measured(engine: Engine, some: Sequence[Request], kv_tokens: int) -> None:
        runs.append(timed(engine, case, some, kv_tokens))
        progress.say(runs[-1].sentence)

    default.forget()
    list(default.sample(requests, case.sampling, 0, NOTHING))
    peak = default.decoder.most_tokens
    measured(default, requests, peak)
    second = other(peak)
    try:
        measured(second, requests, peak)
        for engine in (default, second):
            measured(engine, requests[:1], peak)
    finally:
        second.close()
    return runs


def timed(engine: Engine, case: OnlineCase, requests: Sequence[Request], kv_tokens: int = 0) -> OnlineRun:
    """One engine, all ``requests`` in flight: whole paths, and launched, checked and resumed."""
    whole, pruned, tokens = [], [], 0
    for _ in range(case.repeats):
        engine.forget()
        started = time.perf_counter()
        rollouts = list(engine.sample(requests, case.sampling, 0, NOTHING))
        whole.append(time.perf_counter() - started)
        tokens = sum(len(path.token_ids) for rollout in rollouts for path in rollout.paths)
        engine.forget()
        pruned.append(_online(engine, case, requests))
    middle = {
        name: statistics.median(getattr(phases, name) for phases in pruned)
        for name in ("launch_seconds", "check_seconds", "resume_seconds")
    }
    name = engine.backend or "transformers"
    return OnlineRun(name, len(requests), kv_tokens, tokens, statistics.median(whole), replace(pruned[-1], **middle))


def _online(engine: Engine, case: OnlineCase, requests: Sequence[Request]) -> OnlinePhases:
    begin = time.perf_counter()
    live = list(engine.launch(requests, case.sampling, 0, NOTHING, case.prefix))
    launched = time.perf_counter()
    decided = [(pool, _best(case.stop, pool, case.kept)) for pool in live]
    checked = time.perf_counter()
    lengths = [[len(path.token_ids) for path in pool.paths] for pool in live]
    counted = time.perf_counter()
    rollouts = list(engine.resume(decided))
    resumed = time.perf_counter()
    written = sum(len(path.token_ids) for rollout in rollouts for path in rollout.paths)
    at_launch = sum(np.array(held)[keep].sum() for held, (_, keep) in zip(lengths, decided, strict=True))
    return OnlinePhases(
        sum(map(sum, lengths)),
        case.stop.tokens * sum(map(len, lengths)),
        int(written - at_launch),
        launched - begin,
        checked - launched,
        resumed - counted,
        sum(rollout.recomputed_tokens for rollout in rollouts),
    )


def _best(stop: Stop, live: LivePool, kept: int) -> Any:
    pool = pool_of_ids(tuple(path.token_ids for path in live.paths), live.request.prompt_ids)
    scores = stop.score(replace(pool, generator=live))
    keep = np.zeros(len(scores), np.bool_)
    keep[np.argsort(-scores, kind="stable")[:kept]] = True
    return keep
