"""What the default engine makes of its model: decoding, STOP's check and training step, the saving of a pruned run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from prunebench.bench.config import preset
from prunebench.bench.engines.base import Recording, Request, Sampling
from prunebench.bench.engines.load import load_local
from prunebench.bench.perf.clock import anew, arbitrary_pool, beside_a_busy_process, check_cost, in_turn, median_seconds
from prunebench.bench.perf.decoding import step_seconds, untrained
from prunebench.bench.perf.online import OnlineCase, shipped_stop, timed
from prunebench.bench.perf.speed import Growth, Speed
from prunebench.bench.rollouts.sampling import problems_of, tasks_of
from prunebench.methods.base import Signal
from prunebench.methods.learned.stop import Lesson
from prunebench.methods.learned.stop_reader import StopReader

if TYPE_CHECKING:
    from prunebench.bench.engines.transformers.engine import TransformersEngine


def decoding(speed: Speed, engine: TransformersEngine) -> None:
    """256 new tokens of 64 rows, log-probabilities and entropies recorded, against ``generate`` with its two caches."""
    import torch

    rows, tokens = 64, 256
    prompt = np.arange(4, 36)
    endless = engine.endless()  # every path as long as the others
    engine.model.generation_config.eos_token_id = None
    recording = Recording((Signal.LOGPROBS, Signal.ENTROPY), topk=0)

    def ours() -> None:
        request = Request("perf", prompt, tuple(range(rows)))
        list(endless.sample([request], Sampling(max_new_tokens=tokens), 0, recording))

    def generate(cache: str) -> None:
        from transformers import GenerationConfig

        ids = torch.from_numpy(prompt).expand(rows, -1).to(engine.device)
        settings = GenerationConfig(
            do_sample=True, top_k=0, max_new_tokens=tokens, pad_token_id=0, eos_token_id=None, bos_token_id=1,
            cache_implementation=cache,
        )  # fmt: skip
        with torch.inference_mode():
            out = engine.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        assert out.shape == (rows, len(prompt) + tokens)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = in_turn(
            {"ours": ours, "dynamic": lambda: generate("dynamic"), "static": lambda: generate("static")}, 3
        )
    finally:
        torch.set_num_threads(threads)
    speed.values["decode_vs_dynamic"] = seconds["dynamic"] / seconds["ours"]
    speed.details["decode_vs_static"] = seconds["static"] / seconds["ours"]
    speed.details["decode_tokens_per_second"] = rows * tokens / seconds["ours"]
    speed.growth["decode_vs_dynamic"] = [
        Growth.measured("rows", (16, 64, 256), lambda size: step_seconds(engine, size, 128)),
        Growth.measured("length", (128, 256, 512, 896), lambda size: step_seconds(engine, rows, size)),
    ]
    assert speed.limits is not None
    charged = engine.arithmetic
    moved = engine.weight_bytes + rows * 256 * charged.kv_bytes
    step = step_seconds(engine, rows, 256)
    # Whichever takes longer on this machine: moving weights and cache, or the products.
    done = charged.decoding(256, np.zeros(rows, np.int64), np.ones(rows, np.int64))
    least = max(moved / speed.limits.bytes_per_second, done / speed.limits.flops_per_second)
    speed.share_of_limit["a decoding step of 64 rows of 256 tokens"] = least / step


def check(speed: Speed, engine: TransformersEngine) -> None:
    """STOP's check of 64 prefixes of 512 tokens by the kept cache, against encoding them again."""
    stop = untrained(engine)
    cost = check_cost(engine, stop, 512)
    speed.values["check_vs_reencode"] = 1 / cost.ratio
    with beside_a_busy_process():
        speed.details["check_vs_reencode_beside_a_busy_process"] = 1 / check_cost(engine, stop, 512).ratio
    speed.growth["check_vs_reencode"] = [
        Growth.measured("length", (128, 256, 512), lambda size: check_cost(engine, stop, size).check_seconds),
        Growth.measured("rows", (16, 64, 256), lambda size: check_cost(engine, stop, 128, size).check_seconds),
    ]
    assert speed.limits is not None
    charged = engine.arithmetic
    lengths = np.full(64, 512)
    flops = charged.decoding(32, np.zeros(64, np.int64), lengths)
    speed.share_of_limit["encoding 64 prefixes of 512 tokens"] = (
        flops / speed.limits.flops_per_second / cost.reencode_seconds
    )
    read = 64 * 512 * charged.kv_bytes / speed.limits.bytes_per_second
    tokens = charged.decoding(544, lengths, lengths + stop.tokens) / speed.limits.flops_per_second
    speed.share_of_limit["a check of 64 prefixes of 512 tokens"] = max(read, tokens) / cost.check_seconds


def pruning(speed: Speed, engine: TransformersEngine) -> None:
    """What 64 -> 8 saves with 16 problems in flight, on the demo's problems, by the shipped STOP."""
    config = preset("demo")
    reasoner = load_local("embedded", engine.device)
    stop = shipped_stop(reasoner, config.prefix_tokens)
    chosen = problems_of(tasks_of(config), config.split, 6, config.seed)[:16]
    requests = [Request(p.id, reasoner.encode_prompt(p.prompt), tuple(range(64))) for _, p in chosen]
    case = OnlineCase(stop, config.sampling, config.prefix_tokens, kept=8, repeats=3)
    once = replace(case, repeats=1)
    timed(reasoner, once, requests[:1])  # what is made once is not timed
    run = timed(reasoner, case, requests)
    speed.values["seconds_over_tokens_saved"] = run.ratio
    speed.details["tokens_saved"], speed.details["seconds_saved"] = run.tokens_saved, run.seconds_saved

    def pruned(count: int) -> float:
        return timed(reasoner, once, requests[:count]).pruned.seconds

    speed.growth["seconds_over_tokens_saved"] = [Growth.measured("problems", (4, 8, 16), pruned)]


def training(speed: Speed, engine: TransformersEngine) -> None:
    """A training step of STOP on 8 prefixes of 512 tokens, their caches kept, against encoding them in every step."""
    import torch

    stop = untrained(engine)

    def step(length: int, kept: bool) -> float:
        pool = arbitrary_pool(engine, 8, length)
        cache = pool.kv()
        reader = StopReader(engine.model, stop)
        trained = [weights for weights in reader.module.parameters() if weights.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-4)
        batch, targets = np.arange(8), np.linspace(0.1, 0.9, 8)
        reader.module.train()

        def once() -> None:
            caches = cache if kept else anew(pool).kv()
            for loss in Lesson(reader, [caches], targets).losses(batch):
                loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        once()
        return median_seconds(once)

    with_kept, without = step(512, True), step(512, False)
    speed.values["train_step_speedup"] = without / with_kept
    with beside_a_busy_process():
        speed.details["train_step_speedup_beside_a_busy_process"] = step(512, False) / step(512, True)
    speed.details["train_step_seconds"] = with_kept
    speed.growth["train_step_speedup"] = [Growth.measured("length", (128, 256, 512), lambda size: step(size, True))]
