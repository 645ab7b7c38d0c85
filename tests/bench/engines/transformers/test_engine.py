from __future__ import annotations

import numpy as np
import pytest
import torch

from prunebench.bench.engines.base import Recording, Request, Sampling
from prunebench.bench.engines.noise import noise_key
from prunebench.bench.engines.sampling import draw, filtered_probabilities
from prunebench.bench.engines.transformers.caches import CacheForward, PoolForward
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.errors import UserError
from prunebench.bench.perf.agreement import TIE, divergence
from prunebench.methods.base import Signal
from prunebench.methods.pool import Pool
from tests.conftest import DEVICE

SAMPLING = Sampling(temperature=0.9, max_new_tokens=60)
RECORDING = Recording(topk=5, topk_tokens=20, checkpoints=(6, 12))
NEAR, STATES_NEAR = (2e-5, 5e-5) if DEVICE == "cpu" else (1e-4, 2e-4)
exact = pytest.mark.skipif(DEVICE != "cpu", reason="a path is byte for byte independent of its batch on a CPU only")


def as_pool(request: Request, paths, position: int, generator) -> Pool:
    prefixes = tuple(path.token_ids[:position] for path in paths)
    lengths = np.array([len(prefix) for prefix in prefixes])
    return Pool(
        problem=request.problem,
        task="test",
        position=position,
        prompt="",
        prompt_ids=request.prompt_ids,
        paths=np.array(request.paths),
        lengths=lengths,
        finished=np.array([len(path.token_ids) <= position for path in paths]),
        answer_class=np.full(len(paths), -1),
        signals={Signal.TOKEN_IDS: prefixes},
        generator=generator,
    )


def assert_same(a, b) -> None:
    assert a.path == b.path and a.finish == b.finish
    np.testing.assert_array_equal(a.token_ids, b.token_ids)
    assert a.signals.keys() == b.signals.keys()
    for name, column in a.signals.items():
        np.testing.assert_array_equal(column, b.signals[name])
    assert a.hidden.keys() == b.hidden.keys()
    for checkpoint in a.hidden:
        np.testing.assert_array_equal(a.hidden[checkpoint], b.hidden[checkpoint])


@pytest.fixture(scope="module")
def rollouts(engine, requests_of):
    return list(engine.sample(requests_of(paths=64), SAMPLING, 5, RECORDING))


def test_the_pooled_loop_is_used_for_the_reasoner(engine):
    assert isinstance(engine.decoder.forward, PoolForward)


def test_signals_equal_a_teacher_forced_forward(reference, requests_of, rollouts):
    for request, rollout in zip(requests_of(paths=64), rollouts, strict=True):
        for path in rollout.paths[::9]:
            ids = torch.from_numpy(np.concatenate([request.prompt_ids, path.token_ids]))[None]
            out = reference.model(ids, output_hidden_states=True)
            start = len(request.prompt_ids)
            logprobs = out.logits[0, start - 1 : -1].log_softmax(-1)
            wanted = logprobs.gather(1, ids[0, start:, None])[:, 0]
            np.testing.assert_allclose(path.signals["logprobs"], wanted, atol=NEAR)
            entropy = -(logprobs.exp() * logprobs).sum(-1)
            np.testing.assert_allclose(path.signals["entropy"], entropy, atol=NEAR)
            certainty = -logprobs.mean(-1) - np.log(logprobs.shape[-1])
            np.testing.assert_allclose(path.signals["self_certainty"], certainty, atol=NEAR)
            topk = path.signals["topk_logprobs"]
            np.testing.assert_allclose(topk, logprobs.topk(5).values[: len(topk)], atol=NEAR)
            for checkpoint, states in path.hidden.items():
                last = start + min(checkpoint, len(path.token_ids)) - 1
                expected = torch.stack([layer[0, last] for layer in out.hidden_states])
                np.testing.assert_allclose(states, expected, atol=STATES_NEAR)


@exact
@pytest.mark.parametrize("count", [1, 7])
def test_a_path_is_the_same_at_any_batch_size(engine, requests_of, rollouts, count):
    for request, rollout in zip(requests_of(paths=64), rollouts, strict=True):
        alone = Request(request.problem, request.prompt_ids, request.paths[20 : 20 + count])
        (fewer,) = engine.sample([alone], SAMPLING, 5, RECORDING)
        for path, twin in zip(fewer.paths, rollout.paths[20 : 20 + count], strict=True):
            assert_same(path, twin)


@exact
def test_the_rows_in_flight_do_not_change_a_path(checkpoint, requests_of, rollouts):
    narrow = TransformersEngine.load(str(checkpoint), rows_in_flight=1)
    for ours, theirs in zip(narrow.sample(requests_of(paths=64), SAMPLING, 5, RECORDING), rollouts, strict=True):
        for a, b in zip(ours.paths, theirs.paths, strict=True):
            assert_same(a, b)


@exact
def test_launch_check_resume_equals_replay(engine, requests_of, rollouts):
    requests = requests_of(paths=64)
    keep = np.arange(64) % 8 == 3

    def kept():
        for live in engine.launch(requests, SAMPLING, 5, RECORDING, until=12):
            pool = as_pool(live.request, live.paths, 12, live)
            live.kv(pool, range(64))
            yield live, keep

    for online, whole in zip(engine.resume(kept()), rollouts, strict=True):
        assert [path.path for path in online.paths] == list(np.flatnonzero(keep))
        for path, twin in zip(online.paths, [whole.paths[row] for row in np.flatnonzero(keep)], strict=True):
            assert_same(path, twin)


def test_the_live_cache_equals_the_reencoded_one(engine, requests_of):
    (live,) = engine.launch(requests_of(1, 16), SAMPLING, 5, RECORDING, until=12)
    pool = as_pool(live.request, live.paths, 12, live)
    online, replayed = live.kv(pool, range(16)), engine.kv(pool, range(16))
    np.testing.assert_array_equal(online.lengths, replayed.lengths)
    for (k, v), (k2, v2) in zip(online.layers, replayed.layers, strict=True):
        for row, length in enumerate(online.lengths):
            torch.testing.assert_close(k[row, :, :length], k2[row, :, :length], atol=NEAR, rtol=0)
            torch.testing.assert_close(v[row, :, :length], v2[row, :, :length], atol=NEAR, rtol=0)


def test_hidden_states_of_a_replayed_pool_equal_the_recorded_ones(engine, requests_of, rollouts):
    request, rollout = requests_of(paths=64)[1], rollouts[1]
    pool = as_pool(request, rollout.paths, 6, engine)
    states = engine.reread(pool, {Signal.HIDDEN_STATE})[Signal.HIDDEN_STATE]
    recorded = np.stack([path.hidden[6] for path in rollout.paths], axis=1)
    for layer, values in states.items():
        np.testing.assert_allclose(values, recorded[layer], atol=STATES_NEAR)


def test_the_states_of_a_prefix_end_in_its_last_state(engine, requests_of, rollouts):
    pool = as_pool(requests_of(paths=64)[1], rollouts[1].paths, 6, engine)
    states, exists = engine.prefix_states(pool)
    assert states.shape == (3, 64, 6, 128)
    assert exists.sum(1).tolist() == pool.lengths.tolist()
    last = engine.reread(pool, {Signal.HIDDEN_STATE})[Signal.HIDDEN_STATE]
    for layer in range(3):
        ends = states[layer, np.arange(64), pool.lengths - 1]
        np.testing.assert_array_equal(ends, last[layer])


def test_continuations_of_a_prefix_follow_the_model(engine, reference, requests_of, rollouts):
    """Greedy continuations of cut paths equal greedy decoding of the whole text."""
    request, rollout = requests_of(paths=64)[0], rollouts[0]
    prefixes = np.stack([path.token_ids[:5] for path in rollout.paths[:4] for _ in range(2)])
    greedy = Sampling(temperature=0.0, max_new_tokens=12)
    (got,) = engine.sample([Request("x", request.prompt_ids, tuple(range(8)), prefixes)], greedy, 0)
    for row, path in enumerate(got.paths):
        ids = torch.from_numpy(np.concatenate([request.prompt_ids, prefixes[row]]))[None]
        expected = []
        for _ in range(7):
            logits = reference.model(ids).logits[0, -1].index_fill(0, reference.decoder.banned, -torch.inf)
            expected.append(int(logits.argmax()))
            if expected[-1] == engine.tokenizer.eos_token_id:
                break
            ids = torch.cat([ids, torch.tensor([[expected[-1]]])], 1)
        assert path.token_ids.tolist() == expected


def test_continuation_noise_differs_by_purpose(engine, requests_of):
    (a,) = engine.sample(requests_of(1), SAMPLING, 5, purpose="rollout")
    (b,) = engine.sample(requests_of(1), SAMPLING, 5, purpose="label")
    assert any(x.token_ids.tolist() != y.token_ids.tolist() for x, y in zip(a.paths, b.paths, strict=True))


def test_reserved_tokens_are_never_sampled(engine, requests_of):
    banned = set(engine.banned)
    hot = Sampling(temperature=10.0, max_new_tokens=100)
    for rollout in engine.sample(requests_of(2, 32), hot, 1):
        assert not banned & {int(token) for path in rollout.paths for token in path.token_ids}


def test_the_fallback_on_the_models_own_cache_gives_the_same_paths_but_for_near_ties(checkpoint, requests_of, rollouts):
    fallback = TransformersEngine.load(str(checkpoint), device=DEVICE)
    fallback.decoder.forward = CacheForward(fallback.model)
    requests, differing = requests_of(paths=64), 0
    sampled = fallback.sample(requests, SAMPLING, 5, RECORDING)
    for request, ours, theirs in zip(requests, sampled, rollouts, strict=True):
        key = noise_key(5, "rollout", request.problem)
        for a, b in zip(ours.paths, theirs.paths, strict=True):
            tie = divergence(fallback, request.prompt_ids, (a.token_ids, b.token_ids), key, a.path, SAMPLING)
            if tie is None:
                np.testing.assert_allclose(a.signals["entropy"], b.signals["entropy"], atol=STATES_NEAR)
            else:
                assert tie < TIE
                differing += 1
    assert differing <= 3


def test_bf16_runs_and_stays_near_fp32(checkpoint, requests_of):
    half = TransformersEngine.load(str(checkpoint), device=DEVICE, dtype="bfloat16")
    (rollout,) = half.sample(requests_of(1), SAMPLING, 5, RECORDING)
    request = requests_of(1)[0]
    full = TransformersEngine.load(str(checkpoint))
    for path in rollout.paths:
        ids = torch.from_numpy(np.concatenate([request.prompt_ids, path.token_ids]))[None]
        logprobs = full.model(ids).logits[0, len(request.prompt_ids) - 1 : -1].log_softmax(-1)
        wanted = logprobs.gather(1, ids[0, len(request.prompt_ids) :, None])[:, 0]
        assert np.abs(path.signals["logprobs"] - wanted.numpy()).mean() < 0.1


@exact
def test_in_bfloat16_a_path_is_the_same_at_any_batch_size(checkpoint, requests_of):
    wide = TransformersEngine.load(str(checkpoint), dtype="bfloat16")
    narrow = TransformersEngine.load(str(checkpoint), dtype="bfloat16", rows_in_flight=1)
    long = Sampling(temperature=0.9, max_new_tokens=120)  # past the first block of the cache
    whole = list(wide.endless().sample(requests_of(paths=24), long, 5, RECORDING))
    for request, rollout in zip(requests_of(paths=24), whole, strict=True):
        some = Request(request.problem, request.prompt_ids, request.paths[9:12])
        (fewer,) = narrow.endless().sample([some], long, 5, RECORDING)
        for path, twin in zip(fewer.paths, rollout.paths[9:12], strict=True):
            assert_same(path, twin)


def test_filters_match_the_generation_processors_of_transformers():
    from transformers.generation.logits_process import (
        LogitsProcessorList,
        MinPLogitsWarper,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    logits = torch.randn(50, 40, generator=torch.Generator().manual_seed(0)) * 3
    for sampling in (Sampling(0.7, 0.9, 0, 0.0), Sampling(0.7, 1.0, 5, 0.0), Sampling(1.3, 0.8, 10, 0.05)):
        warpers = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
        if sampling.top_k:
            warpers.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            warpers.append(TopPLogitsWarper(sampling.top_p))
        if sampling.min_p:
            warpers.append(MinPLogitsWarper(sampling.min_p))
        expected = warpers(torch.zeros(50, 1, dtype=torch.long), logits.clone()).softmax(-1)
        torch.testing.assert_close(filtered_probabilities(logits, sampling).float(), expected, atol=1e-6, rtol=1e-5)


def test_draws_follow_the_distribution():
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(20000, -1)
    noise = np.random.default_rng(0).random(20000)
    shares = np.bincount(draw(logits, noise, Sampling()).numpy(), minlength=4) / 20000
    np.testing.assert_allclose(shares, [0.1, 0.2, 0.3, 0.4], atol=0.012)


def test_a_prompt_that_fills_the_context_is_refused_in_a_sentence(engine):
    request = Request("long", np.full(256, 5), (0,))
    with pytest.raises(UserError, match="256 tokens leaves no room"):
        list(engine.sample([request], SAMPLING, 0))


def test_a_question_in_words_that_the_model_does_not_know_is_refused_in_a_sentence():
    embedded = TransformersEngine.load("embedded")
    request = Request("t/q", embedded.encode_prompt("How many apples has Ann ?"), (0,))
    with pytest.raises(
        UserError, match=r"problem t/q: \d of the \d tokens .* the tokenizer of embedded does not know; name"
    ):
        list(embedded.sample([request], SAMPLING, 0))


def test_a_folder_without_tokenizer_is_refused_in_a_sentence(checkpoint, tmp_path):
    for file in checkpoint.iterdir():
        if not file.name.startswith("tokenizer"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UserError, match="no tokenizer"):
        TransformersEngine.load(str(tmp_path))
