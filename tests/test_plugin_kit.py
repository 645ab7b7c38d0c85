"""The plugin kit: pruners that are written, loaded and checked as files, and the page that says how."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

import prunebench.bench.plugins
from prunebench.bench.errors import UserError
from prunebench.bench.plugins import check_plugin, load_plugin, write_pruner
from prunebench.methods.base import Quadrant
from prunebench.methods.check import LEARNING_RULES, RULES
from prunebench.methods.examples import example_dataset, example_pool
from prunebench.methods.registry import PRUNERS
from tests.environment import Environment

PAGE = Path(__file__).parents[1] / "docs" / "add-a-pruner.md"
QUADRANTS = ["I", "II", "III", "IV"]

GOOD = """
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from prunebench.methods.base import MissingSignalError, Pruner, Signal, Source
from prunebench.methods.registry import pruner


@pruner
@dataclass
class Last(Pruner):
    name: ClassVar[str] = "last-token"
    source: ClassVar[Source] = Source.EXTERNAL
    requires: ClassVar[frozenset[Signal]] = frozenset({Signal.TOKEN_IDS})
    paper: ClassVar[str] = "a test"

    sign: float = 1.0

    def score(self, pool):
        return np.array([self.sign * float(ids[-1]) for ids in pool.token_ids])
"""


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """What a test registers is forgotten afterwards."""
    PRUNERS.names()
    monkeypatch.setattr(PRUNERS, "_entries", dict(PRUNERS._entries))
    monkeypatch.setattr(PRUNERS, "_homes", dict(PRUNERS._homes))
    return PRUNERS


@pytest.fixture
def plugin(tmp_path):
    def write(text: str, name: str = "plugin.py") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


# --- load ---


def test_a_file_registers_its_pruners_in_their_order(plugin):
    second = GOOD[GOOD.index("@pruner") :].replace("Last", "Again").replace("last-token", "again")
    entries = load_plugin(plugin(GOOD + "\n\n" + second))
    assert [entry.name for entry in entries] == ["last-token", "again"]
    assert [PRUNERS.get(entry.name) for entry in entries] == entries


def test_a_file_can_be_loaded_again_after_an_edit(plugin):
    (first,) = load_plugin(plugin(GOOD))
    (second,) = load_plugin(plugin(GOOD.replace("self.sign * float(ids[-1])", "-float(ids[-1])")))
    assert PRUNERS.get("last-token") is second is not first
    pool = example_pool()
    assert np.array_equal(second().score(pool), -first().score(pool))


def test_two_files_of_one_name_are_two_modules(plugin, tmp_path):
    (tmp_path / "other").mkdir()
    load_plugin(plugin(GOOD))
    load_plugin(plugin(GOOD.replace("last-token", "again"), "other/plugin.py"))
    assert {"last-token", "again"} <= set(PRUNERS.names())


FAULTS = {
    "syntax": (GOOD + "\ndef broken(:\n", r"plugin\.py:24: not valid Python \(.+\)"),
    "exception": (GOOD + "\n1 / 0\n", r"plugin\.py:24: cannot be imported \(ZeroDivisionError: division by zero\)"),
    "in a call": (
        "import json\n\n\ndef read():\n    return json.loads('{')\n\n\nread()\n",
        r"plugin\.py:5: cannot be imported \(JSONDecodeError: .+\)",
    ),
    "exit": ("import sys\n\nsys.exit('no licence')\n", r"plugin\.py:3: cannot be imported \(SystemExit: no licence\)"),
    "missing package": ("\nimport no_such_package\n", r"plugin\.py:2: cannot be imported \(ModuleNotFoundError: .+\)"),
    "no class": ("x = 1\n", r"plugin\.py:1: registers no pruner; write one that does with: prunebench new pruner NAME"),
    "no decorator": (
        GOOD.replace("@pruner\n", ""),
        r"plugin\.py:11: Last is not registered; put @pruner above @dataclass .+",
    ),
    "built-in": (
        GOOD.replace("last-token", "entropy"),
        r"plugin\.py:11: method 'entropy' is taken by prunebench\.methods\.confidence\.entropy\.Entropy; .+",
    ),
    "procedure": (
        GOOD.replace("last-token", "esc"),
        r"plugin\.py:11: the name 'esc' is taken by a built-in procedure; choose another name",
    ),
    "no name": (
        GOOD.replace('    name: ClassVar[str] = "last-token"\n', ""),
        r"plugin\.py:11: cannot be imported \(AttributeError: .+ 'name'\)",
    ),
    "other base": (
        "from prunebench.methods.registry import pruner\n\n\n@pruner\nclass Stranger:\n    name = 'stranger'\n",
        r"plugin\.py:4: cannot be imported \(TypeError: method 'stranger': Stranger is not a Pruner\)",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_one_sentence_with_file_and_line(fault, plugin):
    text, sentence = FAULTS[fault]
    with pytest.raises(UserError) as caught:
        load_plugin(plugin(text))
    assert re.fullmatch(rf".*{sentence}", str(caught.value))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_one_of_another_kind_are_refused(tmp_path, plugin):
    with pytest.raises(UserError, match=r"nowhere\.py: no such file; write one with: prunebench new pruner NAME"):
        load_plugin(tmp_path / "nowhere.py")
    with pytest.raises(UserError, match=r"must end in \.py"):
        load_plugin(plugin(GOOD, "plugin.txt"))


def test_the_name_of_an_installed_package_is_taken(plugin, monkeypatch, tmp_path):
    point = EntryPoint("last-token", "somewhere:Last", "prunebench.pruners")
    monkeypatch.setattr(
        prunebench.bench.plugins, "entry_points", lambda group: EntryPoints([point]).select(group=group)
    )
    with pytest.raises(UserError, match=r"plugin\.py:11: the name 'last-token' is taken by a package; choose another"):
        load_plugin(plugin(GOOD))
    with pytest.raises(UserError, match="the name 'last-token' is taken by a package"):
        write_pruner("last-token", "I", tmp_path)


# --- write ---


@pytest.fixture
def written(tmp_path):
    def write(quadrant: str):
        (entry,) = load_plugin(write_pruner("my-own", quadrant, tmp_path / quadrant))
        return entry

    return write


@pytest.mark.parametrize("quadrant", QUADRANTS)
def test_a_written_pruner_is_of_its_quadrant_and_conforms(quadrant, tmp_path):
    path = write_pruner("my-own", quadrant, tmp_path / "new")
    assert path == tmp_path / "new" / "my_own.py"
    reports = check_plugin(path)
    assert 3 <= len(reports) <= 9
    assert all(report.passed for report in reports), "\n".join(map(str, reports))
    entry = PRUNERS.get("my-own")
    assert entry.quadrant() is Quadrant(quadrant)
    assert entry.__name__ == "MyOwn"
    assert "FILL IN" in entry.__doc__


@pytest.mark.parametrize("quadrant", QUADRANTS)
def test_a_written_file_is_formatted_and_free_of_lint(quadrant, tmp_path):
    path = write_pruner("my-own", quadrant, tmp_path)
    settings = ["--config", str(PAGE.parents[1] / "pyproject.toml"), "--no-cache", str(path)]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, *settings], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_i_counts_distinct_words(written):
    kind, pool = written("I"), example_pool()
    for last in (0, 1, 5):
        words = [text.split(" ") for text in pool.text]
        expected = [len({*(row[-last:] if last else row)}) for row in words]
        assert kind(last=last).score(pool).tolist() == expected


def test_iii_is_the_mean_of_the_last_logprobs(written):
    kind, pool = written("III"), example_pool()
    for last in (1, 3, 99):
        expected = [sum(map(float, row[-last:])) / min(last, len(row)) for row in pool.logprobs]
        assert np.allclose(kind(last=last).score(pool), expected, rtol=1e-12)


def test_ii_minimises_the_soft_cross_entropy(written):
    train, pool = example_dataset(seed=1), example_pool(seed=9)

    def features(one):
        rows = []
        for text in one.text:  # the example's words are the letter t and a number: none is a bare number
            words = text.split(" ")
            rows.append([len(words), len(set(words)), 0, text.count("t")])
        return np.array(rows, float) - np.mean(rows, axis=0)

    x = np.concatenate([features(one.pool) for one in train])
    scale = x.std(0) + 1e-6
    x, strength = x / scale, 0.5

    def loss(weights):
        margin = x @ weights[:-1] + weights[-1]
        entropy = train.success * np.logaddexp(0, -margin) + (1 - train.success) * np.logaddexp(0, margin)
        return weights[:-1] @ weights[:-1] / 2 + strength * entropy.sum()

    weights = minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-8}).x
    fitted = written("II")(C=strength).fit(train, train)
    assert np.allclose(fitted.score(pool), features(pool) / scale @ weights[:-1], atol=1e-3)


def test_iv_is_ridge_regression(written):
    train, pool, ridge = example_dataset(seed=1), example_pool(seed=9), 0.3
    x = np.concatenate([one.pool.hidden_state(2) - one.pool.hidden_state(2).mean(0) for one in train]).astype(float)
    y = np.concatenate([one.success - one.success.mean() for one in train])
    scale = x.std(0)
    # Ridge as ordinary least squares: one row sqrt(ridge * n) per weight, with target 0.
    above = np.vstack([x / scale, np.sqrt(ridge * len(x)) * np.eye(x.shape[1])])
    weights = np.linalg.lstsq(above, np.concatenate([y, np.zeros(x.shape[1])]), rcond=None)[0]
    test = (pool.hidden_state(2) - pool.hidden_state(2).mean(0)) / scale
    fitted = written("IV")(layer=2, ridge=ridge).fit(train, train)
    assert np.allclose(fitted.score(pool), test @ weights, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("late-doubt", "LateDoubt"), ("3gram", "My3gram"), ("true", "MyTrue"), ("pool", "MyPool"), ("c", "MyC"),
     ("learnable-pruner", "MyLearnablePruner"), ("v2.1-judge", "V21Judge")],
)  # fmt: skip
def test_every_name_gives_a_class_name_that_hides_nothing(name, kind, tmp_path):
    (entry,) = load_plugin(write_pruner(name, "II", tmp_path))
    assert (entry.name, entry.__name__) == (name, kind)


@pytest.mark.parametrize("name", ["Late-Doubt", "late_doubt", "-late", "late--doubt", "", "späte", "../x", "a b"])
def test_a_malformed_name_is_refused(name, tmp_path):
    with pytest.raises(UserError, match="is no name for a pruner: use lower-case words joined by hyphens"):
        write_pruner(name, "I", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "owner"), [("stop", "a registered method"), ("esc", "a built-in procedure")])
def test_a_taken_name_is_refused(name, owner, tmp_path):
    with pytest.raises(UserError, match=f"the name '{name}' is taken by {owner}; choose another name"):
        write_pruner(name, "I", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("quadrant", ["V", "control", "mixed", "1", "iii"])
def test_another_quadrant_is_refused(quadrant, tmp_path):
    with pytest.raises(UserError, match=f"quadrant '{quadrant}': choose I, II, III, IV"):
        write_pruner("my-own", quadrant, tmp_path)


def test_a_file_is_never_overwritten(tmp_path):
    (tmp_path / "my_own.py").write_text("mine\n")
    with pytest.raises(UserError, match=r"my_own\.py exists and is left as it is"):
        write_pruner("my-own", "I", tmp_path)
    assert (tmp_path / "my_own.py").read_text() == "mine\n"


# --- check ---


def test_a_report_says_what_was_checked_and_what_passed(plugin):
    (report,) = check_plugin(plugin(GOOD))
    assert (report.name, report.configuration, report.passed) == ("last-token", "sign=1.0", True)
    assert report.checked == RULES
    assert str(report) == "ok    last-token (sign=1.0): 10 rules hold"


def test_every_configuration_is_checked_once(plugin):
    configurations = """
    @classmethod
    def configurations(cls, setting):
        return [cls(1.0), cls(float("nan") if setting.prefix_tokens == 12 else 2.0)]
"""
    good, faulty = check_plugin(plugin(GOOD + configurations))
    assert good.passed
    assert not faulty.passed
    assert any("survive JSON" in failure for failure in faulty.failures)
    assert str(faulty).startswith("FAIL  last-token (sign=nan):\n  - ")


def test_learning_rules_count_for_what_learns(tmp_path):
    assert check_plugin(write_pruner("my-own", "IV", tmp_path))[0].checked == (*RULES, *LEARNING_RULES)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("float(ids[-1])", "np.log(0.0)", "gives NaN or infinity"),
        ("sign: float = 1.0", "sign: float", "Every hyper-parameter needs a default"),
        ('"last-token"', '"Last Token"', "'name' must be lower-case words joined by hyphens"),
        ("    def score", "    @classmethod\n    def configurations(cls, setting):\n        1 / 0\n\n    def score",
         "raised ZeroDivisionError"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_fault_is_one_sentence_of_the_report(old, new, sentence, plugin):
    (report,) = check_plugin(plugin(GOOD.replace(old, new)))
    assert not report.passed
    assert any(sentence in failure for failure in report.failures)
    assert sentence in str(report)


def test_what_asks_the_model_is_checked_on_the_embedded_reasoner(plugin):
    head, _, _ = GOOD.partition("    sign:")
    cache = head.replace("TOKEN_IDS", "KV_CACHE") + (
        "    def score(self, pool):\n        return pool.kv().layers[-1][0].double().abs().mean((1, 2, 3)).numpy()\n"
    )
    probe = head[head.index("@pruner") :].replace("TOKEN_IDS", "PROBE").replace("Last(", "Sure(") + (
        "    def score(self, pool):\n        return pool.opinion()[:, 0]\n"
    )
    reports = check_plugin(plugin(cache + "\n\n" + probe.replace("last-token", "sure")))
    assert [(report.name, report.passed, report.skipped) for report in reports] == [
        ("last-token", True, None),
        ("sure", True, None),
    ], "\n".join(map(str, reports))
    peeping = cache.replace("pool.kv()", "(pool.opinion(), pool.kv())[1]").replace("last-token", "peeping")
    (report,) = check_plugin(plugin(peeping, "peeping.py"))
    assert any("reads 'probe' beyond what is there; it declares kv_cache" in failure for failure in report.failures)


def test_a_judge_without_its_model_is_not_passed(plugin):
    judge = (
        GOOD.replace("class Last(Pruner)", "class Last(PretrainedJudge)")
        .replace("import MissingSignalError, Pruner", "import PretrainedJudge")
        .replace("    sign: float = 1.0\n", '    role: ClassVar[str] = "no-such-role"\n    model: str = "embedded"\n')
        .replace("self.sign * ", "")
    )
    (report,) = check_plugin(plugin(judge))
    assert not report.passed
    assert "the scores were not checked: method 'last-token': the shipped judge" in str(report)


# --- the page ---


def test_every_snippet_of_the_page_runs_in_its_order(tmp_path):
    environment = Environment(tmp_path / "environment")
    environment.link(PAGE.parents[1])
    work = tmp_path / "work"
    work.mkdir()
    shown = []
    for language, snippet in re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(), flags=re.S | re.M):
        named = re.match(r"# (\S+\.\w+)\n", snippet)
        if named:  # its first line is the name of the file that the reader writes
            (work / named[1]).parent.mkdir(exist_ok=True)
            (work / named[1]).write_text(snippet)
        if language in ("shell", "python"):
            program = ["python", "-c"] if language == "python" else ["bash", "-e", "-u", "-c"]
            done = environment.run(*program, snippet, cwd=work)
            assert done.returncode == 0, f"{snippet}\n{done.stdout}\n{done.stderr}"
            shown.append(done.stdout)
    output = "".join(shown)
    assert output.count("rules hold") == 4 + 4
    assert "FAIL" not in output
    assert "| late-doubt | III | no | entropy |" in shown[-1]
    for folder, name in (("compared", "late-doubt"), ("trained", "text-shape")):
        with (work / folder / "main_table.csv").open() as file:
            assert {row["method"] for row in csv.DictReader(file)} == {name, "none", "random"}
