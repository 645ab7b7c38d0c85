"""What the engine makes of a device: its limits, decoding against them, the check, and what pruning saves in time.

Everything is measured within one run. ``shape`` is a shipped reasoner, or a randomly initialised model: what it says
does not matter for what it costs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from prunebench.bench.engines.base import NOTHING, Recording, Request, Sampling
from prunebench.bench.engines.shipped import SYNTHETIC
from prunebench.bench.errors import UserError
from prunebench.bench.perf.clock import CheckCost, check_cost, finish_work, median_seconds
from prunebench.bench.progress import Progress
from prunebench.bench.provenance import device_name

if TYPE_CHECKING:
    from prunebench.bench.engines.transformers.engine import TransformersEngine
    from prunebench.methods.learned.stop import Stop

PLAIN = Sampling()

SHAPES: dict[str, dict[str, int]] = {
    "qwen2-1.5b": {
        "hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2,
        "intermediate_size": 8960, "vocab_size": 151_936, "max_position_embeddings": 16_384,
    },
    "tiny": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "intermediate_size": 64, "vocab_size": 515, "max_position_embeddings": 1024,
    },
}  # fmt: skip
"""Random models: the first has the shape of DeepSeek-R1-Distill-Qwen-1.5B, the second is for trying."""


@dataclass(frozen=True)
class DeviceLimits:
    """What the device can do: bytes per second (read plus written) of a copy, FLOP per second of a matrix product."""

    bytes_per_second: float
    flops_per_second: float


@dataclass(frozen=True)
class DecodingSpeed:
    """Tokens per second of one step at ``rows`` rows of ``length`` tokens, and what memory traffic would allow.

    The limit reads every weight and every key and value once per step, and does nothing else.
    """

    rows: int
    length: int
    tokens_per_second: float
    limit: float

    @property
    def share(self) -> float:
        return self.tokens_per_second / self.limit


@dataclass(frozen=True)
class Saving:
    """What pruning saves: shares of the tokens and of the seconds of ``none``."""

    tokens: float
    seconds: float

    @property
    def ratio(self) -> float:
        """1: time is saved as tokens are."""
        return self.seconds / self.tokens


@dataclass(frozen=True)
class HeldMemory:
    """Bytes on the device with a pool of ``rows`` at its checkpoint, and after the cut to ``kept``."""

    rows: int
    kept: int
    before: int
    after: int


@dataclass(frozen=True)
class EnginePlan:
    """What is measured: paths of ``total`` tokens that are scored at ``prefix``, ``decoding_rows`` rows at a time, and
    ``problems`` pools of 64 in flight on a device that holds keys and values of ``memory`` tokens."""

    prefix: int
    total: int
    decoding_rows: tuple[int, ...]
    memory: int
    problems: int
    rows: int = 64
    kept: int = 8
    lengths: int = 3


@dataclass(frozen=True)
class EngineSpeed:
    """What :func:`measure_engine` found."""

    shape: str
    device: str
    plan: EnginePlan
    limits: DeviceLimits
    decoding: tuple[DecodingSpeed, ...]
    check: CheckCost
    memory: HeldMemory | None
    saved: Saving


def measure_engine(shape: str, device: str, plan: EnginePlan, progress: Progress) -> EngineSpeed:
    """Everything in turn; ``progress`` says each number as soon as it is there."""
    engine = engine_of_shape(shape, device)
    name = device_name(device)
    bound = device_limits(device, 1 << (22 if device == "cpu" else 28))
    progress.say(
        f"{name}: copies {bound.bytes_per_second / 1e9:.0f} GB/s, products {bound.flops_per_second / 1e12:.1f} TFLOP/s"
    )
    steps = []
    for rows in plan.decoding_rows:
        steps.append(decoding_speed(engine, rows, plan.prefix, bound))
        progress.say(
            f"decoding {rows} rows of {plan.prefix} tokens: {steps[-1].tokens_per_second:.0f} tokens/s, "
            f"{steps[-1].share:.0%} of what memory traffic allows"
        )
    cost = check_cost(engine, untrained(engine), plan.prefix, plan.rows)
    progress.say(
        f"check of {cost.rows} prefixes of {plan.prefix} tokens: {cost.check_seconds:.4f} s, re-encoding "
        f"{cost.reencode_seconds:.4f} s, {1 / cost.ratio:.1f} times as long (goal: at least 20)"
    )
    short = min(plan.prefix, 256)
    held = held_memory(engine, plan.rows, plan.kept, short)
    if held is not None:
        progress.say(
            f"memory with {plan.rows} prefixes of {short} tokens: {held.before / 1e9:.2f} GB, "
            f"with {plan.kept} of them: {held.after / 1e9:.2f} GB"
        )
    saved = saved_by_pruning(
        engine, plan.problems, plan.rows, plan.kept, plan.prefix, plan.total, plan.memory, plan.lengths
    )
    progress.say(
        f"{plan.rows} -> {plan.kept} at {plan.prefix} of {plan.total} tokens, {plan.problems} problems in flight: "
        f"{saved.tokens:.1%} of the tokens and {saved.seconds:.1%} of the seconds are saved, ratio {saved.ratio:.2f} "
        "(goal: at least 0.9)"
    )
    return EngineSpeed(shape, name, plan, bound, tuple(steps), cost, held, saved)


def engine_of_shape(shape: str, device: str) -> TransformersEngine:
    """A shipped reasoner by name in float32, or a random model of :data:`SHAPES` (bfloat16 on a GPU)."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    from prunebench.bench.engines.transformers.engine import TransformersEngine

    if shape in SYNTHETIC:
        return TransformersEngine.load(shape, device=device)
    if shape not in SHAPES:
        raise UserError(f"unknown shape '{shape}': known are {', '.join([*SYNTHETIC, *SHAPES])}")
    before = torch.get_default_dtype()
    torch.manual_seed(0)
    try:
        torch.set_default_dtype(torch.bfloat16 if device != "cpu" else torch.float32)
        with torch.device(device):
            model = Qwen2ForCausalLM(Qwen2Config(**SHAPES[shape], tie_word_embeddings=True))
    finally:
        torch.set_default_dtype(before)
    model.generation_config.eos_token_id = SHAPES[shape]["vocab_size"] - 1
    tokenizer = AutoTokenizer.from_pretrained(str(SYNTHETIC["embedded"].weights))
    return TransformersEngine(model, tokenizer, shape, shape, rows_in_flight=1 << 20)


def device_limits(device: str, size: int, type_name: str | None = None) -> DeviceLimits:
    """A copy of ``size`` floats and a product of two square matrices of as many; None: the type of models there."""
    import torch

    dtype = getattr(torch, type_name or ("bfloat16" if device != "cpu" else "float32"))
    source = torch.randn(size, device=device, dtype=dtype)
    target = torch.empty_like(source)
    width = int(size**0.5)
    left = torch.randn(width, width, device=device, dtype=dtype)
    target.copy_(source)
    left @ left
    copies = median_seconds(lambda: target.copy_(source))
    products = median_seconds(lambda: left @ left)
    return DeviceLimits(2 * source.numel() * source.element_size() / copies, 2 * width**3 / products)


def decoding_speed(engine: TransformersEngine, rows: int, length: int, bound: DeviceLimits) -> DecodingSpeed:
    """Steps of ``rows`` rows in pools of at most 256 that hold ``length`` tokens each."""
    seconds = step_seconds(engine, rows, length)
    traffic = engine.weight_bytes + rows * length * engine.arithmetic.kv_bytes
    return DecodingSpeed(rows, length, rows / seconds, rows * bound.bytes_per_second / traffic)


def step_seconds(
    engine: TransformersEngine,
    rows: int,
    length: int,
    sampling: Sampling = PLAIN,
    recording: Recording = NOTHING,
    width: int = 256,
) -> float:
    """Median seconds of one step, from drawing a token to the logits of the next one. No row ends meanwhile.

    In pools of at most ``width`` rows.
    """
    import torch

    decoder = engine.endless().decoder
    with torch.inference_mode():
        sampling = replace(sampling, max_new_tokens=engine.context - 8)
        pools = decoder.filled(rows, length, sampling, recording, width)
        for _ in range(2):
            decoder.advance(pools)
        seconds = median_seconds(lambda: decoder.advance(pools))
    finish_work()
    return seconds


def untrained(engine: TransformersEngine) -> Stop:
    """STOP with the weights that its training begins with: what it says does not matter for what it costs."""
    from prunebench.methods.learned.stop import Stop
    from prunebench.methods.learned.stop_reader import StopReader

    stop = Stop()
    stop.weights_ = StopReader(engine.model, stop).learned()
    return stop


def saved_by_pruning(
    engine: TransformersEngine, problems: int, rows: int, kept: int, prefix: int, total: int, memory: int, points: int
) -> Saving:
    """Seconds and tokens that ``kept`` of ``rows`` save, for paths of ``total`` tokens that are cut at ``prefix``.

    From measured steps at ``points`` lengths, between which the time is taken to be linear. ``memory`` is the tokens
    that the device may hold, an assumption that the result hangs on: the more fits, the fewer turns the unpruned pools
    need, and where a step costs the same for any number of rows that is all that is saved. All prefixes are in flight
    together (that many must fit); after the cut as many rows go on together as fit at their full length, one set after
    another, as a server would run them.
    """
    import torch

    count = problems * rows
    together = max(1, min(count, memory // total))

    def seconds(width: int, low: int, high: int) -> float:
        lengths = np.linspace(low, high, points).astype(int)
        steps = []
        for length in lengths:
            steps.append(step_seconds(engine, width, int(length)))
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return float(np.trapezoid(steps, lengths))

    launch = seconds(min(count, memory // prefix), 16, prefix) * count / min(count, memory // prefix)
    whole = seconds(together, prefix, total) * count / together
    few = problems * kept
    cut = seconds(min(few, together), prefix, total) * few / min(few, together)
    tokens = 1 - (count * prefix + few * (total - prefix)) / (count * total)
    return Saving(tokens, 1 - (launch + cut) / (launch + whole))


def held_memory(engine: TransformersEngine, rows: int, kept: int, prefix: int) -> HeldMemory | None:
    """Memory in use on a GPU with a live pool, before and after the cut; None on a CPU, which does not count it."""
    import torch

    if not engine.device.startswith("cuda"):
        return None
    engine.forget()  # the prefixes of the last check, which no live pool brings along
    request = Request("perf", np.arange(4, 36), tuple(range(rows)))
    with torch.inference_mode():
        (pool,) = engine.launch([request], Sampling(max_new_tokens=2 * prefix), 0, NOTHING, prefix)
        finish_work()
        before = torch.cuda.memory_allocated()
        pool.keep(np.arange(rows) < kept)
        finish_work()
        return HeldMemory(rows, kept, before, torch.cuda.memory_allocated())
