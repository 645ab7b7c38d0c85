from __future__ import annotations

import csv

import numpy as np
import pytest

from prunebench.bench.engines.base import NOTHING, Sampling
from prunebench.bench.engines.shipped import REASONERS
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.attention import Attention, record_attention
from prunebench.bench.rollouts.pools import pool_of
from prunebench.bench.rollouts.sampling import problems_of, sample_rollouts
from prunebench.bench.rollouts.store import RolloutStore
from prunebench.bench.training.loading import load_method
from prunebench.figures.attention import attention
from prunebench.tasks import catalogue
from tests.figures.readable import assert_readable


@pytest.fixture(scope="module")
def engine():
    return TransformersEngine.load("embedded")


@pytest.fixture(scope="module")
def stop(engine):
    return load_method("stop", REASONERS["embedded"].learned, engine.digest, 40).pruner


@pytest.fixture(scope="module")
def store(engine, tmp_path_factory):
    folder = tmp_path_factory.mktemp("attention") / "store"
    problems = problems_of(catalogue.expand(["synthetic/congruence"]), "test", 2, 0)
    sampling = Sampling(temperature=0.8, max_new_tokens=60)
    sample_rollouts(engine, problems, folder, n=8, sampling=sampling, seed=0, recording=NOTHING)
    return folder


def test_weights_are_a_distribution_over_prompt_prefix_and_stop_tokens(engine, stop, store):
    pool = pool_of(engine, next(iter(RolloutStore.open(store).read())), 40)
    before = stop.score(pool)
    weights = stop.attention(pool, [0, 3])
    config = engine.model.config
    width = len(pool.prompt_ids) + 40 + stop.tokens
    assert weights.shape == (2, config.num_hidden_layers, config.num_attention_heads, stop.tokens, width)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    assert (weights >= 0).all()
    for own in range(stop.tokens):  # a [STOP] token sees those before it and itself, none behind it
        assert not weights[..., own, width - stop.tokens + own + 1 :].any()
    np.testing.assert_array_equal(stop.score(pool), before)  # looking changes nothing


def test_the_weights_are_those_that_the_score_was_made_with(engine, stop, store):
    """The first layer's weights times the values, through the output projection, against the layer's own output."""
    pool = pool_of(engine, next(iter(RolloutStore.open(store).read())), 40)
    told = {}
    reader = stop._reader(engine.model)
    layer = next(m for m in reader.network.modules() if getattr(m, "layer_idx", None) == 0 and hasattr(m, "o_proj"))
    hook = layer.o_proj.register_forward_pre_hook(lambda _module, inputs: told.update(mixed=inputs[0].detach()))
    weights = stop.attention(pool, [0, 1])
    hook.remove()
    heads = engine.model.config.num_attention_heads
    values = pool.kv([0, 1]).layers[0][1].numpy()
    values = values.repeat(heads // values.shape[1], axis=1)
    width = values.shape[2]
    first = told["mixed"].numpy().reshape(2, stop.tokens, heads, -1)[:, 0]  # of the first [STOP] token
    mixed = np.einsum("rhw,rhwd->rhd", weights[:, 0, :, 0, :width], values)
    # The rest is its own value, which is not in the cache: the same behind every prefix, by its share.
    share = weights[:, 0, :, 0, width, None]
    assert (share > 1e-3).all(axis=0).any()
    np.testing.assert_allclose(share[1] * (first - mixed)[0], share[0] * (first - mixed)[1], atol=1e-5)


def test_the_extremes_of_a_pool_are_recorded_with_their_words(engine, stop, store, tmp_path):
    found = record_attention(engine, stop, store, tmp_path, prefix=40)
    assert Attention.read(tmp_path) == found
    pool = pool_of(engine, next(iter(RolloutStore.open(store).read())), 40)
    scores = stop.score(pool)
    assert [one.score for one in found.paths] == pytest.approx([scores.max(), scores.min()])
    for one in found.paths:
        assert one.tokens[-stop.tokens :] == ["[STOP]"] * stop.tokens
        assert len(one.tokens) == one.prompt_tokens + 40 + stop.tokens
        np.testing.assert_allclose(np.sum(one.weights, axis=1), 1, atol=1e-4)
    lines = list(csv.DictReader((tmp_path / "attention.csv").read_text().splitlines()))
    assert len(lines) == 2 * engine.model.config.num_hidden_layers * len(found.paths[0].tokens)
    assert_readable(attention(found))


def test_a_problem_that_is_not_there_is_refused(engine, stop, store, tmp_path):
    with pytest.raises(UserError, match="holds 2 problems in all; number = 3"):
        record_attention(engine, stop, store, tmp_path, prefix=40, number=3)
    with pytest.raises(UserError, match="prefix = 0: at least 1 token"):
        record_attention(engine, stop, store, tmp_path, prefix=0)
    with pytest.raises(UserError, match="no attention there; make it with: prunebench study attention"):
        Attention.read(tmp_path)
