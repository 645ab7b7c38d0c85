from __future__ import annotations

import math

import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.columns import METRICS
from prunebench.bench.evaluation.reproduce import differences, read_results
from prunebench.bench.evaluation.results import EqualCostRow, ResultRow, Results
from prunebench.bench.evaluation.statistics import Interval


def row(**changed):
    text = {"task": "t", "model": "m", "method": "stop", "quadrant": "IV", "policy": "topk:8", "finished": "rank"}
    counts = {"n": 64, "k": 8, "prefix_tokens": 40, "n_problems": 12}
    values = dict.fromkeys(METRICS.names(), 1.5) | {"headroom": math.nan}
    metrics = {name: Interval(changed.pop(name, value), 1.5, 1.5) for name, value in values.items()}
    return ResultRow(**{**text, **counts, "configuration": "defaults", "metrics": metrics, **changed})


def results(*rows, **changed):
    return Results(
        **{
            "command": "prunebench compare", "seed": 0, "versions": {"torch": "2"}, "hashes": {"model": "a"},
            "device": "cpu", "sampling": {}, "problems": {"t": ["p"]}, "rows": list(rows), "setup": {"config": {}},
            **changed,
        }
    )  # fmt: skip


def test_equal_runs_have_no_difference_whatever_their_seconds_and_commands():
    before, after = results(row()), results(row(check_seconds=9.0, launch_seconds=7.0), command="another")
    assert differences(before, after) == []


def test_every_difference_is_named_with_both_values():
    before = results(row(), row(method="entropy"))
    after = results(
        row(avg_at_k=2.5),
        row(method="margin"),
        hashes={"model": "b"},
        notes=[{"table": "main", "task": "t", "text": "other"}],
    )
    assert differences(before, after) == [
        "hash of model: a before, b now",
        "rows: t entropy is missing now",
        "rows: t margin is new",
        "rows: t stop: avg_at_k was 1.5, is 2.5",
        "notes differ",
    ]


def test_undefined_equals_undefined_only():
    assert differences(results(row()), results(row(headroom=0.0))) == ["rows: t stop: headroom was nan, is 0.0"]
    assert differences(results(row(headroom=0.0)), results(row())) == ["rows: t stop: headroom was 0.0, is nan"]


def test_other_tables_are_held_together_too():
    values = {name: 1.0 for name, field in EqualCostRow.model_fields.items() if field.annotation is float}
    values |= {name: Interval(1.0, 1.0, 1.0) for name in ("maj_at_k", "maj_delta")}
    fixed = {"task": "t", "method": "stop", "quadrant": "IV", "policy": "ratio:0.5", "stored_paths": 64, "draws": 4}
    one = EqualCostRow(**{**values, **fixed, "n": 5, "capped": False, "n_problems": 12})
    other = one.model_copy(update={"n": 6})
    found = differences(results(row(), equal_cost=[one]), results(row(), equal_cost=[other]))
    assert found == ["equal_cost: t stop: n was 5, is 6"]


def test_a_file_survives_writing_and_reading(tmp_path):
    one = results(row())
    one.write(tmp_path / "results.json")
    assert differences(one, read_results(tmp_path / "results.json")) == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "no such file"),
        ("{", "not the results of this version"),
        ('{"command": 1}', "not the results of this version"),
        (results(row(), setup={}).model_dump_json(), "it does not say how it was made"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path, content, sentence):
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=sentence):
        read_results(path)
