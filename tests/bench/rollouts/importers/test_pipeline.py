from __future__ import annotations

import hashlib
import json
import pickle

import numpy as np
import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.importers import IMPORTERS, Options, import_rollouts
from prunebench.bench.rollouts.importers.contract import SourcePath, SourceProblem
from prunebench.bench.rollouts.importers.pipeline import settle
from prunebench.bench.rollouts.importers.report import Report
from prunebench.bench.rollouts.importers.units import SourceTokens, WordTokens, load_tokenizer
from prunebench.bench.rollouts.opening import task_of
from prunebench.bench.rollouts.store import RolloutStore
from prunebench.methods.signals import Signal, signal_named
from prunebench.tasks.grading import Verdict
from prunebench.tasks.imported import ImportedTask
from tests.counted import Counted


def rows(problems=6, paths=3):
    return [
        {"problem": f"p{p}", "answer": str(p), "text": f"so \\boxed{{{(p + i) % 2 + p}}}"}
        for p in range(problems)
        for i in range(paths - (p == 5))
    ]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "writer.lock"}


def test_the_manifest_says_where_everything_comes_from(json_lines, tmp_path):
    path = json_lines(rows())
    import_rollouts("plain", path, tmp_path / "out", Options(task="sums", grading="string"))
    manifest = dict(RolloutStore.open(tmp_path / "out").manifest)
    versions = manifest.pop("versions")
    assert manifest == {
        "kind": "rollouts",
        "schema_version": 1,
        "model": "imported",
        "model_hash": "imported",
        "source": {
            "format": "plain",
            "files": {"rows.jsonl": hashlib.sha256(path.read_bytes()).hexdigest()},
            "task": "sums",
            "tokenizer": None,
            "fields": {},
        },
        "tokens": "words",
        "grading": "string",
        "answer_type": "math",
        "sampling": None,
        "sampling_digest": "imported",
        "recording": None,
        "seed": None,
        "n": 2,
        "device": "imported",
    }
    assert {"python", "math-verify", "prunebench"} <= set(versions)


def test_the_same_command_again_imports_nothing_and_leaves_every_byte(json_lines, tmp_path):
    path, counts = json_lines(rows()), []
    first = import_rollouts("plain", path, tmp_path / "out", Options("t"), Counted(counts.append))
    assert (first.problems, first.paths, first.already, sum(counts)) == (6, 17, 0, 17)
    before = contents(tmp_path / "out")
    second = import_rollouts("plain", path, tmp_path / "out", Options("t"), Counted(counts.append))
    assert (second.problems, second.paths, second.already, sum(counts)) == (0, 0, 6, 34)
    assert contents(tmp_path / "out") == before
    assert second.lines() == [
        "imported 0 problems with 0 paths; 6 problems were there already",
        Report("words").lines()[1],
    ]


def test_an_import_that_was_stopped_goes_on_to_the_same_store(json_lines, tmp_path):
    path = json_lines(rows())
    import_rollouts("plain", path, tmp_path / "whole", Options("t"))

    class StopError(Exception):
        pass

    def stop(paths, left=[5]):  # noqa: B006 - counts down over the calls
        left[0] -= 1
        if not left[0]:
            raise StopError

    with pytest.raises(StopError):
        import_rollouts("plain", path, tmp_path / "cut", Options("t"), Counted(stop))
    assert len(RolloutStore.open(tmp_path / "cut").problems()) == 4, "one sealed shard"
    report = import_rollouts("plain", path, tmp_path / "cut", Options("t"))
    assert (report.already, report.problems) == (4, 2)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_nothing_is_written_of_a_source_that_is_malformed_anywhere(json_lines, tmp_path):
    path = json_lines([*rows(), {"problem": "p9", "answer": "9"}])
    with pytest.raises(UserError, match="line 18"):
        import_rollouts("plain", path, tmp_path / "out", Options("t"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"task": "other"}, "source.task = 't', now it is 'other'"),
        ({"grading": "string"}, "grading = 'equivalence', now it is 'string'"),
        ({"fields": {"text": "text"}}, "source.fields.text = 'not there', now it is 'text'"),
    ],
)
def test_other_options_need_another_folder(json_lines, tmp_path, changed, named):
    path = json_lines(rows())
    import_rollouts("plain", path, tmp_path / "out", Options("t"))
    with pytest.raises(UserError, match=f"this store was made with {named}; use another folder"):
        import_rollouts("plain", path, tmp_path / "out", Options(**{"task": "t", **changed}))


def test_a_source_that_has_changed_needs_another_folder(json_lines, tmp_path):
    path = json_lines(rows())
    import_rollouts("plain", path, tmp_path / "out", Options("t"))
    path.write_text(path.read_text().replace("so ", "So "))
    with pytest.raises(
        UserError, match=r"this store was made with source.files.\S+ = '\w+', now it is '\w+'; use another folder"
    ):
        import_rollouts("plain", path, tmp_path / "out", Options("t"))


@pytest.mark.parametrize(
    ("format", "options", "complaint"),
    [
        ("plane", Options(), "unknown format 'plane': did you mean 'plain'?"),
        ("xyz", Options(), "unknown format 'xyz': known: plain, matrix, lm-eval, lighteval, matharena, deepconf"),
        ("plain", Options(grading="exact"), "grading 'exact' is not known"),
        (
            "plain",
            Options(fields={"txt": "a"}),
            "format plain knows no field 'txt'; its fields: answer, choices, correct",
        ),
        ("matrix", Options(fields={"text": "a"}), "format matrix knows no field 'text'; its fields: none"),
        ("matrix", Options(), r"rows\.jsonl: this format has files that end in \.json; check FORMAT and PATH"),
        ("plain", Options(tokenizer="/no/such"), "tokenizer id '/no/such': no tokenizer can be loaded"),
    ],
)
def test_wrong_options_are_one_sentence(json_lines, tmp_path, format, options, complaint):
    with pytest.raises(UserError, match=complaint.replace("?", r"\?")):
        import_rollouts(format, json_lines(rows()), tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


def test_a_source_without_files_or_without_rows_is_named(tmp_path):
    for path, complaint in (
        (tmp_path / "none", "there is no such file or folder"),
        (tmp_path, "no file in it ends in"),
    ):
        with pytest.raises(UserError, match=complaint):
            import_rollouts("plain", path, tmp_path / "out", Options())
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UserError, match="there is no problem in it"):
        import_rollouts("plain", tmp_path / "empty.jsonl", tmp_path / "out", Options())


def test_files_of_a_folder_are_read_together(json_lines, tmp_path, imported):
    folder = tmp_path / "parts"
    folder.mkdir()
    everything = rows()
    for part in range(2):
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in everything[part::2]))
    problems, report = imported("plain", folder)
    assert (report.problems, report.paths) == (6, 17)
    assert sorted(problems) == [f"p{p}" for p in range(6)]


def test_a_tokenizer_counts_tokens_and_is_in_the_manifest(json_lines, tmp_path, tokenizer):
    path = json_lines([{"problem": "a", "answer": "5", "text": "the answer", "logprobs": [-1, -2]}])
    report = import_rollouts("plain", path, tmp_path / "out", Options("t", tokenizer))
    store = RolloutStore.open(tmp_path / "out")
    (problem,) = store.read()
    assert (problem.paths[0].length, problem.paths[0].signals["logprobs"].tolist()) == (2, [-1, -2])
    assert store.manifest["tokens"] == report.tokens and report.tokens.startswith(f"{tokenizer} ")
    assert store.manifest["source"]["tokenizer"] == tokenizer
    assert f"tokens: those of {report.tokens}" in report.lines()


def test_one_import_has_one_kind_of_tokens(json_lines, tmp_path):
    path = json_lines([{"problem": "a", "answer": "5", "tokens": ["x"]}, {"problem": "b", "answer": "5", "text": "x"}])
    with pytest.raises(UserError, match="problem 'b', its path 0: no tokens, although other paths of this source have"):
        import_rollouts("plain", path, tmp_path / "out", Options("t"))


def test_answers_of_an_import_are_read_by_their_type_and_the_rule_is_kept(json_lines, tmp_path):
    texts = ['"ANSWER": "C"', r"\boxed{B}", "I do not know"]
    path = json_lines([{"problem": "p", "answer": "C", "text": texts}])
    import_rollouts("plain", path, tmp_path / "out", Options("t", answer_type="choice"))
    store = RolloutStore.open(tmp_path / "out")
    (problem,) = store.read()
    found = [(stored.answer, stored.correct, stored.found_by) for stored in problem.paths]
    assert found == [("C", True, "stated"), ("B", False, "boxed"), (None, False, "none")]
    task = task_of(store, "t")
    assert (task.answer_type, task.strict, task.answer_of("The answer is C.")) == ("choice", False, "C")
    manifest = tmp_path / "out" / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["answer_type"]
    manifest.write_text(json.dumps(content))
    before = task_of(RolloutStore.open(tmp_path / "out"), "t")
    assert (before.answer_type, before.strict, before.answer_of("The answer is 5.")) == ("math", True, None)


def of_choices(format, tmp_path, json_lines, parquet):
    """A file of that format with one multiple choice, whose answer is C, and one path that says so."""
    text = "It is water. Answer: C"
    if format == "plain":
        return json_lines([{"problem": "a", "answer": "C", "text": text}])
    if format == "lm-eval":
        return json_lines([{"doc_id": 0, "target": "(C)", "resps": [[text]], "filtered_resps": ["(C)"]}])
    if format == "lighteval":
        doc = {"query": "?", "choices": ["A", "B", "C", "D"], "gold_index": 2}
        return parquet([{"doc": doc, "model_response": {"text": [text]}}])
    if format == "matharena":
        return parquet([{"problem_idx": 1, "model_name": "A", "answer": text, "gold_answer": "C"}])
    path = tmp_path / ("m.json" if format == "matrix" else "d.pkl")
    if format == "matrix":
        path.write_text(json.dumps([{"gold_answer": "C", "probe_freq": 5, "each_branch": [[["C"], 5, "(C)"]]}]))
    else:
        trace = {"text": text, "token_ids": [1]}
        path.write_bytes(pickle.dumps({"qid": 1, "ground_truth": "C", "all_traces": [trace]}))
    return path


@pytest.mark.parametrize("answer_type", ["choice", None])
@pytest.mark.parametrize("format", IMPORTERS)
def test_every_format_holds_choices(format, answer_type, tmp_path, json_lines, parquet, imported):
    path = of_choices(format, tmp_path, json_lines, parquet)
    (problem,) = imported(format, path, answer_type=answer_type)[0].values()
    assert [(stored.answer, stored.correct) for stored in problem.paths] == [("C", True)]
    assert RolloutStore.open(tmp_path / "out").manifest["answer_type"] == "choice"


@pytest.mark.parametrize("format", IMPORTERS)
def test_every_format_refuses_gold_answers_of_another_type(format, tmp_path, json_lines, parquet, imported):
    path = of_choices(format, tmp_path, json_lines, parquet)
    with pytest.raises(UserError, match=r"is '\(?C\)?', not an integer, as --answer-type integer wants"):
        imported(format, path, answer_type="integer")
    assert not (tmp_path / "out").exists()


def test_the_answer_of_the_source_goes_before_what_the_text_boxes():
    source = SourcePath(text="\\boxed{6}", final_answer="5")
    problem = settle(SourceProblem("t", "a", "", "5", [source]), WordTokens(), ImportedTask("t"), Report("words"))
    assert (problem.paths[0].answer, problem.paths[0].correct) == ("5", True)


def test_the_report_counts_and_names_what_is_missing():
    class Undecided(ImportedTask):
        def grade(self, answer, gold):
            return Verdict(None, "nobody") if answer == "?" else super().grade(answer, gold)

    texts = {"\\boxed{5}": True, "\\boxed{6}": True, "\\boxed{?}": True, "nothing": False, "": None}
    sources = [SourcePath(text=text, correct=correct) for text, correct in texts.items()]
    report = Report("words")
    for problem in ("a", "b"):
        settle(SourceProblem("t", problem, "", "5", sources, left_out=1), WordTokens(), Undecided("t"), report)
    assert report.lines() == [
        "imported 2 problems with 10 paths",
        "left out: 2 paths that the source had stopped early",
        "tokens: words, not the model's tokens (--set tokenizer=FOLDER_OR_ID counts those)",
        "lengths of paths: mean 3 words (guideline --task-length), median 5",
        "verdicts of the source: 8",
        "problems without a prompt: 2",
        "paths without an answer that could be parsed: 4 (t/a: 2, t/b: 2)",
        "paths with an answer that could not be graded: 2 (t/a: 1, t/b: 1)",
        "paths graded otherwise than by the source, which graded 8: 2 (t/a: 1, t/b: 1)",
        "paths without a single token, behind all others for every method: 2 (t/a: 1, t/b: 1)",
        "missing: logprobs, topk_logprobs, entropy, self_certainty, varentropy, hidden_state, all_layers, states, "
        "kv_cache, probe, forced_answers",
    ]


def test_many_problems_are_listed_in_short():
    report = Report("source")
    for number in range(11):
        source = SourcePath(length=5)
        settle(SourceProblem("t", f"{number}", "", "5", [source]), SourceTokens(), ImportedTask("t"), report)
    listed = ", ".join(f"t/{number}: 1" for number in range(8))
    assert f"paths without an answer that could be parsed: 11 ({listed} and 3 more problems)" in report.lines()


def richest(format, tmp_path, json_lines, parquet, the):
    """A file with all that the format can hold: one path, the text and token "the"."""
    if format == "plain":
        row = {"text": "the", "tokens": ["the"], "token_ids": [the], "logprobs": [-1.0], "entropy": [0.5]}
        return json_lines([{"problem": "a", "answer": "5", **row}])
    if format == "lm-eval":
        return json_lines([{"doc_id": 0, "target": "5", "resps": [["the"]]}])
    if format == "lighteval":
        doc = {"query": "", "choices": ["5"], "gold_index": 0}
        response = {"text": ["the"], "output_tokens": [[the]], "logprobs": [-1.0]}
        return parquet([{"doc": doc, "model_response": response}])
    if format == "matharena":
        return parquet([{"problem_idx": 1, "model_name": "A", "answer": "the", "gold_answer": "5"}])
    if format == "matrix":
        path = tmp_path / "m.json"
        path.write_text(json.dumps([{"gold_answer": 1, "probe_freq": 5, "each_branch": [[[], 5, "1"]]}]))
        return path
    path = tmp_path / "d.pkl"
    trace = {"text": "the", "token_ids": [the], "confs": [12.5]}
    path.write_bytes(pickle.dumps({"question_id": 1, "ground_truth": "5", "all_traces": [trace]}))
    return path


@pytest.mark.parametrize("format", IMPORTERS)
def test_an_importer_gives_the_signals_that_it_declares(format, tmp_path, json_lines, parquet, imported, tokenizer):
    path = richest(format, tmp_path, json_lines, parquet, load_tokenizer(tokenizer).token_to_id("the"))
    (problem,) = imported(format, path, tokenizer=tokenizer)[0].values()
    (stored,) = problem.paths
    columns = {Signal.TEXT: stored.ends, Signal.TOKEN_IDS: stored.token_ids}
    there = {signal for signal, value in columns.items() if value is not None} | set(map(signal_named, stored.signals))
    assert there == IMPORTERS[format].signals
    assert IMPORTERS[format].name == format
    assert not np.isfinite(problem.launch_seconds), "nobody measured it"
