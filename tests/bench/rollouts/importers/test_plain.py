from __future__ import annotations

import csv
import gzip
import hashlib
import json

import numpy as np
import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.importers.contract import Options
from prunebench.bench.rollouts.importers.plain import read
from prunebench.methods.signals import PRIVILEGED, Signal

TEXTS = ["so \\boxed{5}", "is it \\boxed{6}", "who knows"]


def per_path():
    rows = [
        {"problem": "a", "prompt": "2 + 3?", "answer": "5", "text": text, "finish": finish}
        for text, finish in zip(TEXTS, ("stop", "length", "abort"), strict=True)
    ]
    return [rows[0], {"problem": 7, "answer": 12, "text": "\\boxed{12}"}, *rows[1:]]


def per_problem():
    return [
        {"problem": "a", "prompt": "2 + 3?", "answer": "5", "text": TEXTS, "finish": ["stop", "length", "abort"]},
        {"problem": 7, "answer": 12, "text": ["\\boxed{12}"]},
    ]


@pytest.mark.parametrize("rows", [per_path, per_problem])
@pytest.mark.parametrize("kind", ["json_lines", "parquet"])
def test_rows_per_path_and_per_problem_say_the_same(rows, kind, request, imported):
    made = rows()
    if kind == "parquet":
        made = [{**row, "problem": str(row["problem"]), "answer": str(row["answer"])} for row in made]
    problems, report = imported("plain", request.getfixturevalue(kind)(made))
    assert list(problems) == ["a", "7"]
    first, second = problems["a"], problems["7"]
    assert (first.task, first.prompt, first.gold, second.prompt, second.gold) == ("t", "2 + 3?", "5", "", "12")
    assert [path.path for path in first.paths] == [0, 1, 2]
    assert [path.text for path in first.paths] == TEXTS
    assert [path.answer for path in first.paths] == ["5", "6", None]
    assert [path.correct for path in first.paths] == [True, False, False]
    assert [path.finish for path in first.paths] == ["stop", "length", "unknown"]
    assert [path.length for path in first.paths] == [6, 7, 2], "so \\ boxed { 5 }; is it \\ boxed { 6 }: words"
    assert second.paths[0].correct is True
    assert (report.problems, report.paths, dict(report.unanswered)) == (2, 4, {"t/a": 1})


def test_fields_of_other_names_are_mapped(json_lines, imported):
    path = json_lines([{"uid": "a", "ground_truth": "5", "responses": TEXTS, "ok": [True, True, None]}])
    fields = {"problem": "uid", "answer": "ground_truth", "text": "responses", "correct": "ok"}
    problems, report = imported("plain", path, fields=fields)
    assert [path.correct for path in problems["a"].paths] == [True, False, False]
    assert (report.verdicts, dict(report.disagreements)) == (2, {"t/a": 1}), "the source took 6 for 5"


def test_tokens_of_the_source_carry_their_signals(json_lines, imported):
    row = {
        "problem": "a",
        "answer": "5",
        "tokens": [["so", " \\boxed{5}"], ["\\boxed{6}"]],
        "token_ids": [[4, 9], [8]],
        "logprobs": [[-0.5, -1.25], [-2]],
        "entropy": [[0.25, 0.5], None],
    }
    problems, report = imported("plain", json_lines([row]))
    first, second = problems["a"].paths
    assert first.token_ids.tolist() == [4, 9] and first.signals["logprobs"].tolist() == [-0.5, -1.25]
    assert first.signals["logprobs"].dtype == np.float32
    assert (first.text, first.text[: first.ends[0]]) == ("so \\boxed{5}", "so")
    assert first.signals["entropy"].tolist() == [0.25, 0.5]
    assert {name: column.tolist() for name, column in second.signals.items()} == {"logprobs": [-2]}
    never = {signal.name: 2 for signal in Signal if signal not in PRIVILEGED}  # in a source of texts and numbers
    for there in ("text", "token_ids", "logprobs"):
        del never[there]
    assert {signal: counts.total() for signal, counts in report.missing.items()} == never | {"entropy": 1}
    assert not report.dropped


def test_signals_that_do_not_fit_their_tokens_are_dropped_and_counted(json_lines, imported):
    rows = [
        {"problem": "a", "answer": "5", "text": "so \\boxed{5}", "logprobs": [-1.0, -2.0]},
        {"problem": "a", "answer": "5", "text": "yes 5", "logprobs": [-1.0, -2.0]},
        {"problem": "a", "answer": "5", "text": "5", "logprobs": [-1.0, -2.0]},
    ]
    problems, report = imported("plain", json_lines(rows))
    dropped, kept, dropped_too = problems["a"].paths
    assert (dropped.length, dropped.signals) == (6, {})
    assert (kept.length, kept.signals["logprobs"].tolist()) == (2, [-1.0, -2.0])
    assert (dropped_too.length, dropped_too.signals) == (1, {})
    assert report.dropped == {"logprobs": ["t/a path 0: 2 of 6", "t/a path 2: 2 of 1"]}
    assert report.missing["logprobs"].total() == 2
    told = "logprobs: dropped where there is not one finite value per token (t/a path 0: 2 of 6; t/a path 2: 2 of 1)"
    assert told in report.lines()


@pytest.mark.parametrize("bad", [float("-inf"), float("nan"), None, -9999.0])
def test_a_token_without_a_value_costs_its_path_the_signal(json_lines, imported, bad):
    row = {"problem": "a", "answer": "5", "text": r"x \boxed{5}", "token_ids": [1, 2]}
    rows = [{**row, "logprobs": [-0.1, bad]}, {**row, "logprobs": [-0.1, -0.2]}]
    problems, report = imported("plain", json_lines(rows))
    assert [list(path.signals) for path in problems["a"].paths] == [[], ["logprobs"]]
    assert [path.correct for path in problems["a"].paths] == [True, True]
    told = "logprobs: dropped where there is not one finite value per token (t/a path 0: a value is missing)"
    assert told in report.lines()
    assert any(line.startswith("missing for 1 of 2 paths: logprobs (t/a: 1); no method") for line in report.lines())


def test_missing_values_of_pandas_read_like_null(parquet, imported):
    nan = float("nan")
    row = {"problem": "p", "answer": 42.0, "text": r"\boxed{42}", "correct": nan, "path": nan}
    rows = [{**row, "final_answer": nan}, {**row, "final_answer": 42.0}]
    problems, report = imported("plain", parquet(rows), grading="string")
    assert problems["p"].gold == "42"
    assert [(path.path, path.answer, path.correct) for path in problems["p"].paths] == [
        (0, "42", True),
        (1, "42", True),
    ]
    assert report.verdicts == 0


CHAT = [
    {"role": "user", "content": "2 + 3?"},
    {"role": "assistant", "content": r"\boxed{5}", "reasoning_content": r"first \boxed{6}"},
]


def test_messages_hold_the_prompt_and_the_path(json_lines, imported):
    thought = "<think>\nfirst \\boxed{6}\n</think>\n\n\\boxed{5}"
    rows = [
        {"problem": "a", "answer": "5", "messages": CHAT},
        {"problem": "b", "answer": "5", "messages": [CHAT, CHAT]},
    ]
    problems, report = imported("plain", json_lines([*rows, {"answer": "5", "messages": CHAT}]))
    for problem in problems.values():
        assert problem.prompt == "2 + 3?"
        assert {(path.text, path.answer) for path in problem.paths} == {(thought, "5")}
    assert [len(problem.paths) for problem in problems.values()] == [1, 2, 1]
    assert list(problems)[2] == "2 + 3?"
    assert report.promptless == 0


@pytest.mark.parametrize(
    "given",
    [
        {"prompt": CHAT[:1]},
        {"messages": CHAT[:1]},
        {"messages": CHAT},
        {"prompt": '[{"role": "user", "content": "2 + 3?"}]'},
    ],
)
def test_a_prompt_may_be_messages_beside_the_text(json_lines, given):
    (problem,) = read(json_lines([{"problem": "a", "answer": "5", "text": ["x", "y"], **given}]), Options())
    assert (problem.prompt, [path.text for path in problem.paths]) == ("2 + 3?", ["x", "y"])


def test_tokens_of_openai_s_log_probabilities_are_those_of_the_path(json_lines, imported):
    content = [{"token": "so", "logprob": -0.5}, {"token": r" \boxed{5}", "logprob": -1.25}]
    row = {"problem": "a", "answer": "5", "text": r"so \boxed{5}", "logprobs": {"content": content}}
    problems, report = imported("plain", json_lines([row]))
    (path,) = problems["a"].paths
    assert (path.length, path.text[: path.ends[0]], path.signals["logprobs"].tolist()) == (2, "so", [-0.5, -1.25])
    assert report.tokens == "source"


def test_tokens_of_vllm_s_log_probabilities_give_prefixes_their_text(json_lines, imported):
    candidates = [
        {"4": {"logprob": -0.5, "decoded_token": "so"}},
        {"9": {"logprob": -1, "decoded_token": r" \boxed{5}"}},
    ]
    row = {"problem": "a", "answer": "5", "text": r"so \boxed{5}", "token_ids": [4, 9], "logprobs": candidates}
    problems, _ = imported("plain", json_lines([row, {**row, "token_ids": [4]}]))
    first, second = problems["a"].paths
    assert (first.token_ids.tolist(), first.ends.tolist(), list(first.signals)) == ([4, 9], [2, 12], ["logprobs"])
    assert (second.token_ids.tolist(), second.ends, second.signals) == ([4], None, {}), (
        "there are two values for a token"
    )


@pytest.mark.parametrize("kind", ["json", "csv", "json.gz", "csv.gz", "jsonl.gz"])
def test_other_files_hold_the_same_rows(tmp_path, imported, kind):
    rows = [
        {"problem": "a", "answer": "5", "text": "so \\boxed{5},\nyes", "token_ids": [1, 2], "logprobs": [-0.5, -1.0],
         "final_answer": "", "correct": True, "finish": "stop", "path": 3},
        {"problem": "a", "answer": "5", "text": "", "token_ids": [], "logprobs": [], "final_answer": 6,
         "correct": False, "finish": "", "path": 4},
    ]  # fmt: skip
    path = tmp_path / f"rows.{kind}"
    with gzip.open(path, "wt", newline="") if kind.endswith("gz") else path.open("w", newline="") as stream:
        if kind.startswith("jsonl"):
            stream.writelines(json.dumps(row) + "\n" for row in rows)
        elif kind.startswith("json"):
            json.dump({"meta": 1, "rows": rows}, stream)
        else:
            table = csv.DictWriter(stream, rows[0])
            table.writeheader()
            table.writerows(rows)
    problems, report = imported("plain", path)
    first, second = problems["a"].paths
    assert [(path.path, path.length, path.answer, path.correct) for path in (first, second)] == [
        (3, 2, "5", True), (4, 0, "6", False),
    ]  # fmt: skip
    assert (first.signals["logprobs"].tolist(), first.finish, report.verdicts) == ([-0.5, -1.0], "stop", 2)
    assert report.disagreements.total() == 0


def test_lists_in_a_table_may_be_spelled_by_python(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("problem,answer,text,tokens,logprobs,correct\na,5,xy,\"['x', 'y']\",\"[-0.5, nan]\",False\n")
    (problem,) = read(path, Options())
    (only,) = problem.paths
    assert (only.tokens, only.correct) == (["x", "y"], False)
    np.testing.assert_array_equal(only.logprobs, np.array([-0.5, np.nan], np.float32))


def test_json_beside_rows_says_something_about_them(tmp_path, json_lines):
    json_lines([GOOD], "rows.jsonl")
    (tmp_path / "config.json").write_text("{}")
    assert len(list(read(tmp_path, Options()))) == 1


def test_a_problem_that_is_given_by_its_text_is_named_by_its_hash(json_lines):
    text = "What is 2 + 3?\nGive one number."
    path = json_lines([{"problem": text, "answer": "5", "text": "5"}] * 2)
    (problem,) = read(path, Options())
    assert problem.problem == "problem-" + hashlib.sha256(text.encode()).hexdigest()[:12]
    assert (problem.prompt, problem.task, len(problem.paths)) == (text, "rows", 2)


def test_paths_are_stored_by_the_number_that_the_source_gives_them(json_lines, imported):
    rows = [{"problem": "a", "answer": "5", "text": text, "path": 9 - i} for i, text in enumerate(TEXTS)]
    problems, _ = imported("plain", json_lines(rows))
    assert [(path.path, path.text) for path in problems["a"].paths] == [(7, TEXTS[2]), (8, TEXTS[1]), (9, TEXTS[0])]


@pytest.mark.parametrize(
    ("numbers", "wrong"),
    [((1, 1), "1 for 2 of them"), ((1, None), "none for 1 of them"), ((1, 1, None), "1 for 2 of them, none for 1")],
)
def test_paths_with_equal_or_with_some_numbers_are_refused(json_lines, imported, tmp_path, numbers, wrong):
    path = json_lines([{"problem": "a", "answer": "5", "text": "x", "path": number} for number in numbers])
    with pytest.raises(UserError, match=f"problem 'a', field 'path' of its {len(numbers)} paths: {wrong}"):
        imported("plain", path)
    assert not (tmp_path / "out").exists()


def test_what_is_no_log_probability_is_refused(json_lines, imported):
    row = {"problem": "a", "answer": "5", "tokens": ["so", " 5"], "text": "so 5"}
    with pytest.raises(UserError, match=r"line 2: field 'logprobs\[1\]' is 0.7, not a log-probability, at most 0"):
        imported("plain", json_lines([{**row, "logprobs": [-0.5, 0.0]}, {**row, "logprobs": [-0.5, 0.7]}]))


def test_what_contradicts_and_what_repeats_is_counted(json_lines, imported):
    row = {"problem": "a", "answer": "5", "text": r"\boxed{5}"}
    rows = [row, {**row, "final_answer": "6"}, {**row, "final_answer": "5.0"}, {**row, "text": "5"}]
    problems, report = imported("plain", json_lines(rows))
    assert [path.answer for path in problems["a"].paths][:3] == ["5", "6", "5.0"]
    lines = report.lines()
    assert "paths whose own answer is not the one that their text states, and counts: 1 (t/a: 1)" in lines
    assert "paths that repeat another of the problem word by word: 2 (t/a: 2)" in lines


def test_tokens_that_do_not_make_up_their_text_are_told(json_lines, imported):
    rows = [{"problem": "a", "answer": "5", "text": "so 5", "tokens": tokens} for tokens in (["so", " 5"], ["so", "6"])]
    _, report = imported("plain", json_lines(rows))
    told = "paths whose tokens do not make up their text, so that their prefixes have none: 1 (t/a: 1)"
    assert told in report.lines()


def test_log_probabilities_of_other_tokens_are_told_to_be_unread(json_lines, imported):
    others = [{"token": "so", "logprob": -1.0}]
    content = [{"token": "so", "logprob": -0.1, "top_logprobs": others}, {"token": " 5", "logprob": -0.2}]
    row = {"problem": "a", "answer": "5", "text": "so 5"}
    rows = [{**row, "logprobs": logprobs} for logprobs in ({"content": content}, content, [-0.1, -0.2])]
    unread = [
        problem.unread
        for problem in read(json_lines([{**one, "problem": str(n)} for n, one in enumerate(rows)]), Options())
    ]
    assert unread == [{"top_logprobs inside logprobs"}, {"top_logprobs inside logprobs"}, set()]
    _, report = imported("plain", json_lines(rows[:1]))
    assert any(line.endswith(": top_logprobs inside logprobs") for line in report.lines())


GOOD = {"problem": "a", "answer": "5", "text": "x"}


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"answer": "5", "text": "x"}, "no 'problem' among its fields .answer, text.: .* --set problem=FIELD"),
        ({"problem": "a", "text": "x"}, "no 'answer' among its fields .problem, text.: .* --set answer=FIELD"),
        ({**GOOD, "problem": None}, "field 'problem' is None, not a name"),
        ({**GOOD, "answer": None}, "field 'answer' is None"),
        ({"problem": "a", "answer": " ", "text": "x"}, "field 'answer' is ' '"),
        (
            {"problem": "a", "answer": "5"},
            "there is no 'text', nor messages, token_ids or tokens, among its fields .problem, answer.: name the right "
            "one with --set text=FIELD",
        ),
        ({**GOOD, "problem": ["a"]}, "field 'problem' is a list of 1"),
        ({**GOOD, "problem": True}, "field 'problem' is True"),
        ({**GOOD, "answer": 10**30}, "field 'answer' is a huge integer"),
        ({**GOOD, "text": 5}, "field 'text' is 5, not a text"),
        ({**GOOD, "text": ["x", 5]}, "path 1: field 'text' is 5, not a text"),
        ({**GOOD, "text": []}, "the problem has no paths"),
        ({**GOOD, "text": "\ud800"}, "field 'text' is .*ud800.* halves of surrogate pairs"),
        ({**GOOD, "text": ["x", "y"], "finish": ["stop"]}, "field 'finish' is a list of 1, not a list of 2"),
        ({**GOOD, "text": ["x", "y"], "finish": "stop"}, "field 'finish' is 'stop', not a list of 2"),
        ({**GOOD, "token_ids": [1, -1]}, r"field 'token_ids\[1\]' is -1, not an integer from 0"),
        ({**GOOD, "token_ids": [1.5]}, r"field 'token_ids\[0\]' is 1.5"),
        ({**GOOD, "token_ids": [2**31]}, r"field 'token_ids\[0\]' is 2147483648"),
        ({**GOOD, "token_ids": "12"}, "field 'token_ids' is '12', not a list"),
        ({**GOOD, "logprobs": [-1, "x"]}, r"field 'logprobs\[1\]' is 'x', not a number"),
        ({**GOOD, "logprobs": [10**40]}, r"field 'logprobs\[0\]' is a huge integer"),
        ({**GOOD, "tokens": ["a", 1]}, r"field 'tokens\[1\]' is 1, not a text"),
        ({**GOOD, "correct": "yes"}, "field 'correct' is 'yes', not true, false, 0 or 1"),
        ({**GOOD, "correct": 0.5}, "field 'correct' is 0.5"),
        ({**GOOD, "finish": 1}, "field 'finish' is 1, not a text"),
        ({**GOOD, "path": -1}, "field 'path' is -1"),
        ({**GOOD, "answer": "6"}, "gold answer '6' here and '5' above"),
    ],
)
def test_a_malformed_row_is_named_by_file_line_field_and_value(json_lines, row, complaint):
    path = json_lines([GOOD, row])
    with pytest.raises(UserError, match=rf"rows\.jsonl, line 2.*{complaint}"):
        list(read(path, Options()))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b'{"problem": ', "not valid JSON"),
        (b"[1]", "no object with named fields"),
        (b'{"problem": "\xff"}', r"not UTF-8 \(byte 14 is 0xff"),
        (b"[" * 100_000, "not readable as JSON"),
        (b'{"answer": ' + b"9" * 5000 + b"}", "not readable as JSON"),
    ],
)
def test_a_line_that_is_no_object_is_named(tmp_path, line, complaint):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"problem": "a", "answer": "5", "text": "x"}\n\n' + line + b"\n")
    with pytest.raises(UserError, match=rf"rows\.jsonl, line 3: {complaint}"):
        list(read(path, Options()))


def test_the_name_of_a_mapped_field_is_the_one_in_the_complaint(json_lines):
    with pytest.raises(UserError, match=r"no 'gold' among its fields \(problem, text\): .* --set answer=FIELD"):
        list(read(json_lines([{"problem": "a", "text": "x"}]), Options(fields={"answer": "gold"})))


def test_rows_of_parquet_are_counted_over_its_batches(parquet):
    path = parquet([{**GOOD, "correct": 1}] * 40 + [{**GOOD, "correct": 3}])
    with pytest.raises(UserError, match=r"rows\.parquet, row 41: field 'correct' is 3"):
        list(read(path, Options()))


def test_a_file_that_is_no_parquet_is_named(tmp_path):
    path = tmp_path / "rows.parquet"
    path.write_text("hello")
    with pytest.raises(UserError, match=r"rows\.parquet: cannot be read as Parquet"):
        list(read(path, Options()))


def test_a_name_that_stands_for_two_questions_is_refused(json_lines, tmp_path):
    rows = [{"problem": "a", "prompt": f"2 + {i}?", "answer": "5", "text": "so"} for i in (3, 4)]
    with pytest.raises(UserError, match=r"line 2: problem 'a' has the prompt '2 \+ 4\?' here and '2 \+ 3\?' above"):
        list(read(json_lines(rows), Options()))
    rows[1]["prompt"] = " 2 +  3?"
    (problem,) = read(json_lines(rows), Options())
    assert len(problem.paths) == 2


def test_the_report_says_how_long_paths_are(json_lines, imported):
    rows = [{"problem": "a", "answer": "5", "text": " ".join(["so"] * count)} for count in (2, 3, 10)]
    _, report = imported("plain", json_lines(rows))
    assert "lengths of paths: mean 5 words (guideline --task-length), median 3" in report.lines()


ROW = {"problem": "a", "answer": "5", "text": "so \\boxed{5}"}


def test_fields_that_nobody_reads_are_told(json_lines, imported):
    _, report = imported("plain", json_lines([{**ROW, "finnish": "length", "corect": 1}, {**ROW, "level": 2}]))
    assert "fields that are not read (docs/importing.md has the others): corect, finnish, level" in report.lines()
    assert not any("verdicts of the source" in line for line in report.lines())


def test_verdicts_that_were_read_are_told(json_lines, imported):
    _, report = imported("plain", json_lines([{**ROW, "finish": "length", "correct": True}] * 2))
    assert "verdicts of the source: 2" in report.lines()
    assert not any("not read" in line for line in report.lines())
