from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.engines.base import Request
from methods.base import NotFittedError, PrefixCache, Signal
from methods.learned.stop import Stop
from methods.pool import LabelledPool, Pool, PrefixDataset, within_problem_auroc


def pool_of(engine, seed: int, rows: int = 12, lengths: tuple[int, ...] | None = None) -> Pool:
    """Random prefixes of one problem. The last token is 10 or 300, and that decides the label."""
    generator = np.random.default_rng(seed)
    lengths = lengths or (10,) * rows
    prefixes = tuple(
        np.append(generator.integers(4, 400, length - 1), generator.choice([10, 300])).astype(np.int64)
        for length in lengths
    )
    return Pool(
        problem=f"p{seed}",
        task="test",
        position=10,
        prompt="",
        prompt_ids=generator.integers(4, 400, 7).astype(np.int64),
        paths=np.arange(len(lengths)),
        lengths=np.array(lengths),
        finished=np.array(lengths) < 10,
        answer_class=np.full(len(lengths), -1),
        signals={Signal.TOKEN_IDS: prefixes},
        generator=engine,
    )


def datasets(engine) -> tuple[PrefixDataset, PrefixDataset]:
    def labelled(seed: int) -> LabelledPool:
        pool = pool_of(engine, seed)
        return LabelledPool(pool, np.array([float(ids[-1] == 10) for ids in pool.token_ids]), 1)

    return PrefixDataset(tuple(map(labelled, range(60)))), PrefixDataset(tuple(map(labelled, range(100, 110))))


@pytest.fixture(scope="module")
def fitted(engine):
    train, validation = datasets(engine)
    return Stop(rank=8, learning_rate=3e-3, epochs=6, batch=64).fit(train, validation), validation


def test_it_learns_what_the_cache_tells(fitted):
    stop, validation = fitted
    scores = [stop.score(labelled.pool) for labelled in validation]
    assert within_problem_auroc(validation, scores) > 0.9
    assert stop.history_[0]["loss"] > stop.history_[-1]["loss"]


@pytest.mark.parametrize("lengths", [(10,) * 12, (10, 3, 7, 10, 1, 5)])
def test_the_check_equals_a_full_forward_with_the_activated_adapter(engine, fitted, lengths):
    """Cached check against PEFT's own aLoRA over prompt + prefix + [STOP], left-padded when lengths differ."""
    stop, _ = fitted
    pool = pool_of(engine, 999, lengths=lengths)
    reader = stop._reader(engine.model)
    embed = engine.model.get_input_embeddings()
    width = len(pool.prompt_ids) + max(lengths) + stop.tokens
    rows, masks, places = [], [], []
    for ids in pool.token_ids:
        text = embed(torch.from_numpy(np.concatenate([pool.prompt_ids, ids])))
        whole = torch.cat([text, reader.vector.expand(stop.tokens, -1)])
        gap = width - len(whole)
        rows.append(torch.nn.functional.pad(whole, (0, 0, gap, 0)))
        masks.append(torch.arange(width) >= gap)
        places.append((torch.arange(width) - gap).clamp(min=0))
    with torch.no_grad():
        out = reader.network(
            inputs_embeds=torch.stack(rows),
            attention_mask=torch.stack(masks).long(),
            position_ids=torch.stack(places),
            alora_offsets=[stop.tokens] * len(rows),
            output_hidden_states=True,
        )
        expected = reader.head(out.hidden_states[-1][:, -1]).softmax(-1)[:, 1]
    np.testing.assert_allclose(stop.score(pool), expected, atol=1e-5)


def test_the_adapter_is_really_on(engine, fitted):
    stop, _ = fitted
    pool = pool_of(engine, 999)
    reader = stop._reader(engine.model)
    with reader.network.disable_adapter(), torch.no_grad():
        cache = pool.kv()
        bare = reader(cache.layers, torch.from_numpy(cache.lengths)).softmax(-1)[:, 1].numpy()
    assert np.abs(stop.score(pool) - bare).max() > 1e-3


def test_the_base_model_and_the_cache_are_left_as_they_were(engine, fitted):
    stop, _ = fitted
    pool = pool_of(engine, 999)
    weights = {name: value.clone() for name, value in engine.model.state_dict().items()}
    held: list[PrefixCache] = [pool.kv()]
    before = [(k.clone(), v.clone()) for k, v in held[0].layers]

    class Holding:
        replay_seconds = 0.0

        def kv(self, pool, rows):
            return held[0]

    object.__setattr__(pool, "generator", Holding())
    stop.score(pool)
    for (k, v), (k2, v2) in zip(before, held[0].layers, strict=True):
        assert torch.equal(k, k2) and torch.equal(v, v2)
    after = engine.model.state_dict()
    assert weights.keys() == after.keys() and all(torch.equal(weights[name], after[name]) for name in weights)


def test_check_then_resume_equals_never_having_checked(engine, fitted, requests_of):
    from bench.engines.base import Recording, Sampling
    from tests.bench.engines.test_transformers import as_pool, same

    stop, _ = fitted
    sampling, recording = Sampling(max_new_tokens=40), Recording()
    requests: list[Request] = requests_of(2, 16)

    def live(check: bool):
        for pool in engine.launch(requests, sampling, 1, recording, until=8):
            if check:
                stop.score(as_pool(pool.request, pool.paths, 8, pool))
            yield pool, np.arange(16) < 6

    for checked, plain in zip(engine.resume(live(True)), engine.resume(live(False)), strict=True):
        for a, b in zip(checked.paths, plain.paths, strict=True):
            same(a, b)


def test_two_trainings_give_the_same_weights(engine):
    train, validation = datasets(engine)
    small = PrefixDataset(train.pools[:6])
    first, second = (Stop(rank=4, epochs=2, batch=32).fit(small, validation) for _ in range(2))
    assert all(torch.equal(first.weights_[name], second.weights_[name]) for name in first.weights_)


def test_save_and_load(engine, fitted, tmp_path):
    stop, _ = fitted
    stop.save(tmp_path / "stop.safetensors")
    again = Stop(rank=8).load(tmp_path / "stop.safetensors")
    pool = pool_of(engine, 5)
    np.testing.assert_array_equal(again.score(pool), stop.score(pool))
    with pytest.raises(ValueError, match="do not fit this model"):
        Stop(rank=4).load(tmp_path / "stop.safetensors").score(pool)


def test_without_adapter_only_vector_and_head_are_learned(engine):
    train, validation = datasets(engine)
    stop = Stop(adapter=False, epochs=1).fit(PrefixDataset(train.pools[:4]), validation)
    assert sorted(stop.weights_) == ["head.bias", "head.weight", "vector"]


def test_an_unfitted_one_says_how_to_train_it(engine):
    with pytest.raises(NotFittedError, match="prunebench train stop"):
        Stop().score(pool_of(engine, 1))
