"""The decode loop: one token for every row of many pools, again and again.

A step runs the model's own layers once over the rows of all pools in flight; only attention is done pool by pool, each
over its exact length. A row then sees the same numbers whatever shares its batch: matrix products get at least eight
rows (rounded up to a multiple of eight), sampling takes one CPU thread (run several processes instead), and nothing
else mixes rows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from prunebench.bench.engines.base import NOTHING, Recording, Request, Sampling
from prunebench.bench.engines.noise import noise_key, uniforms
from prunebench.bench.engines.sampling import draw, signals_of
from prunebench.bench.engines.transformers.caches import Forward, PoolBuffers, arbitrary_ids, rows_padding
from prunebench.bench.engines.transformers.pools import PoolInFlight
from prunebench.bench.engines.transformers.products import ReorderedLinear, reorders
from prunebench.bench.errors import UserError

_COMPACT_SHARE = 8
"""Rows are moved together when one in so many has finished: each move copies the pool's cache."""
_WIDEST_FILLED = 256


@contextmanager
def one_thread() -> Iterator[None]:
    """On a CPU, threads share attention by the number of rows, which moves the last bit with the batch."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Head:
    """From final states to logits, in float32."""

    def __init__(self, model: Any) -> None:
        self.model, self.config = model, model.config.get_text_config()
        output = model.get_output_embeddings()
        self.output = ReorderedLinear(output) if type(output) is nn.Linear and reorders(model) else output

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """(R, H) -> (R, V)."""
        padded = functional.pad(states, (0, 0, 0, rows_padding(len(states))))
        return _finished(self.output(padded)[: len(states)].float(), self.config)

    @torch.inference_mode()
    def require_known(self, name: str) -> None:
        """Raises UserError where the model makes its logits otherwise."""
        ids = arbitrary_ids(self.model, self.config.vocab_size)
        expected = self.model(input_ids=ids, use_cache=False).logits[:, -1].float()
        logits = self(self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, -1])
        tolerance = 1e-3 if self.model.dtype == torch.float32 else 5e-2
        if (logits - expected).abs().max() > tolerance * max(1.0, float(expected.abs().max())):
            raise UserError(
                f"model '{name}' ({self.model.config.model_type}) makes its logits in a way that is not known here; "
                "give another architecture"
            )


def _finished(logits: torch.Tensor, config: Any) -> torch.Tensor:
    """What architectures do to their logits behind the head: a factor, a divisor, a soft cap."""
    if factor := getattr(config, "logit_scale", None):
        logits = logits * factor
    if divisor := getattr(config, "logits_scaling", None):
        logits = logits / divisor
    if bound := getattr(config, "final_logit_softcapping", None):
        logits = bound * torch.tanh(logits / bound)
    return logits


@dataclass
class Decoder:
    """Drives pools token by token. ``ends`` and ``banned`` are int64 ids on the model's device.

    ``most_tokens``: the most keys and values that pools in flight had room for together.
    """

    forward: Forward
    head: Head
    ends: torch.Tensor
    banned: torch.Tensor
    most_tokens: int = 0

    @torch.inference_mode()
    def run(
        self, source: Iterator[PoolInFlight], until: int | None, rows_in_flight: int, tokens_in_flight: int
    ) -> Iterator[PoolInFlight]:
        """Drive pools to their end, or to ``until`` tokens, in the order in which they came.

        As many together as have these rows, and may come to these tokens; one at least.
        """
        waiting: PoolInFlight | None = next(source, None)
        order: list[PoolInFlight] = []
        flying: list[PoolInFlight] = []
        finished: set[int] = set()
        while waiting is not None or order:
            while waiting is not None and (
                not flying
                or (
                    sum(len(pool.rows) for pool in (*flying, waiting)) <= rows_in_flight
                    and sum(pool.most_tokens_until(until) for pool in (*flying, waiting)) <= tokens_in_flight
                )
            ):
                order.append(waiting)
                if waiting.cache is None:
                    self.start(waiting)
                if waiting.stands(until):
                    finished.add(id(waiting))
                else:
                    flying.append(waiting)
                waiting = next(source, None)
            if flying:
                started = time.perf_counter()
                self.advance(flying)
                _charge(flying, time.perf_counter() - started)
                finished |= {id(pool) for pool in flying if pool.stands(until)}
                flying = [pool for pool in flying if id(pool) not in finished]
            while order and id(order[0]) in finished:
                pool = order.pop(0)
                finished.discard(id(pool))
                yield pool

    @one_thread()
    def start(self, pool: PoolInFlight) -> None:
        """Read the prompt and, once each, the distinct prefixes."""
        started = time.perf_counter()
        device = self.ends.device
        prompt = torch.from_numpy(pool.request.prompt_ids).to(device)
        if pool.request.prefixes is None:
            ids, source = prompt[None], torch.zeros(len(pool.rows), dtype=torch.long, device=device)
        else:
            distinct, inverse = np.unique(pool.request.prefixes, axis=0, return_inverse=True)
            tail = torch.from_numpy(distinct).to(device)
            ids = torch.cat([prompt.expand(len(tail), -1), tail], dim=1)
            source = torch.from_numpy(inverse.reshape(-1)).to(device)
        cache, final, _ = self.forward.prefill(ids, states=False)
        cache.select(source)
        pool.cache = cache
        pool.logits = self.head(final[:, -1])[source]
        pool.launch_seconds += time.perf_counter() - started

    @one_thread()
    def advance(self, pools: Sequence[PoolInFlight]) -> None:
        """One token for every row of every pool."""
        logits = torch.cat([pool.logits for pool in pools])
        widths = [len(pool.rows) for pool in pools]
        noise = uniforms(
            np.repeat(np.array([pool.key for pool in pools], np.uint64), widths),
            np.concatenate([pool.paths[pool.rows] for pool in pools]),
            np.repeat(np.array([pool.step for pool in pools], np.uint64), widths),
        )
        allowed = logits if not len(self.banned) else logits.index_fill(1, self.banned, -torch.inf)
        tokens = draw(allowed, noise, pools[0].sampling)
        signals = signals_of(logits, tokens, pools[0].recording)
        ends = torch.isin(tokens, self.ends).cpu().numpy()
        drawn = tokens.cpu().numpy()
        start = 0
        for pool in pools:
            part = slice(start, start + len(pool.rows))
            pool.accept(drawn[part], ends[part], {name: values[part] for name, values in signals.items()})
            start = part.stop
        self._read(pools, tokens)
        self.most_tokens = max(self.most_tokens, sum(pool.cache.room for pool in pools if pool.cache is not None))

    def _read(self, pools: Sequence[PoolInFlight], tokens: torch.Tensor) -> None:
        """Feed the drawn tokens; when enough rows have finished they leave first, unless a checkpoint wants them."""
        parts = []
        reading = []
        for pool, drawn in zip(pools, torch.split(tokens, [len(pool.rows) for pool in pools]), strict=True):
            going = ~pool.done[pool.rows]
            if pool.step > pool.hold and (~going).sum() * _COMPACT_SHARE >= len(going):
                drawn = drawn[torch.from_numpy(going).to(drawn.device)]
                pool.compact(going)
            if len(pool.rows):
                parts.append(drawn)
                reading.append(pool)
        if not reading:
            return
        states_wanted = any(pool.wants_states() for pool in reading)
        caches = [pool.cache for pool in reading if pool.cache is not None]
        widths = [len(pool.rows) for pool in reading]
        final, states = self.forward.step(caches, widths, torch.cat(parts), states_wanted)
        stacked: NDArray[np.float32] | None = torch.stack(states, 1).float().cpu().numpy() if states_wanted else None
        start = 0
        for pool, logits in zip(reading, torch.split(self.head(final), widths), strict=True):
            pool.logits = logits
            if stacked is not None and pool.wants_states():
                pool.keep_states(stacked[start : start + len(pool.rows)])
            start += len(pool.rows)

    def filled(
        self, rows: int, length: int, sampling: Sampling, recording: Recording = NOTHING, width: int = _WIDEST_FILLED
    ) -> list[PoolInFlight]:
        """Pools of ``rows`` rows in all, ``width`` in each, that hold ``length`` arbitrary tokens: to measure
        :meth:`advance`.

        Raises ValueError for an architecture that runs on its own cache.
        """
        pools = []
        for start in range(0, rows, width):
            request = Request("perf", np.arange(4, 12), tuple(range(start, min(rows, start + width))))
            key = noise_key(0, f"perf/{start}", request.problem)
            pool = PoolInFlight(request, sampling, key, recording, 0, sampling.max_new_tokens)
            self.start(pool)
            if not isinstance(pool.cache, PoolBuffers):
                raise ValueError("only the loop over many pools can be measured at a length")
            pool.cache.fill(length)
            pools.append(pool)
        return pools


def _charge(pools: Sequence[PoolInFlight], seconds: float) -> None:
    """By rows."""
    rows = sum(len(pool.rows) for pool in pools) or 1
    for pool in pools:
        pool.charge(seconds * len(pool.rows) / rows)
