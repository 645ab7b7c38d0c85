from __future__ import annotations

from types import SimpleNamespace

from prunebench.bench.cli.planning import Extent, plan_of
from prunebench.bench.config import preset
from prunebench.bench.engines.arithmetic import Arithmetic
from prunebench.bench.training.label_plans import RECIPES

MODEL = SimpleNamespace(num_key_value_heads=2, num_attention_heads=4, hidden_size=128, num_hidden_layers=5)


def test_a_plan_by_hand():
    extent = Extent(40, 400, 10_000.0, 240, Arithmetic.of(MODEL, 1, 4).kv_bytes)
    text = "\n".join(plan_of(preset("demo", problems=10), RECIPES["cpu"], extent))
    assert "40 problems x 64 paths = 2,560 paths of expected 240 tokens each" in text
    assert "614,400 tokens, 1.0 minutes" in text, "all paths to their end"
    assert "166,400 tokens, 0.3 minutes" in text, "40 * (64 * 40 + 8 * 200)"
    assert "(400 problems x 32 paths): 3,072,000 tokens" in text
    assert "19,968,000 tokens, 33.3 minutes" in text, "400 * (4 * 220 + 8 * 200 + 4 * 160) * 16"
    assert "16,384,000 tokens, 27.3 minutes" in text, "2560 * 32 * 200"
    # a position holds 2 * 5 layers * 2 heads * 32 * 4 bytes = 2560: 64 * 240 and 64 * 40 + 8 * 200 positions
    assert "38 MiB uncut, 10 MiB after the cut" in text


def test_without_a_length_the_cap_bounds_the_cost():
    assert "at most 900 tokens each" in plan_of(preset("demo"), RECIPES["cpu"], Extent(48, 400, 1e4))[0]


def test_what_is_not_done_is_not_planned():
    text = "\n".join(plan_of(preset("demo"), RECIPES["cpu"], Extent(48, 0, 1e4), control=False))
    assert "training" not in text and "potential" not in text and "not known" in text


def test_long_times_are_said_in_hours_of_the_device():
    extent = Extent(30, 0, 2_000.0)
    lines = plan_of(preset("paper/ds-qwen-1.5b"), RECIPES["paper"], extent, control=False)
    assert "31,457,280 tokens, 4.4 device-hours" in "\n".join(lines), "30 * 64 * 16384 / 2000 / 3600"
