from __future__ import annotations

import pickle
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from prunebench.tasks.answer_types import answer_type_of, answer_types, names, registry
from prunebench.tasks.dataset_task import DatasetTask
from prunebench.tasks.errors import UserError
from prunebench.tasks.python_files import module_of
from prunebench.tasks.task_spec import checked


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ('so the answer is clear.\n"ANSWER": "C"', "C"),
        ("ANSWER: (B)", "B"),
        ("Answer: D.", "D"),
        (r"thus \boxed{A}", "A"),
        (r'first "ANSWER": "A", no: \boxed{B}', "B"),
        (r'\boxed{B} or rather "ANSWER": "A"', "A"),
        ("the answer is A Big One", None),
        ("answer: unclear", None),
        ("", None),
    ],
)
def test_the_choice_that_a_text_states_last(text, letter):
    assert answer_type_of("choice").stated(text) == letter


@pytest.mark.parametrize(
    ("kind", "answer", "gold", "correct"),
    [
        ("choice", "c", "C", True),
        ("choice", "(C)", "C", True),
        ("choice", "B", "C", False),
        ("choice", "12", "C", False),
        ("text", "New  york", "new York", True),
        ("text", "York", "New York", False),
        ("integer", "025", "25", True),
        ("integer", "25.5", "25", False),
        ("math", r"\frac{9\sqrt{23}}{23}", r"9\sqrt{23}/23", True),
        ("math", None, "3", False),
        ("choice", None, "C", False),
        ("text", None, "x", False),
    ],
)
def test_answers_are_graded_by_their_type(kind, answer, gold, correct):
    assert answer_type_of(kind).grade(answer, gold).correct is correct


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("integer", ["7", "025", "1,000"], ["1/2", "x", ""]),
        ("choice", ["A", "(b)"], ["AB", ""]),
        ("text", ["x"], [" "]),
    ],
)
def test_gold_answers_of_another_type_are_seen(kind, good, bad):
    answers = answer_type_of(kind)
    assert all(map(answers.accepts, good)) and not any(map(answers.accepts, bad))


@pytest.mark.parametrize(
    ("kind", "text", "gold"),
    [
        ("math", "42", "42"),
        ("math", " 0 ", "0"),
        ("math", "x = 5", "x = 5"),
        ("math", "all integers greater than two", "all integers greater than two"),
        ("math", r"solution $\fbox{3}$.", "3"),
        ("math", r"so $\boxed 3$.", "3"),
        ("math", r"ANSWER: We get $x=\boxed{5}$.", "5"),
        ("math", r"$\boxed{1}$ and $\boxed{2}$", "1, 2"),
        ("math", "28 calls, 7 a day: <<28/7=4>>4 days\n#### 4", "4"),
        ("math", "in one line: 4 days #### 1,234", "1,234"),
        ("math", "ANSWER: 42", "42"),
        ("math", "We share.\nThe final answer is $24$. I hope it is correct.", "24"),
        ("math", "She had 28 apples and gave all of them to 7 friends, so each of them got 4", None),
        ("math", "We share.\nEach of them gets four.", None),
        ("math", "x " * 600, None),
        ("choice", "(C)", "(C)"),
        ("choice", "C. water", "C"),
        ("choice", "The answer is (C)", "C"),
        ("choice", "water", None),
        ("text", "Evelyn", "Evelyn"),
        ("text", "A long story. The end.", "A long story. The end."),
    ],
)
def test_a_whole_solution_never_becomes_a_gold_answer(kind, text, gold):
    assert answer_type_of(kind).gold_in(text) == gold


def test_equal_answers_share_a_class():
    assert answer_type_of("text").classes(["a b", None, "A  b", "c"]) == [0, -1, 0, 1]
    assert answer_type_of("choice").classes(["a", "(A)", "B", None]) == [0, 0, 1, -1]


def test_decimals_are_equal_when_they_are_near():
    decimal = answer_type_of("decimal")
    graded = {"1/3": True, "0.3334": True, "0.334": False, "x": False}
    assert {answer: decimal.grade(answer, "0.3333333333333333").correct for answer in graded} == graded
    assert decimal.classes(["2/3", None, "0.6667", "0.67", "x", "0.66666", "x", "5%", "0.05", ""]) == [
        0, -1, 0, 1, 2, 0, 2, 3, 3, -1,
    ]  # fmt: skip
    assert decimal.accepts("1,200.5") and not decimal.accepts("Ann")


def test_a_grader_of_ones_own_decides(tmp_path):
    (tmp_path / "parity.py").write_text(
        "def same(answer, gold):\n    return None if answer == '?' else int(answer) % 2 == int(gold) % 2\n"
        "def broken(answer, gold):\n    return 1 / 0\n"
        "def wordy(answer, gold):\n    return 'yes'\n"
    )
    parity = answer_type_of("parity:same", tmp_path)
    assert parity.grade("3", "5").correct is True and parity.grade("4", "5").correct is False
    assert parity.grade("?", "5").correct is None and parity.grade(None, "5").correct is False
    assert parity.grade("3", "5").grader == "parity:same"
    assert parity.classes(["1", "2", None, "3"]) == [0, 1, -1, 0]
    with pytest.raises(UserError, match=r"grader parity:broken: ZeroDivisionError on '1' and '2'"):
        answer_type_of("parity:broken", tmp_path).grade("1", "2")
    with pytest.raises(UserError, match=r"grader parity:wordy: gave 'yes' on '1'; it must return True, False or None"):
        answer_type_of("parity:wordy", tmp_path).grade("1", "2")


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("number", "answer type 'number' is not known: write integer, math, choice, text, decimal, or module:function"),
        ("nowhere_at_all:f", "grader 'nowhere_at_all:f': No module named"),
        ("math:nothing_there", "a file math.py with a function nothing_there is wanted"),
    ],
)
def test_an_unknown_type_is_told(kind, sentence):
    with pytest.raises(UserError, match=sentence):
        answer_type_of(kind)


PAGE = (Path(__file__).parents[2] / "docs" / "own-dataset.md").read_text()
OWN = PAGE.partition("```python\n")[2].partition("```")[0]
"""The answer type that the page writes: dates."""


@pytest.fixture
def forgotten(monkeypatch):
    """What a test registers is forgotten afterwards."""
    names()
    monkeypatch.setattr(registry, "TYPES", dict(registry.TYPES))


@pytest.mark.usefixtures("forgotten")
def test_a_single_file_adds_a_type(tmp_path):
    (tmp_path / "date.py").write_text(OWN)
    module_of(tmp_path / "date.py")
    assert names() == ["integer", "math", "choice", "text", "decimal", "date"]
    (tmp_path / "days.csv").write_text("question,answer\nThe day after 2024-02-28?,2024-02-29\n")
    task = DatasetTask(checked("here", {"name": "days", "data": "days.csv", "answer_type": "date"}), tmp_path)
    (problem,) = task.problems("test")
    assert task.answer_of("not 2024-03-01 but 2024-02-29.") == problem.answer == "2024-02-29"
    assert task.grade("2024-02-29", problem.answer).correct is True and task.classes(["1", None, "1"]) == [0, -1, 0]
    (tmp_path / "days.csv").write_text("question,answer\nThe day after 2024-02-28?,tomorrow\n")
    with pytest.raises(UserError, match="answer 'tomorrow' is not a date, as in 2024-02-29, which answer_type 'date'"):
        DatasetTask(task.spec, tmp_path).problems("test")
    golds = ["2024-02-29", "1999-12-31"]
    assert max(answer_types(), key=lambda kind: kind.guess(golds)).name == "date"
    sent = pickle.dumps(task)
    registry.TYPES.pop("date")
    with pytest.raises(UserError, match="answer type 'date' is not known"):
        DatasetTask(task.spec, tmp_path)
    sys.modules.pop(type(task.answers).__module__)
    assert pickle.loads(sent).grade("2024-02-29", "2024-02-29").correct, "another process loads the file"
    with pytest.raises(ValueError, match=r"answer type 'text' is taken by prunebench\.tasks\.answer_types\.text"):
        registry.answer_type(type("Other", (type(answer_type_of("date")),), {"name": "text"}))


@pytest.mark.usefixtures("forgotten")
def test_a_package_adds_a_type_that_is_loaded_when_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "a_package_of_dates.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    points = [EntryPoint("date", "a_package_of_dates:DateAnswers", registry.GROUP),
              EntryPoint("broken", "nowhere_at_all:Broken", registry.GROUP)]  # fmt: skip
    monkeypatch.setattr(
        registry, "entry_points", lambda group, name=None: [p for p in points if name in (None, p.name)]
    )
    assert names()[-2:] == ["date", "broken"]
    assert answer_type_of("date").stated("on 2024-02-29") == "2024-02-29"
    with pytest.raises(UserError, match="answer type plugin 'broken' could not be loaded: No module named"):
        answer_type_of("broken")
    with pytest.warns(UserWarning, match="broken"):
        assert [kind.name for kind in answer_types()] == ["integer", "math", "choice", "text", "decimal", "date"]
