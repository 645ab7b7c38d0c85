"""The contracts of a pruner: what it declares, what it reads, and the one verb that it implements.

A pruner is a dataclass of hyper-parameters with the verb :meth:`Pruner.score`. It never starts or imports an engine;
whatever it needs of the generating model it asks through the pool. ``bench`` runs it, charges it and grades it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.pool import Pool, PrefixDataset
from prunebench.methods.signals import MissingSignalError as MissingSignalError
from prunebench.methods.signals import Signal as Signal

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


@dataclass(frozen=True)
class Setting:
    """What a method may know when it proposes configurations: the experiment's shape, never its outcomes."""

    prefix_tokens: int
    vocabulary_size: int
    hidden_size: int
    layers: int


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
    redundancy: ClassVar[bool] = False
    """True when it keeps paths apart instead of telling good from bad: it is tuned by the vote, not by the ranking."""
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

    learnable = True
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

    learnable = True
    source = Source.EXTERNAL


class JudgeMissingError(ValueError):
    """A judge was asked to score before it was bound to a model."""

    def __init__(self, name: str) -> None:
        super().__init__(f"'{name}' has no judge; name one: prunebench compare --judge {name}=FOLDER_OR_ID")


class NotFittedError(ValueError):
    """A learnable pruner was asked to score before it was fitted or loaded."""

    def __init__(self, name: str) -> None:
        super().__init__(f"'{name}' is not fitted; train it with: prunebench train {name}")
