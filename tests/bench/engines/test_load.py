"""Engines as text, and an engine from a single file."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from prunebench.bench.engines.kinds.openai import OpenAI
from prunebench.bench.engines.kinds.transformers import Transformers
from prunebench.bench.engines.kinds.vllm import JUDGE_GIB, Vllm
from prunebench.bench.engines.load import kind_for_store, parse_engine, parse_judge
from prunebench.bench.engines.ray import Cluster
from prunebench.bench.engines.registry import ENGINES
from prunebench.bench.errors import UserError
from prunebench.bench.plugins import load_plugin
from prunebench.bench.rollouts.store import RolloutStore
from prunebench.bench.training.loading import all_on_engine
from tests.bench.conftest import refused

URL = "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("transformers", Transformers()),
        ("vllm, kv_memory=4", Vllm(kv_memory=4.0)),
        (" vllm , kv_memory = 4 ", Vllm(kv_memory=4.0)),
        (f"openai:{URL}", OpenAI(url=URL)),
        (f"openai:{URL}?a=1,b,workers=2", OpenAI(url=f"{URL}?a=1,b", workers=2)),
        ("openai", OpenAI()),
        (
            "transformers,workers=4,address=10.0.0.1:6379,gpus_per_worker=0.5",
            Transformers(workers=4, address="10.0.0.1:6379", gpus_per_worker=0.5),
        ),
    ],
)
def test_one_text_says_what_samples(text, kind):
    assert parse_engine(text) == kind


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("vlm", "--engine vlm: unknown engine 'vlm': did you mean 'vllm'? (a file of your own: --plugin FILE)"),
        ("vllm,kv_memry=4", "--engine vllm,kv_memry=4: there is no 'kv_memry', did you mean 'kv_memory'?"),
        ("transformers,kv_memory=4", "'kv_memory' belongs to vllm"),
        ("vllm,rows=4", "there is no 'rows', there are workers, address, gpus_per_worker, kv_memory"),
        ("vllm,kv_memory=much", "kv_memory = 'much' is not a number that is not negative"),
        ("vllm,kv_memory=nan", "kv_memory = 'nan' is not a number"),
        ("transformers,workers=2.5", "workers = '2.5' is not a whole number"),
        ("vllm:4", "nothing stands behind a colon of vllm; it has"),
        ("openai:", "url is missing behind the colon"),
        ("openai:,workers=2", "url is missing behind the colon"),
        ("vllm,4", "there is no '4', there are workers"),
        ("vllm,kv_memory=1,kv_memory=2", "kv_memory stands twice"),
        ("transformers,workers=0", "workers=0: at least one is needed"),
        ("vllm,address=x:1", "address belongs to workers"),
    ],
)
def test_a_wrong_text_is_one_sentence(text, sentence):
    with pytest.raises(UserError) as error:
        parse_engine(text)
    assert sentence in str(error.value) and str(error.value).startswith(f"--engine {text}: ")


def test_a_judge_is_a_model_or_an_engine_and_a_model(tmp_path, monkeypatch):
    assert parse_judge("Qwen/Qwen2.5-Math-PRM-7B") == (Transformers(), "Qwen/Qwen2.5-Math-PRM-7B")
    assert parse_judge("vllm:some/folder") == (Vllm(kv_memory=JUDGE_GIB), "some/folder")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vllm:here").mkdir()
    assert parse_judge("vllm:here") == (Transformers(), "vllm:here")
    with pytest.raises(UserError, match="unknown engine 'vlm': did you mean 'vllm'"):
        parse_judge("vlm:some/folder")
    with pytest.raises(UserError, match="openai does not tell what a judge has to read"):
        parse_judge("openai:some/folder")


def test_results_that_name_one_engine_for_all_judges_are_still_read():
    judges = all_on_engine({"prm": "folder", "thinkprm": "other"}, "vllm")
    assert judges["prm"] == "folder", "it loads its judge itself"
    assert judges["thinkprm"] == "vllm:other"
    assert judges["mav"] == "vllm:embedded"
    assert all_on_engine({"prm": "folder"}, None) == {"prm": "folder"}


def test_a_store_is_read_by_its_own_engine_only_where_nobody_else_knows_the_model():
    assert kind_for_store("", Vllm()) == Vllm()
    assert kind_for_store("vllm 0.32.0") == Transformers()
    assert kind_for_store("openai", Vllm()) == OpenAI()
    with pytest.raises(UserError, match="these rollouts: unknown engine 'mine'"):
        kind_for_store("mine 3")


def test_several_engines_are_a_cluster():
    assert Cluster.of(Transformers(), "cpu") is None
    assert Cluster.of(Vllm(workers=2), "cuda", 0.5) == Cluster(2, None, 0.5, "cuda", Vllm(workers=2))
    kind = Transformers(workers=2, gpus_per_worker=1.0)
    assert Cluster.of(kind, "cuda", 0.5).gpus_per_worker == 1.0


PLUGIN = """
from dataclasses import dataclass

from prunebench.bench.engines.load import load_local
from prunebench.bench.engines.registry import EngineKind, engine
from prunebench.bench.engines.transformers.engine import TransformersEngine


class Cut(TransformersEngine):
    backend = "cut"

    def sample(self, requests, sampling, seed, recording=None, purpose="rollout"):
        for rollout in super().sample(requests, sampling, seed, purpose=purpose):
            for path in rollout.paths:
                path.token_ids = path.token_ids[: self.tokens]
            yield rollout


@engine
@dataclass(frozen=True, kw_only=True)
class CutKind(EngineKind):
    name = "cut"
    value = "tokens"

    tokens: int = 5

    def load(self, model, device, options):
        loaded = Cut.load(model, device)
        loaded.tokens = self.tokens
        return loaded
"""


def test_an_engine_is_added_from_a_single_file(prunebench, tmp_path, monkeypatch):
    for table in ("_entries", "_homes"):
        monkeypatch.setattr(ENGINES, table, dict(getattr(ENGINES, table)))
    plugin, out = tmp_path / "cut.py", tmp_path / "store"
    plugin.write_text(PLUGIN)
    command = ["rollouts", "--force", "--plugin", str(plugin), "--engine", "cut:7", "--task", "synthetic/power",
               "--problems", "1", "--n", "8", "--out", str(out)]  # fmt: skip
    done = prunebench(*command)
    assert done[0] == 0, done
    store = RolloutStore.open(out)
    assert store.manifest["engine"] == "cut"
    assert {length for paths in store.lengths().values() for length in paths} <= set(range(1, 8))
    plugin.write_text(PLUGIN.replace('name = "cut"', 'name = "vllm"'))
    assert "engine 'vllm' is taken by prunebench.bench.engines.kinds.vllm.Vllm; choose another name" in refused(
        prunebench(*command)
    )


PARROT = """
from dataclasses import dataclass

import numpy as np

from prunebench.bench.engines.base import NOTHING, Path, Rollout
from prunebench.bench.engines.registry import EngineKind, engine
from prunebench.bench.engines.served import ServedEngine
from prunebench.methods.signals import Signal


class Parrot(ServedEngine):
    backend = "parrot 1"

    def recordable(self, recording):
        return recording.only((Signal.LOGPROBS,))

    def sample(self, requests, sampling, seed, recording=NOTHING, purpose="rollout"):
        ids = np.array(self.tokenizer("12 + 3 = 15")["input_ids"])
        signals = {signal.name: np.zeros(len(ids), np.float32) for signal in recording.per_token}
        for request in requests:
            yield Rollout(request.problem, [Path(path, ids, "stop", signals) for path in request.paths])


@engine
@dataclass(frozen=True, kw_only=True)
class ParrotKind(EngineKind):
    name = "parrot"
    reads = False

    def load(self, model, device, options):
        return Parrot(model, options)
"""


def test_an_engine_that_only_samples_is_a_class_with_one_verb(prunebench, tmp_path, monkeypatch):
    """Methods that look from outside run on its paths, also from the store; what reads the model is refused."""
    for table in ("_entries", "_homes"):
        monkeypatch.setattr(ENGINES, table, dict(getattr(ENGINES, table)))
    plugin, run = tmp_path / "parrot.py", tmp_path / "run"
    plugin.write_text(PARROT)
    common = ["compare", "--force", "--plugin", str(plugin), "--set", "draws=0"]
    command = [*common, "--engine", "parrot", "--task", "synthetic/power", "--problems", "1", "--n", "8", "--out",
               str(run)]  # fmt: skip
    done = prunebench(*command, "--methods", "agreement")
    assert done[0] == 0, done
    assert RolloutStore.open(run / "rollouts").manifest["engine"] == "parrot 1"
    stored = [*common, "--store", str(run / "rollouts"), "--k", "2", "--prefix", "4", "--out", str(tmp_path / "out")]
    done = prunebench(*stored, "--methods", "agreement")
    assert done[0] == 0, done
    assert "method 'entropy' reads entropy: a server tells text" in refused(prunebench(*stored, "--methods", "entropy"))
    assert "parrot does not tell what a judge has to read" in refused(
        prunebench(*stored, "--judge", "thinkprm=parrot:embedded", "--methods", "thinkprm")
    )


def test_a_kind_from_a_file_is_known_in_another_process(tmp_path):
    plugin = tmp_path / "cut.py"
    plugin.write_text(PLUGIN)
    load_plugin(plugin)
    sent = pickle.dumps(parse_engine("cut:7,workers=2"))
    (tmp_path / "kind").write_bytes(sent)
    script = "import pickle, sys; print(pickle.loads(open(sys.argv[1], 'rb').read()))"
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "kind")], capture_output=True, text=True)
    assert done.stdout.startswith("CutKind(workers=2, address=None, gpus_per_worker=None, tokens=7)"), done.stderr
