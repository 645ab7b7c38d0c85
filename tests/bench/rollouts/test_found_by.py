from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.tables.main import _found_by
from prunebench.bench.rollouts.pools import record_of
from prunebench.bench.rollouts.store import RolloutStore, StoredPath, StoredProblem
from prunebench.tasks import catalogue
from prunebench.tasks.dataset_task import DatasetTask
from prunebench.tasks.task_spec import checked

MANIFEST = {"model": "m", "model_hash": "0" * 16, "seed": 0}


def problem(rules):
    paths = [
        StoredPath(n, np.array([1, 2]), "x", "stop", answer, answer == "5", "number 3", rule=rule)
        for n, (answer, rule) in enumerate(rules)
    ]
    return StoredProblem("math500", "p", "2+3?", np.array([1]), "5", paths)


def stored(folder, rules):
    store = RolloutStore.create_or_open(folder, MANIFEST)
    with store.shards:
        store.append([problem(rules)])
    return store


def test_the_rule_that_found_an_answer_is_kept_and_counted(tmp_path):
    rules = [("5", "boxed"), ("5", "stated"), ("4", "stated"), (None, None)]
    (read,) = stored(tmp_path, rules).read()
    assert [path.found_by for path in read.paths] == ["boxed", "stated", "stated", "none"]
    record = record_of(None, read, 1, None)
    assert record.found_by == ("boxed", "stated", "stated", "none")
    assert record.take([3, 0]).found_by == ("none", "boxed")
    assert _found_by([record]) == ["answers found: 50.0 % stated, 25.0 % boxed, 25.0 % none"]
    assert _found_by([dataclasses.replace(record, found_by=None)]) == []


def test_a_store_without_rules_has_the_columns_that_it_had_and_counts_as_unknown(tmp_path):
    (read,) = stored(tmp_path, [("5", None), (None, None)]).read()
    (file,) = tmp_path.glob("*.parquet")
    assert "rule" not in pq.read_schema(file).names
    assert [path.found_by for path in read.paths] == ["unknown", "none"]


def task(folder, **keys):
    return DatasetTask(checked("here", {"name": "sums", "data": "sums.csv", **keys}), folder)


def test_a_task_that_could_not_say_strict_was_strict(tmp_path):
    described = task(tmp_path, strict=True).described()
    old = {**described, "spec": dict(described["spec"])}
    del old["spec"]["strict"], old["spec"]["last_number"]
    assert catalogue.as_of_today(old) == described
    assert catalogue.from_description(old).answer_of("The answer is 5.") is None
    store = stored(tmp_path / "store", [("5", None)])
    store.keep_tasks([task(tmp_path, strict=True)])
    with pytest.raises(UserError, match=r"its answers were read from boxes only, which strict: true in the task says"):
        store.keep_tasks([task(tmp_path)])


def test_any_of_several_gold_answers_is_right_and_they_vote_as_one(tmp_path):
    (tmp_path / "sums.jsonl").write_text('{"question": "How many?", "answer": ["4", "two squared", 4]}\n')
    sums = DatasetTask(checked("here", {"name": "sums", "data": "sums.jsonl", "answer_type": "text"}), tmp_path)
    (asked,) = sums.problems("test")
    assert asked.answer == '["4", "two squared"]'
    assert [sums.grade(answer, asked.answer).correct for answer in ("Two  squared", "4", "5")] == [True, True, False]
    paths = [
        StoredPath(n, np.array([1, 2]), "x", "stop", answer, answer != "5", "text 1")
        for n, answer in enumerate(("4", "5", "two squared", None))
    ]
    record = record_of(None, StoredProblem("sums", "p", "", np.array([1]), asked.answer, paths), 1, None, task=sums)
    assert record.answer_class.tolist() == [0, 1, 0, -1] and record.gold_class == 0
    assert sums.grade("[1, 2]", "[1, 2]").correct, "an interval is no list of answers"


def test_strict_is_what_the_papers_tasks_and_the_synthetic_families_are():
    strict = {name for name in catalogue.names() if catalogue.get(name).strict}
    words = {"gsm8k", "svamp", "asdiv", "multiarith", "addsub", "singleeq"}
    assert strict == {*catalogue.names()} - words - {"math500", "zebralogic-mc"}
    assert not task(catalogue.BENCHMARKS).strict


def test_last_number_is_refused_where_it_makes_no_sense(tmp_path):
    assert task(tmp_path, last_number=True).answer_of("That makes 7 apples.") == "7"
    with pytest.raises(UserError, match="last_number = true, but answers of type 'choice' are no numbers; take it out"):
        task(tmp_path, last_number=True, answer_type="choice")
    with pytest.raises(UserError, match="strict and last_number are both true"):
        task(tmp_path, last_number=True, strict=True)
