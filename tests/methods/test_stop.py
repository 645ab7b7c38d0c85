from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from prunebench.bench.engines.base import Request
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.methods.base import NotFittedError, Setting, Signal
from prunebench.methods.check import check_pruner, cost_of
from prunebench.methods.generator import PrefixCache
from prunebench.methods.learned.otv import OneTokenVerification
from prunebench.methods.learned.stop import Lesson, Stop, of_like_width, pairwise_loss
from prunebench.methods.learned.stop_reader import StopReader
from prunebench.methods.learned.stop_without_adapter import StopWithoutAdapter
from prunebench.methods.pool import LabelledPool, Pool, PrefixDataset, within_problem_auroc


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


def test_an_untrained_stop_vector_is_the_mean_embedding(engine):
    table = engine.model.get_input_embeddings().weight.detach()
    torch.testing.assert_close(StopReader(engine.model, Stop()).vector.detach(), table.float().mean(0))


def test_it_learns_what_the_cache_tells(fitted):
    stop, validation = fitted
    scores = [stop.score(labelled.pool) for labelled in validation]
    assert within_problem_auroc(validation, scores) > 0.9
    assert stop.history_[0]["loss"] > stop.history_[-1]["loss"]


def by_a_full_forward(engine, stop, pool: Pool):
    """Scores by PEFT's own aLoRA over prompt + prefix + [STOP], left-padded when lengths differ."""
    reader = stop._reader(engine.model)
    embed = engine.model.get_input_embeddings()
    width = len(pool.prompt_ids) + max(map(len, pool.token_ids)) + stop.tokens
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
        return reader.head(out.hidden_states[-1][:, -1]).softmax(-1)[:, 1]


@pytest.mark.parametrize("lengths", [(10,) * 12, (10, 3, 7, 10, 1, 5)])
def test_the_check_equals_a_full_forward_with_the_activated_adapter(engine, fitted, lengths):
    stop, _ = fitted
    pool = pool_of(engine, 999, lengths=lengths)
    np.testing.assert_allclose(stop.score(pool), by_a_full_forward(engine, stop, pool), atol=1e-5)


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

        def behind(self, pool, learned):
            return None

    object.__setattr__(pool, "generator", Holding())
    stop.score(pool)
    for (k, v), (k2, v2) in zip(before, held[0].layers, strict=True):
        assert torch.equal(k, k2) and torch.equal(v, v2)
    after = engine.model.state_dict()
    assert weights.keys() == after.keys() and all(torch.equal(weights[name], after[name]) for name in weights)


def test_check_then_resume_equals_never_having_checked(engine, fitted, requests_of):
    from prunebench.bench.engines.base import Recording, Sampling
    from tests.bench.engines.transformers.test_engine import as_pool, assert_same

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
            assert_same(a, b)


def test_two_trainings_give_the_same_weights(engine):
    train, validation = datasets(engine)
    small = PrefixDataset(train.pools[:6])
    first, second = (Stop(rank=4, epochs=2, batch=32).fit(small, validation) for _ in range(2))
    assert all(torch.equal(first.weights_[name], second.weights_[name]) for name in first.weights_)


def test_save_and_load(engine, fitted, tmp_path):
    stop, _ = fitted
    stop.save(tmp_path / "stop.safetensors")
    loaded = Stop(rank=8).load(tmp_path / "stop.safetensors")
    pool = pool_of(engine, 5)
    np.testing.assert_array_equal(loaded.score(pool), stop.score(pool))
    with pytest.raises(ValueError, match="saved stop weights do not fit this model"):
        Stop(rank=4).load(tmp_path / "stop.safetensors").score(pool)


def test_without_adapter_only_vector_and_head_are_learned(engine):
    train, validation = datasets(engine)
    stop = Stop(adapter=False, epochs=1).fit(PrefixDataset(train.pools[:4]), validation)
    assert sorted(stop.weights_) == ["head.bias", "head.weight", "vector"]


@pytest.mark.parametrize("kind", [Stop, StopWithoutAdapter, OneTokenVerification])
def test_an_unfitted_one_says_how_to_train_it(engine, kind, tmp_path):
    for use in (lambda: kind().score(pool_of(engine, 1)), lambda: kind().save(tmp_path / "x")):
        with pytest.raises(NotFittedError, match=f"prunebench train {kind.name}$"):
            use()


# --- training ---


def mixed(engine, seeds=range(8), lengths=(5, 10, 20), rows: int = 4) -> PrefixDataset:
    """Pools of the same problems at L/2, L and 2L."""
    pools = []
    for seed in seeds:
        for length in lengths:
            pool = replace(pool_of(engine, seed, lengths=(length,) * rows), position=length)
            success = np.array([0.25 + 0.5 * (ids[-1] == 10) for ids in pool.token_ids])
            pools.append(LabelledPool(pool, success, 4))
    return PrefixDataset(tuple(pools))


def test_the_loss_of_a_mixed_batch_is_the_mean_over_its_prefixes_one_by_one(engine):
    train = mixed(engine)
    stop = Stop(rank=4)
    kept = [labelled.pool.kv() for labelled in train]
    stop._attach(engine.model)
    lesson = Lesson(stop._reader_, kept, train.success)
    batch = np.random.default_rng(0).permutation(len(train.success))[:40]
    whole = sum(part.item() for part in lesson.losses(batch))
    singles = []
    for row in batch:
        cache = train.pools[row // 4].pool.kv([row % 4])
        share = torch.softmax(stop._reader_(cache.layers, torch.from_numpy(cache.lengths)), -1)[0, 1].item()
        wanted = train.success[row]
        singles.append(-wanted * np.log(share) - (1 - wanted) * np.log(1 - share))
    assert whole == pytest.approx(np.mean(singles), abs=1e-6)


def test_a_batch_is_parted_by_width_only_and_loses_no_row():
    widths = np.random.default_rng(0).integers(10, 200, 300)
    batch = np.random.default_rng(1).permutation(300)[:128]
    parts = list(of_like_width(batch, widths))
    assert sorted(np.concatenate(parts)) == sorted(batch)
    assert all(widths[part].max() <= 1.5 * widths[part].min() for part in parts)
    assert all(widths[a].max() < widths[b].min() for a, b in itertools.pairwise(parts))
    assert len(list(of_like_width(batch, np.full(300, 77)))) == 1


def test_it_learns_from_all_lengths_at_once(engine):
    stop = Stop(rank=8, learning_rate=3e-3, epochs=8, batch=64).fit(mixed(engine, range(40)), mixed(engine, (90, 91)))
    for length in (5, 10, 20):
        test = mixed(engine, range(200, 210), (length,), rows=12)
        assert within_problem_auroc(test, [stop.score(labelled.pool) for labelled in test]) > 0.9


@pytest.mark.parametrize("kind", [Stop, StopWithoutAdapter])
def test_a_training_that_was_stopped_ends_with_the_same_file(engine, kind, tmp_path, monkeypatch):
    train, validation = mixed(engine, range(4)), mixed(engine, (50, 51))

    def stop():
        return kind(rank=4, epochs=4, batch=16, patience=4)

    plain = stop().fit(train, validation)
    plain.save(tmp_path / "plain")
    state, real, writes = tmp_path / "state.pt", torch.save, [0]

    def killed_after_two(*content):
        writes[0] += 1
        if writes[0] == 3:
            raise KeyboardInterrupt
        real(*content)

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", killed_after_two)
        interrupted = stop()
        interrupted.resume_in_ = state
        with pytest.raises(KeyboardInterrupt):
            interrupted.fit(train, validation)
    resumed = stop()
    resumed.resume_in_ = state
    resumed.fit(train, validation).save(tmp_path / "resumed")
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "resumed").read_bytes()
    assert resumed.history_ == plain.history_
    assert state.exists()
    other = kind(rank=4, epochs=4, batch=16, patience=4, learning_rate=1e-4)
    other.resume_in_ = state
    with pytest.raises(ValueError, match=r"learning_rate = 0\.001, now it is 0\.0001"):
        other.fit(train, validation)


def test_the_trainable_weights_of_a_bf16_model_are_float32_and_move(engine):
    half = TransformersEngine(copy.deepcopy(engine.model).bfloat16(), engine.tokenizer, "half", "half")
    stop = Stop(rank=4, learning_rate=2e-5, epochs=1, batch=16)
    train = mixed(half, range(3))
    fitted = stop.fit(train, mixed(half, (50, 51)))
    with torch.random.fork_rng():
        torch.manual_seed(stop.seed)
        stop._attach(half.model)
    start = stop._reader_.learned()
    assert {tensor.dtype for tensor in fitted.weights_.values()} == {torch.float32}
    moved = torch.cat([(fitted.weights_[name] != start[name]).flatten() for name in start])
    assert moved.float().mean() > 0.9


# --- its relatives ---


def test_stop_without_adapter_is_stop_with_the_adapter_off(engine):
    train, validation = mixed(engine, range(4)), mixed(engine, (50, 51))
    bare = StopWithoutAdapter(epochs=2, batch=16).fit(train, validation)
    plain = Stop(adapter=False, epochs=2, batch=16).fit(train, validation)
    assert sorted(bare.weights_) == ["head.bias", "head.weight", "vector"]
    assert all(torch.equal(bare.weights_[name], plain.weights_[name]) for name in bare.weights_)
    proposed = StopWithoutAdapter.configurations(Setting(64, 512, 128, 5))
    assert [configuration.learning_rate for configuration in proposed] == [3e-4, 1e-3, 3e-3, 1e-2] * 2
    assert [configuration.ranking for configuration in proposed] == [0] * 4 + [1] * 4
    assert {one.ranking for one in OneTokenVerification.configurations(Setting(64, 512, 128, 5))} == {0}
    assert not any(configuration.adapter for configuration in proposed)


def test_otv_learns_the_verdicts_and_not_the_labels(engine):
    """The labels of the training prefixes say the opposite of the verdicts; the validation labels agree with them."""

    def with_verdicts(dataset, turn):
        verdicts = [np.array([float(ids[-1] == 10) for ids in labelled.pool.token_ids]) for labelled in dataset]
        return PrefixDataset(
            tuple(
                replace(labelled, success=1 - verdict if turn else verdict, outcome=verdict)
                for labelled, verdict in zip(dataset, verdicts, strict=True)
            )
        )

    otv = OneTokenVerification(rank=8, learning_rate=3e-3, epochs=8, batch=64)
    otv.fit(with_verdicts(mixed(engine, range(40)), True), with_verdicts(mixed(engine, (90, 91)), False))
    test = with_verdicts(mixed(engine, range(200, 210), (10,), rows=12), False)
    assert within_problem_auroc(test, [otv.score(labelled.pool) for labelled in test]) > 0.9
    assert cost_of(otv, test.pools[0].pool).check_tokens == 12


def test_otv_without_verdicts_says_what_is_missing(engine):
    train = mixed(engine, (1,))
    with pytest.raises(ValueError, match=r"problem 'p1' has none \(LabelledPool\.outcome is None\)"):
        OneTokenVerification().fit(train, train)


@pytest.mark.parametrize("kind", [StopWithoutAdapter, OneTokenVerification])
def test_its_relatives_conform_on_an_engine(engine, kind):
    assert check_pruner(kind(rank=4, epochs=1), engine) is None


def test_the_ranking_loss_is_the_smooth_form_of_the_ranking(engine):
    odds, success = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1.0, 0.25, 0.25])
    losses = [np.log1p(np.exp(float(odds[other] - odds[0]))) for other in (1, 2)]
    assert float(pairwise_loss(odds, success)) == pytest.approx(np.mean(losses), rel=1e-6)
    assert float(pairwise_loss(odds, torch.full((3,), 0.5))) == 0
    train, validation = datasets(engine)
    stop = Stop(rank=4, learning_rate=3e-3, batch=64, steps=40, ranking=1.0).fit(train, validation)
    assert within_problem_auroc(validation, [stop.score(labelled.pool) for labelled in validation]) > 0.9
