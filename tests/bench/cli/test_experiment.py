"""The way of a practitioner: the commands of docs/own-dataset.md, and what is told when they go wrong."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from prunebench.bench.engines.shipped import REASONERS
from prunebench.bench.evaluation.results import Results
from prunebench.bench.guideline.recommendation import Recommendation
from tests.bench.conftest import refused

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "own-dataset.md").read_text()


def commands(document):
    """The lines of the fenced blocks without a language."""
    lines, inside = [], None
    for line in document.splitlines():
        if line.startswith("```"):
            inside = line[3:] if inside is None else None
        elif inside == "":
            lines.append(line)
    return lines


COMMANDS = commands(DOCUMENT)
README = commands((ROOT / "README.md").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A newcomer's folder: the examples are where the repository is."""
    place = tmp_path_factory.mktemp("newcomer")
    (place / "examples").symlink_to(ROOT / "examples")
    return place


def test_the_readme_has_the_same_way():
    same = [line for line in README if any(f" {name} " in line for name in ("new", "check", "advise"))]
    assert len(same) == 2 and same == [line for line in COMMANDS[:4] if line in same]


def test_the_commands_of_the_document_lead_to_a_recommendation(prunebench, folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("prunebench.bench.cli.trial._PILOT_SECONDS", 30.0)
    assert [command.split()[1] for command in COMMANDS] == [
        "new", "check", "advise", "advise", "solve", "solve", "compare",
    ]  # fmt: skip
    for number, command in enumerate(COMMANDS):
        small = ["--set", "n=8"] if " advise " in command else []
        if " solve " in command:
            small = ["--set", "limit=2", "--out", f"solved{number}"]
        code, out, err = prunebench(*shlex.split(command)[1:], *small)
        assert code == 0, (command, err)
        if command.endswith("--plan-only"):
            assert "27 problems x 8 paths = 216 paths of expected" in out and not (folder / "runs").exists()
        elif " advise " in command:
            assert "PRUNE" in out and "shipped for embedded and not trained again: stop, step, text-classifier" in out
            assert "validation AUROC" not in out
            table = shlex.split(out.splitlines()[-1])
    advice = Recommendation.read(folder / "runs/advice/recommendation.json")
    assert advice.problems == 27 and advice.stored_paths == 8 and advice.candidates == 3 * 8
    swept = "stop,step,text-classifier,entropy,self-certainty,deepconf,perplexity,margin,random,none"
    assert table[:8] == [
        "prunebench",
        "compare",
        "--store",
        "runs/advice/rollouts",
        "--methods",
        swept,
        "--prefix",
        "40",
    ]
    code, out, err = prunebench(*table[1:])
    rows = Results.read(folder / "runs/advice/table/results.json").rows
    assert code == 0 and {row.k for row in rows if row.method == "step"} == {round(advice.choice.gamma * 8)}, err
    repeated = prunebench("advise", "--task", "sums.yaml", "--set", "n=8")[1]
    assert all(line in repeated for line in advice.lines()), "nothing is made again, and nothing changes"


@pytest.fixture
def five(tmp_path, monkeypatch):
    """A task of five problems of the shipped reasoner."""
    with (ROOT / "examples/own-dataset/problems.csv").open() as stream:
        rows = list(csv.DictReader(stream))[:5]
    (tmp_path / "five.jsonl").write_text("\n".join(map(json.dumps, rows)))
    spec = {"name": "five", "data": "five.jsonl", "answer_type": "integer", "prompt": "{problem} \n\n",
            "answer_suffix": "\n\n \\boxed{", "splits": {"train": 0.4, "validation": 0.2, "test": 0.4}}  # fmt: skip
    (tmp_path / "five.yaml").write_text(yaml.safe_dump(spec))
    return spec


def test_five_problems_of_another_model_work_and_conclude_nothing(prunebench, five, tmp_path):
    shutil.copytree(REASONERS["embedded"].weights, tmp_path / "mine")
    code, out, _ = prunebench(
        "advise", "--task", "five.yaml", "--model", "mine", "--methods", "step,text-classifier,entropy,random",
        "--set", "n=8", "--set", "temperature=0.8",
    )  # fmt: skip
    assert code == 0
    assert "2 training problems are too few to learn from; not trained: step, text-classifier" in out
    assert "2 problems are too few to conclude anything" in out and "PRUNE" not in out
    table = shlex.split(out.splitlines()[-1])
    assert "entropy,random,none" in table and "runs/advice/training" in table
    assert prunebench(*table[1:])[0] == 0, "what was not trained is not in it"


def test_an_own_task_keeps_its_definition_with_its_paths(prunebench, five, tmp_path):
    arguments = ("rollouts", "--task", "five.yaml", "--n", "8", "--out", "store")
    assert prunebench(*arguments)[0] == 0
    (tmp_path / "five.yaml").rename(tmp_path / "moved.yaml")
    code, out, _ = prunebench("compare", "--store", "store", "--methods", "entropy,none")
    assert code == 0 and "five" in out, "graded from what the store keeps"
    assert prunebench("label", "store", "--prefix", "20", "--continuations", "2", "--out", "labels")[0] == 0
    (tmp_path / "five.yaml").write_text(yaml.safe_dump({**five, "answer_type": "math"}))
    assert "task 'five' was another one when its paths were sampled" in refused(prunebench(*arguments))


def test_an_edited_task_is_refused_before_its_trial(prunebench, five, tmp_path, monkeypatch):
    arguments = ("--task", "five.yaml", "--set", "n=8")
    assert prunebench("rollouts", *arguments, "--out", "advice/rollouts")[0] == 0
    (tmp_path / "five.yaml").write_text(yaml.safe_dump({**five, "splits": {"test": 1.0}}))
    monkeypatch.setattr("prunebench.bench.cli.trial.Pilot.of", None)
    said = refused(prunebench("advise", *arguments, "--methods", "entropy", "--out", "advice"))
    assert "task 'five' was another one when its paths were sampled" in said


def test_a_preset_is_run_to_its_report(prunebench, five, tmp_path):
    (tmp_path / "small.yaml").write_text("extends: base.yaml\nn: 8\n")
    settings = {"tasks": ["five.yaml"], "model": "embedded", "n": 4, "k": 2, "prefix_tokens": 20, "temperature": 0.8,
                "max_new_tokens": 300, "methods": ["entropy", "perplexity", "none", "random"]}  # fmt: skip
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(settings))
    code, out, err = prunebench("run", "small.yaml", "--out", "whole")
    assert code == 0, err
    assert {"results.json", "report.html", "sweep", "rollouts"} <= {
        path.name for path in (tmp_path / "whole").iterdir()
    }
    assert "no guideline of entropy: " in out


def test_a_model_that_is_not_shipped_is_labelled_and_trained_for_first(prunebench, tmp_path, monkeypatch):
    """The shipped weights in a folder of another name are a foreign model: nothing is known about it."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)  # a process labels for training, another for validation
    shutil.copytree(REASONERS["embedded"].weights, tmp_path / "mine")
    rows = (ROOT / "examples/own-dataset/problems.csv").read_text().splitlines(keepends=True)
    (tmp_path / "problems.csv").write_text("".join(rows[:31]))
    spec = {"name": "sums", "data": "problems.csv", "answer_type": "integer", "prompt": "{problem} \n\n",
            "answer_suffix": "\n\n \\boxed{", "splits": {"train": 0.4, "validation": 0.1, "test": 0.1}}  # fmt: skip
    (tmp_path / "sums.yaml").write_text(yaml.safe_dump(spec))
    settings = {"tasks": ["sums.yaml"], "model": "mine", "n": 8, "k": 2, "prefix_tokens": 30, "temperature": 0.8,
                "max_new_tokens": 500, "recipe": "small",
                "methods": ["linear-probe", "entropy", "none", "random", "potential"]}  # fmt: skip
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(settings))
    code, out, err = prunebench("run", "own.yaml", "--out", "whole")
    assert code == 0, err
    results = Results.read(tmp_path / "whole/results.json")
    rows = {row.method: row for row in results.rows}
    assert set(rows) == set(settings["methods"]) and results.left_out == {}
    assert len(results.splits["train"]) > 8 and not set(results.splits["train"]) & set(results.problems["sums"])
    assert "linear-probe: validation AUROC" in out and (tmp_path / "whole/report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("new", "task", "x"), "name the file with the problems: --data FILE"),
        (("new", "task", "x", "--data", "nothing.csv"), "nothing.csv: no such file"),
        (("check", "nothing.yaml"), "nothing.yaml: no such file; write one with: prunebench new task"),
        (("check", "aime42"), "unknown task 'aime42': did you mean 'aime25' or 'aime24'"),
        (("check", "five.yaml", "--data", "six=five.jsonl"), "--data six=...: no task of this run is called so"),
        (("advise", "--task", "five.yaml", "--prefix", "2000"), "--prefix 2000: paths end at 900 tokens at the latest"),
        (("advise", "--task", "five.yaml", "--methods", "entrpy"), "unknown method 'entrpy': did you mean 'entropy'"),
        (
            ("run", "paper/ds-qwen-1.5", "--plan-only"),
            "unknown preset 'paper/ds-qwen-1.5'; did you mean 'paper/ds-qwen-1.5b'?",
        ),
        (("run", "nothing"), "unknown preset 'nothing'"),
        (("run", "demo", "--set", "speed=3000"), "--set speed=3000: a plan counts with it; add --plan-only, or leave"),
        (("new", "tsk", "x"), "nothing is called 'tsk': write task, python-task or pruner"),
        (("new", "pruner", "x", "--data", "p.csv"), "--data: a new pruner makes no use of it; leave it out"),
        (("new", "python-task", "x", "--set", "answer=a"), "--set: a new python-task makes no use of it; leave it out"),
        (("new", "task", "x", "--quadrant", "II"), "--quadrant: a new task makes no use of it; leave it out"),
        (("check", "--model", "embedded"), "--model: only a task is looked at with it; leave it out"),
        (("check", "pruner.py", "--data", "x"), "--data: only a task is looked at with it; leave it out"),
        (("check", "pruner.py"), "pruner.py: no such file; write one with: prunebench new pruner NAME"),
        (
            ("check", "five.yaml", "--set", "dtype=auto"),
            "--set dtype=auto: the options of a model; name it with --model",
        ),
        (("compare", "--task", "synthetic-lon"), "unknown task 'synthetic-lon'"),
    ],
)
def test_mistakes_are_told_in_one_sentence(prunebench, five, arguments, sentence):
    assert sentence in refused(prunebench(*arguments))


def test_a_plan_of_the_paper_needs_neither_model_nor_network(prunebench):
    code, out, _ = prunebench(
        "run", "paper/ds-qwen-1.5b", "--plan-only", "--set", "speed=3000", "--set", "mean_tokens=12000"
    )
    assert code == 0 and out.splitlines()[:3] == [
        "318 problems x 64 paths = 20,352 paths of expected 12,000 tokens each",
        "at 3,000 tokens/s:",
        "  rollouts for a replay (all paths to their end): 244,224,000 tokens, 22.6 device-hours",
    ]
    # 64 * 12,000 tokens and 64 * 2,048 + 8 * 9,952 tokens of 28,672 bytes
    assert out.splitlines()[-1] == "key-value cache per pool: 21,000 MiB uncut, 5,761 MiB after the cut"


def test_a_plan_of_a_task_that_has_nothing_to_learn_from(prunebench):
    code, out, _ = prunebench("run", "--task", "aime24", "--plan-only", "--set", "speed=3000")
    assert code == 0 and out.startswith("30 problems x 64 paths") and "training" not in out


def test_a_question_in_two_splits_is_refused_by_the_examination_too(prunebench, tmp_path):
    (tmp_path / "p.csv").write_text("question,answer,fold\na?,1,x\na?,1,y\n")
    spec = {"name": "two", "data": "p.csv", "split_field": "fold", "splits": {"train": "x", "test": "y"}}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(spec))
    assert "there in split 'train' and here in 'test'" in refused(prunebench("check", "two.yaml"))
