from __future__ import annotations

import pytest

from prunebench.tasks.errors import UserError
from prunebench.tasks.guessed_spec import guessed_spec
from prunebench.tasks.rows import DataRow

PROOF = (
    "We first note that the claim holds for one. Then by induction the claim follows, as was to be shown for every "
    "number of this kind, and we are done."
)
PAIR = ["x", "y"]


def rows(*values):
    return [
        DataRow("f.jsonl", f"line {number}", {"question": f"q{number}?", **each})
        for number, each in enumerate(values, 1)
    ]


def answers(*values, column="answer"):
    return rows(*({column: value} for value in values))


@pytest.mark.parametrize(
    ("given", "kind", "keys", "remark"),
    [
        (answers(0, 3), "integer", {}, "2 rows, 2 with an answer"),
        (answers("0", "", None, "7"), "integer", {}, "4 rows, 2 with an answer"),
        (answers(0.5, float("nan"), 2.0), "math", {}, "3 rows, 2 with an answer"),
        (answers(True, False), "text", {}, "2 rows, 2 with an answer"),
        (answers("2+2=<<2+2=4>>4\n#### 4", "So\n#### 1,000\n"), "integer", {"gold": r"####\s*(.+)"}, "behind ####"),
        (answers("#### Step 1\nAdd.\n#### 4", "So\n#### 5"), "integer", {}, "2 answers were found within longer texts"),
        (answers(r"so $\boxed 3$.", r"so $\fbox{4}$."), "integer", {}, "2 answers were found within longer texts"),
        (answers(r"We see it.\\ Thus $x=\boxed{\frac12}$."), "math", {}, "1 answers were found within longer texts"),
        (answers("We add both. The answer is 4.", "The answer is 5."), "integer", {}, "2 answers were found"),
        (answers(r"\frac{1}{2}", "3"), "math", {}, "answers of mixed form; 1 of them are integers"),
        (answers(["1/2", "0.5"], [3]), "math", {}, "2 rows, 2 with an answer"),
        (answers("['1/2']", '["0.5", "1/2"]'), "math", {}, "2 rows, 2 with an answer"),
        (answers("A", "C"), "choice", {}, "no column holds the choices"),
    ],
)  # fmt: skip
def test_answers_are_found_where_they_stand(given, kind, keys, remark):
    guess = guessed_spec(given)
    assert guess.answers.name == kind
    assert guess.keys == {"problem": "question", "answer": "answer", **keys}
    assert any(remark in each for each in guess.remarks), guess.remarks


def test_choices_in_the_question_need_no_column():
    given = [DataRow("f", "line 1", {"question": "Which?\nA) x\nB) y", "answer": "B"})]
    assert not any("no column" in remark for remark in guessed_spec(given).remarks)


@pytest.mark.parametrize(
    ("given", "keys", "remark"),
    [
        (rows({"options": PAIR, "answer": "B"}, {"options": PAIR, "answer": "A"}), {}, "answers are choices"),
        (rows({"choices": ["1", "2", "3", "0"], "answer": 3}), {"choice_index": 0}, "counted from 0"),
        (rows({"choices": PAIR, "answer": 2}, {"choices": PAIR, "answer": 1}), {"choice_index": 1}, "from 1"),
        (rows({"choices": {"text": PAIR, "label": ["A", "B"]}, "answerKey": "B"}), {}, "answers are choices"),
        (rows({"options": {"A": "x", "B": "y"}, "answer": "y"}), {}, "answers are choices"),
        (rows({"A": "w", "B": "x", "C": "y", "answer": "C"}), {"choices": ["A", "B", "C"]}, "answers are choices"),
        (rows({"option1": "w", "option2": "x", "answer": "x"}), {"choices": ["option1", "option2"]}, "are choices"),
        (
            rows({"correct_answer": "u", "distractor1": "v", "distractor2": "w"}),
            {"choices": ["correct_answer", "distractor1", "distractor2"]},
            "answers are choices",
        ),
        (
            rows({"Correct Answer": "u", "Incorrect Answer 1": "v", "Incorrect Answer 2": "w"}),
            {"choices": ["Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2"]},
            "answers are choices",
        ),
        (
            rows({"opt_a": "w", "opt_b": "x", "answer": "0"}),
            {"choices": ["opt_a", "opt_b"], "choice_index": 0},
            "counted from 0",
        ),
    ],
)
def test_choices_are_found_in_their_columns(given, keys, remark):
    guess = guessed_spec(given)
    assert guess.answers.name == "choice"
    column = next((name for name in given[0].values if name in ("options", "choices")), None)
    assert {key: value for key, value in guess.keys.items() if key not in ("problem", "answer")} == {
        "choices": [column], **keys,
    }  # fmt: skip
    assert any(remark in each for each in guess.remarks), guess.remarks


def test_what_stands_before_the_question_is_found():
    guess = guessed_spec(rows({"passage": "Ann is tall.", "answer": True}, {"passage": "Bob is not.", "answer": False}))
    assert guess.keys["context"] == "passage" and "the text of column 'passage' stands before" in "; ".join(
        guess.remarks
    )


def test_a_column_that_does_not_hold_what_the_answers_choose_from_is_no_column_of_choices():
    guess = guessed_spec(rows({"options": ["fast"], "answer": 7}, {"options": ["slow", "x"], "answer": 8}))
    assert guess.answers.name == "integer" and "choices" not in guess.keys


def test_solutions_without_an_answer_are_refused_before_a_file_is_written():
    with pytest.raises(UserError, match=r"f\.jsonl: no answer in column 'solution' of any row; the first holds 'We"):
        guessed_spec(answers(PROOF, PROOF, column="solution"))
