from __future__ import annotations

import csv
import json
import pickle
from collections import Counter

import pytest
import yaml

from prunebench.tasks import catalogue
from prunebench.tasks.catalogue import load_task
from prunebench.tasks.dataset_task import DatasetTask
from prunebench.tasks.errors import UserError


def rows(count, start=0):
    return [{"question": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(start, start + count)]


@pytest.fixture
def written(tmp_path):
    """Writes rows and a task over them; gives the task."""

    def write(content, file="problems.csv", **spec):
        if file.endswith(".csv"):
            with (tmp_path / file).open("w", newline="") as stream:
                table = csv.DictWriter(stream, list(content[0]))
                table.writeheader()
                table.writerows(content)
        else:
            (tmp_path / file).write_text("\n".join(map(json.dumps, content)))
        spec = {"name": "sums", "data": file, "answer_type": "integer", **spec}
        stated = {key: value for key, value in spec.items() if value is not None}
        (tmp_path / "sums.yaml").write_text(yaml.safe_dump(stated))
        return load_task(tmp_path / "sums.yaml")

    return write


THREE = {"train": 0.5, "validation": 0.2, "test": 0.3}


def test_shares_of_the_problems_are_exact_and_stay_when_rows_move(written):
    task = written(rows(60), splits=THREE)
    splits = {name: {problem.prompt for problem in task.problems(name)} for name in THREE}
    assert {name: len(problems) for name, problems in splits.items()} == {"train": 30, "validation": 12, "test": 18}
    assert not splits["train"] & splits["validation"] and not splits["train"] & splits["test"]
    moved = written(rows(60)[::-1], splits=THREE)
    assert {name: {problem.prompt for problem in moved.problems(name)} for name in THREE} == splits


def test_the_prompt_holds_the_question_and_an_edited_question_is_another_problem(written):
    (first, *_) = written(rows(3)).problems("test")
    assert first.prompt.startswith("What is 0 + 0?\n\nPlease reason step by step")
    named = [{"id": str(i), **row} for i, row in enumerate(rows(3))]
    before = [problem.id for problem in written(named).problems("test")]
    named[1]["question"] += " Really?"
    after = [problem.id for problem in written(named).problems("test")]
    assert before[0].startswith("0-") and [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]


def test_a_limit_takes_a_seeded_choice_in_the_order_of_the_rows(written):
    task = written(rows(40))
    everything = task.problems("test")
    some, others = task.problems("test", 10, seed=0), task.problems("test", 10, seed=1)
    assert some != others and len(some) == 10
    assert [problem for problem in everything if problem in some] == some
    assert set(task.problems("test", 20)) > set(task.problems("test", 10))
    assert task.problems("test", 99) == everything


def test_files_and_columns_can_be_the_splits(written, tmp_path):
    both = [{**row, "fold": "a" if i < 4 else "b"} for i, row in enumerate(rows(6))]
    task = written(both, split_field="fold", splits={"train": "a", "test": "b"})
    assert [len(task.problems(split)) for split in ("train", "test")] == [4, 2]
    (tmp_path / "more.jsonl").write_text("\n".join(map(json.dumps, rows(3, start=6))))
    task = written(rows(6), file="first.jsonl", data=None, splits={"train": "first.jsonl", "test": "more.jsonl"})
    assert [len(task.problems(split)) for split in ("train", "test")] == [6, 3]


def test_choices_are_shuffled_by_a_seed_and_the_answer_follows(written):
    content = [
        {"q": f"Which one is right, number {i}?", "right": "r", "w1": "x", "w2": "y", "w3": "z"} for i in range(40)
    ]
    choices = ["right", "w1", "w2", "w3"]
    spec = {"problem": "q", "answer_type": "choice", "choices": choices, "prompt": "{problem}\n{choices}"}
    problems = written(content, **spec).problems("test")
    assert set(Counter(problem.answer for problem in problems)) == set("ABCD")
    for problem in problems:
        assert f"{problem.answer}) r" in problem.prompt
    assert problems == written(content, **spec).problems("test")
    assert problems != written(content, choice_seed=1, **spec).problems("test")


def test_a_list_of_choices_keeps_its_order(written):
    content = [
        {"puzzle": "Two houses.", "question": "Who?", "choices": ["Ann", "Bob"], "answer": "Bob"},
        {"puzzle": "Two houses.", "question": "Where?", "choices": ["left", "right"], "answer": "A"},
    ]
    spec = {"answer_type": "choice", "context": "puzzle", "choices": "choices", "prompt": "{problem}\n{choices}"}
    first, second = written(content, file="z.jsonl", **spec).problems("test")
    assert first.prompt == "Two houses.\n\nWho?\nA) Ann\nB) Bob" and first.answer == "B" and second.answer == "A"
    with pytest.raises(UserError, match=r"line 1: answer 'Cat' is none of the choices \['Ann', 'Bob'\]"):
        written([{**content[0], "answer": "Cat"}], file="z.jsonl", **spec).problems("test")


def test_gold_answers_are_found_in_solutions(written):
    content = [{"question": "q", "answer": "So it is 7.\n#### 1,007"}]
    assert written(content, gold=r"####\s*(.+)").problems("test")[0].answer == "1,007"
    content = [{"question": "q", "solution": r"Hence \boxed{12}."}]
    assert written(content).problems("test")[0].answer == "12"
    with pytest.raises(UserError, match=r"line 2: the pattern gold = .* finds no answer in 'none'"):
        written([{"question": "q", "answer": "none"}], gold=r"####\s*(.+)").problems("test")


def test_no_whole_solution_becomes_a_gold_answer(written):
    solutions = [
        {"problem": f"q{i}", "solution": f"We see at once what holds.\nBy {i} steps we are led to {end}"}
        for i, end in enumerate([r"$\boxed 3$.", r"$\fbox{4}$.", "it.\n#### 5", "it. The answer is 6."])
    ]
    task = written(solutions, file="m.jsonl")
    assert [problem.answer for problem in task.problems("test")] == ["3", "4", "5", "6"]
    assert task.remarks() == ["task sums: 4 of 4 answers were found within longer texts (the first: line 1: '3')"]
    open_end = {
        "problem": "q",
        "solution": "We see at once what holds.\nBy many steps we are led to it, as was to be shown.",
    }
    for kind in ("math", "integer", "text"):
        with pytest.raises(
            UserError, match=r"1 of 5 rows have no answer .* line 5, which states none: 'We see at once"
        ):
            written([*solutions, open_end], file="m.jsonl", answer_type=kind).problems("test")


def test_an_answer_that_is_not_what_it_looks_like_is_told(written):
    task = written([*rows(31), {"question": "more?", "answer": "1,234"}, {"question": "most?", "answer": "1 000"}])
    assert task.remarks() == [
        "task sums: 2 of 33 answers are not written as they are read (the first: line 33: '1,234' is read as 1234)"
    ]
    table = written([*rows(31), {"question": "more?", "answer": "12.0"}], answer_type="integer")
    assert table.remarks() == [
        "task sums: 1 of 32 answers are not written as they are read (the first: line 33: '12.0' is read as 12)"
    ]


@pytest.mark.parametrize(
    ("answers", "gold"),
    [
        ([0, 3], ["A", "D"]),
        ([0.0, 3.0], ["A", "D"]),  # as pandas has integers beside a missing one
        (["D", "b"], ["D", "B"]),
    ],
)
def test_answers_may_be_places_of_choices(written, answers, gold):
    content = [
        {"question": f"q{i}", "choices": ["1", "2", "3", "0"], "answer": answer} for i, answer in enumerate(answers)
    ]
    spec = {"answer_type": "choice", "choices": "choices", "prompt": "{problem}\n{choices}"}
    task = written(content, file="c.jsonl", **spec)
    assert [problem.answer for problem in task.problems("test")] == gold
    assert task.problems("test")[0].prompt == "q0\nA) 1\nB) 2\nC) 3\nD) 0"


def test_places_that_may_be_counted_in_two_ways_are_asked_for(written):
    content = [{"question": f"q{i}", "choices": ["w", "x", "y"], "answer": i} for i in (1, 2)]
    spec = {"file": "c.jsonl", "answer_type": "choice", "choices": "choices", "prompt": "{problem}\n{choices}"}
    with pytest.raises(UserError, match=r"places of choices, .* from 0 or from 1; write choice_index: 0 \(or 1\)"):
        written(content, **spec).problems("test")
    for start, golds in ((0, ["B", "C"]), (1, ["A", "B"])):
        assert [each.answer for each in written(content, choice_index=start, **spec).problems("test")] == golds
    with pytest.raises(UserError, match=r"line 2: answer 2 is none of the choices \['w', 'x'\]"):
        content[1]["choices"] = ["w", "x"]
        written(content, choice_index=0, **spec).problems("test")


def test_columns_of_choices_stay_in_their_order_where_another_says_which_is_right(written):
    content = [{"q": "Which?", "A": "x", "B": "{problem}", "C": "", "key": "B"}]
    spec = {"problem": "q", "answer_type": "choice", "prompt": "{problem}\n{choices}", "choices": ["A", "B", "C"]}
    (problem,) = written(content, answer="key", **spec).problems("test")
    assert problem.prompt == "Which?\nA) x\nB) {problem}" and problem.answer == "B"


def test_lists_of_answers_may_be_written_as_texts(written):
    content = [{"question": f"q{i}", "answer": text} for i, text in enumerate(["['1/2', '0.5']", '["3"]', "[1, 2]"])]
    first, second, third = written(content, answer_type="math").problems("test")
    assert (first.answer, second.answer, third.answer) == ('["1/2", "0.5"]', "3", "[1, 2]")  # the last is an interval
    with pytest.raises(UserError, match=r"line 2: answer \"\['1/2' '0.5'\]\" is a list neither of JSON nor of Python"):
        written([{"question": "q", "answer": "['1/2' '0.5']"}], answer_type="math").problems("test")


def test_several_right_choices_are_accepted(written):
    content = [{"question": "Which?", "choices": ["x", "y", "z"], "answer": ["C", "A"]}]
    spec = {"file": "c.jsonl", "answer_type": "choice", "choices": "choices", "prompt": "{problem}\n{choices}"}
    task = written(content, **spec)
    (problem,) = task.problems("test")
    assert [task.grade(letter, problem.answer).correct for letter in "ABC"] == [True, False, True]


def test_a_few_rows_without_an_answer_are_left_out_and_said(written):
    content = rows(100)
    for i in (13, 50, 70):
        content[i]["answer"] = ""
    task = written(content)
    assert len(task.problems("test")) == 97
    assert task.remarks() == ["task sums: 3 of 100 rows have no answer and were left out (the first: line 15)"]
    for i in range(30):
        content[i]["answer"] = ""
    with pytest.raises(UserError, match=r"32 of 100 rows have no answer in field 'answer' .* name the right field"):
        written(content).problems("test")


def test_repeated_questions_count_once_and_conflicts_are_refused(written):
    repeated = written([*rows(5), {"question": "what is  2 + 2?", "answer": "4"}])
    assert len(repeated.problems("test")) == 5 and "1 of 6 rows repeat a question" in repeated.remarks()[0]
    with pytest.raises(UserError, match=r"line 7: the question of line 4 again, with answer '5' instead of '4'; keep"):
        written([*rows(5), {"question": "What is 2 + 2?", "answer": "5"}]).problems("test")
    folds = [{**row, "fold": "a"} for row in rows(3)] + [{**rows(1)[0], "fold": "b"}]
    with pytest.raises(UserError, match=r"line 5: the question of line 2 again, there in split 'train' and here in 't"):
        written(folds, split_field="fold", splits={"train": "a", "test": "b"}).problems("test")


def test_two_questions_may_share_an_id_as_the_question_is_part_of_the_identity(written):
    content = [{"id": "1", "question": "a", "answer": "1"}, {"id": "1", "question": "b", "answer": "2"}]
    first, second = written(content).problems("test")
    assert first.id[:2] == second.id[:2] == "1-" and first.id != second.id


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (
            {"problem": "Frage"},
            r"line 2: no field 'Frage'; it has question, answer: name the right one under 'problem'",
        ),
        ({"answer": "reply"}, r"no field 'reply'"),
        ({"id": "number"}, r"no field 'number'; it has question, answer: name the right one under 'id'"),
        ({"answr": "reply"}, r"sums\.yaml: unknown key 'answr'; did you mean 'answer'\?"),
        ({"answer_type": "numbr"}, r"answer type 'numbr' is not known"),
        ({"splits": {"dev": 1.0}}, r"splits: 'dev' is none of train, validation, test"),
        ({"splits": {"train": 0.9, "test": 0.3}}, r"must be above 0 and sum to 1"),
        ({"splits": {"train": "a.csv", "test": 0.3}}, r"give every split a share, or every split a name"),
        ({"prompt": "Solve this."}, r"prompt: must contain \{problem\}"),
        ({"gold": "("}, r"gold = '\(': no regular expression"),
        ({"gold": "x"}, r"a pattern with one group is wanted"),
        ({"data": None}, r"data \(a file\) or dataset"),
        ({"dataset": "a/b"}, r"data and dataset are both given"),
        ({"name": "../up"}, r"name = '\.\./up'"),
        ({"name": "aime24"}, r"name = 'aime24' is that of a shipped task"),
        ({"split_field": "fold"}, r"split_field = fold: splits must name the values"),
    ],
)
def test_mistakes_are_told_with_file_and_key(written, spec, sentence):
    with pytest.raises(UserError, match=sentence):
        written(rows(3), **spec).problems("test")


def test_an_answer_of_another_type_is_told_with_its_row(written):
    mixed = [*rows(4), {"question": "half?", "answer": "1/2"}]
    with pytest.raises(UserError, match=r"line 6: answer '1/2' is not an integer, which answer_type 'integer' wants"):
        written(mixed).problems("test")
    assert len(written(mixed, answer_type="math").problems("test")) == 5
    with pytest.raises(UserError, match=r"line 2: field 'question' is empty"):
        written([{"question": " ", "answer": "1"}]).problems("test")


def test_yaml_that_is_none_is_told(tmp_path):
    (tmp_path / "a.yaml").write_text("name: [")
    with pytest.raises(UserError, match=r"a\.yaml, line 1: not valid YAML"):
        load_task(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("just words")
    with pytest.raises(UserError, match=r"describes no task; write one with: prunebench new task"):
        load_task(tmp_path / "b.yaml")
    with pytest.raises(UserError, match=r"no such file; write one with: prunebench new task"):
        catalogue.get(str(tmp_path / "c.yaml"))


def test_unknown_splits_are_told(written):
    with pytest.raises(UserError, match=r"task sums: has no split 'train'; it has test"):
        written(rows(3)).problems("train")
    with pytest.raises(UserError, match=r"split 'train' is empty; give it a larger share"):
        written(rows(3), splits={"train": 0.01, "test": 0.99}).problems("train")


def test_a_task_travels_to_another_process_and_back_from_its_description(written):
    task = written(rows(10), splits=THREE)
    assert pickle.loads(pickle.dumps(task)).problems("test") == task.problems("test")
    described = json.loads(json.dumps(task.described()))
    restored = catalogue.from_description(described)
    assert isinstance(restored, DatasetTask) and restored.problems("test") == task.problems("test")


PYTHON = """
from dataclasses import dataclass
from prunebench.tasks.task import Problem, Task

@dataclass
class Doubles(Task):
    name: str = "doubles"
    answer_type: str = "integer"

    def problems(self, split, limit=None, seed=0):
        return [Problem(str(i), self.name, f"2 * {i}", str(2 * i), split) for i in range(limit or 5)]
"""


def test_a_python_file_is_a_task_too(tmp_path):
    (tmp_path / "doubles.py").write_text(PYTHON)
    task = catalogue.get(str(tmp_path / "doubles.py"))
    assert task.name == "doubles" and task.grade("6", task.problems("test")[3].answer).correct
    assert pickle.loads(pickle.dumps(task)).problems("test") == task.problems("test")
    assert catalogue.from_description(task.described() or {}).name == "doubles"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("x = 1", r"defines 0 subclasses of prunebench\.tasks\.task\.Task; one is wanted"),
        ("import nothing_of_that_name", r"ModuleNotFoundError: No module named"),
        ("def f(:", r"SyntaxError"),
        ("from prunebench.tasks.task import Task\nclass A(Task):\n    name = 'a'", r"abstract"),
    ],
)
def test_a_python_file_that_does_not_serve_is_told(tmp_path, content, sentence):
    (tmp_path / "own.py").write_text(content)
    with pytest.raises(UserError, match=sentence):
        catalogue.get(str(tmp_path / "own.py"))


def test_rows_are_kept_by_a_pattern_and_context_stands_before_the_question(written):
    content = [{"question": f"Q{i}?", "story": f"S{i}.", "answer": a} for i, a in enumerate(["1", "22", "333"])]
    task = written(content, matching={"answer": r"\d{1,2}"}, context="story", context_end=" ")
    assert [problem.prompt.partition("\n")[0] for problem in task.problems("test")] == ["S0. Q0?", "S1. Q1?"]
    with pytest.raises(UserError, match=r"matching\.answer = '\(': no regular expression"):
        written(content, matching={"answer": "("})
    with pytest.raises(UserError, match=r"line 2: no field 'anser'; it has question, story, answer: .* 'matching'"):
        written(content, matching={"anser": "."}).problems("test")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            "?",
            "1 of 3 answers may stand for none, and count as gold answers (leave these cells empty) (the first",
        ),
        ("TBD", "1 of 3 answers may stand for none"),
        ("0,5", "1 of 3 answers have a comma that may be meant as a decimal point"),
        ("1234,5", "1 of 3 answers have a comma that may be meant as a decimal point"),
        ("1,234", None),
        ("-3", None),
    ],
)
def test_an_answer_that_may_be_meant_otherwise_is_told(written, answer, said):
    rows = [{"question": f"q{number}", "answer": text} for number, text in enumerate(["1", "2", answer])]
    remarks = "\n".join(written(rows, answer_type="text").remarks())
    assert (said in remarks) if said else ("may" not in remarks)
