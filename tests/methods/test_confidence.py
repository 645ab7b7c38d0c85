from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from methods.base import MissingSignalError, Quadrant, Setting, Signal
from methods.check import example_pool
from methods.confidence.deepconf import DeepConf
from methods.confidence.entropy import Entropy
from methods.confidence.perplexity import Perplexity


def with_signal(signal, *rows):
    return replace(example_pool(len(rows)), signals={signal: tuple(np.array(row, np.float32) for row in rows)})


def topk_of(*rows):
    """Pools whose token confidence (k=1) is the given numbers; a second column is one nat less likely."""
    return with_signal(Signal.TOPK_LOGPROBS, *([[-c, -c - 1.0] for c in row] for row in rows))


def test_perplexity_by_hand():
    probabilities = ([0.5, 0.5], [0.25], [1.0, 0.5, 0.5, 1.0])
    pool = with_signal(Signal.LOGPROBS, *map(np.log, probabilities))
    expected = [-np.log(np.prod(np.reciprocal(row)) ** (1 / len(row))) for row in probabilities]
    assert np.allclose(Perplexity().score(pool), expected, atol=1e-6)


def test_entropy_by_hand():
    pool = with_signal(Signal.ENTROPY, [1.0, 3.0], [0.5], [0.0, 0.0, 6.0])
    assert Entropy().score(pool).tolist() == [-2.0, -0.5, -2.0]


def test_the_signals_of_the_example_pool_are_within_their_bounds():
    pool = example_pool()
    assert all((top[:, 0] >= own - 1e-6).all() for top, own in zip(pool.topk_logprobs, pool.logprobs, strict=True))
    assert all((values >= 0).all() and (values <= np.log(60) + 1e-5).all() for values in pool.entropy)


def test_uniform_distributions_have_the_confidence_of_their_log_size():
    pool = with_signal(Signal.TOPK_LOGPROBS, np.full((9, 4), -np.log(8)))
    for variant in ("mean", "tail", "bottom", "min"):
        assert DeepConf(variant, window=3, k=4).score(pool) == pytest.approx(np.log(8))


def test_deepconf_by_hand():
    pool = topk_of([6, 6, 0, 3, 3, 9])  # windows of two: 6, 3, 1.5, 3, 6
    score = {v: DeepConf(v, window=2, k=1).score(pool)[0] for v in ("mean", "tail", "bottom", "min")}
    assert score == pytest.approx({"mean": 4.5, "tail": 6.0, "bottom": 1.5, "min": 1.5})
    assert DeepConf("mean", k=2).score(pool)[0] == pytest.approx(4.5 + 0.5)  # the second one is one nat further


def slow(confidence, variant, window):
    if len(confidence) <= window:
        return sum(confidence) / len(confidence)
    groups = [sum(confidence[i : i + window]) / window for i in range(len(confidence) - window + 1)]
    if variant == "bottom":
        lowest = sorted(groups)[: max(1, round(len(groups) / 10))]
        return sum(lowest) / len(lowest)
    return {"mean": sum(confidence) / len(confidence), "tail": groups[-1], "min": min(groups)}[variant]


@pytest.mark.parametrize("variant", ["mean", "tail", "bottom", "min"])
@pytest.mark.parametrize("window", [1, 4, 12, 2048])
def test_deepconf_equals_a_plain_loop(variant, window):
    generator = np.random.default_rng(window)
    lengths = (1, 4, 12, 13, 47)
    rows = [-np.sort(generator.exponential(size=(length, 5)), axis=1) for length in lengths]
    pool = with_signal(Signal.TOPK_LOGPROBS, *rows)
    expected = [slow([-sum(t[:3]) / 3 for t in row.tolist()], variant, window) for row in rows]
    assert np.allclose(DeepConf(variant, window, 3).score(pool), expected, atol=1e-6)


def test_a_window_longer_than_the_prefix_is_the_mean():
    pool = topk_of([1, 2, 6], [4])
    for variant in ("mean", "tail", "bottom", "min"):
        assert np.allclose(DeepConf(variant, window=2048, k=1).score(pool), [3.0, 4.0])


def test_more_than_recorded_is_an_error():
    with pytest.raises(ValueError, match="k = 20, but only 2"):
        DeepConf().score(topk_of([1.0, 2.0]))


@pytest.mark.parametrize(("length", "vocabulary", "window", "ks"), [(64, 512, 16, {5, 20}), (4, 16, 2, {1, 4})])
def test_deepconf_configurations(length, vocabulary, window, ks):
    found = DeepConf.configurations(Setting(length, vocabulary, 192, 6))
    assert {one.window for one in found} == {window}
    assert {one.k for one in found} == ks
    assert {one.variant for one in found} == {"mean", "tail", "bottom", "min"}
    assert len(found) == 8


def test_type_three_and_a_missing_signal_names_the_option():
    for method in (Perplexity(), Entropy(), DeepConf()):
        assert method.quadrant() is Quadrant.III
        (signal,) = method.requires
        with pytest.raises(MissingSignalError, match=f"--record {signal.value}"):
            method.score(replace(example_pool(), signals={}))
