"""Counter-based sampling noise: a number that depends on (seed, purpose, problem, path, step) and on nothing else."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def noise_key(seed: int, purpose: str, problem: str) -> int:
    """64 bits that name a stream of noise; equal arguments give equal streams on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}\x1f{purpose}\x1f{problem}".encode()).digest()[:8], "big")


def uniforms(keys: NDArray[np.uint64], paths: NDArray[np.uint64], steps: NDArray[np.uint64]) -> NDArray[np.float64]:
    """(R,) doubles in [0, 1) of 53 bits: Philox4x32-10 (Salmon et al., SC 2011).

    The counter is (path's low word, step, path's high word, 0).
    """
    low, high = keys & _LOW, keys >> _SHIFT
    zero = np.zeros_like(keys)
    x0, x1, x2, x3 = paths & _LOW, steps & _LOW, paths >> _SHIFT, zero
    for round_ in range(10):
        bump0, bump1 = (np.uint64((weyl * round_) & 0xFFFFFFFF) for weyl in _WEYL)
        product0, product1 = _MULTIPLIERS[0] * x0, _MULTIPLIERS[1] * x2
        x0, x1, x2, x3 = (
            (product1 >> _SHIFT) ^ x1 ^ ((low + bump0) & _LOW),
            product1 & _LOW,
            (product0 >> _SHIFT) ^ x3 ^ ((high + bump1) & _LOW),
            product0 & _LOW,
        )
    bits = ((x0 << _SHIFT) | x1) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53
