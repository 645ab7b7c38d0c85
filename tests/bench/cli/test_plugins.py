"""Pruners of one's own through the command line: trained, edited, compared."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path

import pytest

from prunebench.bench.engines.shipped import REASONERS
from prunebench.bench.evaluation.results import Results
from prunebench.bench.training.cards import Card
from prunebench.methods.registry import PRUNERS
from tests.bench.conftest import refused

BASE = REASONERS["embedded-base"]
PLUGIN = '''
"""A line through the length of the text."""

from dataclasses import dataclass

import numpy as np
from safetensors.numpy import load_file, save_file

from prunebench.methods.base import LearnablePruner, Signal, Source
from prunebench.methods.registry import pruner


@pruner
@dataclass
class Line(LearnablePruner):
    """Longer or shorter texts."""

    name = "line"
    source = Source.EXTERNAL
    requires = frozenset({Signal.TEXT})
    paper = "tests"
    pointwise = True

    def features(self, pool):
        return np.array([[float(len(text)), 1.0] for text in pool.text])

    def fit(self, train, validation):
        features = np.concatenate([self.features(labelled.pool) for labelled in train])
        self.weights_ = np.linalg.lstsq(features, train.success, rcond=None)[0]
        return self

    def score(self, pool):
        return self.features(pool) @ self.weights_

    def save(self, path):
        save_file({"weights": self.weights_}, str(path))

    def load(self, path):
        self.weights_ = load_file(str(path))["weights"]
        return self
'''


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """What a test registers is forgotten afterwards."""
    PRUNERS.names()
    monkeypatch.setattr(PRUNERS, "_entries", dict(PRUNERS._entries))
    monkeypatch.setattr(PRUNERS, "_homes", dict(PRUNERS._homes))


@pytest.fixture
def plugin(tmp_path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN)
    return path


def test_a_training_is_done_again_when_the_code_has_changed_and_only_then(prunebench, plugin, tmp_path):
    (data,) = (BASE.home / "data").iterdir()
    train = ("train", "line", "--plugin", plugin, "--model", BASE.name, "--data", data, "--set", "prefix=120",
             "--out", tmp_path / "learned")  # fmt: skip
    compare = ("compare", "--store", BASE.rollouts, "--plugin", plugin, "--methods", "line,none", "--learned",
               tmp_path / "learned")  # fmt: skip
    code, said, err = prunebench(*train)
    assert code == 0 and "line: validation AUROC" in said, err
    before = Card.read(tmp_path / "learned" / "line.json")
    assert set(before.prefixes) == {60, 120, 240} and before.tuned_at == 120

    plugin.write_text(PLUGIN.replace("Longer or shorter texts.", "Another text.") + "# a comment\n")
    began = time.perf_counter()
    _, said, _ = prunebench(*train)
    assert said == f"line: already trained, nothing done (validation AUROC {before.validation_auroc:.3f})\n"
    assert time.perf_counter() - began < 1

    plugin.write_text(PLUGIN.replace("float(len(text))", "float(text.count('='))"))
    sentence = refused(prunebench(*compare))
    assert "line.json: the code of 'line' has changed since it was trained" in sentence
    command = sentence.partition("train again: ")[2]
    assert f"--data {data} --model {BASE.name} --set prefix=120 --out {tmp_path / 'learned'}" in command
    _, said, _ = prunebench(*shlex.split(command)[1:])
    assert "line: validation AUROC" in said, "the whole command"
    after = Card.read(tmp_path / "learned" / "line.json")
    assert after.key != before.key and after.validation_auroc != before.validation_auroc
    assert json.loads((tmp_path / "learned" / "line.json").read_text())["code"] == after.code


def test_the_hint_to_train_is_a_whole_command_that_works(prunebench, plugin, tmp_path):
    compare = ("compare", "--store", BASE.rollouts, "--plugin", plugin, "--methods", "line,none", "--prefix", 120)
    sentence = refused(prunebench(*compare))
    command, named = sentence.partition("train it: ")[2].split(", and name its folder: ")
    assert named == "--learned runs/learned" and "--model embedded-base --set prefix=120" in command
    code, said, err = prunebench(*shlex.split(command)[1:])
    assert code == 0 and "line: validation AUROC" in said, err
    assert (tmp_path / "runs" / "learned" / "line.json").exists()


def test_versus_rebuild_figures_and_report_work_without_the_plugin(prunebench, plugin, source, tmp_path, monkeypatch):
    plugin.write_text(PLUGIN.replace("LearnablePruner", "Pruner").replace("@ self.weights_", "@ np.array([1.0, 0.0])"))
    prunebench("import", "plain", source, "--out", "store")
    compare = ("compare", "--store", "store", "--prefix", 4, "--plugin", "./mine.py", "--methods", "line,length,none")
    assert prunebench(*compare, "--out", "made")[0] == 0
    monkeypatch.setattr(PRUNERS, "_entries", {n: e for n, e in PRUNERS._entries.items() if n != "line"})
    code, said, _ = prunebench("rebuild", "made", "--out", "again")
    assert code == 0 and "every number equals that of made" in said
    for run in ("made", "again"):
        code, said, watched = prunebench("versus", run, "line", "length")
        assert "grading methods" in watched and "…" not in said and len(said.splitlines()[2]) > 80, "no terminal: wide"
        assert (
            code == 0
            and "a method minus the other" in said
            and "not established: 8 problems are the fewest" in " ".join(said.split())
        )
    assert "line is held against itself" in refused(prunebench("versus", "made", "line", "line"))
    code, said, _ = prunebench("figures", "again", "score_quality", "taxonomy")
    assert code == 0 and "score_quality.png" in said
    assert "line,I,False,False" in (tmp_path / "again" / "figures" / "taxonomy.csv").read_text()
    assert prunebench("report", "again")[0] == 0
    results = Results.read(tmp_path / "made" / "results.json")
    assert results.setup["plugins"] == [str(plugin.resolve())]
    for name in (plugin, "mine.py", "./mine.py"):
        code, said, _ = prunebench("rebuild", "--sampling", "made", "--trust", name, "--out", "third")
        assert code == 0 and "reproduced" in said


def test_ten_differences_and_a_count_are_told(prunebench, source, tmp_path):
    prunebench("import", "plain", source, "--out", "store")
    prunebench("compare", "--store", "store", "--prefix", 4, "--methods", "length,none", "--out", "made")
    file = tmp_path / "made" / "results.json"
    content = json.loads(file.read_text())
    for row in content["rows"]:
        row["metrics"] = {name: {**value, "mean": 1.5} for name, value in row["metrics"].items()}
    file.write_text(json.dumps(content))
    code, said, _ = prunebench("rebuild", "made", "--out", "again")
    *shown, more, count = said.splitlines()
    assert code == 1 and len(shown) == 10 and count.startswith("NOT rebuilt: ")
    assert more == f"... and {int(count.split()[2]) - 10} more"


def test_a_plugin_that_crashes_on_one_problem_is_one_sentence(prunebench, plugin, source, tmp_path):
    text = PLUGIN.replace("LearnablePruner", "Pruner").replace("@ self.weights_", "@ np.array([1.0, 0.0])")
    crash = "        if pool.problem == 'q1':\n            return pool.nothing\n        return self.features"
    plugin.write_text(text.replace("        return self.features", crash))
    line = plugin.read_text().splitlines().index("            return pool.nothing") + 1
    prunebench("import", "plain", source, "--out", "store")
    compare = ("compare", "--store", "store", "--prefix", 4, "--plugin", plugin, "--out", "made")
    for methods, told in (("line,none", "line"), ("mean-rank(line,length),none", "mean-rank"), ("all", "line")):
        code, _, err = prunebench(*compare, "--methods", methods)
        (sentence,) = [said for said in err.splitlines() if said.startswith("prunebench: ")]
        assert code == 1 and "Traceback" not in err
        assert f"{plugin}:{line}: method '{told}' failed on mine/q1 (AttributeError: 'Pool' object has no" in sentence
        assert not (tmp_path / "made" / "results.json").exists()
    plugin.write_text(text.replace("return self.features(pool)", "return np.nan * self.features(pool)"))
    code, _, err = prunebench(*compare, "--methods", "line,none")
    assert code == 1 and "method 'line' failed on mine/q0 (ValueError: " in err


def test_a_row_that_was_asked_for_and_cannot_be_had_is_an_error(prunebench, source, tmp_path):
    prunebench("import", "plain", source, "--out", "store")
    compare = ("compare", "--store", "store", "--prefix", 4, "--out", "made", "--methods")
    sentence = refused(prunebench(*compare, "entropy,none"))
    assert "entropy has no row: entropy needs the signal 'entropy', which mine/q0 does not hold for all" in sentence
    sentence = refused(prunebench(*compare, "potential,none"))
    assert "potential has no row: Monte Carlo labels need the model that sampled the rollouts" in sentence
    assert not (tmp_path / "made" / "results.json").exists()
    assert prunebench(*compare, "all")[0] == 0, "of all methods those that can"


def test_a_plugin_is_swept(prunebench, plugin, tmp_path):
    (data,) = (BASE.home / "data").iterdir()
    model = ("--model", BASE.name, "--data", data, "--set", "prefix=120")
    assert prunebench("train", "line", "--plugin", plugin, *model, "--out", "learned")[0] == 0
    grid = [option for pair in ("prefix=120", "budget=4k,8k", "problems=2", "draws=2") for option in ("--set", pair)]
    swept = ("--methods", "line,random", "--learned", "learned", *grid, "--out", "sweep")
    code, said, err = prunebench("sweep", "--store", BASE.rollouts, "--plugin", plugin, *swept)
    assert code == 0 and "in sweep: sweep.json" in said, err
    assert "line," in (tmp_path / "sweep" / "sweep.csv").read_text()
    plugin.write_text(PLUGIN.replace("float(len(text))", "float(text.count('='))"))
    sentence = refused(prunebench("sweep", "--store", BASE.rollouts, "--plugin", plugin, *swept))
    assert "the code of 'line' has changed since it was trained" in sentence


def test_where_a_learned_method_was_tuned_and_from_how_much_stands_on_the_screen(prunebench):
    options = ("--methods", "text-classifier,none", "--n", 8, "--k", 2, "--problems", 2, "--set", "draws=0")
    code, said, err = prunebench("compare", "--store", BASE.rollouts, *options, "--prefix", 90)
    assert code == 0, err
    told = " ".join(said.split())
    assert "text-classifier: tuned at 120 tokens, checked at 90 tokens" in told, "between its lengths, and still told"
    assert "trained on 122 problems: text-classifier" in told
    _, said, _ = prunebench("compare", "--store", BASE.rollouts, *options, "--prefix", 120)
    assert "tuned at" not in said
