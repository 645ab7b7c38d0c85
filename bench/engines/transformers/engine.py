"""The default engine: any causal language model of transformers, many pools in flight, results independent of batch.

All paths of a pool start together and march in step, so one position and one cache length describe them. A step runs
the model's own layers once over the rows of all pools in flight; only attention is done pool by pool, each over its
exact length. A row then sees the same numbers whatever shares its batch: matrix products get at least eight rows
(rounded up to a multiple of eight), sampling takes one CPU thread (run several processes instead), and nothing else
mixes rows. Architectures whose attention the loop does not reproduce (checked against the model's own forward at the
start) run on their own cache, pool by pool.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import DynamicCache

from prunebench.bench.engines.arithmetic import Arithmetic, ModelShape
from prunebench.bench.engines.base import NOTHING, LivePool, Path, Recording, Request, Rollout, Sampling
from prunebench.bench.engines.noise import noise_key, uniforms
from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.engines.sampling import draw, signals_of
from prunebench.bench.engines.shipped import REASONERS, source_of
from prunebench.bench.engines.tokenization import Texts, distinct_rows, forced_answers, pool_of_ids
from prunebench.bench.engines.tools.sandbox import Sandbox
from prunebench.bench.engines.tools.tool_use import ToolUse, format_of
from prunebench.bench.errors import UserError
from prunebench.methods.base import LearnedTokens, PrefixCache, Probe, Signal, has_windows, share_weights
from prunebench.methods.pool import Pool

DEFAULTS = ModelOptions()
_COLUMNS = {
    Signal.LOGPROBS: "logprobs",
    Signal.ENTROPY: "entropy",
    Signal.SELF_CERTAINTY: "self_certainty",
    Signal.VARENTROPY: "varentropy",
    Signal.TOPK_LOGPROBS: "topk",
}
_OF_STATES = frozenset({Signal.HIDDEN_STATE, Signal.ALL_LAYERS, Signal.STATES})
REREADABLE = _OF_STATES | frozenset(_COLUMNS)
"""What can be had of a stored prefix by encoding it again."""
_EVERYTHING = Recording(topk_tokens=1)

_ATTENTION = "prunebench_pools"
_ROW_MULTIPLE = 8
_FIRST_CAPACITY = 128
_COMPACT_SHARE = 8
"""Rows are moved together when one in so many has finished: each move copies the pool's cache."""


# --- caches -------------------------------------------------------------------------------------------------------


class _Cache(Protocol):
    """Keys and values of one pool's rows."""

    length: int

    @property
    def whole(self) -> bool:
        """Whether every position is still there."""
        ...

    def select(self, rows: torch.Tensor) -> None: ...

    def layers(self) -> list[tuple[torch.Tensor, torch.Tensor]]: ...


class _Buffers:
    """Preallocated keys and values per layer, each (rows, kv_heads, capacity, head_dim)."""

    def __init__(self) -> None:
        self.length = 0
        self.pairs: list[tuple[torch.Tensor, torch.Tensor]] = []

    def write(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Put new positions behind the old ones; returns all keys and values of the layer, new ones included."""
        end = self.length + key.shape[2]
        if layer == len(self.pairs):
            capacity = max(_FIRST_CAPACITY, end + end // 2)
            shape = (key.shape[0], key.shape[1], capacity, key.shape[3])
            self.pairs.append((key.new_empty(shape), value.new_empty(shape)))
        keys, values = self.pairs[layer]
        if end > keys.shape[2]:
            grown = [functional.pad(tensor, (0, 0, 0, end + end // 2 - tensor.shape[2])) for tensor in (keys, values)]
            keys, values = self.pairs[layer] = (grown[0], grown[1])
        keys[:, :, self.length : end] = key
        values[:, :, self.length : end] = value
        return keys[:, :, :end], values[:, :, :end]

    @property
    def whole(self) -> bool:
        return True

    def select(self, rows: torch.Tensor) -> None:
        self.pairs = [(k.index_select(0, rows), v.index_select(0, rows)) for k, v in self.pairs]

    def layers(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(k[:, :, : self.length], v[:, :, : self.length]) for k, v in self.pairs]


def _pool_attention(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, _mask: Any, **options: Any
) -> tuple[torch.Tensor, None]:
    """Attention over the pools in flight; ``buffers`` and ``widths`` (rows per pool) ride along as options.

    With query length 1 the rows of several pools lie behind one another; with more there is one pool, from scratch.
    """
    buffers: Sequence[_Buffers] = options["buffers"]
    scale = options.get("scaling")
    rows, heads, length, head_dim = query.shape
    if length > 1:
        buffers[0].write(module.layer_idx, key, value)
        out = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scale, enable_gqa=heads != key.shape[1]
        )
        return out.transpose(1, 2), None
    kv_heads = key.shape[1]
    grouped = query.reshape(rows, kv_heads, heads // kv_heads, head_dim)
    out = torch.empty_like(grouped)
    out[sum(options["widths"]) :] = 0  # the padding, which nobody reads, has to stay finite
    start = 0
    for cache, width in zip(buffers, options["widths"], strict=True):
        end = start + width
        keys, values = cache.write(module.layer_idx, key[start:end], value[start:end])
        out[start:end] = functional.scaled_dot_product_attention(grouped[start:end], keys, values, scale=scale)
        start = end
    return out.reshape(rows, 1, heads, head_dim), None


class _PoolForward:
    """Runs the model's layers over the rows of many pools at once."""

    def __init__(self, model: Any) -> None:
        from transformers import AttentionInterface

        AttentionInterface.register(_ATTENTION, _pool_attention)
        self.model = share_weights(model)
        self.model.set_attn_implementation(_ATTENTION)

    def prefill(
        self, ids: torch.Tensor, states: bool, whole: bool = True
    ) -> tuple[_Cache, torch.Tensor, list[torch.Tensor]]:
        """(B, S) ids -> cache, final states (B, S, H), and the states of all layers if asked for."""
        cache = _Buffers()
        positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        padded = _pad_positions(ids)
        out = self._run(padded, _pad_positions(positions), [cache], [len(ids)], states)
        cache.length = ids.shape[1]
        cache.pairs = [(k[:, :, : padded.shape[1]], v[:, :, : padded.shape[1]]) for k, v in cache.pairs]
        width = ids.shape[1]
        hidden = [h[:, :width] for h in out.hidden_states] if states else []
        return cache, out.last_hidden_state[:, :width], hidden

    def step(
        self, caches: Sequence[_Cache], widths: Sequence[int], tokens: torch.Tensor, states: bool
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """One token for every row: final states (R, H), and all layers' if asked for."""
        rows = len(tokens)
        padding = -rows % _ROW_MULTIPLE
        positions = torch.repeat_interleave(
            torch.tensor([cache.length for cache in caches]), torch.tensor(list(widths))
        ).to(tokens.device)
        ids = functional.pad(tokens, (0, padding))[:, None]
        out = self._run(ids, functional.pad(positions, (0, padding))[:, None], caches, widths, states)
        for cache in caches:
            cache.length += 1
        hidden = [h[:rows, 0] for h in out.hidden_states] if states else []
        return out.last_hidden_state[:rows, 0], hidden

    def _run(
        self, ids: torch.Tensor, positions: torch.Tensor, caches: Sequence[Any], widths: Sequence[int], states: bool
    ) -> Any:
        return self.model.base_model(
            input_ids=ids,
            position_ids=positions,
            use_cache=False,
            output_hidden_states=states,
            buffers=caches,
            widths=widths,
        )


class _OwnCache:
    """Keys and values in the architecture's own cache class; a sliding window keeps the last ones only."""

    def __init__(self, cache: Any, length: int) -> None:
        self.cache, self.length = cache, length

    @property
    def whole(self) -> bool:
        layers = self.cache.layers
        return all(getattr(one, "keys", None) is not None and one.keys.shape[2] == self.length for one in layers)

    def select(self, rows: torch.Tensor) -> None:
        self.cache.batch_select_indices(rows)

    def layers(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(layer.keys, layer.values) for layer in self.cache.layers]


class _CacheForward:
    """Runs pool after pool on the architecture's own cache: slower, and right for every architecture."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def prefill(
        self, ids: torch.Tensor, states: bool, whole: bool = False
    ) -> tuple[_Cache, torch.Tensor, list[torch.Tensor]]:
        """With ``whole`` no layer lets go of a position, not even one with a sliding window."""
        kept = {"past_key_values": DynamicCache()} if whole else {}
        out = self.model.base_model(input_ids=ids, use_cache=True, output_hidden_states=states, **kept)
        hidden = list(out.hidden_states) if states else []
        return _OwnCache(out.past_key_values, ids.shape[1]), out.last_hidden_state, hidden

    def step(
        self, caches: Sequence[_Cache], widths: Sequence[int], tokens: torch.Tensor, states: bool
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        finals, hidden = [], []
        for cache, ids in zip(caches, torch.split(tokens, list(widths)), strict=True):
            assert isinstance(cache, _OwnCache)
            out = self.model.base_model(
                input_ids=ids[:, None],
                position_ids=torch.full_like(ids[:, None], cache.length),
                past_key_values=cache.cache,
                use_cache=True,
                output_hidden_states=states,
            )
            cache.cache, cache.length = out.past_key_values, cache.length + 1
            finals.append(out.last_hidden_state[:, 0])
            hidden.append([h[:, 0] for h in out.hidden_states] if states else [])
        return torch.cat(finals), [torch.cat(layer) for layer in zip(*hidden, strict=True)]


def _pad_positions(ids: torch.Tensor) -> torch.Tensor:
    """Lengthen single short rows, so that a matrix product never has fewer rows than the rule asks for."""
    return functional.pad(ids, (0, max(0, _ROW_MULTIPLE - ids.numel()))) if len(ids) == 1 else ids


# --- pools in flight ----------------------------------------------------------------------------------------------


class _Columns:
    """Growing (rows, tokens, ...) arrays, written one token at a time."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._arrays: dict[str, NDArray[Any]] = {}

    def put(self, name: str, rows: NDArray[np.int64], step: int, values: NDArray[Any]) -> None:
        array = self._arrays.get(name)
        if array is None:
            array = self._arrays[name] = np.zeros((self._rows, 64, *values.shape[1:]), values.dtype)
        if step >= array.shape[1]:
            array = self._arrays[name] = np.concatenate([array, np.zeros_like(array)], axis=1)
        array[rows, step] = values

    def row(self, name: str, row: int, tokens: int) -> NDArray[Any] | None:
        array = self._arrays.get(name)
        return None if array is None else array[row, : min(tokens, array.shape[1])].copy()


class _Lane:
    """One pool in flight. ``rows`` are the request's rows that are in the cache; ``step`` counts tokens per path."""

    def __init__(
        self, request: Request, sampling: Sampling, key: int, recording: Recording, hold: int, limit: int
    ) -> None:
        self.request, self.sampling, self.recording = request, sampling, recording
        self.key, self.hold, self.limit = key, hold, limit
        count = len(request.paths)
        self.paths = np.array(request.paths, np.uint64)
        self.given = 0 if request.prefixes is None else request.prefixes.shape[1]
        self.step = self.given
        self.rows = np.arange(count)
        self.lengths = np.full(count, -1)
        self.stopped = np.zeros(count, bool)
        self.paused = np.zeros(count, bool)
        self.columns = _Columns(count)
        self.hidden: dict[int, NDArray[np.float32]] = {}
        self.cache: _Cache | None = None
        self.logits = torch.empty(0)
        self.launch_seconds = self.resume_seconds = 0.0

    @property
    def done(self) -> NDArray[np.bool_]:
        return self.lengths >= 0

    @property
    def over(self) -> bool:
        return bool(self.done[self.rows].all()) and (self.step >= self.hold or not self._unseen())

    def _unseen(self) -> bool:
        """Whether a path that ended before the checkpoint still has to be read to its last token."""
        assert self.cache is not None
        return bool((self.lengths[self.rows] == self.step).any()) and self.cache.length < (
            len(self.request.prompt_ids) + self.step
        )

    def accept(self, tokens: NDArray[np.int64], ends: NDArray[np.bool_], signals: Mapping[str, NDArray[Any]]) -> None:
        """Take one sampled token per row in the cache."""
        going = ~self.done[self.rows]
        rows = self.rows[going]
        at = self.step - self.given
        self.columns.put("token_ids", rows, at, tokens[going])
        for name, values in signals.items():
            if name != "topk" or self.step < self.recording.topk_tokens:
                self.columns.put(name, rows, at, values[going])
        self.step += 1
        ended = rows[ends[going]]
        self.stopped[ended] = True
        self.lengths[ended] = self.step
        if self.request.pause is not None:
            for row, token in zip(rows[~ends[going]], tokens[going][~ends[going]], strict=True):
                if int(token) in self.request.pause.ids and self.request.pause.pauses(self._written(int(row))):
                    self.paused[row] = True
                    self.lengths[row] = self.step
        if self.step >= self.limit:
            self.lengths[rows[~ends[going]]] = self.step
            self.paused[rows] = False

    def _written(self, row: int) -> NDArray[np.int64]:
        """All tokens of a path so far, its given prefix included."""
        ids = self.columns.row("token_ids", row, self.step - self.given)
        assert ids is not None
        return ids if self.request.prefixes is None else np.concatenate([self.request.prefixes[row], ids])

    def wants_states(self) -> bool:
        pending = [c for c in self.recording.checkpoints if c >= self.step]
        return self.step in pending or bool(pending and (self.lengths[self.rows] == self.step).any())

    def keep_states(self, states: NDArray[np.float32]) -> None:
        """``states`` (rows, layers + 1, H): after reading token ``step`` of every row in the cache."""
        ending = self.lengths[self.rows] == self.step
        for checkpoint in self.recording.checkpoints:
            if checkpoint < self.step:
                continue
            store = self.hidden.setdefault(checkpoint, np.zeros((len(self.paths), *states.shape[1:]), np.float32))
            take = ending | (~self.done[self.rows] if checkpoint == self.step else False)
            store[self.rows[take]] = states[take]

    def compact(self, keep: NDArray[np.bool_]) -> None:
        """Let go of the rows in the cache that are not kept."""
        if keep.all():
            return
        assert self.cache is not None
        index = torch.from_numpy(np.flatnonzero(keep)).to(self.logits.device)
        self.rows = self.rows[keep]
        self.cache.select(index)
        self.logits = self.logits.index_select(0, index)

    def path(self, row: int) -> Path:
        length = self.lengths[row] if self.lengths[row] >= 0 else self.step
        tokens = int(length) - self.given
        ids = self.columns.row("token_ids", row, tokens)
        return Path(
            path=self.request.paths[row],
            token_ids=np.zeros(0, np.int64) if ids is None else ids,
            finish="stop" if self.stopped[row] else "call" if self.paused[row] else "length",
            logprobs=self.columns.row("logprobs", row, tokens),
            entropy=self.columns.row("entropy", row, tokens),
            self_certainty=self.columns.row("self_certainty", row, tokens),
            topk=self.columns.row("topk", row, min(tokens, self.recording.topk_tokens)),
            hidden={checkpoint: states[row] for checkpoint, states in self.hidden.items()},
        )

    def rollout(self, rows: Iterable[int]) -> Rollout:
        return Rollout(self.request.problem, [self.path(r) for r in rows], self.launch_seconds, self.resume_seconds)


@dataclass
class TransformersLivePool:
    """A pool at its checkpoint. Rows of finished paths are still in the cache, valid up to their own length."""

    lane: _Lane
    engine: TransformersEngine

    @property
    def request(self) -> Request:
        return self.lane.request

    @property
    def paths(self) -> list[Path]:
        return [self.lane.path(row) for row in range(len(self.lane.paths))]

    @property
    def replay_seconds(self) -> float:
        return 0.0

    def probe(self, pool: Pool, suffix_ids: Sequence[int], max_new_tokens: int) -> Probe:
        return self.engine.probe(pool, suffix_ids, max_new_tokens)

    def next_logprobs(self, pool: Pool, suffix_ids: Sequence[int], token_ids: Sequence[int]) -> NDArray[np.float64]:
        return self.engine.next_logprobs(pool, suffix_ids, token_ids)

    def behind(self, pool: Pool, learned: LearnedTokens) -> None:
        return None

    def kv(self, pool: Pool, rows: Sequence[int]) -> PrefixCache:
        """The cache that sampling left behind: nothing is computed again, unless a sliding window let go of a part."""
        assert self.lane.cache is not None
        if not self.lane.cache.whole:
            return self.engine.kv(pool, rows)
        index = torch.tensor(list(rows), device=self.lane.logits.device)
        lengths = len(self.request.prompt_ids) + pool.lengths[np.array(list(rows))]
        width = int(lengths.max())
        layers = tuple(
            (keys.index_select(0, index)[:, :, :width], values.index_select(0, index)[:, :, :width])
            for keys, values in self.lane.cache.layers()
        )
        return PrefixCache(self.engine.model, layers, lengths)


@contextmanager
def one_thread() -> Iterator[None]:
    """On a CPU, threads share attention by the number of rows, which moves the last bit with the batch."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# --- the engine ---------------------------------------------------------------------------------------------------


class TransformersEngine(Texts):
    """Launch, Check and Resume on one ``AutoModelForCausalLM`` (see :class:`bench.engines.base.Engine`).

    ``rows_in_flight`` bounds the paths that are decoded together; results do not depend on it.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str,
        digest: str,
        rows_in_flight: int = 256,
        options: ModelOptions = DEFAULTS,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer, self.name, self.digest, self.rows_in_flight = tokenizer, name, digest, rows_in_flight
        self.options = options
        self.tools = None if options.tools is None else ToolUse(tokenizer, Sandbox.probe(), format_of(tokenizer))
        self.device = str(next(model.parameters()).device)
        self.replay_seconds = 0.0
        self._held: tuple[Any, tuple[int, ...], PrefixCache] | None = None
        settings = model.generation_config
        ends = settings.eos_token_id if settings.eos_token_id is not None else tokenizer.eos_token_id
        known = [ends] if isinstance(ends, int) else list(ends or [])
        self._ends = torch.tensor([*known, *stop_ids(tokenizer, options)], dtype=torch.long, device=self.device)
        self._banned = torch.tensor(list(settings.suppress_tokens or []), dtype=torch.long, device=self.device)
        self.forward: _PoolForward | _CacheForward = _CacheForward(self.model)
        if not getattr(model, "hf_device_map", None) and not has_windows(model.config.get_text_config()):
            pooled = _PoolForward(self.model)
            if self._agrees(pooled):
                self.forward = pooled
        self._require_known_logits()

    @classmethod
    def load(
        cls,
        model: str,
        device: str = "cpu",
        dtype: str | None = None,
        rows_in_flight: int = 256,
        options: ModelOptions = DEFAULTS,
    ) -> TransformersEngine:
        """A hub id, a local folder, or the name of a shipped reasoner; ``dtype`` goes before that of the ``options``.

        Raises UserError for what cannot be loaded whole, and for stop tokens that are none.
        """
        from transformers import AutoTokenizer

        _quiet()
        source = source_of(model)
        _refuse_incomplete(FilePath(source))
        usual = "float32" if model in REASONERS or device == "cpu" else "auto"
        wanted = dtype or options.dtype or usual
        named = {"revision": options.revision, "trust_remote_code": options.trust_remote_code}
        with _told_in_a_sentence(model):
            tokenizer = AutoTokenizer.from_pretrained(source, **named)
            network = _whole_model(source, "auto" if wanted == "auto" else getattr(torch, wanted), options, named)
        if options.device_map is None:
            network = network.to(device)
        return cls(network, tokenizer, model, options.digest(model_digest(source)), rows_in_flight, options)

    backend = ""
    """What samples, where it is not this engine itself."""
    reads = True
    """Whether prefixes can be read with the model: without it only what was told while sampling is known."""

    def recordable(self, recording: Recording) -> Recording:
        """What of it sampling can record."""
        return recording

    @property
    def context(self) -> int:
        told = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return int(told or self.tokenizer.model_max_length)

    @property
    def banned(self) -> list[int]:
        """Ids that are never sampled."""
        return [int(token) for token in self._banned]

    @cached_property
    def shape(self) -> ModelShape:
        return ModelShape.of(self.model.config.get_text_config())

    @cached_property
    def arithmetic(self) -> Arithmetic:
        parameters = list(self.model.parameters())
        size = parameters[0].element_size()
        return Arithmetic.of(self.model.config.get_text_config(), sum(p.numel() for p in parameters), size)

    @property
    def weight_bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.model.parameters())

    # Launch, Resume, continuations

    def sample(
        self,
        requests: Iterable[Request],
        sampling: Sampling,
        seed: int,
        recording: Recording = NOTHING,
        purpose: str = "rollout",
    ) -> Iterator[Rollout]:
        """See :class:`bench.engines.base.Engine`. With tools no signals are recorded; reading again gives them."""
        if self.tools is None:
            yield from self._sample(requests, sampling, seed, recording, purpose)
            return
        quiet = Recording(False, False, False, topk=0, launch_tokens=recording.launch_tokens)
        yield from self.tools.sample(
            requests, lambda some: self._sample(some, sampling, seed, quiet, purpose), sampling.max_new_tokens
        )

    def _sample(
        self, requests: Iterable[Request], sampling: Sampling, seed: int, recording: Recording, purpose: str = "rollout"
    ) -> Iterator[Rollout]:
        hold = max((recording.launch_tokens, *recording.checkpoints))
        lanes = (self._lane(request, sampling, seed, recording, hold, purpose) for request in requests)
        for lane in self._run(lanes, until=None):
            yield lane.rollout(range(len(lane.paths)))

    def launch(
        self, requests: Iterable[Request], sampling: Sampling, seed: int, recording: Recording, until: int
    ) -> Iterator[LivePool]:
        lanes = (self._lane(request, sampling, seed, recording, until, "rollout") for request in requests)
        for lane in self._run(lanes, until=until):
            yield TransformersLivePool(lane, self)

    def resume(self, live: Iterable[tuple[LivePool, NDArray[np.bool_]]]) -> Iterator[Rollout]:
        """Rollouts of the kept paths only, in row order."""
        kept: dict[int, NDArray[np.bool_]] = {}

        def lanes() -> Iterator[_Lane]:
            for pool, keep in live:
                assert isinstance(pool, TransformersLivePool)
                lane = pool.lane
                kept[id(lane)] = keep
                lane.hold = 0
                lane.compact(keep[lane.rows] & ~lane.done[lane.rows])
                yield lane

        for lane in self._run(lanes(), until=None):
            yield lane.rollout(np.flatnonzero(kept.pop(id(lane))).tolist())

    def _lane(
        self, request: Request, sampling: Sampling, seed: int, recording: Recording, hold: int, purpose: str
    ) -> _Lane:
        limit = self.limit(request, sampling)
        return _Lane(request, sampling, noise_key(seed, purpose, request.problem), recording, min(hold, limit), limit)

    @torch.inference_mode()
    def _run(self, source: Iterator[_Lane], until: int | None) -> Iterator[_Lane]:
        """Drive lanes to their end, or to ``until`` tokens, in the order in which they came."""
        waiting: _Lane | None = next(source, None)
        order: list[_Lane] = []
        flying: list[_Lane] = []
        finished: set[int] = set()
        while waiting is not None or order:
            while waiting is not None and (
                not flying or sum(len(lane.rows) for lane in flying) + len(waiting.rows) <= self.rows_in_flight
            ):
                order.append(waiting)
                if waiting.cache is None:
                    self._start(waiting)
                if self._stands(waiting, until):
                    finished.add(id(waiting))
                else:
                    flying.append(waiting)
                waiting = next(source, None)
            if flying:
                started = time.perf_counter()
                self._advance(flying)
                self._charge(flying, time.perf_counter() - started)
                finished |= {id(lane) for lane in flying if self._stands(lane, until)}
                flying = [lane for lane in flying if id(lane) not in finished]
            while order and id(order[0]) in finished:
                lane = order.pop(0)
                finished.discard(id(lane))
                yield lane

    @staticmethod
    def _stands(lane: _Lane, until: int | None) -> bool:
        return lane.over or (until is not None and lane.step >= until)

    @staticmethod
    def _charge(lanes: Sequence[_Lane], seconds: float) -> None:
        rows = sum(len(lane.rows) for lane in lanes) or 1
        for lane in lanes:
            share = seconds * len(lane.rows) / rows
            if lane.step <= lane.hold:
                lane.launch_seconds += share
            else:
                lane.resume_seconds += share

    @one_thread()
    def _start(self, lane: _Lane) -> None:
        started = time.perf_counter()
        prompt = torch.from_numpy(lane.request.prompt_ids).to(self.device)
        count = len(lane.rows)
        if lane.request.prefixes is None:
            ids, source = prompt[None], torch.zeros(count, dtype=torch.long, device=self.device)
        else:
            distinct, inverse = np.unique(lane.request.prefixes, axis=0, return_inverse=True)
            tail = torch.from_numpy(distinct).to(self.device)
            ids = torch.cat([prompt.expand(len(tail), -1), tail], dim=1)
            source = torch.from_numpy(inverse.reshape(-1)).to(self.device)
        cache, final, _ = self.forward.prefill(ids, states=False)
        cache.select(source)
        lane.cache = cache
        lane.logits = self._logits(final[:, -1])[source]
        lane.launch_seconds += time.perf_counter() - started

    def _logits(self, states: torch.Tensor) -> torch.Tensor:
        padding = -len(states) % _ROW_MULTIPLE
        logits = self.model.get_output_embeddings()(functional.pad(states, (0, 0, 0, padding)))
        return _finished(logits[: len(states)].float(), self.model.config.get_text_config())

    @one_thread()
    def _advance(self, lanes: Sequence[_Lane]) -> None:
        """One token for every row of every lane."""
        logits = torch.cat([lane.logits for lane in lanes])
        noise = uniforms(
            np.repeat(np.array([lane.key for lane in lanes], np.uint64), [len(lane.rows) for lane in lanes]),
            np.concatenate([lane.paths[lane.rows] for lane in lanes]),
            np.repeat(np.array([lane.step for lane in lanes], np.uint64), [len(lane.rows) for lane in lanes]),
        )
        allowed = logits if not len(self._banned) else logits.index_fill(1, self._banned, -torch.inf)
        tokens = draw(allowed, noise, lanes[0].sampling)
        signals = signals_of(logits, tokens, lanes[0].recording)
        ends = torch.isin(tokens, self._ends).cpu().numpy()
        drawn = tokens.cpu().numpy()
        start = 0
        for lane in lanes:
            part = slice(start, start + len(lane.rows))
            lane.accept(drawn[part], ends[part], {name: values[part] for name, values in signals.items()})
            start = part.stop
        self._read(lanes, tokens)

    def _read(self, lanes: Sequence[_Lane], tokens: torch.Tensor) -> None:
        """Feed the drawn tokens; when enough rows have finished they leave first, unless a checkpoint wants them."""
        parts = []
        reading = []
        for lane, drawn in zip(lanes, torch.split(tokens, [len(lane.rows) for lane in lanes]), strict=True):
            going = ~lane.done[lane.rows]
            if lane.step > lane.hold and (~going).sum() * _COMPACT_SHARE >= len(going):
                drawn = drawn[torch.from_numpy(going).to(drawn.device)]
                lane.compact(going)
            if len(lane.rows):
                parts.append(drawn)
                reading.append(lane)
        if not reading:
            return
        states_wanted = any(lane.wants_states() for lane in reading)
        caches = [lane.cache for lane in reading if lane.cache is not None]
        widths = [len(lane.rows) for lane in reading]
        final, states = self.forward.step(caches, widths, torch.cat(parts), states_wanted)
        logits = torch.split(self._logits(final), widths)
        stacked = torch.stack(states, 1).float().cpu().numpy() if states_wanted else None
        start = 0
        for lane, part in zip(reading, logits, strict=True):
            lane.logits = part
            if stacked is not None and lane.wants_states():
                lane.keep_states(stacked[start : start + len(lane.rows)])
            start += len(lane.rows)

    # Check

    def behind(self, pool: Pool, learned: LearnedTokens) -> NDArray[np.float32] | None:
        """None: whoever has learned tokens reads the cache with them (see :meth:`kv`)."""
        return None

    @torch.inference_mode()
    def kv(self, pool: Pool, rows: Sequence[int]) -> PrefixCache:
        """Re-encode prompt + prefix of replayed rows, equal ones once (an online pool still has its cache).

        The last answer is kept: one method after another asks for the same rows.
        """
        wanted = tuple(rows)
        if self._held is not None and self._held[0] is pool.token_ids and self._held[1] == wanted:
            return self._held[2]
        started = time.perf_counter()
        distinct, inverse = distinct_rows(pool.take(wanted))
        ids, lengths = self._right_padded(pool, [wanted[row] for row in distinct])
        cache, _, _ = self.forward.prefill(ids, states=False, whole=True)
        index = torch.from_numpy(inverse).to(self.device)
        layers = tuple((keys.index_select(0, index), values.index_select(0, index)) for keys, values in cache.layers())
        found = PrefixCache(self.model, layers, lengths[inverse])
        self._held = pool.token_ids, wanted, found
        self.replay_seconds += time.perf_counter() - started
        return found

    def reread(self, pool: Pool, signals: Collection[Signal]) -> dict[Signal, Any]:
        """The recordable ``signals`` of a replayed pool, as the columns that :class:`Pool` describes.

        Prompt + prefix are encoded again, equal prefixes once; an online run computes the same numbers while decoding.
        """
        wanted = frozenset(signals) & REREADABLE
        if not wanted:
            return {}
        started = time.perf_counter()
        distinct, inverse = distinct_rows(pool)
        columns: dict[Signal, Any] = {}
        with torch.inference_mode():
            ids, lengths = self._right_padded(pool, distinct)
            _, final, states = self.forward.prefill(ids, states=bool(wanted & _OF_STATES))
            start, own = len(pool.prompt_ids), lengths - len(pool.prompt_ids)
            if wanted & _OF_STATES:
                layers = [layer[:, start:].float().cpu().numpy() for layer in states]
                last = [layer[np.arange(len(own)), own - 1][inverse] for layer in layers]
                for signal in wanted & {Signal.HIDDEN_STATE, Signal.ALL_LAYERS}:
                    columns[signal] = dict(enumerate(last))
                if Signal.STATES in wanted:
                    columns[Signal.STATES] = {
                        number: tuple(layer[row, : own[row]] for row in inverse) for number, layer in enumerate(layers)
                    }
            if wanted - _OF_STATES:
                logits = self._logits(final[:, start - 1 : -1].flatten(0, 1))
                told = signals_of(logits, ids[:, start:].flatten(), _EVERYTHING)
                if Signal.VARENTROPY in wanted:
                    told["varentropy"] = _varentropy(logits).cpu().numpy()
                for signal in wanted - _OF_STATES:
                    column = told[_COLUMNS[signal]]
                    column = column.reshape(len(own), -1, *column.shape[1:])
                    columns[signal] = tuple(column[row, : own[row]] for row in inverse)
        self.replay_seconds += time.perf_counter() - started
        return columns

    @torch.inference_mode()
    def prefix_states(self, pool: Pool) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Re-encode the prefixes: states (layers + 1, N, L, H) of all prefix tokens, and which (N, L) exist."""
        ids, lengths = self._right_padded(pool, range(len(pool)))
        _, _, states = self.forward.prefill(ids, states=True)
        start = len(pool.prompt_ids)
        exists = np.arange(start, ids.shape[1]) < lengths[:, None]
        return torch.stack(states)[:, :, start:].float().cpu().numpy(), exists

    @torch.inference_mode()
    def next_logprobs(self, pool: Pool, suffix_ids: Sequence[int], token_ids: Sequence[int]) -> NDArray[np.float64]:
        started = time.perf_counter()
        distinct, inverse = distinct_rows(pool)
        suffix = torch.tensor(list(suffix_ids), device=self.device)
        ids, lengths = self._right_padded(pool, distinct)
        ids = functional.pad(ids, (0, len(suffix)))
        for row, length in enumerate(lengths):
            ids[row, length : length + len(suffix)] = suffix
        _, final, _ = self.forward.prefill(ids, states=False)
        last = torch.from_numpy(lengths + len(suffix) - 1).to(self.device)
        logits = self._logits(final[torch.arange(len(ids), device=self.device), last])
        logprobs = logits.double().log_softmax(-1)[:, list(token_ids)].cpu().numpy()
        told: NDArray[np.float64] = logprobs[inverse]
        # Online the prefix lies in the cache and only the suffix is read.
        self.replay_seconds += (time.perf_counter() - started) * lengths.sum() / (lengths + len(suffix)).sum()
        return told

    def read_next(self, contexts: Sequence[NDArray[np.int64]], token_ids: Sequence[int]) -> NDArray[np.float64]:
        """(contexts, token_ids): log-probabilities right after each context, each read alone, nothing banned."""
        told = [self.next_logprobs(pool_of_ids((ids[:0],), ids[:-1]), ids[-1:].tolist(), token_ids) for ids in contexts]
        return np.concatenate([np.empty((0, len(token_ids))), *told])

    def probe(self, pool: Pool, suffix_ids: Sequence[int], max_new_tokens: int) -> Probe:
        """See :func:`bench.engines.tokenization.forced_answers`."""

        def ask(request: Request, sampling: Sampling, recording: Recording) -> Rollout:
            (rollout,) = self._sample([request], sampling, 0, recording)
            assert request.prefixes is not None
            length = request.prefixes.shape[1] + len(request.prompt_ids)
            # online the prefix lies in the cache
            self.replay_seconds += rollout.launch_seconds * (length - len(suffix_ids)) / length
            return rollout

        return forced_answers(pool, suffix_ids, max_new_tokens, ask)

    def _right_padded(self, pool: Pool, rows: Sequence[int]) -> tuple[torch.Tensor, NDArray[np.int64]]:
        texts = [np.concatenate([pool.prompt_ids, pool.token_ids[row]]) for row in rows]
        lengths = np.array([len(text) for text in texts])
        ids = np.zeros((len(texts), int(lengths.max())), np.int64)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = text
        return torch.from_numpy(ids).to(self.device), lengths

    @torch.inference_mode()
    def _agrees(self, pooled: _PoolForward) -> bool:
        """Whether the pooled loop gives the model's own logits: 24 arbitrary tokens, the last three one by one."""
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(0, self.model.config.vocab_size, (2, 24), generator=generator).to(self.device)
        try:
            cache, _, _ = pooled.prefill(ids[:, :21], states=False)
            finals = [pooled.step([cache], [2], ids[:, position], states=False)[0] for position in (21, 22, 23)]
        except (KeyError, TypeError, RuntimeError, NotImplementedError):
            return False
        expected = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, 21:]
        scale = float(expected.abs().max())
        tolerance = 1e-4 if expected.dtype == torch.float32 else 5e-2
        return bool((torch.stack(finals, 1) - expected).abs().max() <= tolerance * max(1.0, scale))

    @torch.inference_mode()
    def _require_known_logits(self) -> None:
        """Raises UserError where the model makes its logits otherwise than :func:`_finished` knows."""
        generator = torch.Generator().manual_seed(0)
        vocabulary = self.model.config.get_text_config().vocab_size
        ids = torch.randint(0, vocabulary, (2, 24), generator=generator).to(self.device)
        whole = self.model(input_ids=ids, use_cache=False).logits[:, -1].float()
        told = self._logits(self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, -1])
        tolerance = 1e-3 if self.model.dtype == torch.float32 else 5e-2
        if (told - whole).abs().max() > tolerance * max(1.0, float(whole.abs().max())):
            raise UserError(
                f"model '{self.name}' ({self.model.config.model_type}) makes its logits in a way that is not known "
                "here; give another architecture"
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


def _varentropy(logits: torch.Tensor) -> torch.Tensor:
    """(R,) variance of -log p under p, in nats squared, from (R, V) raw logits."""
    logprobs = logits.log_softmax(-1)
    probabilities = logprobs.exp()
    entropy = torch.special.entr(probabilities).sum(-1, keepdim=True)
    # Where p underflows to 0 the square may be large, but finite, and counts nothing.
    spread: torch.Tensor = (probabilities * (logprobs.clamp_min(-1e4) + entropy) ** 2).sum(-1)
    return spread


def _quiet() -> None:
    """What transformers would tell while it loads."""
    from transformers.utils import logging as transformers_logging

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("datasets").setLevel(logging.ERROR)


def _refuse_incomplete(folder: FilePath) -> None:
    """Raises UserError for a local folder that is no checkpoint."""
    if not folder.is_dir():
        return
    if not (folder / "config.json").exists():
        raise UserError(f"model folder {folder}: no config.json; give a Hugging Face checkpoint folder or a hub id")
    if not any(folder.glob("tokenizer*")) and not (folder / "vocab.json").exists():
        raise UserError(f"model folder {folder}: no tokenizer; save it there with tokenizer.save_pretrained({folder})")


@contextmanager
def _told_in_a_sentence(model: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError, ImportError, KeyError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__).strip()
        hint = "give a local folder or a reachable hub id"
        if "trust_remote_code" in str(error):
            hint = "it brings its own code: allow it with trust_remote_code, if you trust it"
        elif isinstance(error, ImportError):
            hint = "install what is missing"
        raise UserError(f"model '{model}' could not be loaded: {first[:300]}; {hint}") from error


def _whole_model(source: str, dtype: Any, options: ModelOptions, named: Mapping[str, Any]) -> Any:
    """The network; refused where weights are missing, which transformers would only fill with noise."""
    from transformers import AutoModelForCausalLM

    place = {} if options.device_map is None else {"device_map": options.device_map}
    network, found = AutoModelForCausalLM.from_pretrained(
        source, dtype=dtype, output_loading_info=True, **place, **named
    )
    missing = sorted(found["missing_keys"])
    if missing:
        raise ValueError(f"{len(missing)} weights are missing from the checkpoint, such as {missing[0]}")
    return network


def stop_ids(tokenizer: Any, options: ModelOptions) -> list[int]:
    """The ids of the stop tokens. Raises UserError for a text that is not one token."""
    found: list[int] = []
    for stop in options.stop:
        ids = [stop] if isinstance(stop, int) else tokenizer(stop, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            raise UserError(f"stop {stop!r}: {len(ids)} tokens of this model; only single tokens can end a path")
        found += ids
    return found


def model_digest(source: str) -> str:
    """16 hex digits over weights, configurations and tokenizer of a local folder; of the id itself for a hub model."""
    digest = hashlib.sha256()
    folder = FilePath(source)
    if not folder.is_dir():
        return hashlib.sha256(source.encode()).hexdigest()[:16]
    named = [folder / name for name in ("config.json", "generation_config.json", "tokenizer.json")]
    for file in sorted([*folder.glob("*.safetensors"), *(file for file in named if file.exists())]):
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
