from __future__ import annotations

from prunebench.bench.progress import left_out_lines


def test_what_is_left_out_for_one_reason_is_one_line():
    reasons = {"stop": "learns", "prm": "needs a judge", "step": "learns"}
    assert list(left_out_lines(reasons)) == ["left out: stop, step: learns", "left out: prm: needs a judge"]
