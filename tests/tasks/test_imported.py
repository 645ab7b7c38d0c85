from __future__ import annotations

import pytest

from prunebench.tasks.grading import Verdict
from prunebench.tasks.imported import ImportedTask

ANSWERS = ["25", "025", None, " 25 ", "\\frac{1}{2}", "0.5", None, "7"]


def test_equivalence_compares_what_answers_mean():
    task = ImportedTask("aime24", "equivalence")
    assert task.classes(ANSWERS) == [0, 0, -1, 0, 1, 1, -1, 2]
    assert task.grade("025", "25").correct is True
    assert task.grade("0.5", "\\frac{1}{2}").correct is True
    assert task.grade("26", "25").correct is False


def test_strings_are_compared_stripped_and_not_otherwise():
    task = ImportedTask("aime24", "string")
    assert task.classes(ANSWERS) == [0, 1, -1, 0, 2, 3, -1, 4]
    assert task.grade(" 25", "25 ") == Verdict(True, "string 1")
    assert task.grade("025", "25") == Verdict(False, "string 1")


@pytest.mark.parametrize("grading", ["equivalence", "string"])
def test_no_answer_is_wrong_whatever_the_grading(grading):
    assert ImportedTask("t", grading).grade(None, "25") == Verdict(False, "no answer")


@pytest.mark.parametrize(
    ("text", "answer"),
    [("\\boxed{3} no, \\boxed{ 10 }", "10"), ("it is 10", None), ("\\boxed{}", None), ("\\boxed{10", None)],
)
def test_an_answer_is_the_last_complete_box(text, answer):
    assert ImportedTask("t").answer_of(text) == answer


def test_it_has_no_problems_to_sample_and_knows_two_gradings():
    with pytest.raises(ValueError, match="task aime24 was imported"):
        ImportedTask("aime24").problems("test", 1)
    with pytest.raises(ValueError, match="grading 'exact' is not known; choose equivalence or string"):
        ImportedTask("aime24", "exact")


def test_an_import_has_an_answer_type_of_a_known_name():
    task = ImportedTask("quiz", answer_type="choice")
    assert task.answer_of("The answer is (C).") == "C" and task.grade("(C)", "C").correct
    assert ImportedTask("quiz", answer_type="choice", strict=True).answer_of("The answer is (C).") is None
    for kind in ("letters", "os:system"):
        with pytest.raises(ValueError, match=f"answer type '{kind}' of an import is none of integer, math, choice"):
            ImportedTask("quiz", answer_type=kind)
    with pytest.raises(ValueError, match="'choice' and grading 'string' are both given"):
        ImportedTask("quiz", "string", "choice")
