"""The default engine: any causal language model of transformers, many pools in flight, results independent of batch.

Architectures whose attention the pooled loop does not reproduce (checked against the model's own forward at the start)
run on their own cache, pool by pool.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from prunebench.bench.engines.arithmetic import Arithmetic, ModelShape
from prunebench.bench.engines.base import NOTHING, LivePool, Recording, Request, Rollout, Sampling, rereadable
from prunebench.bench.engines.noise import noise_key
from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.engines.shipped import SYNTHETIC
from prunebench.bench.engines.sources import source_of
from prunebench.bench.engines.tokenization import Tokenization, forced_answers, pool_of_ids
from prunebench.bench.engines.tools.sandbox import Sandbox
from prunebench.bench.engines.tools.tool_use import ToolUse, format_of
from prunebench.bench.engines.transformers.caches import ROW_MULTIPLE, forward_of
from prunebench.bench.engines.transformers.decoding import Decoder, Head
from prunebench.bench.engines.transformers.loading import load_model
from prunebench.bench.engines.transformers.memory import tokens_in_memory
from prunebench.bench.engines.transformers.pools import PoolInFlight, TransformersLivePool
from prunebench.bench.engines.transformers.reading import PrefixEncoder
from prunebench.bench.files import in_groups
from prunebench.methods.base import Signal
from prunebench.methods.generator import LearnedTokens, PrefixCache, Probe
from prunebench.methods.pool import Pool

DEFAULTS = ModelOptions()


class TransformersEngine(Tokenization):
    """Launch, Check and Resume on one ``AutoModelForCausalLM`` (see :class:`bench.engines.base.Engine`).

    ``rows_in_flight`` bounds the paths that are decoded together, ``tokens_in_flight`` the keys and values that they
    may come to, by the memory that is free at the start; results depend on neither.
    """

    backend = ""
    reads = True

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
        self.tokens_in_flight = tokens_in_memory(self.device, self.arithmetic.kv_bytes)
        self.replay_seconds = 0.0
        self._cached: tuple[Any, tuple[int, ...], PrefixCache] | None = None
        settings = model.generation_config
        ends = settings.eos_token_id if settings.eos_token_id is not None else tokenizer.eos_token_id
        known = [ends] if isinstance(ends, int) else list(ends or [])
        self.banned = [int(token) for token in settings.suppress_tokens or []]
        head = Head(self.model)
        self.decoder = Decoder(
            forward_of(self.model),
            head,
            ends=torch.tensor([*known, *options.stop_ids(tokenizer)], dtype=torch.long, device=self.device),
            banned=torch.tensor(self.banned, dtype=torch.long, device=self.device),
        )
        self.encoder = PrefixEncoder(self.decoder.forward, head, self.device)
        head.require_known(name)

    @classmethod
    def load(
        cls,
        model: str,
        device: str = "cpu",
        dtype: str | None = None,
        rows_in_flight: int = 256,
        options: ModelOptions = DEFAULTS,
    ) -> TransformersEngine:
        """A hub id, or whatever else :mod:`bench.engines.sources` knows; ``dtype`` goes before that of the ``options``.

        Raises UserError for what cannot be loaded whole, and for stop tokens that are none.
        """
        source = source_of(model, options)
        wanted = dtype or options.dtype or ("float32" if model in SYNTHETIC or device == "cpu" else "auto")
        network, tokenizer = load_model(
            model, source.place(), "auto" if wanted == "auto" else getattr(torch, wanted), options
        )
        if options.device_map is None:
            network = network.to(device)
        return cls(network, tokenizer, model, options.digest(source.digest), rows_in_flight, options)

    # The model

    @property
    def context(self) -> int:
        longest = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return int(longest or self.tokenizer.model_max_length)

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

    def recordable(self, recording: Recording) -> Recording:
        """All of it."""
        return recording

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
        quiet = Recording((), topk=0, launch_tokens=recording.launch_tokens)
        yield from self.tools.sample(
            requests, lambda some: self._sample(some, sampling, seed, quiet, purpose), sampling.max_new_tokens
        )

    def _sample(
        self, requests: Iterable[Request], sampling: Sampling, seed: int, recording: Recording, purpose: str = "rollout"
    ) -> Iterator[Rollout]:
        hold = max((recording.launch_tokens, *recording.checkpoints))
        pools = (self._in_flight(request, sampling, seed, recording, hold, purpose) for request in requests)
        for pool in self._run(pools, None):
            yield pool.rollout(range(len(pool.paths)))

    def launch(
        self, requests: Iterable[Request], sampling: Sampling, seed: int, recording: Recording, until: int
    ) -> Iterator[TransformersLivePool]:
        pools = (self._in_flight(request, sampling, seed, recording, until, "rollout") for request in requests)
        for pool in self._run(pools, until):
            yield TransformersLivePool(pool, self, self.model)

    def resume(self, live: Iterable[tuple[LivePool, NDArray[np.bool_]]]) -> Iterator[Rollout]:
        kept: dict[int, NDArray[np.bool_]] = {}

        def pools() -> Iterator[PoolInFlight]:
            for pool, keep in live:
                assert isinstance(pool, TransformersLivePool)
                pool.keep(keep)
                kept[id(pool.in_flight)] = keep
                yield pool.in_flight

        for pool in self._run(pools(), None):
            yield pool.rollout(np.flatnonzero(kept.pop(id(pool))).tolist())

    def _run(self, pools: Iterator[PoolInFlight], until: int | None) -> Iterator[PoolInFlight]:
        return self.decoder.run(pools, until, self.rows_in_flight, self.tokens_in_flight)

    def _in_flight(
        self, request: Request, sampling: Sampling, seed: int, recording: Recording, hold: int, purpose: str
    ) -> PoolInFlight:
        limit, key = self.limit(request, sampling), noise_key(seed, purpose, request.problem)
        return PoolInFlight(request, sampling, key, recording, min(hold, limit), limit)

    def forget(self) -> None:
        """See :class:`bench.engines.base.Engine`."""
        self._cached = None
        self.decoder.most_tokens = 0

    def endless(self) -> TransformersEngine:
        """The same model with no token that ends a path, for measurements."""
        twin = copy(self)
        twin.decoder = replace(self.decoder, ends=self.decoder.ends[:0])
        return twin

    # Check

    def behind(self, pool: Pool, learned: LearnedTokens) -> NDArray[np.float32] | None:
        """None: whoever has learned tokens reads the cache with them (see :meth:`kv`)."""
        return None

    def kv(self, pool: Pool, rows: Sequence[int]) -> PrefixCache:
        """Re-encode prompt + prefix of replayed rows, equal ones once (an online pool still has its cache).

        The last answer is kept: one method after another asks for the same rows.
        """
        wanted = tuple(rows)
        if self._cached is not None and self._cached[0] is pool.token_ids and self._cached[1] == wanted:
            return self._cached[2]
        started = time.perf_counter()
        cache = PrefixCache(self.model, *self.encoder.cache(pool.take(wanted)))
        self._cached = pool.token_ids, wanted, cache
        self.replay_seconds += time.perf_counter() - started
        return cache

    def reread(self, pool: Pool, signals: Collection[Signal]) -> dict[Signal, Any]:
        """Prompt + prefix are encoded again, equal prefixes once; an online run computes the same while decoding."""
        wanted = frozenset(filter(rereadable, signals))
        if not wanted:
            return {}
        started = time.perf_counter()
        columns = self.encoder.columns(pool, wanted)
        self.replay_seconds += time.perf_counter() - started
        return columns

    def prefix_states(self, pool: Pool) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        return self.encoder.states(pool)

    def next_logprobs(self, pool: Pool, suffix_ids: Sequence[int], token_ids: Sequence[int]) -> NDArray[np.float64]:
        started = time.perf_counter()
        logprobs, prefix_share = self.encoder.next_logprobs(pool, suffix_ids, token_ids)
        # Online the prefix lies in the cache and only the suffix is read.
        self.replay_seconds += (time.perf_counter() - started) * prefix_share
        return logprobs

    def read_next(self, contexts: Sequence[NDArray[np.int64]], token_ids: Sequence[int]) -> NDArray[np.float64]:
        """See :class:`bench.engines.base.Engine`; those of one length together, as many as there is memory for.

        One of less than eight tokens is read alone: how products of so few rows are rounded depends on their number.
        """
        logprobs, nothing = np.empty((len(contexts), len(token_ids))), np.zeros(0, np.int64)
        alike: dict[int, list[int]] = {}
        for row, ids in enumerate(contexts):
            alike.setdefault(len(ids), []).append(row)
        for length, rows in alike.items():
            most = min(self.rows_in_flight, self.tokens_in_flight // length) if length >= ROW_MULTIPLE else 1
            for some in in_groups(rows, max(1, most)):
                logprobs[some] = self.next_logprobs(
                    pool_of_ids(tuple(contexts[r] for r in some), nothing), (), token_ids
                )
        return logprobs

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
