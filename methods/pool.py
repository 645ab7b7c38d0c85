"""A pool: the N prefixes of one problem at one checkpoint, as columns; and labelled pools to learn from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.generator import LearnedTokens, Phrases, PrefixCache, Probe
from prunebench.methods.meter import Meter
from prunebench.methods.signals import PRIVILEGED, MissingSignalError, Signal

Ragged = tuple[NDArray[Any], ...]
"""One array per path; the first axis counts that path's prefix tokens."""


class Generator(Protocol):
    """What a pool can ask of the engine that made it."""

    def probe(self, pool: Pool, suffix_ids: Sequence[int], max_new_tokens: int) -> Probe: ...

    def next_logprobs(self, pool: Pool, suffix_ids: Sequence[int], token_ids: Sequence[int]) -> NDArray[np.float64]:
        """(N, len(token_ids)): log-probability of each of ``token_ids`` right after complete steps + suffix."""
        ...

    def kv(self, pool: Pool, rows: Sequence[int]) -> PrefixCache: ...

    def behind(self, pool: Pool, learned: LearnedTokens) -> NDArray[np.float32] | None:
        """(N, H): the final state of the last learned token behind every prefix.

        None where the engine does not run learned tokens itself: its cache is to be had instead (:meth:`kv`).
        """
        ...

    @property
    def replay_seconds(self) -> float:
        """Seconds spent so far on rebuilding caches that an online run would still have had: never charged."""
        ...


class Columns(Mapping[Signal, Any]):
    """Columns of which each is had by ``read`` when it is asked for: what nobody asks for takes no memory."""

    def __init__(self, names: Iterable[Signal], read: Callable[[Signal], Any]) -> None:
        self._names, self._read = tuple(names), read

    def __getitem__(self, signal: Signal) -> Any:
        if signal not in self._names:
            raise KeyError(signal)
        return self._read(signal)

    def __contains__(self, signal: object) -> bool:
        return signal in self._names

    def __iter__(self) -> Iterator[Signal]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True)
class Pool:
    """N prefixes of one problem. Columns are in path order; row i is path ``paths[i]``.

    - ``lengths`` int64[N]: prefix tokens present, min(path length, position); ``finished`` bool[N]: the path ended
      before or at the checkpoint.
    - ``answer_class`` int64[N]: equivalence class of the answer stated in the prefix, -1 where there is none.
    - ``signals``: the recorded columns; read them through the properties, which name what is missing.
    - ``phrases``: what the generating model is asked with; needed for probes only. ``probe_every``: answers were forced
      and recorded at the multiples of so many tokens; None where none were.
    - ``meter`` notes what a check costs; None where nobody asks.
    """

    problem: str
    task: str
    position: int
    prompt: str
    prompt_ids: NDArray[np.int64]
    paths: NDArray[np.int64]
    lengths: NDArray[np.int64]
    finished: NDArray[np.bool_]
    answer_class: NDArray[np.int64]
    signals: Mapping[Signal, Any] = field(repr=False)
    generator: Generator | None = field(default=None, repr=False)
    phrases: Phrases | None = None
    probe_every: int | None = None
    meter: Meter | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.paths)

    def has(self, signal: Signal) -> bool:
        if signal == Signal.KV_CACHE:
            return self.generator is not None
        if signal == Signal.PROBE:
            return self.generator is not None and self.phrases is not None
        return signal in self.signals or (signal == Signal.FORCED_ANSWERS and self.has(Signal.PROBE))

    def read(self, signal: Signal) -> Any:
        """The column of a signal, of every path its prefix; :class:`Ragged` for what is told of every token.

        Raises MissingSignalError where it was not recorded.
        """
        if signal not in self.signals:
            raise MissingSignalError(signal, self.lack(signal))
        return self.signals[signal]

    def lack(self, signal: Signal) -> str:
        """Where a signal that is missing here is to be had, in words behind its name; empty where nobody knows."""
        if signal != Signal.FORCED_ANSWERS or self.probe_every is None:
            return ""
        nearest = max(1, self.position // self.probe_every) * self.probe_every
        return f" at {self.position} tokens (answers were forced every {self.probe_every}, the nearest at {nearest})"

    @property
    def text(self) -> tuple[str, ...]:
        """The prefix texts, without the prompt."""
        return self.read(Signal.TEXT)  # type: ignore[no-any-return]

    @property
    def token_ids(self) -> Ragged:
        """Per path int64 (tokens,)."""
        return self.read(Signal.TOKEN_IDS)  # type: ignore[no-any-return]

    @property
    def logprobs(self) -> Ragged:
        """Per path float32 (tokens,): raw log-probability (temperature 1) of the sampled token, in nats."""
        return self.read(Signal.LOGPROBS)  # type: ignore[no-any-return]

    @property
    def topk_logprobs(self) -> Ragged:
        """Per path float32 (tokens, k): the k largest raw log-probabilities, largest first."""
        return self.read(Signal.TOPK_LOGPROBS)  # type: ignore[no-any-return]

    @property
    def entropy(self) -> Ragged:
        """Per path float32 (tokens,): entropy of the raw next-token distribution, in nats."""
        return self.read(Signal.ENTROPY)  # type: ignore[no-any-return]

    @property
    def self_certainty(self) -> Ragged:
        """Per path float32 (tokens,): KL(uniform || p), in nats."""
        return self.read(Signal.SELF_CERTAINTY)  # type: ignore[no-any-return]

    @property
    def varentropy(self) -> Ragged:
        """Per path float32 (tokens,): variance of -log p under p, in nats squared."""
        return self.read(Signal.VARENTROPY)  # type: ignore[no-any-return]

    @property
    def all_layers(self) -> NDArray[np.float32]:
        """(layers + 1, N, H) float32: residual stream at the last prefix token, embeddings first."""
        states = self.read(Signal.ALL_LAYERS)
        return np.stack([states[layer] for layer in sorted(states)])

    def hidden_state(self, layer: int) -> NDArray[np.float32]:
        """(N, H) float32: residual stream at the last prefix token after ``layer`` blocks (0 = embeddings)."""
        states = self.read(Signal.HIDDEN_STATE)
        if layer not in states:
            raise MissingSignalError(Signal.HIDDEN_STATE, f" of layer {layer} (recorded: {sorted(states)})")
        return states[layer]  # type: ignore[no-any-return]

    def states(self, layer: int) -> Ragged:
        """Per path float32 (tokens, H): residual stream after ``layer`` blocks, after reading each prefix token."""
        states = self.read(Signal.STATES)
        if layer not in states:
            raise MissingSignalError(Signal.STATES, f" of layer {layer} (there are: {sorted(states)})")
        return states[layer]  # type: ignore[no-any-return]

    @property
    def outcome(self) -> NDArray[np.float64]:
        """(N,) verdicts of the complete paths, 0 or 1. Privileged."""
        return self.read(Signal.OUTCOME)  # type: ignore[no-any-return]

    @property
    def potential(self) -> NDArray[np.float64]:
        """(N,) Monte Carlo success rates of the prefixes. Privileged."""
        return self.read(Signal.POTENTIAL)  # type: ignore[no-any-return]

    def probe(self, max_new_tokens: int) -> Probe:
        """Force a final answer after every prefix and decode it greedily; in one check a path is asked once."""
        generator, phrases = self._asked()
        meter = self.meter or Meter()
        answers = meter.answers.setdefault(max_new_tokens, {})
        new = [row for row, path in enumerate(self.paths.tolist()) if path not in answers]
        if new:
            asked = self if len(new) == len(self) else self.take(new)
            probe = generator.probe(asked, phrases.answer, max_new_tokens)
            answers.update(zip(asked.paths.tolist(), probe, strict=True))
            suffix = phrases.closing + len(phrases.answer)
            written = np.array([len(ids) for ids in probe.token_ids])
            names = [f"probe {max_new_tokens} {path}" for path in asked.paths.tolist()]
            meter.charge(asked.paths, (0, suffix + written, 0), read=names)
        return Probe.of([answers[path] for path in self.paths.tolist()])

    def forced_answers(self, max_new_tokens: int) -> NDArray[np.int64]:
        """int64 (N,): class of the answer that each prefix gives when one is forced, -1 none.

        What was recorded is read and costs nothing, as its sources count it; else the answers are probed.
        """
        if Signal.FORCED_ANSWERS in self.signals or not self.has(Signal.PROBE):
            return self.read(Signal.FORCED_ANSWERS)  # type: ignore[no-any-return]
        return self.probe(max_new_tokens).answer_class

    def opinion(self) -> NDArray[np.float64]:
        """(N, 2) log-probabilities of yes and no when the generator is asked whether a prefix is right so far.

        It is asked behind the last step that is complete, where a question can stand; behind the whole prefix where no
        step is.
        """
        generator, phrases = self._asked()
        self.charge(probe_tokens=phrases.closing + len(phrases.question))
        return generator.next_logprobs(self, phrases.question, (phrases.yes, phrases.no))

    def _asked(self) -> tuple[Generator, Phrases]:
        if self.generator is None or self.phrases is None:
            raise MissingSignalError(Signal.PROBE)
        return self.generator, self.phrases

    def kv(self, rows: Sequence[int] | None = None) -> PrefixCache:
        """The generating model's keys and values over prompt + prefix of ``rows`` (default: all)."""
        if self.generator is None:
            raise MissingSignalError(Signal.KV_CACHE)
        return self.generator.kv(self, range(len(self)) if rows is None else rows)

    def behind(self, learned: LearnedTokens) -> NDArray[np.float32] | None:
        """(N, H): the final state of the last of these tokens behind every prefix.

        None where the method has to read them itself, behind :meth:`kv`; they are charged here either way.
        """
        if self.generator is None:
            raise MissingSignalError(Signal.KV_CACHE)
        self.charge(check_tokens=learned.count)
        return self.generator.behind(self, learned)

    def charge(
        self,
        *,
        reencoded_tokens: int | NDArray[np.int64] = 0,
        probe_tokens: int | NDArray[np.int64] = 0,
        check_tokens: int | NDArray[np.int64] = 0,
        flops: float | NDArray[np.floating[Any]] | None = None,
        model_bytes: int = 0,
        read: Sequence[str] | None = None,
    ) -> None:
        """Charge this check with what was just read or written for each path beyond decoding.

        Tokens and ``flops`` are per path: one number for each, or (N,). ``flops``: the arithmetic of another model,
        whose weights take ``model_bytes`` beside the generator's; None: the tokens are the generator's, at 2 FLOPs per
        parameter. ``read`` names what was read for each path: equal names are charged once in a check.

        Raises ValueError for a negative number.
        """
        if self.meter is not None:
            tokens = (reencoded_tokens, probe_tokens, check_tokens)
            self.meter.charge(self.paths, tokens, flops, model_bytes, read)

    def metered(self, meter: Meter) -> Pool:
        """The same pool, whose check ``meter`` notes."""
        return replace(self, meter=meter)

    def apart(self) -> Pool:
        """The same pool for one of several methods that score as one: each is asked and charged by itself."""
        return self if self.meter is None else replace(self, meter=self.meter.apart())

    def distinct(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(First row of every distinct prefix, which of these every row equals); all rows where no tokens are known."""
        if not self.has(Signal.TOKEN_IDS):
            return np.arange(len(self)), np.arange(len(self))
        first: dict[bytes, int] = {}
        ids = [tokens.tobytes() for tokens in self.token_ids]
        for row, prefix in enumerate(ids):
            first.setdefault(prefix, row)
        place = {prefix: number for number, prefix in enumerate(first)}
        return np.array(list(first.values()), np.int64), np.array([place[prefix] for prefix in ids], np.int64)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Pool:
        """The pool of some rows only, in the given order."""
        index, whole = np.asarray(rows, dtype=np.int64), self.signals

        def some(column: Any) -> Any:
            if isinstance(column, dict):
                return {key: some(value) for key, value in column.items()}
            return tuple(column[row] for row in index) if isinstance(column, tuple) else column[index]

        return replace(
            self,
            paths=self.paths[index],
            lengths=self.lengths[index],
            finished=self.finished[index],
            answer_class=self.answer_class[index],
            signals=Columns(self.signals, cache(lambda signal: some(whole[signal]))),
        )

    def without(self, signals: Collection[Signal]) -> Pool:
        """The same pool without these signals."""
        return replace(self, signals=Columns((s for s in self.signals if s not in signals), self.signals.__getitem__))

    def public(self) -> Pool:
        """The same pool without privileged signals: what any plugin gets to see."""
        return self.without(PRIVILEGED)

    def adding(self, columns: Mapping[Signal, Any]) -> Pool:
        """The same pool with more columns, or with others in their places."""
        known = self.signals
        names = (*known, *(signal for signal in columns if signal not in known))
        return replace(
            self, signals=Columns(names, lambda signal: columns[signal] if signal in columns else known[signal])
        )


@dataclass(frozen=True)
class LabelledPool:
    """A pool with its Monte Carlo labels: ``success`` float64[N] = correct / ``continuations``.

    ``outcome`` float64[N]: the verdict of each stored path itself, 0 or 1 (a hard label); ``final_class`` int64[N]: the
    class of its final answer, -1 none. Both are for training only, and None where nobody knows them.

    ``whole``: all paths of the problem at this checkpoint, labelled or not, of which ``rows`` int64[N] are labelled;
    None where all are. What a method relates to the pool, such as a mean, it relates to :attr:`everything`, in training
    as at test. In training every distinct prefix stands once; validation holds all paths, as a test does.
    """

    pool: Pool
    success: NDArray[np.float64]
    continuations: int
    outcome: NDArray[np.float64] | None = None
    final_class: NDArray[np.int64] | None = None
    whole: Pool | None = None
    rows: NDArray[np.int64] | None = None

    @property
    def everything(self) -> Pool:
        """The pool that a test would see."""
        return self.pool if self.whole is None else self.whole

    @property
    def labelled(self) -> NDArray[np.int64]:
        """The rows of :attr:`everything` that are labelled."""
        return np.arange(len(self.pool)) if self.rows is None else self.rows


@dataclass(frozen=True)
class PrefixDataset:
    """Labelled pools of distinct (problem, position) pairs; the unit of every split is the problem."""

    pools: tuple[LabelledPool, ...]

    def __iter__(self) -> Iterator[LabelledPool]:
        return iter(self.pools)

    def __len__(self) -> int:
        return len(self.pools)

    @cached_property
    def problems(self) -> frozenset[str]:
        return frozenset(labelled.pool.problem for labelled in self.pools)

    @cached_property
    def success(self) -> NDArray[np.float64]:
        """Labels of all prefixes, concatenated in pool order."""
        return np.concatenate([labelled.success for labelled in self.pools])


def within_problem_auroc(dataset: PrefixDataset, scores: Sequence[NDArray[np.float64]]) -> float:
    """Ranking quality for model selection: mean over pools of P(score orders two paths as their success rates do).

    A pair counts by the gap between its labels, which is by how much more often the one is right and the other wrong
    than the other way round: 1/16 of a pair for a gap of 1/16. Ties in the score count half; pools without a gap are
    left out; NaN when none is left. With labels 0/1 this is the within-problem AUROC of the protocol.
    """
    values = []
    for labelled, score in zip(dataset, scores, strict=True):
        gap = np.maximum(labelled.success[:, None] - labelled.success[None, :], 0)
        if gap.any():
            order = (np.sign(score[:, None] - score[None, :]) + 1) / 2
            values.append(float((gap * order).sum() / gap.sum()))
    return float(np.mean(values)) if values else float("nan")
