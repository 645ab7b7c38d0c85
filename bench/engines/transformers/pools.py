"""Pools in flight: what is sampled, what is recorded of it, and which rows are still in the cache.

All paths of a pool start together and march in step, so one position and one cache length describe them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from prunebench.bench.engines.base import Path, Recording, Request, Rollout, Sampling
from prunebench.bench.engines.transformers.caches import KeyValues
from prunebench.methods.generator import LearnedTokens, PrefixCache, Probe
from prunebench.methods.pool import Generator, Pool


class PoolInFlight:
    """``rows`` are the request's rows that are in the cache; ``step`` counts tokens per path.

    ``key`` names its noise. Rows that end before ``hold`` tokens stay in the cache until then; ``limit`` ends a path.
    """

    def __init__(
        self, request: Request, sampling: Sampling, key: int, recording: Recording, hold: int, limit: int
    ) -> None:
        self.request, self.sampling, self.recording = request, sampling, recording
        self.key, self.hold, self.limit = key, hold, limit
        count = len(request.paths)
        self.paths = np.array(request.paths, np.uint64)
        self.prefix_tokens = 0 if request.prefixes is None else request.prefixes.shape[1]
        self.step = self.prefix_tokens
        self.rows = np.arange(count)
        self.lengths = np.full(count, -1)
        self.stopped = np.zeros(count, bool)
        self.paused = np.zeros(count, bool)
        self.columns = _Columns(count)
        self.most_tokens = {s.name: recording.topk_tokens if s.wide else sys.maxsize for s in recording.per_token}
        self.hidden: dict[int, NDArray[np.float32]] = {}
        self.cache: KeyValues | None = None
        self.logits = torch.empty(0)
        self.launch_seconds = self.resume_seconds = 0.0

    @property
    def done(self) -> NDArray[np.bool_]:
        return self.lengths >= 0

    def most_tokens_until(self, until: int | None) -> int:
        """Keys and values of its rows, prompt included, if all of them go on to the end, or to ``until`` tokens."""
        return len(self.rows) * (len(self.request.prompt_ids) + min(self.limit, until or self.limit))

    def stands(self, until: int | None) -> bool:
        """Whether it has come to its end, or to ``until`` tokens."""
        over = bool(self.done[self.rows].all()) and (self.step >= self.hold or not self._unseen())
        return over or (until is not None and self.step >= until)

    def _unseen(self) -> bool:
        """Whether a path that ended before the checkpoint still has to be read to its last token."""
        assert self.cache is not None
        return bool((self.lengths[self.rows] == self.step).any()) and self.cache.length < (
            len(self.request.prompt_ids) + self.step
        )

    def charge(self, seconds: float) -> None:
        """To Launch, up to the checkpoint, or to Resume."""
        if self.step <= self.hold:
            self.launch_seconds += seconds
        else:
            self.resume_seconds += seconds

    # One token more

    def accept(self, tokens: NDArray[np.int64], ends: NDArray[np.bool_], signals: Mapping[str, NDArray[Any]]) -> None:
        """Take one sampled token per row in the cache."""
        going = ~self.done[self.rows]
        rows = self.rows[going]
        at = self.step - self.prefix_tokens
        self.columns.put("token_ids", rows, at, tokens[going])
        for name, values in signals.items():
            if self.step < self.most_tokens[name]:
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
        self.request.tick(len(rows))

    def _written(self, row: int) -> NDArray[np.int64]:
        """All tokens of a path so far, its given prefix included."""
        ids = self.columns.row("token_ids", row, self.step - self.prefix_tokens)
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

    # What came of it

    def path(self, row: int) -> Path:
        length = self.lengths[row] if self.lengths[row] >= 0 else self.step
        tokens = int(length) - self.prefix_tokens
        ids = self.columns.row("token_ids", row, tokens)
        return Path(
            path=self.request.paths[row],
            token_ids=np.zeros(0, np.int64) if ids is None else ids,
            finish="stop" if self.stopped[row] else "call" if self.paused[row] else "length",
            signals=self._signals(row, tokens),
            hidden={checkpoint: states[row] for checkpoint, states in self.hidden.items()},
        )

    def _signals(self, row: int, tokens: int) -> dict[str, NDArray[np.float32]]:
        columns = {name: self.columns.row(name, row, min(tokens, most)) for name, most in self.most_tokens.items()}
        return {name: column for name, column in columns.items() if column is not None}

    def rollout(self, rows: Iterable[int]) -> Rollout:
        return Rollout(self.request.problem, [self.path(r) for r in rows], self.launch_seconds, self.resume_seconds)


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


@dataclass
class TransformersLivePool:
    """A pool at its checkpoint. Rows of finished paths are still in the cache, valid up to their own length.

    What its cache does not answer, ``engine`` does, whose network is ``model``.
    """

    in_flight: PoolInFlight
    engine: Generator
    model: Any

    @property
    def request(self) -> Request:
        return self.in_flight.request

    @property
    def paths(self) -> list[Path]:
        return [self.in_flight.path(row) for row in range(len(self.in_flight.paths))]

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Only the ``kept`` paths that have not ended stay in memory."""
        self.in_flight.hold = 0
        self.in_flight.compact(kept[self.in_flight.rows] & ~self.in_flight.done[self.in_flight.rows])

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
        cache = self.in_flight.cache
        assert cache is not None
        if not cache.whole:
            return self.engine.kv(pool, rows)
        index = torch.tensor(list(rows), device=self.in_flight.logits.device)
        lengths = len(self.request.prompt_ids) + pool.lengths[np.array(list(rows))]
        width = int(lengths.max())
        layers = tuple(
            (keys.index_select(0, index)[:, :, :width], values.index_select(0, index)[:, :, :width])
            for keys, values in cache.layers()
        )
        return PrefixCache(self.model, layers, lengths)
