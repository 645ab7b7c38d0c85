"""Each of seven kinds is added from a single file outside the package, and one command shows all of them at work."""

from __future__ import annotations

import csv
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pyarrow.parquet import read_table

from prunebench.bench.rollouts.store import RolloutStore
from prunebench.tasks.catalogue import get

FILES = {
    "vote": """
from dataclasses import dataclass

from prunebench.bench.policies.votes import Vote, vote


@vote
@dataclass(frozen=True)
class LowestScore(Vote):
    name = "lowest-score"
    reads = "score"

    def weights(self, evidence):
        return (evidence == evidence.min()).astype(float)
""",
    "metric": """
from prunebench.bench.evaluation.columns import metric
from prunebench.bench.evaluation.formats import number


@metric("wrong_at_k", "wrong@k", lambda value: number(value.mean, 2))
def wrong_at_k(cell):
    return cell.interval(100 - 100 * cell.method.avg)
""",
    "policy": """
from dataclasses import dataclass

import numpy as np

from prunebench.bench.policies.contract import Decision, Policy, policy


@policy
@dataclass(frozen=True)
class FirstPaths(Policy):
    kind = "first"
    example = "first:2"

    count: int = 2

    def checkpoints(self, position):
        return (position,)

    def decide(self, history):
        return Decision(np.arange(len(history[-1].scores)) < self.count)
""",
    "engine": """
from dataclasses import dataclass

from prunebench.bench.engines.registry import EngineKind, engine
from prunebench.bench.engines.transformers.engine import TransformersEngine


class Brief(TransformersEngine):
    backend = "brief"


@engine
@dataclass(frozen=True, kw_only=True)
class BriefKind(EngineKind):
    name = "brief"

    def load(self, model, device, options):
        return Brief.load(model, device)
""",
    "signal": """
from prunebench.methods.signals import signal


@signal("next_best", "log-probability of the token that came second, in nats")
def next_best(logprobs, tokens):
    return logprobs.topk(2, dim=-1).values[:, 1]
""",
    "figure": """
from matplotlib.figure import Figure

from prunebench.figures.registry import Drawing, figure


@figure("lengths", "How many problems there are per task.")
def lengths(run):
    picture = Figure(figsize=(2, 1))
    picture.add_axes((0, 0, 1, 1)).bar(list(run.results.problems), [len(ids) for ids in run.results.problems.values()])
    return Drawing(picture, "".join(f"{task},{len(ids)}\\n" for task, ids in run.results.problems.items()))
""",
    "answer_type": """
from prunebench.tasks.answer_types import AnswerType, answer_type
from prunebench.tasks.grading import Verdict


@answer_type
class LastDigit(AnswerType):
    name = "last-digit"

    def accepts(self, gold):
        return gold.isdecimal()

    def equal(self, answer, gold):
        return Verdict(answer[-1:] == gold[-1:], "last-digit 1")
""",
}
"""What somebody writes, per kind."""


@dataclass(frozen=True)
class Written:
    """The run that all seven took part in."""

    out: Path

    def rows(self, table: str) -> list[dict[str, str]]:
        with (self.out / f"{table}.csv").open() as stream:
            return list(csv.DictReader(stream))

    @property
    def kept_by_entropy(self) -> list[dict[str, Any]]:
        rows = read_table(self.out / "decisions.parquet").to_pylist()
        return [row for row in rows if row["method"] == "entropy" and row["kept"]]

    @property
    def store(self) -> RolloutStore:
        return RolloutStore.open(self.out / "rollouts")


def prunebench(*words: str, cwd: Path) -> None:
    """In a process of its own: what is added there is not added here."""
    done = subprocess.run(
        [sys.executable, "-m", "prunebench.bench.cli", *words], capture_output=True, text=True, cwd=cwd
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extended")
    (folder / "added").mkdir()
    for kind, text in FILES.items():
        (folder / "added" / f"{kind}.py").write_text(text)
    problems = get("synthetic/power").problems("test", 2)
    with (folder / "problems.csv").open("w") as stream:
        csv.writer(stream).writerows([("question", "answer"), *((p.prompt, p.answer) for p in problems)])
    task = {"name": "digits", "data": "problems.csv", "answer_type": "last-digit", "prompt": "{problem}"}
    (folder / "digits.yaml").write_text(yaml.safe_dump(task))
    prunebench(
        "compare", *(f"--plugin=added/{kind}.py" for kind in FILES), "--task=digits.yaml", "--engine=brief",
        "--policy=first:7", "--set=vote=lowest-score", "--set=record=next_best,entropy", "--set=draws=0",
        "--methods=random,entropy", "--n=8", "--out=out", cwd=folder,
    )  # fmt: skip
    return Written(folder / "out")


def test_a_vote(run):
    """It is a row of the votes, and what the main table elects by."""
    assert "lowest-score" in {row["vote"] for row in run.rows("vote_table")}
    lowest = {}
    for row in sorted(run.kept_by_entropy, key=lambda row: -row["score"]):
        lowest[row["problem"]] = row["path"]
    right = sum(problem.paths[lowest[problem.problem]].correct is True for problem in run.store.read())
    (entropy,) = (row for row in run.rows("main_table") if row["method"] == "entropy")
    assert float(entropy["maj_at_k"]) == 50 * right


def test_a_metric(run):
    for row in run.rows("main_table"):
        assert float(row["wrong_at_k"]) == pytest.approx(100 - float(row["avg_at_k"]), abs=1e-3)
        assert row["wrong_at_k_low"] == row["avg_at_k_high"] == "nan", "of so few problems"
    assert "wrong@k" in (run.out / "main_table.md").read_text()


def test_a_policy(run):
    assert [row["path"] for row in run.kept_by_entropy] == 2 * list(range(7))


def test_an_engine(run):
    assert run.store.manifest["engine"] == "brief"


def test_a_signal(run):
    for path in (path for problem in run.store.read() for path in problem.paths):
        assert set(path.signals) == {"next_best", "entropy"}
        assert path.signals["next_best"].shape == (path.length,)
        assert (path.signals["next_best"] <= np.log(0.5)).all()


def test_an_answer_type(run):
    graded = [(path, problem.gold) for problem in run.store.read() for path in problem.paths if path.answer]
    assert graded and {path.grader for path, _ in graded} == {"last-digit 1"}
    assert all(path.correct == (path.answer[-1] == gold[-1]) for path, gold in graded)


def test_a_figure(run):
    prunebench("figures", "out", "--plugin=added/figure.py", "lengths", cwd=run.out.parent)
    assert (run.out / "figures" / "lengths.csv").read_text() == "digits,2\n"
    assert (run.out / "figures" / "lengths.svg").exists()
