"""What all engines have in common whose model lies elsewhere: they sample, and nothing else can be asked of them."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.base import NOTHING, LivePool, Recording, Request, Rollout, Sampling, joined
from prunebench.bench.engines.base import Path as SampledPath
from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.engines.sources import source_of
from prunebench.bench.engines.tokenization import Tokenization, distinct_rows, forced_answers
from prunebench.bench.errors import UserError
from prunebench.methods.base import Signal
from prunebench.methods.generator import LearnedTokens, PrefixCache, Probe
from prunebench.methods.pool import Pool
from prunebench.tasks.errors import first_line

TOLD = frozenset(
    {Signal.TEXT, Signal.TOKEN_IDS, Signal.LOGPROBS, Signal.TOPK_LOGPROBS, Signal.PROBE, Signal.FORCED_ANSWERS}
)
"""What can be had of a server's paths."""


class ServedEngine(Tokenization):
    """An :class:`bench.engines.base.Engine` of which a subclass writes ``sample``, and ``read_next`` if it can.

    ``model`` is also where the tokenizer lies: a shipped reasoner, a local folder or a hub id.
    """

    reads = False
    shape = None
    arithmetic = None
    weight_bytes = 0
    replay_seconds = 0.0
    rows_in_flight = 256
    device = "server"
    backend = ""

    def __init__(self, model: str, options: ModelOptions | None = None) -> None:
        from transformers import AutoTokenizer

        self.name, self.options = model, options or ModelOptions()
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(
                source_of(model, self.options).place(), revision=self.options.revision
            )
        except (OSError, ValueError) as error:
            raise UserError(
                f"no tokenizer of '{model}' ({first_line(error)}); name the folder or hub id that the server's model "
                "came from"
            ) from error
        self.digest = self.options.digest(hashlib.sha256(f"served:{model}".encode()).hexdigest()[:16])

    @property
    def context(self) -> int:
        return int(self.tokenizer.model_max_length)

    @abstractmethod
    def sample(
        self,
        requests: Iterable[Request],
        sampling: Sampling,
        seed: int,
        recording: Recording = NOTHING,
        purpose: str = "rollout",
    ) -> Iterator[Rollout]:
        """See :class:`bench.engines.base.Engine`."""

    def recordable(self, recording: Recording) -> Recording:
        """What of it a server tells."""
        return recording.only(TOLD)

    def launch(
        self, requests: Iterable[Request], sampling: Sampling, seed: int, recording: Recording, until: int
    ) -> Iterator[LivePool]:
        """Paths that end at the checkpoint: what the server has in its prefix cache then is its own matter."""
        asked = list(requests)
        short = replace(sampling, max_new_tokens=min(until, sampling.max_new_tokens))
        for request, rollout in zip(asked, self.sample(asked, short, seed, recording), strict=True):
            yield ServedLivePool(self, request, rollout.paths, sampling, seed, recording)

    def resume(self, live: Iterable[tuple[LivePool, NDArray[np.bool_]]]) -> Iterator[Rollout]:
        """The kept paths that have not ended are asked for again, behind their prefixes; all pools together."""
        pools: list[tuple[ServedLivePool, list[int]]] = []
        for pool, keep in live:
            assert isinstance(pool, ServedLivePool)
            pools.append((pool, np.flatnonzero(keep).tolist()))
        going = [[row for row in rows if pool.is_open(row)] for pool, rows in pools]
        asked = [pool.behind_rows(rows) for (pool, _), rows in zip(pools, going, strict=True) if rows]
        first = pools[0][0] if pools else None
        rests = iter(()) if first is None else self.sample(asked, first.sampling, first.seed, first.recording)
        for (pool, kept), rows in zip(pools, going, strict=True):
            rest = dict(zip(rows, next(rests).paths, strict=True)) if rows else {}
            yield Rollout(
                pool.request.problem, [joined(pool.paths[row], rest.get(row), pool.recording) for row in kept]
            )

    def forget(self) -> None:
        """Nothing is kept here."""

    def probe(self, pool: Pool, suffix_ids: Sequence[int], max_new_tokens: int) -> Probe:
        """See :func:`bench.engines.tokenization.forced_answers`."""

        def ask(request: Request, sampling: Sampling, recording: Recording) -> Rollout:
            (rollout,) = self.sample([request], sampling, 0, recording)
            return rollout

        return forced_answers(pool, suffix_ids, max_new_tokens, ask)

    def next_logprobs(self, pool: Pool, suffix_ids: Sequence[int], token_ids: Sequence[int]) -> NDArray[np.float64]:
        """See :meth:`methods.pool.Generator.next_logprobs`."""
        rows, inverse = distinct_rows(pool)
        suffix = np.array(list(suffix_ids), np.int64)
        contexts = [np.concatenate([pool.prompt_ids, pool.token_ids[row], suffix]) for row in rows]
        return self.read_next(contexts, token_ids)[inverse]

    def read_next(self, contexts: Sequence[NDArray[np.int64]], token_ids: Sequence[int]) -> NDArray[np.float64]:
        """Raises UserError where the server does not tell."""
        raise UserError(f"{self.backend} does not tell log-probabilities of given tokens; run it with another engine")

    def kv(self, pool: Pool, rows: Sequence[int]) -> PrefixCache:
        """Raises ValueError: a server's cache cannot be had."""
        raise ValueError("the keys and values of a server cannot be read")

    def behind(self, pool: Pool, learned: LearnedTokens) -> None:
        """None, see :meth:`kv`."""
        return None

    def reread(self, pool: Pool, signals: Collection[Signal]) -> dict[Signal, Any]:
        """Nothing: a server does not tell more than it did while sampling."""
        return {}


@dataclass
class ServedLivePool:
    """Paths that a server wrote up to a checkpoint. What is asked behind them the server is asked."""

    engine: ServedEngine
    request: Request
    paths: list[SampledPath]
    sampling: Sampling
    seed: int
    recording: Recording
    replay_seconds: float = 0.0

    def is_open(self, row: int) -> bool:
        """Whether a path goes on."""
        path = self.paths[row]
        return path.finish == "length" and len(path.token_ids) < self.engine.limit(self.request, self.sampling)

    def behind_rows(self, rows: Sequence[int]) -> Request:
        """What follows the prefixes of some open paths, which all reach to the checkpoint."""
        prefixes = np.stack([self.paths[row].token_ids for row in rows])
        return replace(self.request, paths=tuple(self.request.paths[row] for row in rows), prefixes=prefixes)

    def probe(self, pool: Pool, suffix_ids: Sequence[int], max_new_tokens: int) -> Probe:
        return self.engine.probe(pool, suffix_ids, max_new_tokens)

    def next_logprobs(self, pool: Pool, suffix_ids: Sequence[int], token_ids: Sequence[int]) -> NDArray[np.float64]:
        return self.engine.next_logprobs(pool, suffix_ids, token_ids)

    def kv(self, pool: Pool, rows: Sequence[int]) -> PrefixCache:
        return self.engine.kv(pool, rows)

    def behind(self, pool: Pool, learned: LearnedTokens) -> None:
        return None


def refusal(name: str, reads: Collection[Signal]) -> str | None:
    """Why a method that reads these signals cannot run on a server's paths, or None."""
    missing = sorted(signal.name for signal in frozenset(reads) - TOLD - {Signal.OUTCOME, Signal.POTENTIAL})
    if not missing:
        return None
    return (
        f"method '{name}' reads {', '.join(missing)}: a server tells text, token ids and log-probabilities only; "
        "run it with --engine transformers or vllm"
    )
