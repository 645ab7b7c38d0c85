from __future__ import annotations

import pyarrow as pa
import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.importers.contract import Options
from prunebench.bench.rollouts.importers.lighteval import read


def structs(**changes):
    """A row of a current version: structs of the document, the model's response and the metrics."""
    row = {
        "doc": {"id": "3", "query": "2 + 3?", "choices": ["Two and three: \\boxed{5}"], "gold_index": [0]},
        "model_response": {
            "text": ["so \\boxed{5}", "\\boxed{6}"],
            "output_tokens": [[11, 12, 13], [14]],
            "logprobs": [-0.5, -0.25, -1.0],
            "input_tokens": [1, 2],
        },
        "metric": {"extractive_match": 1.0},
    }
    for name, values in changes.items():
        row[name] = {**row[name], **values}
    return row


def flat(**changes):
    """A row of an older version: flat columns."""
    return {
        "full_prompt": "2 + 3?",
        "gold": ["5"],
        "gold_index": [0],
        "choices": [],
        "predictions": ["so \\boxed{5}", "\\boxed{6}"],
        "cont_tokens": [[11, 12, 13], [14]],
        "metrics": {"em": 1.0},
        **changes,
    }


def test_structs_hold_texts_tokens_and_the_log_probabilities_of_the_first(parquet, imported):
    problems, report = imported("lighteval", parquet([structs()]))
    problem = problems["3"]
    assert (problem.prompt, problem.gold) == ("2 + 3?", "5"), "of a whole solution the gold answer is what it boxes"
    first, second = problem.paths
    assert [path.text for path in problem.paths] == ["so \\boxed{5}", "\\boxed{6}"]
    assert [path.token_ids.tolist() for path in problem.paths] == [[11, 12, 13], [14]]
    assert first.signals["logprobs"].tolist() == [-0.5, -0.25, -1.0] and "logprobs" not in second.signals
    assert [path.correct for path in problem.paths] == [True, False]
    missing = [report.missing[signal].total() for signal in ("prefix text", "logprobs")]
    assert (report.verdicts, missing) == (0, [2, 1])


def test_flat_columns_hold_the_same(parquet, imported):
    problems, _ = imported("lighteval", parquet([flat(), flat(gold=["6"])]))
    assert [(problem.prompt, problem.gold) for problem in problems.values()] == [("2 + 3?", "5"), ("2 + 3?", "6")]
    assert [path.correct for path in problems["0"].paths] == [True, False]
    assert [path.correct for path in problems["1"].paths] == [False, True]
    assert [path.token_ids.tolist() for path in problems["0"].paths] == [[11, 12, 13], [14]]


@pytest.mark.parametrize("layout", [structs, flat])
@pytest.mark.parametrize(
    ("choices", "gold", "texts", "correct"),
    [
        ([" 28 calls, 7 a day: 28/7=<<28/7=4>>4 days\n#### 4"], "4", [r"\boxed{4}", r"\boxed{28}"], [True, False]),
        (["ANSWER: We get $\\boxed{\\frac12}$."], "\\frac12", ["ANSWER: 1/2", "ANSWER: 2"], [True, False]),
        ([r" thus $\boxed 3$."], "3", [r"\boxed{3}", "no"], [True, False]),
        (["5", "five"], '["5", "five"]', [r"\boxed{5}", r"\boxed{\text{five}}"], [True, True]),
        (["C"], "C", ["Long. Answer: C", "Answer: A carbon atom"], [True, False]),
    ],
)
def test_golds_of_both_layouts(parquet, imported, layout, choices, gold, texts, correct):
    if layout is structs:
        row = structs(
            doc={"choices": choices, "gold_index": list(range(len(choices)))},
            model_response={"text": texts, "output_tokens": [], "logprobs": []},
        )
    else:
        row = flat(gold=choices, predictions=texts, cont_tokens=[])
    problems, _ = imported("lighteval", parquet([row]))
    (problem,) = problems.values()
    assert (problem.gold, [path.correct for path in problem.paths]) == (gold, correct)


def test_the_letter_of_gpqa_is_at_its_index(parquet, imported):
    doc = {"choices": ["A", "B", "C", "D"], "gold_index": 2}
    row = structs()
    row["doc"] |= doc
    row["model_response"] |= {"text": ["Answer: C", "Answer: B"]}
    problems, report = imported("lighteval", parquet([row]))
    assert [(path.answer, path.correct) for path in problems["3"].paths] == [("C", True), ("B", False)]
    assert report.guessed == "choice"


def test_an_answer_is_looked_for_behind_the_thinking_that_lighteval_took_away(parquet, imported):
    response = {"text": ["<r>\\boxed{6}</r> It is 5.", "\\boxed{5}"], "text_post_processed": ["The answer is 5.", ""]}
    problems, _ = imported("lighteval", parquet([structs(model_response=response)]))
    assert [path.answer for path in problems["3"].paths] == ["5", "5"]


def test_columns_that_were_saved_as_python_spells_them_are_read(parquet, imported):
    row = {name: str(value) for name, value in flat().items()}
    assert row["predictions"] == "['so \\\\boxed{5}', '\\\\boxed{6}']"
    problems, _ = imported("lighteval", parquet([row | {"full_prompt": "[2 + 3]?"}]))
    assert [path.text for path in problems["0"].paths] == ["so \\boxed{5}", "\\boxed{6}"]
    assert problems["0"].prompt == "[2 + 3]?"


def test_texts_that_look_like_lists_stay_texts_in_a_table_that_has_lists(parquet):
    (problem,) = read(parquet([flat(predictions="[1, 2]", gold="[1, 2]", cont_tokens=[])]), Options())
    assert (problem.gold, [path.text for path in problem.paths]) == ("[1, 2]", ["[1, 2]"])


def test_spelled_columns_are_never_run(parquet, tmp_path):
    mark = tmp_path / "ran"
    row = {"predictions": f"[open({str(mark)!r}, 'w')]", "gold": "5"}
    with pytest.raises(UserError, match=r"row 1: field 'predictions' is .* not the spelling of a list"):
        list(read(parquet([row]), Options()))
    assert not mark.exists()


def test_one_generation_has_the_verdict_of_the_only_metric_or_of_the_named_one(parquet, imported):
    response = {"text": ["\\boxed{6}"], "output_tokens": [[1]], "logprobs": [-1.0]}
    path = parquet([structs(model_response=response)])
    assert dict(imported("lighteval", path)[1].disagreements) == {"t/3": 1}
    path = parquet([structs(model_response=response, metric={"other": 0.0})], "two.parquet")
    assert imported("lighteval", path, "two")[1].verdicts == 0
    report = imported("lighteval", path, "named", fields={"correct": "other"})[1]
    assert (report.verdicts, report.disagreements.total()) == (1, 0)


def test_without_tokens_of_the_source_they_are_words(parquet, imported):
    schema = pa.schema(
        [
            (
                "__doc__",
                pa.struct([("query", pa.string()), ("choices", pa.list_(pa.string())), ("gold_index", pa.int64())]),
            ),
            (
                "__model_response__",
                pa.struct([("text", pa.list_(pa.string())), ("output_tokens", pa.list_(pa.list_(pa.int64())))]),
            ),
        ]
    )
    row = {
        "__doc__": {"query": "?", "choices": ["4", "5"], "gold_index": 1},
        "__model_response__": {"text": ["5 \\boxed{5}", ""], "output_tokens": [[], []]},
    }
    problems, report = imported("lighteval", parquet([row], schema=schema))
    assert (problems["0"].gold, report.tokens, [path.length for path in problems["0"].paths]) == ("5", "words", [6, 0])
    assert dict(report.empty) == {"t/0": 1}


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (structs(doc={"gold_index": [1]}), "field 'doc.gold_index' is 1, not the index of one of 1 choices"),
        (structs(doc={"choices": ["", "5"]}), r"field 'doc.choices\[0\]' is '', not a gold answer"),
        (structs(model_response={"text": []}), "field 'model_response.text' is a list of 0"),
        (flat(gold=[]), r"field '\(index in gold\)' is 0, not the index of one of 0 choices"),
        (structs() | {"doc": None}, "field 'doc' is None, not a struct"),
    ],
)
def test_a_malformed_row_is_named(parquet, row, complaint):
    good = structs() if "doc" in row else flat()
    with pytest.raises(UserError, match=rf"rows\.parquet, row 2: {complaint}"):
        list(read(parquet([good, row]), Options()))


def test_another_table_is_refused(parquet):
    with pytest.raises(UserError, match="neither the columns doc and model_response nor predictions and gold"):
        list(read(parquet([{"text": "x"}]), Options()))
