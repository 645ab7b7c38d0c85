from __future__ import annotations

import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.importers.contract import Options
from prunebench.bench.rollouts.importers.matharena import read


def output(problem, number, answer, model="A", **changes):
    return {
        "problem_idx": problem,
        "problem": f"Problem {problem}",
        "model_name": model,
        "idx_answer": number,
        "answer": answer,
        "output_tokens": 900,
        "gold_answer": "\\frac{1}{2}",
        "parsed_answer": "1/2",
        "correct": True,
        **changes,
    }


ROWS = [
    output("2", 1, "so \\boxed{0.5}"),
    output("1", 0, "", model="B"),
    output("2", 0, "half of it"),
    output("2", 2, None, parsed_answer=None, correct=False),
    output("10", 0, "\\boxed{3}"),
]


def test_the_rows_of_one_model_become_problems(parquet, imported):
    problems, report = imported("matharena", parquet(ROWS), fields={"model": "A"})
    assert list(problems) == ["2", "10"]
    problem = problems["2"]
    assert (problem.prompt, problem.gold) == ("Problem 2", "\\frac{1}{2}")
    assert [path.path for path in problem.paths] == [0, 1, 2]
    assert [path.answer for path in problem.paths] == ["1/2", "0.5", None], "what the text boxes goes before"
    assert [path.correct for path in problem.paths] == [True, True, False]
    assert [path.length for path in problem.paths] == [3, 8, 0], "words; the source's counts hide what it hides"
    assert (report.paths, dict(report.empty), dict(report.disagreements)) == (4, {"t/2": 1}, {"t/10": 1})


def test_of_several_models_one_must_be_chosen(parquet):
    path = parquet(ROWS)
    for fields in ({}, {"model": "C"}):
        with pytest.raises(UserError, match="there are the models A, B; choose one: --set model=NAME"):
            list(read(path, Options(fields=fields)))


def test_a_single_model_needs_no_choice(parquet):
    assert len(list(read(parquet(ROWS[2:]), Options()))) == 2


@pytest.mark.parametrize("kind", ["json_lines", "parquet"])
def test_a_missing_answer_is_none(kind, request, imported):
    """``None`` as a text comes from saving; the rows of API errors have no text either."""
    rows = [output("1", number, text, parsed_answer="None", correct=False) for number, text in enumerate(("no", None))]
    path = request.getfixturevalue(kind)([*rows, output("1", 2, "\\boxed{1/2}")])
    problems, report = imported("matharena", path)
    assert [path.answer for path in problems["1"].paths] == [None, None, "1/2"]
    assert [path.correct for path in problems["1"].paths] == [False, False, True]
    assert dict(report.unanswered) == {"t/1": 2}


@pytest.mark.parametrize(
    ("text", "parsed", "answer", "correct"),
    [
        (r"\boxed{2} and \boxed{3}", "AnswerList(2,3)", "2, 3", True),
        ("\\boxed{2} is one of them,\nand \\boxed{2} or rather here \\boxed{3}, too", "[2,3]", "2, 3", True),
        ("First \\boxed{7}.\n\\boxed{2} is the least and $\\fbox{3}$ the most.\nDone.", "[2,3]", "2, 3", True),
        (r"\boxed{3,2}", "[3,2]", "3,2", True),
        (r"\boxed{\{2, 3\}}", "[2,3]", r"\{2, 3\}", True),
        ("2 and 3", "AnswerList([2, 3])", "2, 3", True),
        ("2 and 3", "[2,3]", "2,3", True),
        (r"\boxed{2} is the first, \boxed{3} the second try", "3", "3", False),
    ],
)
def test_boxes_are_joined_where_the_source_joins_them(parquet, imported, text, parsed, answer, correct):
    row = output("1", 0, text, gold_answer="2,3", parsed_answer=parsed, correct=correct)
    problems, report = imported("matharena", parquet([row]))
    (path,) = problems["1"].paths
    assert (path.answer, path.correct) == (answer, correct)
    assert not report.disagreements


def test_gold_answers_that_are_hashed_are_refused(parquet):
    with pytest.raises(UserError, match="field 'gold_answer' is 'hash:3f', not an answer but the hash of one"):
        list(read(parquet([output("1", 0, "x", gold_answer="hash:3f")]), Options()))


@pytest.mark.parametrize("kind", ["json_lines", "parquet"])
def test_proofs_are_refused(kind, request):
    rows = [{name: value for name, value in row.items() if name != "gold_answer"} for row in ROWS]
    with pytest.raises(UserError, match=r"no column gold_answer; .*those of proofs cannot be imported"):
        list(read(request.getfixturevalue(kind)(rows), Options()))


def test_a_malformed_row_is_named(parquet):
    with pytest.raises(UserError, match="row 6: field 'gold_answer' is None"):
        list(read(parquet([*ROWS, output("3", 0, "x", gold_answer=None)]), Options(fields={"model": "A"})))
