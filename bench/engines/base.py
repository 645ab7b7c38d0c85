"""What an engine takes and gives: requests, sampling settings, recorded paths, live pools."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.arithmetic import Arithmetic, ModelShape
from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.progress import Tick, uncounted
from prunebench.methods.pool import Generator, Pool
from prunebench.methods.signals import SIGNALS, Signal, recorded_signals, signal_from

FinishReason = Literal["stop", "length", "call"]


class Pause(Protocol):
    """Says where a path has to wait for a tool."""

    ids: frozenset[int]
    """Only behind one of these tokens is it asked."""

    def pauses(self, ids: NDArray[np.int64]) -> bool:
        """Whether a path of these tokens (prompt excluded) ends in a call."""
        ...


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. ``top_k`` 0, ``top_p`` 1 and ``min_p`` 0 switch a filter off; ``max_new_tokens`` >= 1."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    max_new_tokens: int = 1024

    def __post_init__(self) -> None:
        for name, low, high in (("temperature", 0.0, 10.0), ("top_p", 0.0, 1.0), ("min_p", 0.0, 1.0)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"sampling.{name} = {value}: give a number from {low} to {high}")
        if self.top_p == 0 or self.top_k < 0 or self.max_new_tokens < 1:
            raise ValueError(f"sampling {asdict(self)}: top_p > 0, top_k >= 0 and max_new_tokens >= 1 are needed")

    @property
    def digest(self) -> str:
        """12 hex digits that change with any setting."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Recording:
    """Which signals are kept while decoding.

    ``signals`` have one number per token; the wide ones among them have ``topk`` numbers of each of the first
    ``topk_tokens`` tokens of a path. The residual stream of every layer is kept at the path's token ``p`` (or at its
    last token, if it ended before) for every ``p`` in ``checkpoints``. Time up to ``launch_tokens`` counts as Launch,
    the rest as Resume.
    """

    signals: tuple[Signal, ...] = field(default_factory=recorded_signals)
    topk: int = 20
    topk_tokens: int = 0
    checkpoints: tuple[int, ...] = ()
    launch_tokens: int = 0

    @classmethod
    def of(cls, names: Collection[str], position: int) -> Recording:
        """What methods read at a checkpoint: the named signals, what is always recorded where none is named."""
        signals = tuple(map(SIGNALS.get, names)) or recorded_signals()
        return cls(
            signals,
            topk_tokens=position if any(signal.wide for signal in signals) else 0,
            checkpoints=(position,) if Signal.HIDDEN_STATE in signals else (),
            launch_tokens=position,
        )

    @property
    def per_token(self) -> tuple[Signal, ...]:
        """The signals that are computed of every token."""
        return tuple(s for s in self.signals if s.formula is not None and (self.topk_tokens > 0 or not s.wide))

    def only(self, signals: Collection[Signal]) -> Recording:
        """That part of it which an engine can record that is told these signals alone, and no states."""
        return replace(self, signals=tuple(s for s in self.signals if s in signals), checkpoints=())

    def plain(self) -> list[Any]:
        """Plain values of which :meth:`from_plain` makes the same."""
        signals = [list(signal.address) for signal in self.signals]
        return [signals, self.topk, self.topk_tokens, list(self.checkpoints), self.launch_tokens]

    @classmethod
    def from_plain(cls, values: Sequence[Any]) -> Recording:
        signals, topk, topk_tokens, checkpoints, launch_tokens = values
        recorded = tuple(signal_from(*address) for address in signals)
        return cls(recorded, topk, topk_tokens, tuple(checkpoints), launch_tokens)

    def described(self) -> dict[str, Any]:
        """For the manifest of a store: every signal that has one number per token, then the rest."""
        columns = [s for s in Signal if s.formula is not None and not s.wide and (s.recorded or s in self.signals)]
        rest = {name: value for name, value in vars(self).items() if name != "signals"}
        return {**{s.name: s in self.signals for s in columns}, **rest}


NOTHING = Recording((), topk=0)
OF_STATES = frozenset({Signal.HIDDEN_STATE, Signal.ALL_LAYERS, Signal.STATES})
"""The signals that are states of the model: one reading of a prefix gives them all."""


def rereadable(signal: Signal) -> bool:
    """Whether it can be had of a stored prefix by encoding it again."""
    return signal.formula is not None or signal in OF_STATES


@dataclass(frozen=True)
class Request:
    """Paths of one problem that start together: one prompt and, for continuations, prefixes of one common length.

    ``paths`` names the rows (they key the sampling noise, so they must be distinct within a problem and seed);
    ``prefixes`` is (rows, L) int64 or None. Sampled steps are numbered from the prompt's end, prefix included.
    ``pause`` says where a path ends with ``call``. ``tick`` may be told new tokens as they are drawn, by an engine that
    knows; what it raises ends sampling.
    """

    problem: str
    prompt_ids: NDArray[np.int64]
    paths: tuple[int, ...]
    prefixes: NDArray[np.int64] | None = None
    pause: Pause | None = None
    tick: Tick = field(default=uncounted, compare=False)


@dataclass
class Path:
    """One sampled path: its new tokens (the stop token included) and what was recorded about them.

    ``signals``: by name float32 (tokens,), of a wide one (<= topk_tokens, k). ``hidden`` maps a checkpoint to float32
    (layers + 1, H), the state *after reading* that prefix token. ``tool_spans``: begin and end of what tools wrote
    among the tokens.
    """

    path: int
    token_ids: NDArray[np.int64]
    finish: FinishReason
    signals: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    hidden: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    tool_spans: tuple[tuple[int, int], ...] = ()


def joined(launched: Path, rest: Path | None, recording: Recording) -> Path:
    """A whole path from its two parts."""
    if rest is None:
        return launched
    columns = {}
    for name in {**launched.signals, **rest.signals}:
        column = np.concatenate([path.signals[name] for path in (launched, rest) if name in path.signals])
        columns[name] = column[: recording.topk_tokens] if column.ndim > 1 else column
    return Path(launched.path, np.concatenate([launched.token_ids, rest.token_ids]), rest.finish, columns)


@dataclass
class Rollout:
    """The finished paths of one request, in the order of its ``paths``, and the seconds that its phases took.

    ``recomputed_tokens``: those of the kept prefixes that Resume had to encode again, where a cache let go of them.
    """

    problem: str
    paths: list[Path]
    launch_seconds: float = float("nan")
    resume_seconds: float = float("nan")
    recomputed_tokens: int = 0


@dataclass(frozen=True)
class Phases:
    """Tokens and seconds of pruning online: prefixes launched, checked, and the kept ones resumed."""

    launch_tokens: int
    check_tokens: int
    resume_tokens: int
    launch_seconds: float
    check_seconds: float
    resume_seconds: float

    @property
    def tokens(self) -> int:
        return self.launch_tokens + self.check_tokens + self.resume_tokens

    @property
    def seconds(self) -> float:
        return self.launch_seconds + self.check_seconds + self.resume_seconds


class LivePool(Generator, Protocol):
    """A pool stopped at a checkpoint with its keys and values in memory."""

    @property
    def request(self) -> Request: ...

    @property
    def paths(self) -> Sequence[Path]:
        """What has been sampled so far."""
        ...


class Engine(Generator, Protocol):
    """Launch, Check and Resume over a stream of requests. Results come in the order of the requests.

    An engine whose model lies elsewhere (a server) only samples: ``reads`` is False, and sizes are None.
    """

    @property
    def name(self) -> str:
        """The model: a shipped reasoner, a folder, a hub id."""
        ...

    @property
    def digest(self) -> str:
        """16 hex digits over what changes a sample: weights, tokenizer, :class:`ModelOptions`."""
        ...

    @property
    def options(self) -> ModelOptions: ...

    @property
    def device(self) -> str: ...

    @property
    def backend(self) -> str:
        """What samples, where it is not transformers; it is stored with the paths. Else empty."""
        ...

    @property
    def rows_in_flight(self) -> int:
        """About so many paths are sampled together."""
        ...

    # The model

    @property
    def context(self) -> int:
        """The longest prompt + path that the model takes, in tokens."""
        ...

    @property
    def reads(self) -> bool:
        """Whether prefixes can be read with the model: without it only what was told while sampling is known."""
        ...

    @property
    def reasons(self) -> bool:
        """Whether it may think between marks, which have to be closed before an answer can be forced."""
        ...

    @property
    def shape(self) -> ModelShape | None: ...

    @property
    def arithmetic(self) -> Arithmetic | None: ...

    @property
    def weight_bytes(self) -> int:
        """What the weights take on this machine."""
        ...

    # Text

    @property
    def tokenizer(self) -> Any:
        """As transformers has it."""
        ...

    def encode_prompt(self, prompt: str) -> NDArray[np.int64]:
        """Prompt text -> ids: through the chat template if there is one, else with the tokenizer's BOS in front."""
        ...

    def decode(self, token_ids: NDArray[np.int64]) -> str:
        """Ids -> text without special tokens; a last character that is cut in its bytes is left out."""
        ...

    def closing_ids(self, token_ids: NDArray[np.int64], prompt_tokens: int = 0) -> tuple[int, ...]:
        """What closes the reasoning that is open at the end of these ids, of which the first are the prompt's.

        Empty if none is open. Raises ValueError where nobody knows how to close it.
        """
        ...

    # Launch, Resume, continuations

    def recordable(self, recording: Recording) -> Recording:
        """What of it sampling can record."""
        ...

    def sample(
        self,
        requests: Iterable[Request],
        sampling: Sampling,
        seed: int,
        recording: Recording = NOTHING,
        purpose: str = "rollout",
    ) -> Iterator[Rollout]:
        """Sample every path to its end (also the Monte Carlo continuations of given prefixes).

        ``purpose`` names the noise, beside the seed.
        """
        ...

    def launch(
        self, requests: Iterable[Request], sampling: Sampling, seed: int, recording: Recording, until: int
    ) -> Iterator[LivePool]:
        """Sample the first ``until`` tokens of every path and keep the cache."""
        ...

    def resume(self, live: Iterable[tuple[LivePool, NDArray[np.bool_]]]) -> Iterator[Rollout]:
        """Continue only the kept paths of live pools, in row order; the others leave memory at once."""
        ...

    def forget(self) -> None:
        """Let go of what earlier calls left behind, so that a measurement begins anew."""
        ...

    # Reading again

    def reread(self, pool: Pool, signals: Collection[Signal]) -> dict[Signal, Any]:
        """Those of ``signals`` that can be had by encoding the prefixes of a replayed pool again."""
        ...

    def read_next(self, contexts: Sequence[NDArray[np.int64]], token_ids: Sequence[int]) -> NDArray[np.float64]:
        """(contexts, token_ids): log-probabilities right after each context, nothing banned."""
        ...


class LocalEngine(Engine, Protocol):
    """An engine whose network lies in this process, for what reads weights and the states of every token."""

    @property
    def model(self) -> Any:
        """An ``AutoModelForCausalLM``."""
        ...

    @property
    def shape(self) -> ModelShape: ...

    @property
    def arithmetic(self) -> Arithmetic: ...

    @property
    def banned(self) -> list[int]:
        """Ids that are never sampled."""
        ...

    def prefix_states(self, pool: Pool) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Of all prefix tokens the states (layers + 1, N, L, H), and which (N, L) exist."""
        ...
