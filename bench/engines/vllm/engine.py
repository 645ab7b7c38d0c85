"""Launch, Check and Resume on an unmodified vLLM, through its public extension points.

vLLM samples with our keyed noise (see :mod:`bench.engines.vllm.noise`), so its paths are those of the default engine up
to near ties of a draw, and checks prefixes in its own process (see :mod:`bench.engines.vllm.worker`): last states, and
learned tokens that are read behind the cached prefix. What needs the states of *every* token is read by the default
engine, which is loaded beside it. Before the first path both engines read the same ids; where log-probabilities,
states or the scores of learned tokens differ by more than the type allows, nothing is sampled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.base import NOTHING, LivePool, Path, Recording, Request, Rollout, Sampling, joined
from prunebench.bench.engines.noise import noise_key
from prunebench.bench.engines.tokenization import Tokenization, distinct_rows, pool_of_ids
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.engines.vllm.checks import CachedPrefixes
from prunebench.bench.engines.vllm.paths import by_request, path_of
from prunebench.bench.engines.vllm.process import VllmProcess, version
from prunebench.bench.engines.vllm.self_test import differences
from prunebench.bench.errors import UserError
from prunebench.methods.base import Signal
from prunebench.methods.generator import LearnedTokens, PrefixCache, Probe
from prunebench.methods.pool import Pool

ROWS_TOGETHER = 1024
"""Paths that are handed to vLLM at a time; it schedules them itself."""
CHECK_TOKENS = 8
"""Tokens per prefix that the plan of the memory leaves for a check."""


@dataclass
class VllmLivePool:
    """A pool at its checkpoint; its keys and values lie in vLLM's prefix cache, as long as there is room.

    ``done``: the paths that have ended. ``last``: no further pool was launched together with it.
    """

    checks: CachedPrefixes
    request: Request
    paths: list[Path]
    done: NDArray[np.bool_]
    sampling: Sampling
    seed: int
    recording: Recording
    launch_seconds: float
    last: bool
    replay_seconds = 0.0

    def probe(self, pool: Pool, suffix_ids: Sequence[int], max_new_tokens: int) -> Probe:
        return self.checks.probe(pool, suffix_ids, max_new_tokens)

    def next_logprobs(self, pool: Pool, suffix_ids: Sequence[int], token_ids: Sequence[int]) -> NDArray[np.float64]:
        return self.checks.next_logprobs(pool, suffix_ids, token_ids)

    def kv(self, pool: Pool, rows: Sequence[int]) -> PrefixCache:
        return self.checks.kv(pool, rows)

    def behind(self, pool: Pool, learned: LearnedTokens) -> NDArray[np.float32] | None:
        return self.checks.behind(pool, learned)


@dataclass(frozen=True)
class _Generated:
    """Paths of one request, their share of the seconds, and the tokens of its prefixes that were encoded again."""

    paths: list[Path]
    seconds: float
    recomputed_tokens: int


class VllmEngine(Tokenization):
    """vLLM for sampling and checks, beside ``reader``, the default engine, for everything else.

    ``close`` ends vLLM's process.
    """

    reads = True

    def __init__(self, reader: TransformersEngine, process: VllmProcess) -> None:
        self.reader, self.process = reader, process
        self.name, self.tokenizer, self.options = reader.name, reader.tokenizer, reader.options
        self.digest, self.device, self.rows_in_flight = reader.digest, reader.device, reader.rows_in_flight
        self.model, self.banned = reader.model, reader.banned
        self.shape, self.arithmetic, self.weight_bytes = reader.shape, reader.arithmetic, reader.weight_bytes
        self.backend = f"vllm {version()}"
        self.checks = CachedPrefixes(process, reader, self._sample)
        self._warmed: Any = None
        """The prefixes that were put into the cache last."""
        self._seconds = 0.0

    @classmethod
    def beside(
        cls, reader: TransformersEngine, memory_gib: float | None = None, kv_tokens: int | None = None
    ) -> VllmEngine:
        """Start vLLM with the model of ``reader`` (see :meth:`VllmProcess.start`).

        Raises UserError where that fails, and where the two do not agree.
        """
        process = VllmProcess.start(reader, memory_gib, kv_tokens)
        try:
            process.ask("prunebench_hook")
            engine = cls(reader, process)
            engine.agree()
        except BaseException:
            process.close()
            raise
        return engine

    def agree(self) -> dict[str, float]:
        """See :func:`bench.engines.vllm.self_test.differences`."""
        return differences(self, self.checks)

    def close(self) -> None:
        """End vLLM's process."""
        self.process.close()

    def forget(self) -> None:
        """See :class:`bench.engines.base.Engine`."""
        self.process.forget()
        self.reader.forget()
        self._warmed = None

    @property
    def context(self) -> int:
        return self.reader.context

    # Launch, Resume, continuations

    def recordable(self, recording: Recording) -> Recording:
        """Hidden states are not recorded: they can be read again."""
        return replace(recording, checkpoints=())

    def sample(
        self,
        requests: Iterable[Request],
        sampling: Sampling,
        seed: int,
        recording: Recording = NOTHING,
        purpose: str = "rollout",
    ) -> Iterator[Rollout]:
        """See :class:`bench.engines.base.Engine`. ``launch_seconds`` are not known. Raises UserError with tools."""
        if self.options.tools is not None:
            raise UserError("tool use with vLLM is not there yet: sample without --engine vllm")
        yield from self._sample(requests, sampling, seed, recording, purpose)

    def _sample(
        self,
        requests: Iterable[Request],
        sampling: Sampling,
        seed: int,
        recording: Recording = NOTHING,
        purpose: str = "rollout",
    ) -> Iterator[Rollout]:
        for group in _groups(requests, lambda request: len(request.paths), ROWS_TOGETHER):
            for request, generated in zip(
                group, self._generate(group, sampling, seed, recording, purpose), strict=True
            ):
                launched = float("nan") if request.prefixes is None else 0.0
                yield Rollout(request.problem, generated.paths, launched)

    def launch(
        self, requests: Iterable[Request], sampling: Sampling, seed: int, recording: Recording, until: int
    ) -> Iterator[VllmLivePool]:
        """As many pools together as the memory holds. Raises UserError where it does not hold one."""
        for group in _groups(requests, lambda request: self.blocks(request, sampling, until), self.process.capacity):
            short = replace(sampling, max_new_tokens=min(until, sampling.max_new_tokens))
            pools = self._generate(group, short, seed, recording, "rollout")
            for place, (request, generated) in enumerate(zip(group, pools, strict=True)):
                limit = self.limit(request, sampling)
                done = np.array([path.finish == "stop" or len(path.token_ids) >= limit for path in generated.paths])
                yield VllmLivePool(
                    self.checks, request, generated.paths, done, sampling, seed, recording, generated.seconds,
                    last=place == len(group) - 1,
                )  # fmt: skip

    def resume(self, live: Iterable[tuple[LivePool, NDArray[np.bool_]]]) -> Iterator[Rollout]:
        """From vLLM's prefix cache. Pools that were launched together go on together."""
        group: list[tuple[VllmLivePool, NDArray[np.int64]]] = []
        for pool, keep in live:
            assert isinstance(pool, VllmLivePool)
            group.append((pool, np.flatnonzero(keep)))
            if pool.last:
                yield from self._go_on(group)
                group = []
        if group:
            yield from self._go_on(group)

    def _go_on(self, group: Sequence[tuple[VllmLivePool, NDArray[np.int64]]]) -> Iterator[Rollout]:
        asked = []
        for pool, kept in group:
            rows = [int(row) for row in kept if not pool.done[row]]
            if rows:  # all paths that go on have the same length: that of the checkpoint
                prefixes = np.stack([pool.paths[row].token_ids for row in rows])
                paths = tuple(pool.request.paths[row] for row in rows)
                asked.append((pool, rows, replace(pool.request, paths=paths, prefixes=prefixes)))
        rest: dict[int, tuple[dict[int, Path], _Generated]] = {}
        if asked:
            first = asked[0][0]
            requests = [request for _, _, request in asked]
            pools = self._generate(requests, first.sampling, first.seed, first.recording, "rollout")
            for (pool, rows, _), generated in zip(asked, pools, strict=True):
                rest[id(pool)] = dict(zip(rows, generated.paths, strict=True)), generated
        for pool, kept in group:
            by_row, generated = rest.get(id(pool), ({}, _Generated([], 0.0, 0)))
            whole = [joined(pool.paths[row], by_row.get(int(row)), pool.recording) for row in kept]
            yield Rollout(
                pool.request.problem, whole, pool.launch_seconds, generated.seconds, generated.recomputed_tokens
            )

    def _generate(
        self, requests: Sequence[Request], sampling: Sampling, seed: int, recording: Recording, purpose: str
    ) -> list[_Generated]:
        """All requests together."""
        prompts: list[list[int]] = []
        params: list[Any] = []
        for request in requests:
            key, limit = noise_key(seed, purpose, request.problem), self.limit(request, sampling)
            for row, path in enumerate(request.paths):
                prefix = [] if request.prefixes is None else request.prefixes[row].tolist()
                prompts.append([*request.prompt_ids.tolist(), *prefix])
                params.append(self._params(len(params), key, path, _prefix_tokens(request), limit, sampling, recording))
        started = time.perf_counter()
        outputs = self.process.generate(prompts, params)
        elapsed = time.perf_counter() - started
        signals = by_request(self.process.tensors("prunebench_signals"), len(outputs))
        written = [len(output.outputs[0].token_ids) for output in outputs]
        pools, start = [], 0
        for request in requests:
            rows = range(start, start + len(request.paths))
            topk_tokens = max(0, recording.topk_tokens - _prefix_tokens(request))
            paths = [
                path_of(path, outputs[row].outputs[0], signals[row], topk_tokens)
                for path, row in zip(request.paths, rows, strict=True)
            ]
            share = elapsed * sum(written[row] for row in rows) / max(1, sum(written))
            recomputed = 0 if request.prefixes is None else sum(self._recomputed(outputs[row]) for row in rows)
            pools.append(_Generated(paths, share, recomputed))
            start = rows.stop
        return pools

    def _params(
        self, number: int, key: int, path: int, prefix_tokens: int, limit: int, sampling: Sampling, recording: Recording
    ) -> Any:
        from vllm import SamplingParams

        from prunebench.bench.engines.vllm.noise import ARGUMENTS

        arguments = {
            "number": number, "key": int(key), "path": int(path), "prefix_tokens": prefix_tokens, "banned": self.banned,
            "sampling": list(astuple(sampling)), "recording": recording.plain(),
        }  # fmt: skip
        return SamplingParams(
            temperature=0.0,
            max_tokens=max(1, limit - prefix_tokens),
            stop_token_ids=self.reader.decoder.ends.tolist(),
            detokenize=False,
            extra_args={ARGUMENTS: arguments},
        )

    # Memory

    def blocks(self, request: Request, sampling: Sampling, until: int) -> int:
        """Blocks that a pool is planned with: N prefixes with their check, and an eighth of them to their ends.

        Raises UserError where the cache does not hold that many.
        """
        block, capacity = self.process.block_tokens, self.process.capacity
        prompt, count = len(request.prompt_ids), len(request.paths)
        rest = max(0, self.limit(request, sampling) - until)
        held = count * -(-(prompt + until + CHECK_TOKENS) // block)
        growth = -(-count // 8) * -(-rest // block)
        if held + growth > capacity:
            raise UserError(
                f"vLLM's cache holds {capacity * block} tokens; {count} paths of problem {request.problem} to token "
                f"{until}, and {-(-count // 8)} of them to token {until + rest}, need {(held + growth) * block}: lower "
                "--n, --prefix or max_new_tokens, or raise kv_memory"
            )
        return held + growth

    def _recomputed(self, output: Any) -> int:
        """Tokens in whole blocks of a prompt that were not found in the cache; the last token is always encoded."""
        block = self.process.block_tokens
        whole = (len(output.prompt_token_ids) - 1) // block * block
        return max(0, whole - int(output.num_cached_tokens or 0))

    # Check

    @property
    def replay_seconds(self) -> float:
        return self._seconds + self.reader.replay_seconds

    def _warm_up(self, pool: Pool) -> CachedPrefixes:
        """Put the prefixes of a replayed pool into the cache, where an online run has them: time not charged."""
        if self._warmed is not pool.token_ids:
            started = time.perf_counter()
            self.checks.last_states(pool, distinct_rows(pool)[0], ())
            self._warmed = pool.token_ids
            self._seconds += time.perf_counter() - started
        return self.checks

    def behind(self, pool: Pool, learned: LearnedTokens) -> NDArray[np.float32] | None:
        return self._warm_up(pool).behind(pool, learned)

    def next_logprobs(self, pool: Pool, suffix_ids: Sequence[int], token_ids: Sequence[int]) -> NDArray[np.float64]:
        return self._warm_up(pool).next_logprobs(pool, suffix_ids, token_ids)

    def read_next(self, contexts: Sequence[NDArray[np.int64]], token_ids: Sequence[int]) -> NDArray[np.float64]:
        """See :class:`bench.engines.base.Engine`; all of them together."""
        return self.checks.next_logprobs(pool_of_ids(tuple(contexts), np.zeros(0, np.int64)), (), token_ids)

    def probe(self, pool: Pool, suffix_ids: Sequence[int], max_new_tokens: int) -> Probe:
        return self._warm_up(pool).probe(pool, suffix_ids, max_new_tokens)

    def kv(self, pool: Pool, rows: Sequence[int]) -> PrefixCache:
        return self.reader.kv(pool, rows)

    def prefix_states(self, pool: Pool) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        return self.reader.prefix_states(pool)

    def reread(self, pool: Pool, signals: Collection[Signal]) -> dict[Signal, Any]:
        """Last states are read by vLLM, everything else by the default engine."""
        states = frozenset(signals) & {Signal.HIDDEN_STATE, Signal.ALL_LAYERS}
        columns = self.reader.reread(pool, frozenset(signals) - states)
        if states:
            started = time.perf_counter()
            rows, inverse = distinct_rows(pool)
            last = self.checks.last_states(pool, rows, (), layers=True)[inverse]
            columns |= {signal: dict(enumerate(last.transpose(1, 0, 2))) for signal in states}
            self._seconds += time.perf_counter() - started
        return columns


def _prefix_tokens(request: Request) -> int:
    """Tokens of the prefixes that a request brings along."""
    return 0 if request.prefixes is None else request.prefixes.shape[1]


def _groups(requests: Iterable[Request], size: Callable[[Request], int], most: int) -> Iterator[list[Request]]:
    """Requests as they come, as many together as have a size of ``most`` in all; a larger one stands alone."""
    group: list[Request] = []
    held = 0
    for request in requests:
        added = size(request)
        if group and held + added > most:
            yield group
            group, held = [], 0
        group.append(request)
        held += added
    if group:
        yield group
