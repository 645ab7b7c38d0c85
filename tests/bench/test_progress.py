from __future__ import annotations

from prunebench.bench.progress import left_out_lines


def test_what_is_left_out_for_one_reason_is_one_line():
    reasons = {"stop": "learns", "prm": "needs a judge", "step": "learns"}
    assert list(left_out_lines(reasons)) == ["left out: stop, step: learns", "left out: prm: needs a judge"]


def test_what_was_left_out_is_named_once():
    reasons = {"stop": "method 'stop' learns", "entropy": "entropy needs a signal", "a": "no", "b": "no"}
    said = ["left out: method 'stop' learns", "left out: entropy needs a signal", "left out: a, b: no"]
    assert list(left_out_lines(reasons)) == said
