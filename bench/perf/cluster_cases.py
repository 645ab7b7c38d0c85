"""What a cluster would make of pruning: the simulation of :mod:`~bench.perf.cluster`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from prunebench.bench.engines.arithmetic import Arithmetic
from prunebench.bench.engines.base import NOTHING, Request
from prunebench.bench.engines.tokenization import pool_of_ids
from prunebench.bench.engines.transformers.decoding import one_thread
from prunebench.bench.errors import UserError
from prunebench.bench.perf.clock import anew, arbitrary_pool, median_seconds
from prunebench.bench.perf.cluster import Arrival, Replica, Served, StepCost, serve
from prunebench.bench.perf.decoding import SHAPES, step_seconds
from prunebench.bench.perf.online import OnlineCase, OnlineRun, timed
from prunebench.bench.policies import Policy, TopK, parse_policy
from prunebench.bench.progress import SILENT, Progress

if TYPE_CHECKING:
    from prunebench.bench.engines.transformers.engine import TransformersEngine

# --- The small case -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reproduced:
    """A measured run and the same one simulated: seconds of all paths, of pruned ones, and what is saved."""

    measured: OnlineRun
    whole_seconds: float
    pruned_seconds: float
    tokens_saved: float

    @property
    def seconds_saved(self) -> float:
        return 1 - self.pruned_seconds / self.whole_seconds

    @property
    def sentence(self) -> str:
        run = self.measured
        both = (
            f"whole {run.whole_seconds:.2f} and {self.whole_seconds:.2f} s",
            f"pruned {run.pruned.seconds:.2f} and {self.pruned_seconds:.2f} s",
            f"seconds saved {run.seconds_saved:.1%} and {self.seconds_saved:.1%}",
            f"tokens saved {run.tokens_saved:.1%} and {self.tokens_saved:.1%}",
        )
        return f"{run.problems} in flight, measured and simulated: {', '.join(both)}"


@one_thread()
def step_cost(engine: TransformersEngine, rows: Sequence[int], lengths: Sequence[int]) -> StepCost:
    """Measured steps of so many rows that hold so many tokens each; and what encoding prefixes takes.

    On one thread, as paths are sampled.
    """
    steps = [(count, count * length, step_seconds(engine, count, length)) for count in rows for length in lengths]
    pool = arbitrary_pool(engine, rows[0], lengths[0], prompt_tokens=8)
    return StepCost.fitted(steps, median_seconds(lambda: anew(pool).kv()) / (rows[0] * lengths[0]))


def reproduce(engine: TransformersEngine, case: OnlineCase, requests: Sequence[Request], cost: StepCost) -> Reproduced:
    """Run ``requests`` whole and pruned, and simulate both with their real lengths and STOP's real scores."""
    arrivals = [_arrival(engine, case, request) for request in requests]
    run = timed(engine, case, requests)
    room = [Replica(cost, capacity=1 << 40)]
    whole = serve(arrivals, None, case.prefix, room)
    pruned = serve(arrivals, TopK(case.kept), case.prefix, room, case.stop.tokens)
    return Reproduced(run, whole.seconds, pruned.seconds, 1 - (pruned.decoded + pruned.checked) / whole.decoded)


def _arrival(engine: TransformersEngine, case: OnlineCase, request: Request) -> Arrival:
    (rollout,) = engine.sample([request], case.sampling, 0, NOTHING)
    prefixes = tuple(path.token_ids[: case.prefix] for path in rollout.paths)
    scores = case.stop.score(replace(pool_of_ids(prefixes, request.prompt_ids), generator=engine))
    lengths = np.array([len(path.token_ids) for path in rollout.paths])
    return Arrival(0.0, len(request.prompt_ids), lengths, scores)


# --- The large case -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClusterCase:
    """A run on a cluster. ``share`` of bandwidth and products is reached, ``fixed`` seconds come on top of every step.

    Lengths are log-normal around ``tokens`` with ``spread`` as the standard deviation of their logarithm. ``rate``:
    problems per second for the whole cluster, 0: all are there at the start. Of the ``gpus`` ``simulated`` ones are
    simulated; what falls to them is scaled up.
    """

    shape: str = "qwen2-1.5b"
    problems: int = 1000
    paths: int = 1024
    tokens: int = 32_768
    spread: float = 0.35
    prompt: int = 200
    prefix: int = 2048
    gpus: int = 64
    simulated: int = 2
    kv_gigabytes: float = 115.0
    bandwidth: float = 3.8e12
    flops: float = 740e12
    share: float = 0.5
    fixed: float = 0.0
    price: float = 3.0
    rate: float = 0.0
    check_tokens: int = 4
    seed: int = 0

    @property
    def model(self) -> Arithmetic:
        """In bfloat16, tied embeddings."""
        shape = SHAPES[self.shape]
        hidden, size = shape["hidden_size"], shape["hidden_size"] // shape["num_attention_heads"]
        keys = shape["num_key_value_heads"] * size
        block = 2 * hidden * hidden + 2 * hidden * keys + 3 * hidden * shape["intermediate_size"]
        parameters = shape["num_hidden_layers"] * block + shape["vocab_size"] * hidden
        return Arithmetic(parameters, shape["num_hidden_layers"], hidden, 2 * shape["num_hidden_layers"] * keys * 2)

    @property
    def capacity(self) -> int:
        return int(self.kv_gigabytes * 1e9 / self.model.kv_bytes)

    @property
    def cost(self) -> StepCost:
        model = self.model
        return StepCost.of_machine(
            2 * model.parameters, model.kv_bytes, model.parameters, self.bandwidth, self.flops, self.share, self.fixed
        )

    def arrivals(self) -> list[Arrival]:
        """The problems that fall to the simulated devices. Raises UserError where none does."""
        generator = np.random.default_rng(self.seed)
        count = round(self.problems * self.simulated / self.gpus)
        if not count:
            least = -(-self.gpus // self.simulated)
            raise UserError(
                f"problems={self.problems}: none falls to the {self.simulated} simulated of {self.gpus} devices; "
                f"give at least {least}"
            )
        gaps = self.gpus / self.simulated / self.rate if self.rate else 0.0
        at = np.cumsum(generator.exponential(1.0, count)) * gaps
        middle = np.log(self.tokens) - self.spread**2 / 2
        return [
            Arrival(
                float(when),
                self.prompt,
                np.maximum(1, generator.lognormal(middle, self.spread, self.paths)).astype(np.int64),
                generator.standard_normal(self.paths),
            )
            for when in at
        ]


@dataclass(frozen=True)
class Outcome:
    """One policy on a case: the whole cluster's tokens, hours, and price; latencies in hours."""

    policy: str
    decoded: float
    recomputed: float
    hours: float
    gpu_hours: float
    price: float
    latency_median: float
    latency_95: float
    occupancy: float
    evicted: float

    @property
    def sentence(self) -> str:
        return (
            f"{self.policy}: {self.decoded / 1e9:.1f}G tokens decoded, {self.recomputed / 1e9:.2f}G encoded again, "
            f"{self.hours:.1f} h, {self.gpu_hours:.0f} GPU-hours, price {self.price:.0f}; a problem takes "
            f"{self.latency_median:.2f} h (95 %: {self.latency_95:.2f}), memory in use {self.occupancy:.0%}"
        )

    @classmethod
    def of(cls, case: ClusterCase, policy: str, served: Served) -> Outcome:
        times = case.gpus / case.simulated
        hours = served.seconds / 3600
        busy = served.busy_seconds * times / 3600
        middle, late = np.quantile(served.latency, [0.5, 0.95]) / 3600
        return cls(
            policy, served.decoded * times, served.recomputed * times, hours, busy, busy * case.price, float(middle),
            float(late), served.occupancy(case.capacity), served.evicted * times,
        )  # fmt: skip


def policies_of(case: ClusterCase) -> dict[str, Policy | None]:
    """None, one cut to an eighth, a funnel to the same number, and cuts where a device's memory is full."""
    n, at = case.paths, case.prefix
    return {
        "none": None,
        **{
            text: parse_policy(text)
            for text in (
                f"topk:{n // 8}",
                f"funnel:{n}@{at // 2},{n // 2}@{at},{n // 4}@{2 * at}:{n // 8}",
                f"memory:{case.capacity},every={at},checks={max(1, case.tokens // at - 1)}",
            )
        },
    }


def outcomes(case: ClusterCase, progress: Progress = SILENT) -> list[Outcome]:
    """Every policy on the same problems; ``progress`` says each as soon as it is there."""
    arrivals = case.arrivals()
    replicas = [Replica(case.cost, case.capacity, planned=case.tokens)] * case.simulated
    results = []
    for name, policy in policies_of(case).items():
        served = serve(arrivals, policy, case.prefix, replicas, case.check_tokens)
        results.append(Outcome.of(case, name, served))
        progress.say(results[-1].sentence)
    return results


def described(case: ClusterCase, results: Sequence[Outcome]) -> dict[str, Any]:
    return {"case": asdict(case), "capacity": case.capacity, "outcomes": [asdict(outcome) for outcome in results]}
