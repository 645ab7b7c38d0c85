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
    assert (report.paths, report.empty, dict(report.disagreements)) == (4, 1, {"t/10": 1})


def test_of_several_models_one_must_be_chosen(parquet):
    path = parquet(ROWS)
    for fields in ({}, {"model": "C"}):
        with pytest.raises(UserError, match="there are the models A, B; choose one: --set model=NAME"):
            list(read(path, Options(fields=fields)))


def test_a_single_model_needs_no_choice(parquet):
    assert len(list(read(parquet(ROWS[2:]), Options()))) == 2


def test_proofs_are_refused(parquet):
    rows = [{name: value for name, value in row.items() if name != "gold_answer"} for row in ROWS]
    with pytest.raises(UserError, match=r"no column gold_answer; .*those of proofs cannot be imported"):
        list(read(parquet(rows), Options()))


def test_a_malformed_row_is_named(parquet):
    with pytest.raises(UserError, match="row 6: field 'gold_answer' is None"):
        list(read(parquet([*ROWS, output("3", 0, "x", gold_answer=None)]), Options(fields={"model": "A"})))
