from __future__ import annotations

import numpy as np

from prunebench.bench.engines.noise import noise_key, uniforms


def test_noise_depends_on_every_part_of_its_address():
    assert len({noise_key(0, "a", "p"), noise_key(1, "a", "p"), noise_key(0, "b", "p"), noise_key(0, "a", "q")}) == 4
    grid = np.arange(100, dtype=np.uint64)
    key = np.full(100, noise_key(0, "rollout", "p"), np.uint64)
    by_path = uniforms(key, grid, np.zeros(100, np.uint64))
    by_step = uniforms(key, np.zeros(100, np.uint64), grid)
    assert len({*by_path, *by_step}) == 199


def test_noise_equals_the_published_philox():
    """The known-answer vector of Random123 for Philox4x32-10 at key 0, counter 0: its first two words."""
    zero = np.zeros(1, np.uint64)
    assert _words(uniforms(zero, zero, zero)) == _words_of(0x6627E8D5, 0xE169C58D)


def test_noise_is_uniform():
    key = np.full(200_000, noise_key(7, "rollout", "p"), np.uint64)
    values = uniforms(key, np.arange(200_000, dtype=np.uint64), np.zeros(200_000, np.uint64))
    counts = np.bincount((values * 100).astype(int), minlength=100)
    chi_square = float(((counts - 2000) ** 2 / 2000).sum())
    assert 60 < chi_square < 150


def _words(values: np.ndarray) -> int:
    return int(values[0] * 2**53)


def _words_of(first: int, second: int) -> int:
    return ((first << 32) | second) >> 11
