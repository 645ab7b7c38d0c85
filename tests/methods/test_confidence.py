from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from prunebench.methods.base import MissingSignalError, Quadrant, Setting, Signal
from prunebench.methods.check import check_pruner
from prunebench.methods.confidence.deepconf import DeepConf
from prunebench.methods.confidence.entropy import Entropy
from prunebench.methods.confidence.margin import Margin
from prunebench.methods.confidence.perplexity import Perplexity
from prunebench.methods.confidence.self_certainty import SelfCertainty
from prunebench.methods.confidence.st_bon import SelfTruncation, chain_of_embedding
from prunebench.methods.confidence.varentropy import Varentropy
from prunebench.methods.examples import EXAMPLE_SETTING, example_pool


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
    assert all(
        (top[:, 0] >= sampled - 1e-6).all() for top, sampled in zip(pool.topk_logprobs, pool.logprobs, strict=True)
    )
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
    configurations = DeepConf.configurations(Setting(length, vocabulary, 192, 6))
    assert {configuration.window for configuration in configurations} == {window}
    assert {configuration.k for configuration in configurations} == ks
    assert {configuration.variant for configuration in configurations} == {"mean", "tail", "bottom", "min"}
    assert len(configurations) == 8


# --- varentropy, self-certainty ---


def test_varentropy_and_self_certainty_are_means_by_hand():
    rows = ([1.0, 3.0], [0.5], [0.0, 0.0, 6.0])
    assert Varentropy().score(with_signal(Signal.VARENTROPY, *rows)).tolist() == [-2.0, -0.5, -2.0]
    assert SelfCertainty().score(with_signal(Signal.SELF_CERTAINTY, *rows)).tolist() == [2.0, 0.5, 2.0]


def test_a_surer_model_has_more_self_certainty_and_an_even_doubt_has_no_varentropy():
    """Two tokens, q and 1 - q: KL(U || p) = -log(2) - log(q (1 - q)) / 2, Var[-log p] = q (1 - q) (log-odds)^2."""
    q = np.array([0.5, 0.6, 0.9, 0.99])
    odds = np.log(q) - np.log(1 - q)
    certainty = SelfCertainty().score(
        with_signal(Signal.SELF_CERTAINTY, *(-np.log(2) - np.log(q * (1 - q)) / 2)[:, None])
    )
    spread = Varentropy().score(with_signal(Signal.VARENTROPY, *(q * (1 - q) * odds**2)[:, None]))
    assert certainty[0] == pytest.approx(0, abs=1e-6) and (np.diff(certainty) > 0).all()
    assert spread[0] == 0 and (spread[1:] < 0).all()


# --- margin ---


def test_margin_by_hand():
    # Gaps of one path: log(0.9 / 0.1), log(0.5 / 0.4), log(0.6 / 0.3). Entropies, the rest as one outcome: of
    # (0.9, 0.1) 0.325, of (0.5, 0.4, 0.1) 0.943, of (0.6, 0.3, 0.1) 0.898.
    path = np.log([[0.9, 0.1], [0.5, 0.4], [0.6, 0.3]])
    gaps = np.log([9, 5 / 4, 2])
    pool = with_signal(Signal.TOPK_LOGPROBS, path, path[1:2])
    assert Margin().score(pool) == pytest.approx([gaps.mean(), gaps[1]], abs=1e-6)
    assert Margin(entropy_quantile=0.5).score(pool) == pytest.approx([gaps[1:].mean(), gaps[1]], abs=1e-6)
    assert Margin(entropy_quantile=1.0).score(pool) == pytest.approx([gaps[1], gaps[1]], abs=1e-6)


@pytest.mark.parametrize("quantile", [0.0, 0.3, 0.8, 0.9])
def test_margin_counts_the_least_certain_tokens_of_a_plain_sort(quantile):
    pool = example_pool()
    expected = []
    for top in pool.topk_logprobs:
        tokens = []
        for row in top.tolist():
            p = [float(np.exp(value)) for value in row]
            rest = 1 - sum(p)
            tokens.append(
                (-sum(probability * np.log(probability) for probability in p) - rest * np.log(rest), row[0] - row[1])
            )
        tokens.sort()
        kept = tokens[int(np.floor(quantile * (len(tokens) - 1))) :]
        expected.append(sum(gap for _, gap in kept) / len(kept))
    assert np.allclose(Margin(entropy_quantile=quantile).score(pool), expected, atol=1e-5)


def test_the_entropy_of_the_recorded_alternatives_is_the_whole_one_when_all_are_recorded():
    """With V = 2 nothing is left over, and log-probabilities of certainty give no NaN."""
    pool = with_signal(Signal.TOPK_LOGPROBS, [[0.0, -80.0], np.log([0.5, 0.5])])
    assert Margin(entropy_quantile=1.0).score(pool).tolist() == [0.0]


def test_margin_says_what_is_wrong():
    with pytest.raises(ValueError, match="2 log-probabilities per token are needed, but only 1 was recorded"):
        Margin().score(with_signal(Signal.TOPK_LOGPROBS, [[-1.0], [-2.0]]))
    with pytest.raises(ValueError, match=r"entropy_quantile = 1\.5: give a number from 0 to 1"):
        Margin(entropy_quantile=1.5).score(example_pool())


# --- st-bon ---


def layers_of(states):
    """A pool of paths of three tokens whose states have the given means (layers + 1, N, H)."""
    spread = np.array([-1.0, 0.25, 0.75], np.float32)[:, None]
    column = {
        layer: tuple(mean + spread for mean in means) for layer, means in enumerate(np.asarray(states, np.float32))
    }
    return replace(example_pool(len(column[0])), signals={Signal.STATES: column})


def test_st_bon_by_hand():
    # Path 0: (1, 0) -> (1, 1) -> (0, 1): steps of 1 over a way of sqrt(2), half the turn each: 1/sqrt(2) - 1/2.
    # Path 1: (1, 0) -> (2, 0) -> (0, 2): steps 1 and 2 sqrt(2) over sqrt(5), turns 0 and the whole.
    # Path 2 is path 0 three times as long: the feature has no unit.
    states = [[[1, 0], [1, 0], [3, 0]], [[1, 1], [2, 0], [3, 3]], [[0, 1], [0, 2], [0, 3]]]
    straight, bent = 1 / np.sqrt(2) - 1 / 2, (1 + 2 * np.sqrt(2)) / np.sqrt(5) / 2 - 1 / 2
    assert chain_of_embedding(np.array(states, float)) == pytest.approx([straight, bent, straight])
    gap = (straight - bent) ** 2
    assert SelfTruncation().score(layers_of(states)) == pytest.approx([-gap / 2, -gap, -gap / 2])


def test_st_bon_equals_a_plain_loop():
    states = np.random.default_rng(0).normal(size=(9, 6, 5))

    def angle(a, b):
        return np.arccos(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))

    features = []
    for path in range(6):
        h = states[:, path]
        way, turn = np.sqrt(((h[0] - h[-1]) ** 2).sum()), angle(h[0], h[-1])
        steps = [np.sqrt(((a - b) ** 2).sum()) / way - angle(a, b) / turn for a, b in pairwise(h)]
        features.append(sum(steps) / len(steps))
    expected = [-sum((f - g) ** 2 for j, g in enumerate(features) if j != i) / 5 for i, f in enumerate(features)]
    assert np.allclose(SelfTruncation().score(layers_of(states)), expected, rtol=1e-5)


def test_st_bon_alone_equal_or_at_rest_scores_zero():
    assert SelfTruncation().score(example_pool(1)).tolist() == [0.0]
    assert SelfTruncation().score(example_pool().take([2, 2, 2])).tolist() == [0.0, 0.0, 0.0]
    assert SelfTruncation().score(layers_of(np.zeros((3, 2, 4)))).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("configuration", Margin.configurations(EXAMPLE_SETTING), ids=repr)
def test_every_configuration_of_margin_conforms(configuration):
    assert check_pruner(configuration) is None


def test_type_three_and_a_missing_signal_names_the_option():
    plain = (Varentropy(), SelfCertainty(), Margin(), SelfTruncation())
    for method in (Perplexity(), Entropy(), DeepConf(), *plain):
        assert method.quadrant() is Quadrant.III
        (signal,) = method.requires
        option = f"--set record={signal.name}" if signal.recordable else f"'{signal.name}' was not recorded"
        with pytest.raises(MissingSignalError, match=option):
            method.score(replace(example_pool(), signals={}))
