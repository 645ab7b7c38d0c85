from __future__ import annotations

import json

import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.importers.contract import Options
from prunebench.bench.rollouts.importers.matrix import read

PROBLEMS = [
    {
        "gold_answer": "025",
        "probe_freq": 500,
        "each_branch": [[["1", "25"], 1100, "25"], [["", None], 1400, ""], [[], 300, 24]],
    },
    {"gold_answer": "7", "probe_freq": 500, "each_branch": [[["7"], 600, "7"]]},
]


def write(folder, name, problems=PROBLEMS):
    path = folder / name
    path.write_text(json.dumps(problems))
    return path


def test_a_matrix_has_lengths_answers_and_probed_answers_and_no_text(tmp_path, imported):
    problems, report = imported("matrix", write(tmp_path, "aime24.json"), task=None)
    first = problems["aime24/0"]
    assert (first.task, first.gold, first.probe_every, first.prompt) == ("aime24", "025", 500, "")
    assert [path.length for path in first.paths] == [1100, 1400, 300]
    assert [path.answer for path in first.paths] == ["25", None, "24"]
    assert [path.correct for path in first.paths] == [True, False, False]
    assert [path.probed for path in first.paths] == [["1", "25"], [None, None], []]
    assert all(path.text is None and path.token_ids is None and path.finish == "unknown" for path in first.paths)
    assert (report.problems, report.paths, dict(report.unanswered)) == (2, 4, {"aime24/aime24/0": 1})
    assert report.missing["token_ids"].total() == report.missing["prefix text"].total() == 4


def test_string_grading_is_exact(tmp_path, imported):
    problems, _ = imported("matrix", write(tmp_path, "aime24.json"), task=None, grading="string")
    assert [path.correct for path in problems["aime24/0"].paths] == [False, False, False]
    assert {path.grader for path in problems["aime24/1"].paths} == {"string 1"}


def test_every_file_of_a_folder_is_a_task(tmp_path):
    folder = tmp_path / "public"
    folder.mkdir()
    for name in ("b.json", "a.json", ".hidden.json", "notes.txt"):
        write(folder, name)
    names = [(problem.task, problem.problem) for problem in read(folder, Options())]
    assert names == [("a", "a/0"), ("a", "a/1"), ("b", "b/0"), ("b", "b/1")]
    assert {problem.task for problem in read(folder, Options(task="all"))} == {"all"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"gold_answer": None}, "field 'gold_answer' is None"),
        ({"probe_freq": 0}, "field 'probe_freq' is 0, not an integer from 1"),
        ({"probe_freq": None}, "field 'probe_freq' is None"),
        ({"each_branch": "x"}, "field 'each_branch' is 'x', not a list"),
        ({"each_branch": [[["1"], 5]]}, r"field 'each_branch\[0\]' is a list of 2, not \[list of probed"),
        ({"each_branch": [["1", 5, "1"]]}, r"field 'each_branch\[0\]' is a list of 3"),
        ({"each_branch": [[[], "5", "1"]]}, r"field 'each_branch\[0\]' is '5', not an integer"),
        ({"each_branch": [[[], 5, ["1"]]]}, r"field 'each_branch\[0\]' is a list of 1, not a text"),
        ({"each_branch": [[[True], 5, "1"]]}, r"field 'each_branch\[0\]' is True"),
    ],
)
def test_a_malformed_problem_is_named(tmp_path, change, complaint):
    path = write(tmp_path, "a.json", [PROBLEMS[1], {**PROBLEMS[1], **change}])
    with pytest.raises(UserError, match=rf"a\.json, problem 1: {complaint}"):
        list(read(path, Options()))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("{", "not valid JSON"), ("{}", "a dict of 0 where a JSON list"), ("[1]", "problem 0: 1 where an object")],
)
def test_another_json_file_is_refused(tmp_path, content, complaint):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(UserError, match=complaint):
        list(read(path, Options()))
