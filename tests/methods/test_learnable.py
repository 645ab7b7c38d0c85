"""The learnable methods that read text or states, against independent optimisers and slow loops."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from prunebench.methods.base import NotFittedError, Quadrant, Setting, Signal
from prunebench.methods.check import check_pruner, cost_of
from prunebench.methods.examples import example_dataset, example_pool
from prunebench.methods.judges.text_classifier import TextClassifier
from prunebench.methods.learned.linear_probe import LinearProbe
from prunebench.methods.learned.mlp_probe import MlpProbe, Perceptron
from prunebench.methods.learned.step import Step
from prunebench.methods.pool import LabelledPool, PrefixDataset, within_problem_auroc


def logistic(features, success, strength):
    """Minimiser of |w|^2 / 2 + strength * soft cross-entropy with a free intercept."""

    def loss(parameters):
        margin = features @ parameters[:-1] + parameters[-1]
        entropy = success * np.logaddexp(0, -margin) + (1 - success) * np.logaddexp(0, margin)
        slope = strength * (1 / (1 + np.exp(-margin)) - success)
        gradient = np.append(parameters[:-1] + features.T @ slope, slope.sum())
        return parameters[:-1] @ parameters[:-1] / 2 + strength * entropy.sum(), gradient

    start = np.zeros(features.shape[1] + 1)
    return minimize(loss, start, jac=True, method="L-BFGS-B", options={"gtol": 1e-9, "ftol": 1e-15}).x


def relabelled(dataset, rule):
    return PrefixDataset(tuple(LabelledPool(labelled.pool, rule(labelled.pool), 1) for labelled in dataset))


# --- linear-probe ---


@pytest.mark.parametrize("centre", [True, False])
def test_the_probe_is_the_minimiser_of_the_soft_cross_entropy(centre):
    train = example_dataset(seed=1)
    probe = LinearProbe(layer=2, C=0.3, centre=centre).fit(train, train)
    states = [labelled.pool.hidden_state(2).astype(float) for labelled in train]
    features = np.concatenate([state - state.mean(0) if centre else state for state in states])
    scale = features.std(0)
    weights = logistic(features / scale, train.success, 0.3)
    pool = example_pool(seed=77)
    test = pool.hidden_state(2).astype(float)
    test = (test - test.mean(0) if centre else test) / scale
    assert np.allclose(probe.score(pool), test @ weights[:-1] + weights[-1], atol=2e-3)


def test_the_probe_finds_a_direction_that_only_ranks_within_problems():
    """Every problem shifts all states by a large amount: only the centred features show who is better."""

    def shifted(dataset, seed):
        generator = np.random.default_rng(seed)
        pools = []
        for labelled in dataset:
            states = labelled.pool.hidden_state(1)
            label = (states[:, 0] > np.median(states[:, 0])).astype(float)
            signals = {Signal.HIDDEN_STATE: {1: states + generator.normal(0, 20, 6).astype(np.float32)}}
            pools.append(LabelledPool(replace(labelled.pool, signals=signals), label, 1))
        return PrefixDataset(tuple(pools))

    train, test = shifted(example_dataset(30, seed=1), 1), shifted(example_dataset(10, seed=2), 2)

    def auroc(probe):
        fitted = probe.fit(train, train)
        return within_problem_auroc(test, [fitted.score(labelled.pool) for labelled in test])

    assert auroc(LinearProbe()) > 0.9
    assert auroc(LinearProbe(C=0.01)) > auroc(LinearProbe(C=0.01, centre=False))


def test_centred_scores_ignore_what_all_paths_share():
    train = example_dataset(seed=1)
    probe = LinearProbe(layer=3).fit(train, train)
    pool = example_pool()
    moved = replace(pool, signals={Signal.HIDDEN_STATE: {3: pool.hidden_state(3) + np.float32(5)}})
    assert np.allclose(probe.score(pool), probe.score(moved), atol=1e-5)


@pytest.mark.parametrize(("layers", "expected"), [(1, [1]), (6, [1, 2, 3, 4, 5, 6]), (8, list(range(1, 9)))])
def test_probe_configurations_are_the_layers(layers, expected):
    assert [
        configuration.layer for configuration in LinearProbe.configurations(Setting(64, 512, 192, layers))
    ] == expected


def test_probe_configurations_of_a_deep_model_are_spread():
    layers = [configuration.layer for configuration in LinearProbe.configurations(Setting(64, 512, 192, 36))]
    assert len(layers) == 8
    assert layers[0] == 1 and layers[-1] == 36
    assert max(np.diff(layers)) - min(np.diff(layers)) <= 1


# --- mlp-probe ---


def start_of(width, inputs, seed):
    """The weights that a network of torch begins with."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = torch.nn.Linear(inputs, width), torch.nn.Linear(width, 1)
    hidden, bias, output, last = (
        parameter.detach().double().numpy() for layer in layers for parameter in layer.parameters()
    )
    return [hidden, bias, output[0], last]


def test_one_step_of_the_network_follows_the_gradient_by_hand():
    """One epoch of one batch: AdamW's first step on the soft cross-entropy, its gradient written out."""
    train, validation = example_dataset(seed=1), example_dataset(3, seed=2)
    probe = MlpProbe(layer=2, width=5, learning_rate=0.02, epochs=1, batch=1000, seed=4).fit(train, validation)
    states = np.concatenate(
        [labelled.pool.hidden_state(2) - labelled.pool.hidden_state(2).mean(0) for labelled in train]
    )
    inputs = (states - states.mean(0)) / states.std(0)
    hidden, bias, output, last = start = start_of(5, 6, 4)
    active = np.maximum(inputs @ hidden.T + bias, 0)
    error = (1 / (1 + np.exp(-(active @ output + last))) - train.success) / len(inputs)
    back = error[:, None] * output * (active > 0)
    slopes = [back.T @ inputs, back.sum(0), active.T @ error, np.array([error.sum()])]
    norm = np.sqrt(sum((slope**2).sum() for slope in slopes))
    rate = 0.02 / 1.05
    perceptron = probe.perceptron_
    learned = [perceptron.hidden, perceptron.hidden_bias, perceptron.output, perceptron.output_bias]
    for weights, slope, now in zip(start, slopes, learned, strict=True):
        slope = slope / max(1.0, norm)
        expected = weights * (1 - 0.01 * rate) - rate * slope / (np.abs(slope) + 1e-8)
        assert np.allclose(now, expected, atol=2e-4)


def test_the_logit_is_that_of_a_slow_loop():
    random = np.random.default_rng(0)
    net = Perceptron(*(random.normal(size=shape) for shape in (4, 4, (3, 4), 3, 3, 1)))
    rows = random.normal(size=(5, 4))
    expected = []
    for row in rows:
        total = net.output_bias[0]
        for unit in range(3):
            inner = net.hidden_bias[unit]
            for x, mean, scale, weight in zip(row, net.mean, net.scale, net.hidden[unit], strict=True):
                inner += weight * (x - mean) / scale
            total += net.output[unit] * max(inner, 0.0)
        expected.append(total)
    assert np.allclose(net.logits(rows), expected)
    assert net.flops == 2 * (3 * 4 + 3)


def test_the_network_ranks_what_no_straight_line_can():
    """Success is the exclusive or of the signs of two coordinates, beside a shift of every problem."""

    def crossed(seed, pools):
        random = np.random.default_rng(seed)
        labelled_pools = []
        for labelled in example_dataset(pools, seed=seed):
            corners = np.array(list(itertools.product([-1, 1], [-1, 1])) * 2)
            states = np.zeros((8, 6), np.float32)
            states[:, :2] = corners + random.normal(0, 0.1, (8, 2))
            states += random.normal(0, 5, 6).astype(np.float32)
            pool = replace(example_pool(8, problem=labelled.pool.problem), signals={Signal.HIDDEN_STATE: {1: states}})
            labelled_pools.append(LabelledPool(pool, (corners[:, 0] != corners[:, 1]).astype(float), 1))
        return PrefixDataset(tuple(labelled_pools))

    train, validation, test = crossed(1, 40), crossed(2, 6), crossed(3, 10)

    def auroc(probe):
        fitted = probe.fit(train, validation)
        return within_problem_auroc(test, [fitted.score(labelled.pool) for labelled in test])

    assert auroc(MlpProbe(width=16, learning_rate=0.02, epochs=60, batch=64)) > 0.97
    assert auroc(LinearProbe()) < 0.7


def test_the_network_ignores_what_all_paths_share():
    probe = MlpProbe(layer=3, width=8, epochs=2).fit(example_dataset(seed=1), example_dataset(3, seed=2))
    pool = example_pool()
    moved = replace(pool, signals={Signal.HIDDEN_STATE: {3: pool.hidden_state(3) + np.float32(5)}})
    assert np.allclose(probe.score(pool), probe.score(moved), atol=1e-5)


# --- step ---


def test_the_score_is_the_mean_of_the_boundaries_by_a_slow_loop():
    step = Step(layer=2, width=8, epochs=2).fit(example_dataset(seed=1), example_dataset(3, seed=2))
    pool = example_pool(30, seed=3)
    pool = replace(pool, phrases=replace(pool.phrases, step_end=int(pool.token_ids[0][2])))
    expected, counts = [], []
    for states, ids in zip(pool.states(2), pool.token_ids, strict=True):
        mean, count = 0.0, 0
        for state, token in zip(states, ids, strict=True):
            if token == pool.phrases.step_end:
                count += 1
                probability = 1 / (1 + np.exp(-step.perceptron_.logits(state[None])[0]))
                mean += (probability - mean) / count
        if not count:
            mean = 1 / (1 + np.exp(-step.perceptron_.logits(states[-1:])[0]))
        expected.append(mean)
        counts.append(count)
    assert {0, 1, 2} <= set(counts), "all three cases occur"
    assert np.allclose(step.score(pool), expected, atol=1e-12)
    assert cost_of(step, pool).flops == sum(max(1, count) for count in counts) * 2 * (6 * 8 + 8)
    assert cost_of(step, pool).tokens == 0


def test_the_score_reads_boundaries_only():
    step = Step(layer=2, width=8, epochs=1).fit(example_dataset(seed=1), example_dataset(3, seed=2))
    pool = example_pool(30, seed=3)
    pool = replace(pool, phrases=replace(pool.phrases, step_end=int(pool.token_ids[0][2])))
    ends = [ids == pool.phrases.step_end for ids in pool.token_ids]
    changed = tuple(
        np.where((end | (not end.any()))[:, None], states, np.float32(9))
        for states, end in zip(pool.states(2), ends, strict=True)
    )
    other = replace(pool, signals={**pool.signals, Signal.STATES: {2: changed}})
    assert np.array_equal(step.score(other), step.score(pool))


def test_boundaries_learn_the_label_of_their_prefix():
    """One coordinate at the boundaries tells the prefix's success; everywhere else it tells the opposite."""

    def labelled_by_boundaries(seed, pools):
        labelled_pools = []
        for labelled in example_dataset(pools, seed=seed):
            success = (np.arange(7) % 2).astype(float)
            columns = []
            for ids, right in zip(labelled.pool.token_ids, success, strict=True):
                ids[:-1:2] = 4  # the step's end
                states = np.random.default_rng([seed, len(ids)]).normal(0, 0.3, (len(ids), 6))
                ends = ids == 4 if (ids == 4).any() else np.arange(len(ids)) == len(ids) - 1
                states[:, 0] += np.where(ends, 2 * right - 1, 1 - 2 * right)
                columns.append(states.astype(np.float32))
            signals = {Signal.STATES: {1: tuple(columns)}, Signal.TOKEN_IDS: labelled.pool.token_ids}
            labelled_pools.append(LabelledPool(replace(labelled.pool, signals=signals), success, 1))
        return PrefixDataset(tuple(labelled_pools))

    step = Step(width=8, epochs=30, learning_rate=0.01).fit(labelled_by_boundaries(1, 20), labelled_by_boundaries(2, 4))
    test = labelled_by_boundaries(3, 8)
    assert within_problem_auroc(test, [step.score(labelled.pool) for labelled in test]) > 0.97


def test_without_words_nobody_knows_where_a_step_ends():
    step = Step(width=8, epochs=1).fit(example_dataset(seed=1), example_dataset(3, seed=2))
    with pytest.raises(ValueError, match=r"problem 'example' does not say which token ends a step"):
        step.score(replace(example_pool(), phrases=None))


# --- both ---


@pytest.mark.parametrize("kind", [MlpProbe, Step])
@pytest.mark.parametrize("setting", [Setting(12, 64, 6, 6), Setting(24, 64, 12, 36)])
def test_every_configuration_conforms(kind, setting):
    for configuration in kind.configurations(setting):
        assert check_pruner(replace(configuration, epochs=1)) is None


@pytest.mark.parametrize("kind", [MlpProbe, Step])
def test_their_layers_are_spread_and_they_are_no_wider_than_the_model(kind):
    for setting in (Setting(64, 512, 192, 6), Setting(2048, 151_936, 4096, 36)):
        configurations = kind.configurations(setting)
        layers = sorted({configuration.layer for configuration in configurations})
        assert layers[0] == 1 and layers[-1] == setting.layers and len(layers) == 4
        assert max(configuration.width for configuration in configurations) == min(512, setting.hidden_size)


@pytest.mark.parametrize("kind", [MlpProbe, Step])
def test_a_fit_that_was_stopped_goes_on_and_saves_the_same_file(kind, tmp_path, monkeypatch):
    import torch

    train, validation = example_dataset(seed=1), example_dataset(3, seed=2)
    kind(width=8, epochs=6, patience=6, batch=16).fit(train, validation).save(tmp_path / "plain")
    real, writes = torch.save, [0]

    def killed_after_three(*content):
        writes[0] += 1
        if writes[0] == 4:
            raise KeyboardInterrupt
        real(*content)

    def probe():
        pruner = kind(width=8, epochs=6, patience=6, batch=16)
        pruner.resume_in_ = tmp_path / "state.pt"
        return pruner

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", killed_after_three)
        with pytest.raises(KeyboardInterrupt):
            probe().fit(train, validation)
    probe().fit(train, validation).save(tmp_path / "resumed")
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "resumed").read_bytes()
    moved = PrefixDataset(tuple(replace(labelled, success=1 - labelled.success) for labelled in train))
    with pytest.raises(ValueError, match="begun with data = "):
        probe().fit(moved, validation)


# --- text-classifier ---


def features_by_hand(texts, terms, idf):
    """Sublinear tf * idf, rows of unit length."""
    rows = np.zeros((len(texts), len(terms)))
    for row, text in zip(rows, texts, strict=True):
        for term in ngrams(text, 2):
            if term in terms:
                row[terms.index(term)] += 1
    rows = np.where(rows > 0, 1 + np.log(np.maximum(rows, 1)), 0) * idf
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def ngrams(text, most):
    words = text.split(" ")
    return [" ".join(words[i : i + n]) for n in range(1, most + 1) for i in range(len(words) - n + 1)]


def test_the_classifier_equals_one_written_by_hand():
    train = example_dataset(seed=1)
    judge = TextClassifier(ngram_max=2, C=0.5, min_df=3).fit(train, train)
    texts = [text for labelled in train for text in labelled.pool.text]
    terms_of = [set(ngrams(text, 2)) for text in texts]
    counts = {term: sum(term in terms for terms in terms_of) for term in set().union(*terms_of)}
    terms = sorted(term for term, count in counts.items() if count >= 3)
    idf = np.array([np.log((1 + len(texts)) / (1 + counts[term])) + 1 for term in terms])
    weights = logistic(features_by_hand(texts, terms, idf), train.success, 0.5)
    pool = example_pool(seed=77)
    by_hand = features_by_hand(pool.text, terms, idf) @ weights[:-1]
    scores = judge.score(pool)
    assert np.allclose(scores - scores[0], by_hand - by_hand[0], atol=2e-3)  # an intercept moves all paths alike


def test_the_classifier_finds_a_telling_token():
    def rule(pool):
        return np.array([float(any(int(t[1:]) % 4 == 0 for t in text.split(" ")[:4])) for text in pool.text])

    train, test = relabelled(example_dataset(60, seed=1), rule), relabelled(example_dataset(10, seed=2), rule)
    judge = TextClassifier(ngram_max=1, C=3.0).fit(train, train)
    assert within_problem_auroc(test, [judge.score(labelled.pool) for labelled in test]) > 0.7


def test_the_classifier_splits_on_single_spaces_and_keeps_punctuation():
    pool = example_pool(6)
    texts = ("3 + 4 = 7 .", "3 - 4 = 7 .") * 3
    labelled = LabelledPool(replace(pool, signals={Signal.TEXT: texts}), np.array([1.0, 0.0] * 3), 1)
    judge = TextClassifier(ngram_max=1, min_df=1).fit(PrefixDataset((labelled,)), PrefixDataset(()))
    assert set(judge.vocabulary_) == {"3", "+", "-", "4", "=", "7", "."}
    assert (judge.score(labelled.pool)[::2] > judge.score(labelled.pool)[1::2]).all()


def test_an_external_judge_pays_for_reading():
    pool = example_pool()
    judge = TextClassifier(ngram_max=2).fit(example_dataset(seed=1), example_dataset(3, seed=2))
    cost = cost_of(judge, pool)
    assert cost.tokens == cost.reencoded_tokens == pool.lengths.sum()
    assert cost.flops is not None
    assert cost.flops >= 2 * sum(len(set(ngrams(text, 2))) for text in pool.text)


@pytest.mark.parametrize(
    ("kind", "quadrant", "array"),
    [
        (TextClassifier, Quadrant.II, "coefficients"),
        (LinearProbe, Quadrant.IV, "coefficients"),
        (MlpProbe, Quadrant.IV, "hidden"),
        (Step, Quadrant.IV, "hidden"),
    ],
)
def test_they_save_without_pickle_and_say_when_they_are_not_fitted(kind, quadrant, array, tmp_path):
    from safetensors import safe_open

    assert kind.quadrant() is quadrant
    for use in (lambda: kind().score(example_pool()), lambda: kind().save(tmp_path / "x")):
        with pytest.raises(NotFittedError, match=f"prunebench train {kind.name}"):
            use()
    train = example_dataset()
    kind().fit(train, train).save(tmp_path / "learned")
    with safe_open(str(tmp_path / "learned"), framework="numpy") as file:
        assert array in set(file.keys())


def test_two_fits_give_the_same_scores():
    train, pool = example_dataset(), example_pool(seed=5)
    for kind in (TextClassifier, LinearProbe, MlpProbe, Step):
        assert np.array_equal(kind().fit(train, train).score(pool), kind().fit(train, train).score(pool))
