from __future__ import annotations

import json

import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.importers.contract import Options
from prunebench.bench.rollouts.importers.lm_eval import read


def sample(doc, responses, target, filtered=None, name="none", **metrics):
    """A line as the harness logs it."""
    return {
        "doc_id": doc,
        "doc": {"question": "2 + 3?"},
        "target": target,
        "arguments": {"gen_args_0": {"arg_0": f"Question {doc}", "arg_1": {"until": ["\n\n"]}}},
        "resps": [responses],
        "filtered_resps": responses if filtered is None else filtered,
        "filter": name,
        "metrics": list(metrics),
        "doc_hash": "d",
        "prompt_hash": "p",
        "target_hash": "t",
        **metrics,
    }


GSM8K = "Two and three.\n#### 5"


def test_repeats_of_a_document_are_its_paths(json_lines, imported):
    texts = ["it is \\boxed{5}", "\\boxed{6}", "no idea"]
    rows = [sample(0, texts, GSM8K, exact_match=0.0), sample(1, ["\\boxed{7}"], "so \\boxed{7}", exact_match=0.0)]
    problems, report = imported("lm-eval", json_lines(rows, "samples_gsm8k_2025.jsonl"))
    first, second = problems["0"], problems["1"]
    assert (first.task, first.prompt, first.gold, second.gold) == ("t", "Question 0", "5", "7")
    assert [path.text for path in first.paths] == texts
    assert [path.answer for path in first.paths] == ["5", "6", None]
    assert [path.correct for path in first.paths] == [True, False, False]
    assert (report.verdicts, dict(report.disagreements)) == (1, {"t/1": 1}), "of repeats the metric is no verdict"


def test_what_the_filter_found_is_the_answer(json_lines, imported):
    texts = ["The answer is 5.", "So 6", "hm"]
    path = json_lines([sample(0, texts, GSM8K, filtered=["5", " 6 ", "[invalid]"])])
    problems, _ = imported("lm-eval", path)
    assert [path.answer for path in problems["0"].paths] == ["5", "6", None]


def test_a_filter_that_took_one_of_several_says_nothing_of_the_others(json_lines, imported):
    path = json_lines([sample(0, ["It comes to 5.", "\\boxed{6}"], GSM8K, filtered=["5"])])
    problems, _ = imported("lm-eval", path)
    assert [path.answer for path in problems["0"].paths] == [None, "6"]


def test_of_several_filters_one_must_be_chosen(json_lines, imported):
    rows = [
        sample(doc, ["It comes to 5."], GSM8K, filtered=[answer], name=name, exact_match=float(answer == "5"))
        for doc in (0, 1)
        for name, answer in (("strict-match", "[invalid]"), ("flexible-extract", "5"))
    ]
    path = json_lines(rows)
    with pytest.raises(
        UserError, match="filters flexible-extract, strict-match; choose one: --set filter=strict-match"
    ):
        imported("lm-eval", path)
    with pytest.raises(UserError, match="no filter 'strict'; there are: flexible-extract, strict-match"):
        imported("lm-eval", path, fields={"filter": "strict"})
    problems, report = imported("lm-eval", path, fields={"filter": "flexible-extract"})
    assert [(len(problem.paths), problem.paths[0].correct) for problem in problems.values()] == [(1, True)] * 2
    assert (report.verdicts, report.disagreements.total()) == (2, 0)
    problems, report = imported("lm-eval", path, "strict", fields={"filter": "strict-match"})
    assert [problem.paths[0].answer for problem in problems.values()] == [None, None]


def without_filter(row, **changes):
    """A row of a version before 0.4.7."""
    return {name: value for name, value in row.items() if name not in ("filter", "metrics")} | changes


@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_a_filter_without_a_name_is_no_path(kind, tmp_path, json_lines, imported):
    rows = [
        without_filter(sample(doc, ["It comes to 5."], GSM8K, filtered=[answer], exact_match=float(answer == "5")))
        for answer in ("[invalid]", "5")
        for doc in (0, 1)
    ]
    path = json_lines(rows)
    if kind == "json":
        path = tmp_path / "rows.json"
        path.write_text(json.dumps(rows, indent=2))
    with pytest.raises(UserError, match=r"filters 1, 2 \(numbered as they follow, .*; choose one: --set filter=2"):
        imported("lm-eval", path)
    problems, report = imported("lm-eval", path, fields={"filter": "2"})
    assert [[path.answer for path in problem.paths] for problem in problems.values()] == [["5"], ["5"]]
    assert (report.verdicts, report.disagreements.total()) == (2, 0)


def test_rows_that_differ_in_their_responses_are_paths(json_lines, imported):
    """Two runs in one file, before filters were named."""
    rows = [without_filter(sample(0, [text], GSM8K)) for text in (r"\boxed{5}", r"\boxed{6}")]
    problems, _ = imported("lm-eval", json_lines(rows))
    assert [path.answer for path in problems["0"].paths] == ["5", "6"]


@pytest.mark.parametrize(
    ("response", "filtered", "answer"),
    [
        ("3", "3", "3"),
        ("It is 24. Final Answer: The final answer is $24$. I hope it is correct.", None, "24"),
        ("<think>hm</think>" + "We see that. " * 100 + r"\boxed{3}", "We see that. " * 100 + r"\boxed{3}", "3"),
        ("◁think▷ 4, no ◁end▷ So the answer is 3.", "So the answer is 3.", "3"),
        ("<think>4</think> We cannot tell", "We cannot tell", None),
        ("The answer is 5.", "[invalid]", "5"),
        ("hm", "[invalidanswer]", None),
        ("I get 18. Done", "18.", "18"),
        ("it is \\frac{1}{2} then", "\\frac{1}{2}", "\\frac{1}{2}"),
    ],
)
def test_the_answer_of_a_response(json_lines, imported, response, filtered, answer):
    row = sample(0, [response], "3", filtered=None if filtered is None else [filtered])
    problems, _ = imported("lm-eval", json_lines([row]))
    assert problems["0"].paths[0].answer == answer


@pytest.mark.parametrize(
    ("target", "gold"),
    [
        (r"solution $\fbox{3}$.", "3"),
        (r"so it is $\boxed 3$.", "3"),
        ("We add.\n#### 1,234", "1,234"),
        ("['3', '4']", '["3", "4"]'),
        (["3", "4"], '["3", "4"]'),
        ("[3, 4]", "[3, 4]"),
        (18, "18"),
        ("(C)", "(C)"),
    ],
)
def test_the_gold_answer_of_a_target(json_lines, target, gold):
    assert next(read(json_lines([sample(0, ["x"], target)]), Options())).gold == gold


def test_a_target_that_states_no_answer_is_refused(json_lines):
    target = "She had 28 apples and gave all of them to 7 friends, so each of them got some"
    with pytest.raises(UserError, match=r"line 1: field 'target' is 'She had .* not an answer, nor does it state one"):
        list(read(json_lines([sample(0, ["x"], target)]), Options()))


def test_letters_are_choices_and_indices_of_choices_too(json_lines, imported):
    """GPQA; the second row has the index of a choice as its target."""
    rows = [sample(0, ["The answer is (C) water"], "(C)"), sample(1, ["A carbon atom"], "(A)")]
    problems, report = imported("lm-eval", json_lines(rows))
    assert [problem.paths[0].answer for problem in problems.values()] == ["C", None]
    assert problems["0"].paths[0].correct is True
    assert "answers: choice, as every gold answer is a letter (--answer-type says otherwise)" in report.lines()
    row = {**sample(0, ["The answer is (C)"], "2"), "doc": {"choices": ["x", "y", "z"]}}
    problems, _ = imported("lm-eval", json_lines([row]), "indices", answer_type="choice")
    assert (problems["0"].gold, problems["0"].paths[0].correct) == ("C", True)


@pytest.mark.parametrize(
    ("arguments", "prompt"),
    [
        ({"gen_args_0": {"arg_0": ['[{"role": "user", "content": "2+1?"}]'], "arg_1": {}}}, "2+1?"),
        ({"gen_args_0": {"arg_0": '[{"role": "user", "content": "2+1?"}]', "arg_1": {}}}, "2+1?"),
        ([[[{"role": "user", "content": [{"type": "text", "text": "2+1?"}]}], {}]], "2+1?"),
        (
            [['[{"role": "system", "content": "Be short."}, {"role": "user", "content": "2+1?"}]', {}]],
            "system: Be short.\n\nuser: 2+1?",
        ),
        ([["[{1, 2}] is a set?", {}]], "[{1, 2}] is a set?"),
        ({}, ""),
    ],
)
def test_the_prompt_of_a_chat(json_lines, imported, arguments, prompt):
    problems, report = imported("lm-eval", json_lines([sample(0, ["5"], GSM8K) | {"arguments": arguments}]))
    assert problems["0"].prompt == prompt
    assert ("problems without a prompt: 1" in report.lines()) == (prompt == "")


def test_the_only_metric_holds_the_verdict(json_lines, imported):
    path = json_lines([sample(0, ["\\boxed{5}"], GSM8K, math_verify=0.0)])
    assert imported("lm-eval", path)[1].disagreements.total() == 1


def test_a_metric_that_is_a_share_is_no_verdict(json_lines, imported):
    path = json_lines([sample(0, ["\\boxed{5}"], GSM8K, bleu=0.37)])
    assert imported("lm-eval", path)[1].verdicts == 0


def test_another_metric_may_hold_the_verdict(json_lines, imported):
    path = json_lines([sample(0, ["\\boxed{5}"], GSM8K, exact_match=0, math_verify=1)])
    assert imported("lm-eval", path)[1].disagreements.total() == 1
    assert imported("lm-eval", path, "other", fields={"correct": "math_verify"})[1].disagreements.total() == 0


def test_arguments_as_they_are_in_memory_hold_the_prompt(json_lines):
    row = sample(0, ["5"], GSM8K) | {"arguments": [["Question in memory", {}]]}
    assert next(read(json_lines([row]), Options())).prompt == "Question in memory"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"doc_id": None}, "field 'doc_id' is None"),
        ({"target": ""}, "field 'target' is ''"),
        ({"resps": None}, "field 'resps' is None, not a list"),
        ({"resps": [[]]}, "field 'resps' is a list of 1, not a list with at least one response"),
        ({"resps": [[["-1.5", "False"]]]}, r"field 'resps\[0\]' is a list of 2, not a generated text"),
        ({"exact_match": 0.5}, "field 'exact_match' is 0.5"),
        ({"doc_id": 0, "target": "9"}, "gold answer '9' here and '5' above"),
    ],
)
def test_a_malformed_sample_is_named(json_lines, change, complaint):
    path = json_lines([sample(0, ["5"], GSM8K), {**sample(1, ["5"], GSM8K), **change}])
    with pytest.raises(UserError, match=rf"rows\.jsonl, line 2.*{complaint}"):
        list(read(path, Options()))
