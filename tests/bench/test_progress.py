from __future__ import annotations

from prunebench.bench.progress import left_out_lines


def test_what_is_left_out_for_one_reason_is_one_line():
    reasons = {"stop": "learns", "prm": "needs a judge", "step": "learns"}
    assert list(left_out_lines(reasons)) == ["left out: stop, step: learns", "left out: prm: needs a judge"]


def test_what_was_left_out_is_named_once():
    reasons = {
        "stop": "method 'stop' learns",
        "otv": "method 'otv' learns",
        "entropy": "entropy needs a signal",
        "a": "no",
    }
    said = ["left out: stop, otv: learns", "left out: entropy: needs a signal", "left out: a: no"]
    assert list(left_out_lines(reasons)) == said


def test_one_command_trains_all_that_are_not_trained():
    reasons = {name: f"method '{name}' is new; train it: prunebench train {name} --data D" for name in ("stop", "otv")}
    assert list(left_out_lines(reasons)) == [
        "left out: stop, otv: is new; train it: prunebench train stop otv --data D"
    ]
