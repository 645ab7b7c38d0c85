"""A comparison as the suite makes it: thirteen methods on four families and on all of them, with undefined values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from prunebench.bench.evaluation.results import (
    FrontierRow,
    Note,
    PairRow,
    QuadrantName,
    Representative,
    ResultRow,
    Results,
)
from prunebench.bench.evaluation.statistics import Interval
from tests.figures.rows import flat_row

NAN = math.nan

#: method: quadrant, gain in points, AUROC, tokens over the usual ones, check seconds
METHODS: dict[str, tuple[QuadrantName, float, float, float, float]] = {
    "none": ("control", 0.0, NAN, NAN, 0.0),
    "random": ("control", 0.02, 0.5, 0.0, 0.0),
    "oracle": ("control", 45.0, 1.0, 0.0, 0.0),
    "potential": ("control", 17.9, 0.79, 0.0, 0.0),
    "length": ("control", -1.8, 0.47, 0.0, 0.00002),
    "slim-sc": ("I", 0.4, 0.51, 0.0, 0.004),
    "text-classifier": ("II", 3.1, 0.58, 2560.0, 0.011),
    "perplexity": ("III", 4.2, 0.60, 0.0, 0.0001),
    "entropy": ("III", 4.4, 0.61, 0.0, 0.0001),
    "deepconf": ("III", 3.9, 0.60, 0.0, 0.0003),
    "linear-probe": ("IV", 8.8, 0.69, 0.0, 0.0009),
    "stop": ("IV", 11.7, 0.73, 256.0, 0.031),
}
TASKS = {"all": 48, "recurrence": 12, "power": 12, "congruence": 12, "program": 12}
EXTRA = "mix_of_everything"


def row(task: str, method: str, base: float, half: float) -> ResultRow:
    quadrant, gain, auroc, extra, check = METHODS.get(method, ("mixed", 12.1, 0.74, 300.0, 0.034))
    everything = method == "none"
    control = quadrant == "control"
    tokens = 14_300.0 if everything else 4_150.0 + extra
    headroom = {"none": 0.0, "random": 0.1, "potential": 100.0}.get(method, 100 * gain / 17.9)
    values: dict[str, float] = {
        "avg_at_n": base, "avg_at_k": base + gain, "avg_at_k_low": base + gain - half,
        "avg_at_k_high": base + gain + half, "delta": NAN if everything else gain,
        "delta_low": NAN if everything else gain - half / 3, "delta_high": NAN if everything else gain + half / 3,
        "p_holm": NAN if control else max(0.0002, 0.4 - gain / 25), "maj_at_k": base + gain + 6,
        "pass_at_k": min(100.0, base + gain + 20), "tokens": tokens,
        "reduction": 100 * (1 - tokens / 14_300), "auroc": auroc,
        "auroc_low": auroc - half / 150, "auroc_high": min(1.0, auroc + half / 150), "headroom": headroom,
        "headroom_low": headroom - 2.2 * half, "headroom_high": headroom + 2.2 * half, "launch_seconds": 1.31,
        "check_seconds": check, "paper_tokens": tokens, "finished_share": 0.4, "leaky_share": 1.2,
    }  # fmt: skip
    if task == "power" and not everything:  # potential is not better than none here: no ratio
        values |= {"headroom": NAN, "headroom_low": NAN, "headroom_high": NAN}
    if method in ("random", "none"):
        values |= {"auroc_low": NAN, "auroc_high": NAN}
    return flat_row(
        values
        | {
            "task": task, "model": "embedded", "method": method, "quadrant": quadrant, "n": 64,
            "k": 64 if everything else 8, "prefix_tokens": 40, "n_problems": TASKS[task],
            "policy": "topk:8", "finished": "rank",
            "configuration": "{}", "note": "trained at 20, 40 and 80 tokens" if method == "stop" else "",
        }
    )  # fmt: skip


def curve(method: str) -> list[FrontierRow]:
    """A method from 64 kept paths to one; ``none`` pays for whole paths only."""
    quadrant, gain, _, extra, _ = METHODS.get(method, ("mixed", 12.1, 0.74, 300.0, 0.034))
    rows = []
    for k in (64, 32, 16, 8, 4, 2, 1):
        judged = 0.0 if method == "none" else extra
        tokens = 14_300 * k / 64 if method == "none" else 2_700 + judged + 11_600 * k / 64
        pruned = 0.0 if method == "none" else gain * (1 - k / 64)
        vote = 44 + 4 * np.log2(k) / 6 - 9 * (k < 4) + pruned
        interval = Interval(pruned, pruned - 5, pruned + 6)
        rows.append(
            FrontierRow(
                task="all", method=method, quadrant=quadrant, k=k, tokens=tokens, cost=tokens - judged / 2,
                avg_at_k=44.1 + pruned, maj_at_k=vote, avg_gain=interval, maj_gain_tokens=interval,
                maj_gain_cost=interval, n_problems=48,
            )
        )  # fmt: skip
    return rows


def pair(method: str, other: str, p_holm: float) -> PairRow:
    """All tasks: ``method`` behind ``other``, not beyond chance."""
    behind = Interval(-11.3, -24.9, 2.3)
    tests = {"p": 0.08, "p_holm": p_holm, "p_equal": 0.9, "more": 120.0}
    return PairRow(task="all", method=method, other=other, avg=behind, maj=behind, n_problems=48, **tests)


@pytest.fixture
def results() -> Results:
    bases = dict(zip(TASKS, np.array([44.1, 38.0, 51.5, 47.2, 39.8]), strict=True))
    halves = dict(zip(TASKS, np.array([6.2, 11.0, 13.5, 12.0, 10.8]), strict=True))
    return Results(
        command="prunebench demo",
        seed=0,
        versions={"prunebench": "0.1.0"},
        hashes={"model": "0123456789abcdef"},
        device="cpu",
        sampling={"temperature": 0.6},
        problems={task: [f"{task}-{i}" for i in range(count)] for task, count in TASKS.items()},
        rows=[
            row(task, method, float(bases[task]), float(halves[task])) for task in TASKS for method in [*METHODS, EXTRA]
        ],
        representatives=[
            Representative(quadrant=quadrant, method=method, validation_auroc=0.6, candidates=3)
            for quadrant, method in (("I", "slim-sc"), ("II", "text-classifier"), ("III", "entropy"), ("IV", "stop"))
        ],
        pairs=[pair("text-classifier", "stop", 0.24), pair("entropy", "stop", 0.1), pair("slim-sc", "stop", 0.1)],
        frontier=[row for method in [*METHODS, EXTRA] if method != "random" for row in curve(method)],
        left_out={"prm": "no reward model is installed"},
        notes=[
            Note(table="main", task="all", text="minimum detectable difference 4.1 points at 80 % power"),
            Note(table="main", text="paths that finished before L: 0.4 %; leaky prefixes: 1.2 %"),
        ],
    )
