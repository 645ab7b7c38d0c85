"""The contracts of a pruner: what it declares, what it reads, and the one verb that it implements.

A pruner is a dataclass of hyper-parameters with the verb :meth:`Pruner.score`. It never starts or imports an engine;
whatever it needs of the generating model it asks through the pool. ``bench`` runs it, charges it and grades it.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from prunebench.methods.pool import Pool, PrefixDataset

Scores = NDArray[np.float64]


class Source(Enum):
    """Where a score comes from: the generating model's own states, or anything else."""

    INTERNAL = "internal"
    EXTERNAL = "external"
    MIXED = "mixed"
    CONTROL = "control"


class Quadrant(Enum):
    """The taxonomy of the STOP paper (arXiv 2604.16029, Table 1), plus controls and ensembles."""

    CONTROL = "control"
    I = "I"  # noqa: E741 - the field's name
    II = "II"
    III = "III"
    IV = "IV"
    MIXED = "mixed"

    @classmethod
    def of(cls, source: Source, learnable: bool) -> Quadrant:
        """The quadrant of a method: derived, never typed by hand."""
        if source is Source.CONTROL:
            return cls.CONTROL
        if source is Source.MIXED:
            return cls.MIXED
        if source is Source.EXTERNAL:
            return cls.II if learnable else cls.I
        return cls.IV if learnable else cls.III


class Signal(Enum):
    """What a method may read of a pool. The last two are privileged: ``bench`` gives them to its own controls only."""

    TEXT = "text"
    TOKEN_IDS = "token_ids"  # noqa: S105 - not a password
    LOGPROBS = "logprobs"
    TOPK_LOGPROBS = "topk_logprobs"
    ENTROPY = "entropy"
    SELF_CERTAINTY = "self_certainty"
    VARENTROPY = "varentropy"
    HIDDEN_STATE = "hidden_state"
    ALL_LAYERS = "all_layers"
    STATES = "states"
    KV_CACHE = "kv_cache"
    PROBE = "probe"
    OUTCOME = "outcome"
    POTENTIAL = "potential"


PRIVILEGED = frozenset({Signal.OUTCOME, Signal.POTENTIAL})


@dataclass(frozen=True)
class Setting:
    """What a method may know when it proposes configurations: the experiment's shape, never its outcomes."""

    prefix_tokens: int
    vocabulary_size: int
    hidden_size: int
    layers: int


@dataclass(frozen=True)
class Words:
    """How the generating model is spoken to, in its own token ids; ``bench`` fills it from the task.

    ``answer``: the suffix that forces a final answer now. ``question``: the suffix that asks whether the prefix is
    right so far, to be answered by the tokens ``yes`` or ``no``. ``step_end``: the token that ends a step.
    ``closing``: at most so many tokens are put before ``answer`` or ``question`` where a prefix is still reasoning.
    """

    answer: tuple[int, ...]
    question: tuple[int, ...]
    yes: int
    no: int
    step_end: int
    closing: int = 0


@dataclass(frozen=True)
class Probe:
    """A forced continuation of N prefixes: per row token ids and their log-probabilities; ``answer_class`` int64[N]."""

    token_ids: tuple[NDArray[np.int64], ...]
    token_logprobs: tuple[NDArray[np.float64], ...]
    answer_class: NDArray[np.int64]


@dataclass(frozen=True)
class PrefixCache:
    """The frozen model and its keys and values over prompt + prefix of some rows.

    ``layers`` holds one (keys, values) pair per layer, each (rows, kv_heads, width, head_dim), right-padded;
    ``lengths`` int64[rows] counts the valid positions of every row. The tensors are read-only for a method.
    """

    model: Any
    layers: tuple[tuple[Any, Any], ...]
    lengths: NDArray[np.int64]


@dataclass(frozen=True)
class LearnedTokens:
    """Learned tokens to be read behind a prefix: ``vector`` float32 (H,), repeated ``count`` times.

    ``adapter`` maps a module of the frozen model, as ``layers.0.self_attn.q_proj``, to its LoRA matrices A (r, in) and
    B (out, r), float32; ``scale`` is alpha / r. It is active on these tokens only.
    """

    vector: NDArray[np.float32]
    count: int
    adapter: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
    scale: float


def share_weights(model: Any) -> Any:
    """A second module tree over the same parameter tensors: hooks, adapters and settings of one leave the other be."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})


def has_windows(config: Any) -> bool:
    """Whether a layer of the model behind a text configuration attends to less than all before it."""
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return any(kind != "full_attention" for kind in kinds)
    return getattr(config, "sliding_window", None) is not None


class Generator(Protocol):
    """What a pool can ask of the engine that made it."""

    def probe(self, pool: Pool, suffix_ids: Sequence[int], max_new_tokens: int) -> Probe: ...

    def next_logprobs(self, pool: Pool, suffix_ids: Sequence[int], token_ids: Sequence[int]) -> NDArray[np.float64]:
        """(N, len(token_ids)): log-probability of each of ``token_ids`` right after prefix + suffix."""
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


class Generate(Protocol):
    """A language model that judges: it reads contexts of token ids and writes behind them."""

    @property
    def parameters(self) -> int:
        """What its arithmetic is charged by: 2 FLOPs per parameter and token."""
        ...

    @property
    def weight_bytes(self) -> int:
        """What its weights take beside the generator's."""
        ...

    def encode(self, text: str) -> NDArray[np.int64]:
        """Token ids of a text, nothing added."""
        ...

    def decode(self, token_ids: NDArray[np.int64]) -> str: ...

    def complete(
        self, contexts: Sequence[NDArray[np.int64]], max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[NDArray[np.int64]]:
        """The new tokens after each context, the stop token included; greedy at temperature 0."""
        ...

    def next_logprobs(self, contexts: Sequence[NDArray[np.int64]], token_ids: Sequence[int]) -> NDArray[np.float64]:
        """(len(contexts), len(token_ids)): log-probability of each of ``token_ids`` right after each context."""
        ...


@dataclass
class Pruner(ABC):
    """Scores the N prefixes of a pool. Subclasses are dataclasses of hyper-parameters.

    Class attributes: ``name`` (registry key), ``source``, ``learnable``, ``requires`` (signals read), ``paper``
    (where the method comes from; arXiv id or repository).
    """

    name: ClassVar[str]
    source: ClassVar[Source]
    learnable: ClassVar[bool] = False
    requires: ClassVar[frozenset[Signal]]
    paper: ClassVar[str]
    draws: ClassVar[int] = 1
    """How many seeds the mean is taken over; above 1 the class has a hyper-parameter ``seed``."""
    pointwise: ClassVar[bool] = False
    """True when a path's score does not depend on the other paths of its pool: smaller pools need no new scores."""
    probability: ClassVar[bool] = False
    """True when a score claims to be the probability, 0 to 1, that the path comes out right; it is held to that."""
    extra_cost: ClassVar[str] = "none"
    """What it costs beyond decoding, in a few words; the numbers are charged in :meth:`score`, where they arise."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if callable(vars(cls).get("cost")):
            raise ValueError(
                f"{cls.__name__}.cost() is never called: charge what scoring costs in score(), where it arises, with "
                "pool.charge(reencoded_tokens=..., flops=...); probes and learned tokens are charged by the pool"
            )

    @abstractmethod
    def score(self, pool: Pool) -> Scores:
        """(N,) float64, higher = keep. NaN or infinity is an error of the method.

        What the generator is asked through the pool is charged there; what a method reads itself it charges by
        :meth:`prunebench.methods.pool.Pool.charge`.
        """

    @property
    def ready(self) -> bool:
        """False while a model or a member that ``bench`` puts in is missing."""
        return True

    def answers(self, pool: Pool) -> NDArray[np.int64]:
        """int64 (N,): the answer class that each prefix leads to, -1 none. Default: what the prefix itself states."""
        return pool.answer_class

    @classmethod
    def configurations(cls, setting: Setting) -> Sequence[Self]:
        """At most 8 configurations to choose from on validation problems. Default: the defaults."""
        return (cls(),)

    @classmethod
    def quadrant(cls) -> Quadrant:
        return Quadrant.of(cls.source, cls.learnable)

    def hyperparameters(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass
class LearnablePruner(Pruner):
    """A pruner that is fitted to labelled prefixes. What is learned ends in ``_`` and is not a dataclass field.

    A long :meth:`fit` may keep its state in the file ``resume_in_`` (set by ``bench``; None: nowhere), so that the same
    command goes on after a stop.
    """

    learnable: ClassVar[bool] = True
    resume_in_: ClassVar[Path | None] = None

    @abstractmethod
    def fit(self, train: PrefixDataset, validation: PrefixDataset) -> Self:
        """Learn from ``train``; choose on ``validation`` by within-problem ranking. Problems are disjoint."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write the learned arrays to the file ``path`` (safetensors). No pickle."""

    @abstractmethod
    def load(self, path: Path) -> Self:
        """Read what :meth:`save` wrote."""


class UsesJudge:
    """What owns or starts from a model other than the generator, named by the hyper-parameter ``model``.

    ``bench`` calls :meth:`bind` before anything else: ``source`` is a checkpoint folder or hub id (``embedded`` stands
    for the one shipped for the embedded reasoner). With ``generative`` the method gets that model as ``generate``;
    otherwise it loads the checkpoint itself when it is first needed.
    """

    generative: ClassVar[bool] = False
    role: ClassVar[str]
    """Which of the shipped judges ``embedded`` means: its folder name."""

    @property
    def ready(self) -> bool:
        return hasattr(self, "source_")

    def bind(self, source: str, generate: Generate | None = None, device: str = "cpu") -> Self:
        """``device`` is where a method that loads the checkpoint itself puts it."""
        self.source_, self.generate_, self.device_ = source, generate, device
        return self


@dataclass
class PretrainedJudge(UsesJudge, Pruner):
    """An external judge that was trained elsewhere: Type II, with nothing to fit here."""

    learnable: ClassVar[bool] = True
    source: ClassVar[Source] = Source.EXTERNAL


class JudgeMissingError(ValueError):
    """A judge was asked to score before it was bound to a model."""

    def __init__(self, name: str) -> None:
        super().__init__(f"'{name}' has no judge; name one: prunebench compare --judge {name}=FOLDER_OR_ID")


class MissingSignalError(ValueError):
    """A pool was asked for a signal that was not recorded."""

    def __init__(self, signal: Signal, detail: str = "") -> None:
        super().__init__(
            f"signal '{signal.value}'{detail} was not recorded for this pool; "
            f"record it with: prunebench rollouts --set record={signal.value}"
        )
        self.signal = signal


class NotFittedError(ValueError):
    """A learnable pruner was asked to score before it was fitted or loaded."""

    def __init__(self, name: str) -> None:
        super().__init__(f"'{name}' is not fitted; train it with: prunebench train {name}")
