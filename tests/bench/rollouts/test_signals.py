"""A signal is one entry: from a file outside the package it is recorded, stored, read by a pruner, and read again."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from prunebench.bench.engines.base import Recording
from prunebench.bench.plugins import check_plugin, load_plugin
from prunebench.bench.rollouts.pools import pool_of
from prunebench.bench.rollouts.store import RolloutStore
from prunebench.methods.examples import example_pool
from prunebench.methods.registry import PRUNERS
from prunebench.methods.signals import SIGNALS, Signal, signal_named

PLUGIN = """
from dataclasses import dataclass

import numpy as np

from prunebench.methods.base import Pruner, Source
from prunebench.methods.registry import pruner
from prunebench.methods.signals import signal


@signal("regret", "how much less likely the token was than the likeliest one, in nats")
def REGRET(logprobs, tokens):
    return logprobs.max(-1).values - logprobs.gather(1, tokens[:, None])[:, 0]


@signal("two_gaps", "the gaps between the largest log-probabilities, in nats", wide=True)
def TWO_GAPS(logprobs, tokens, k):
    return -logprobs.topk(min(k, 3), dim=-1).values.diff(dim=-1)


@pruner
@dataclass
class LeastRegret(Pruner):
    name = "least-regret"
    source = Source.INTERNAL
    requires = frozenset({REGRET, TWO_GAPS})
    paper = "a test"
    pointwise = True

    def score(self, pool):
        gaps = [float(gap.sum()) for gap in pool.read(TWO_GAPS)]
        return np.array([1e-6 * gap - float(column.mean()) for gap, column in zip(gaps, pool.read(REGRET))])
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """The file; what it adds is forgotten afterwards."""
    for known in (PRUNERS, SIGNALS):
        known.names()
        for kept in ("_entries", "_homes"):
            monkeypatch.setattr(known, kept, dict(getattr(known, kept)))
    path = tmp_path / "regret.py"
    path.write_text(PLUGIN)
    return path


def test_a_signal_from_a_file_is_recorded_stored_and_read(plugin, prunebench, tmp_path):
    code, _, err = prunebench(
        "rollouts", "--plugin", plugin, "--task", "synthetic/power", "--problems", 1, "--n", 8,
        "--set", "prefix_tokens=8", "--set", "record=regret,two_gaps,logprobs", "--out", tmp_path / "store",
    )  # fmt: skip
    assert code == 0, err
    (stored,) = RolloutStore.open(tmp_path / "store").read()
    assert [set(path.signals) for path in stored.paths] == [{"regret", "two_gaps", "logprobs"}] * 8
    assert [len(path.signals["regret"]) for path in stored.paths] == [path.length for path in stored.paths]
    assert [path.signals["two_gaps"].shape for path in stored.paths] == [(8, 2)] * 8
    pool = pool_of(None, stored, 8)
    regret, gaps = pool.read(Signal.REGRET), pool.read(Signal.TWO_GAPS)
    scores = PRUNERS.get("least-regret")().score(pool)
    assert scores.tolist() == [1e-6 * float(g.sum()) - float(r.mean()) for g, r in zip(gaps, regret, strict=True)]
    compared = prunebench(
        "compare", "--plugin", plugin, "--store", tmp_path / "store", "--methods", "least-regret,none", "--n", 8,
        "--k", 2, "--prefix", 8, "--out", tmp_path / "compared",
    )  # fmt: skip
    assert compared[0] == 0, compared[2]
    assert "least-regret" in (tmp_path / "compared" / "main_table.csv").read_text()


def test_a_signal_from_a_file_is_read_again_and_checked(plugin, engine):
    report = check_plugin(plugin)[0]
    assert report.passed, report.failures
    pool = example_pool(4)
    bare = pool.without(set(pool.signals) - {Signal.TOKEN_IDS})
    reread = engine.reread(bare, {Signal.REGRET, Signal.LOGPROBS})
    most = engine.reread(pool, {Signal.TOPK_LOGPROBS})[Signal.TOPK_LOGPROBS]
    for regret, logprobs, topk in zip(reread[Signal.REGRET], reread[Signal.LOGPROBS], most, strict=True):
        np.testing.assert_allclose(regret, topk[:, 0] - logprobs, atol=1e-5)


def test_a_signal_is_the_same_in_a_process_that_has_not_loaded_its_file(plugin, tmp_path):
    load_plugin(plugin)
    assert pickle.loads(pickle.dumps(Signal.REGRET)) is Signal.REGRET
    recording = Recording.of(["regret", "entropy"], 8)
    assert Recording.from_plain(recording.plain()) == recording
    (tmp_path / "recording.pkl").write_bytes(pickle.dumps(recording))
    code = "import pickle, sys; print([s.name for s in pickle.load(open(sys.argv[1], 'rb')).per_token])"
    result = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "recording.pkl"], capture_output=True, text=True, check=True
    )
    assert result.stdout == "['regret', 'entropy']\n", result.stderr


def test_a_store_whose_signal_nobody_knows_is_read_without_it(plugin, prunebench, tmp_path, monkeypatch):
    arguments = ["rollouts", "--task", "synthetic/power", "--problems", "1", "--n", "8"]
    arguments += ["--set", "prefix_tokens=8", "--set", "record=regret"]
    assert prunebench(*arguments, "--plugin", plugin, "--out", tmp_path / "store")[0] == 0
    monkeypatch.delitem(SIGNALS._entries, "regret")
    (stored,) = RolloutStore.open(tmp_path / "store").read()
    assert "regret" in stored.paths[0].signals and signal_named("regret") is None
    assert set(pool_of(None, stored, 8).signals) == {Signal.TOKEN_IDS}
    code, _, err = prunebench(*arguments, "--out", tmp_path / "other")
    assert code == 2 and "record = regret:" in err


def test_the_manifest_of_a_store_says_what_it_always_said():
    assert Recording.of((), 40).described() == {
        "logprobs": True, "entropy": True, "self_certainty": True, "topk": 20, "topk_tokens": 40,
        "checkpoints": (40,), "launch_tokens": 40,
    }  # fmt: skip
    some = Recording.of(("entropy", "varentropy"), 40).described()
    assert (some["logprobs"], some["entropy"], some["varentropy"], some["topk_tokens"]) == (False, True, True, 0)
