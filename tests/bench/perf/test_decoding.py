"""Speed is measured, never asserted; what is asserted is how it is counted."""

from __future__ import annotations

import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.perf.decoding import (
    EnginePlan,
    Saving,
    device_limits,
    engine_of_shape,
    measure_engine,
    saved_by_pruning,
)
from prunebench.bench.progress import Spoken


def test_everything_is_measured_on_a_tiny_model_and_said():
    said: list[str] = []
    plan = EnginePlan(prefix=32, total=120, decoding_rows=(4,), memory=4_000, problems=2, rows=8, kept=2, lengths=2)
    speed = measure_engine("tiny", "cpu", plan, Spoken(said.append))
    (step,) = speed.decoding
    assert 0 < step.share < 1 and step.tokens_per_second > 0
    assert speed.memory is None and speed.check.rows == 8
    assert len(said) == 4 and "8 -> 2 at 32 of 120 tokens" in said[-1]


def test_tokens_saved_are_those_of_the_pruned_rests(monkeypatch):
    """Steps that all take the same time: seconds are then rows times steps, as memory lets them run together."""
    monkeypatch.setattr("prunebench.bench.perf.decoding.step_seconds", lambda _engine, rows, _length: float(rows))
    saving = saved_by_pruning(None, problems=1, rows=8, kept=2, prefix=20, total=100, memory=10**6, points=2)  # type: ignore[arg-type]
    assert saving.tokens == pytest.approx(1 - (8 * 20 + 2 * 80) / (8 * 100))
    assert saving.seconds == pytest.approx(1 - (8 * 4 + 2 * 80) / (8 * 4 + 8 * 80))  # the launch begins at 16 tokens
    assert Saving(0.5, 0.45).ratio == pytest.approx(0.9)


def test_rows_that_do_not_fit_run_one_set_after_another(monkeypatch):
    monkeypatch.setattr("prunebench.bench.perf.decoding.step_seconds", lambda _engine, _rows, _length: 1.0)
    saving = saved_by_pruning(None, problems=1, rows=8, kept=2, prefix=20, total=100, memory=400, points=2)  # type: ignore[arg-type]
    # All 8 prefixes fit; of whole paths 4 at a time, so the whole pool takes two turns and the kept two one.
    assert saving.seconds == pytest.approx(1 - (4 + 80) / (4 + 2 * 80))


def test_limits_are_counted_by_what_was_moved_and_computed(monkeypatch):
    monkeypatch.setattr("prunebench.bench.perf.decoding.median_seconds", lambda _action: 2.0)
    limits = device_limits("cpu", 1 << 16)
    assert limits.bytes_per_second == 2 * 4 * 2**16 / 2  # read and written, four bytes each
    assert limits.flops_per_second == 2 * 256**3 / 2


def test_an_unknown_shape_is_a_sentence():
    with pytest.raises(UserError, match=r"unknown shape 'huge': known are embedded, embedded-base, toy, qwen2"):
        engine_of_shape("huge", "cpu")
