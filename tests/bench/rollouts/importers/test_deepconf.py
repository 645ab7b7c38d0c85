from __future__ import annotations

import pickle

import numpy as np
import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.importers.contract import Options
from prunebench.bench.rollouts.importers.deepconf import read
from prunebench.bench.rollouts.importers.units import load_tokenizer


def trace(text, ids, answer, correct, reason="stop"):
    return {
        "stop_reason": reason,
        "text": text,
        "token_ids": ids,
        "num_tokens": len(ids),
        "confs": [np.float64(14.5)] * len(ids),
        "extracted_answer": answer,
        "is_correct": correct,
    }


def question(**changes):
    """The file of a question as the offline script writes it."""
    return {
        "question_id": 3,
        "run_id": "0",
        "question": "2 + 3?",
        "ground_truth": "5",
        "all_traces": [
            trace("so \\boxed{5}", [7, 8, 9], "5", True),
            trace("\\boxed{6}", [7], "6", True, "length"),
            trace("hm", [4, 4], None, False),
        ],
        "config": {"window_size": 2048},
        **changes,
    }


def save(folder, content, name="q.pkl", protocol=4):
    path = folder / name
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_traces_become_paths_without_their_confidences(tmp_path, imported, protocol):
    problems, report = imported("deepconf", save(tmp_path, question(), protocol=protocol))
    problem = problems["3"]
    assert (problem.task, problem.prompt, problem.gold) == ("t", "2 + 3?", "5")
    assert [path.token_ids.tolist() for path in problem.paths] == [[7, 8, 9], [7], [4, 4]]
    assert [path.answer for path in problem.paths] == ["5", "6", None]
    assert [path.correct for path in problem.paths] == [True, False, False]
    assert [path.finish for path in problem.paths] == ["stop", "length", "stop"]
    assert not any({"topk_logprobs", "self_certainty"} & set(path.signals) for path in problem.paths)
    assert all(path.ends is None for path in problem.paths)
    assert (report.verdicts, dict(report.disagreements), report.missing["topk_logprobs"].total()) == (3, {"t/3": 1}, 3)


def test_paths_that_deepconf_stopped_are_left_out(tmp_path, imported):
    content = question(warmup_traces=question()["all_traces"][:1], final_traces=[])
    del content["all_traces"]
    content["final_traces"] = [trace("so", [7], None, False, "gconf_threshold"), trace("\\boxed{5}", [1], "5", True)]
    problems, report = imported("deepconf", save(tmp_path, content))
    assert [path.text for path in problems["3"].paths] == ["so \\boxed{5}", "\\boxed{5}"]
    assert report.left_out == 1
    assert "left out: 1 paths that the source had stopped early" in report.lines()


def test_a_question_of_today_is_named_by_qid(tmp_path, imported):
    content = question(qid=7, warmup_traces=[], final_traces=[])
    del content["question_id"]
    for trace_ in content["all_traces"]:
        del trace_["is_correct"]
    problems, report = imported("deepconf", save(tmp_path, content))
    assert (list(problems), report.paths, report.verdicts) == (["7"], 3, 0)


def test_an_online_run_is_not_doubled(tmp_path, imported):
    """Its file lists every trace again, under ``all_traces``, and is larger than their texts."""
    warmup, final = question()["all_traces"][:2]
    stopped = trace("so", [7], None, False, "gconf_threshold")
    content = question(warmup_traces=[warmup], final_traces=[final, stopped], all_traces=[warmup, final, stopped])
    problems, report = imported("deepconf", save(tmp_path, content))
    assert [path.answer for path in problems["3"].paths] == ["5", "6"]
    assert report.left_out == 1


@pytest.mark.parametrize(
    ("extracted", "text", "answer"),
    [
        ("None", "hm", None),
        (None, "The answer is 5.", "5"),
        ("", "The answer is 5.", "5"),
        ("answer in words. After much work and many more tries we see that it must be as said before", "no", None),
    ],
)
def test_what_is_no_answer_of_the_source_is_none(tmp_path, imported, extracted, text, answer):
    problems, _ = imported("deepconf", save(tmp_path, question(all_traces=[trace(text, [1], extracted, False)])))
    assert [path.answer for path in problems["3"].paths] == [answer]


def test_a_tokenizer_gives_prefixes_their_text(tmp_path, imported, tokenizer):
    ids = load_tokenizer(tokenizer).encode("the answer").ids
    path = save(tmp_path, question(all_traces=[trace("the answer", ids, "5", True)]))
    problems, _ = imported("deepconf", path, tokenizer=tokenizer)
    (only,) = problems["3"].paths
    assert [only.text[:end] for end in only.ends] == ["the", "the answer"]


def test_token_ids_may_be_numpy_arrays(tmp_path):
    content = question(all_traces=[trace("x", np.array([3, 258]), "5", True)])
    (problem,) = read(save(tmp_path, content), Options())
    assert problem.paths[0].token_ids.tolist() == [3, 258]


def test_every_file_of_a_folder_is_a_question_and_none_may_come_twice(tmp_path, imported):
    folder = tmp_path / "runs"
    folder.mkdir()
    save(folder, question(), "a.pkl")
    save(folder, question(question_id=4), "b.pkl")
    assert list(imported("deepconf", folder)[0]) == ["3", "4"]
    save(folder, question(question_id=4, run_id="1"), "c.pkl")
    problems, _ = imported("deepconf", folder, "runs")
    assert [len(problem.paths) for problem in problems.values()] == [3, 6], "two runs of one question"
    save(folder, question(question_id=4), "d.pkl")
    with pytest.raises(UserError, match=r"d\.pkl: run 0 of question 4 is there twice; remove one of them"):
        imported("deepconf", folder, "other")
    (folder / "d.pkl").unlink()
    save(folder, question(run_id="1"), "e.pkl")
    with pytest.raises(UserError, match="problem '3' is there twice; import the files one by one"):
        imported("deepconf", folder, "other")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ([1], "a list of 1 where the dict of a question is wanted"),
        (question(all_traces=None), "the question: field 'all_traces' is None, not a list of traces"),
        (question(all_traces={}), "field 'all_traces' is a dict of 0, not a list"),
        (question(all_traces=[5]), r"field 'all_traces\[0\]' is 5, not a dict"),
        (question(question_id=None), "field 'question_id' is None"),
        (question(ground_truth=None), "field 'ground_truth' is None"),
        (question(all_traces=[trace(5, [1], "5", True)]), r"q\.pkl, all_traces\[0\]: field 'text' is 5"),
        (question(all_traces=[trace("x", [True], "5", True)]), r"field 'token_ids\[0\]' is True"),
        (question(all_traces=[trace("x", [1], ["5"], True)]), "field 'extracted_answer' is a list of 1"),
    ],
)
def test_another_content_is_named(tmp_path, content, complaint):
    with pytest.raises(UserError, match=complaint):
        list(read(save(tmp_path, content), Options()))


def test_a_file_that_repeats_its_traces_without_end_is_refused(tmp_path):
    """Two hundred references to one trace of a thousand tokens: a small file, a large import."""
    content = question(all_traces=[trace("x", [5] * 1000, "5", True)] * 200)
    path = save(tmp_path, content)
    assert path.stat().st_size < 200 * 1000
    with pytest.raises(UserError, match=r"all_traces\[\d+\]: its traces are larger than the file"):
        list(read(path, Options()))
