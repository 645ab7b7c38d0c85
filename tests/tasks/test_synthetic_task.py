from __future__ import annotations

from itertools import islice

import pytest

from prunebench.tasks import catalogue
from prunebench.tasks.grading import Verdict
from prunebench.tasks.synthetic.wording import FILLERS
from prunebench.tasks.synthetic_task import SYNTHETIC_TASKS

SPLITS = ("reasoner", "train", "validation", "test")
TASKS = [pytest.param(catalogue.get(name), id=name) for name in SYNTHETIC_TASKS]


@pytest.mark.parametrize("task", TASKS)
def test_a_problem_is_the_text_of_its_instance_and_two_line_breaks(task):
    (instance,) = islice(task.instances("test", 5), 1)
    (problem,) = task.problems("test", 1, seed=5)
    assert problem.prompt == instance.text + " \n\n"
    assert (problem.id, problem.task, problem.split) == (instance.identity, task.name, "test")
    assert problem.answer == str(task.family.answer(instance))


@pytest.mark.parametrize("task", TASKS)
def test_more_problems_begin_with_the_fewer(task):
    assert task.problems("validation", 12)[:5] == task.problems("validation", 5)
    assert task.problems("validation", 5, seed=1) != task.problems("validation", 5)


@pytest.mark.parametrize("task", TASKS)
def test_no_problem_is_in_two_splits_whatever_the_seeds(task):
    prompts = {
        split: {problem.prompt for seed in (0, 1) for problem in task.problems(split, 40, seed)} for split in SPLITS
    }
    for split in SPLITS:
        others = set.union(*(prompts[other] for other in SPLITS if other != split))
        assert not prompts[split] & others


@pytest.mark.parametrize("task", TASKS)
def test_an_answer_is_the_last_box_of_a_text(task):
    text = "x 1 = 3 \\boxed{ 3 } wait \n\n \\boxed{ 10 }"
    assert task.answer_of(text) == "10"
    assert task.grade("10", "10").correct is True
    assert task.grade("3", "10").correct is False


@pytest.mark.parametrize("text", ["x 1 = 3", "\\boxed{ 3", "\\boxed{ }"])
def test_a_text_without_an_answer_is_wrong_and_in_no_class(text):
    task = catalogue.get("synthetic/power")
    answer = task.answer_of(text)
    assert answer is None
    assert task.grade(answer, "3") == Verdict(False, "no answer")
    assert task.classes([answer, "3"]) == [-1, 0]


def test_an_endless_task_asks_for_a_limit_and_an_unknown_split_is_named():
    task = catalogue.get("synthetic/power")
    with pytest.raises(ValueError, match="how many"):
        task.problems("test")
    with pytest.raises(ValueError, match="unknown split 'tset'"):
        task.problems("tset", 1)


@pytest.mark.parametrize(("name", "share"), [("synthetic", 0), ("synthetic-25", 0.25), ("synthetic-100", 1)])
def test_the_name_says_how_many_quantities_are_given_behind_a_filler(name, share):
    for task in catalogue.expand([name]):
        words = [word for problem in task.problems("test", 150) for word in problem.prompt.split(" ")]
        assert sum(word in FILLERS for word in words) / 300 == pytest.approx(share, abs=0.09)
