"""What a check costs, charged where it arises: every reading is noted by path, and the ledger adds them up."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.generator import Answer


@dataclass(frozen=True)
class Cost:
    """What scoring one pool costs beyond the tokens that are decoded anyway. Tokens are summed over the pool.

    ``flops`` counts the judge's or probe's own arithmetic where tokens alone would not tell (another model's size);
    None means: 2 * generator parameters per token. Where ``flops`` is given, ``generator_tokens`` of the tokens are the
    generator's besides, and not counted in it. ``model_bytes``: weights of another model that lie beside the generator.
    """

    reencoded_tokens: int = 0
    probe_tokens: int = 0
    check_tokens: int = 0
    flops: float | None = None
    generator_tokens: int = 0
    model_bytes: int = 0

    @classmethod
    def of(cls, charges: Iterable[Charge]) -> Cost:
        """All ``charges`` together; what bears one name is charged once."""
        read: set[int] = set()
        return sum((charge.without(read).cost for charge in charges), cls())

    @property
    def tokens(self) -> int:
        return self.reencoded_tokens + self.probe_tokens + self.check_tokens

    def __add__(self, other: Cost) -> Cost:
        """Both together; ``generator_tokens`` keeps the tokens that the ``flops`` of the other one do not hold."""
        flops = None if self.flops is None and other.flops is None else (self.flops or 0.0) + (other.flops or 0.0)
        generated = [cost.tokens if cost.flops is None else cost.generator_tokens for cost in (self, other)]
        return Cost(
            self.reencoded_tokens + other.reencoded_tokens,
            self.probe_tokens + other.probe_tokens,
            self.check_tokens + other.check_tokens,
            flops,
            0 if flops is None else sum(generated),
            max(self.model_bytes, other.model_bytes),
        )


@dataclass(frozen=True)
class Charge:
    """One reading of some paths, path by path.

    ``paths`` int64 (n,): path ids. ``tokens`` int64 (n, 3): re-encoded, probe and check tokens. ``flops`` float64 (n,):
    the arithmetic of another model, None where the tokens are the generator's. ``names`` (n,): hashes of what was read;
    of equal ones only the first is charged. None: each path was read by itself.
    """

    paths: NDArray[np.int64]
    tokens: NDArray[np.int64]
    flops: NDArray[np.float64] | None = None
    names: NDArray[np.uint64] | None = None
    model_bytes: int = 0

    def of(self, paths: NDArray[np.int64]) -> Charge:
        """That part of it which some paths caused."""
        return self._at(np.flatnonzero(np.isin(self.paths, paths)))

    def without(self, names: set[int]) -> Charge:
        """What is left of it where ``names`` were read before; its own names are added to them."""
        if self.names is None:
            return self
        rows = []
        for row, name in enumerate(self.names.tolist()):
            if name not in names:
                names.add(name)
                rows.append(row)
        return self if len(rows) == len(self.paths) else self._at(np.array(rows, np.int64))

    @property
    def cost(self) -> Cost:
        """Of all its paths, whatever their names."""
        reencoded, probe, check = self.tokens.sum(axis=0).tolist()
        flops = None if self.flops is None else float(self.flops.sum())
        return Cost(reencoded, probe, check, flops, model_bytes=self.model_bytes)

    def _at(self, rows: NDArray[np.int64]) -> Charge:
        return replace(
            self,
            paths=self.paths[rows],
            tokens=self.tokens[rows],
            flops=None if self.flops is None else self.flops[rows],
            names=None if self.names is None else self.names[rows],
        )


class Meter:
    """Notes what one check of a pool costs, as it comes. A path that was probed in it is not probed again.

    ``answers``: what each path told, by the tokens that it was given and by path id.
    """

    def __init__(self) -> None:
        self.charges: list[Charge] = []
        self.answers: dict[int, dict[int, Answer]] = {}
        self._parts, self._salt = 0, np.uint64(0)

    @property
    def cost(self) -> Cost:
        return Cost.of(self.charges)

    def apart(self) -> Meter:
        """A meter for one of several methods that score as one: it counts here, and shares no reading with others."""
        part = Meter()
        self._parts += 1
        part.charges, part._salt = self.charges, self._salt ^ _hash(f"part {self._parts}")
        return part

    def add(self, charges: Iterable[Charge]) -> None:
        """Note what another meter has noted."""
        for charge in charges:
            names = None if charge.names is None else charge.names ^ self._salt
            self.charges.append(replace(charge, names=names))

    def charge(
        self,
        paths: NDArray[np.int64],
        tokens: Sequence[int | NDArray[np.int64]],
        flops: float | NDArray[np.floating[Any]] | None = None,
        model_bytes: int = 0,
        read: Sequence[str] | None = None,
    ) -> None:
        """Note a reading of ``paths``; see :meth:`prunebench.methods.pool.Pool.charge`."""
        count = len(paths)
        counts = np.stack([np.broadcast_to(np.asarray(kind, np.int64), count) for kind in tokens], axis=1)
        arithmetic = None if flops is None else np.broadcast_to(np.asarray(flops, np.float64), count)
        if counts.min(initial=0) < 0 or model_bytes < 0 or (arithmetic is not None and not (arithmetic >= 0).all()):
            raise ValueError("a charge counts what each path costs: give numbers of at least 0")
        if read is not None and len(read) != count:
            raise ValueError(f"a charge names {len(read)} readings of {count} paths; give one name per path")
        names = None if read is None else np.array([_hash(name) for name in read], np.uint64)
        self.add([Charge(paths, counts, arithmetic, names, model_bytes)])


def _hash(name: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big"))
