"""What a run found, in sentences with their numbers. Nothing is said without an interval."""

from __future__ import annotations

import math

from prunebench.bench.evaluation.formats import number, with_interval
from prunebench.bench.evaluation.results import LEVEL, EqualCostRow, ResultRow, Results
from prunebench.figures.style import rows_of


def answer(results: Results, task: str) -> str:
    """Whether to prune, in one sentence: what is established, and by whom."""
    rows = rows_of(results, task)
    methods = [row for row in rows if row.quadrant != "control" and not math.isnan(row["delta"].mean)]
    if not methods:
        return "Nothing is answered: no method besides the controls took part."
    methods = [row for row in methods if not math.isnan(row["p_holm"].mean)] or methods  # who competes
    k, n = _usual(methods)
    established = [row for row in methods if row["p_holm"].mean < LEVEL and row["delta"].mean > 0]
    if not established:
        return _nothing_established(methods, k, n)
    best = max(established, key=lambda row: row["delta"].mean)
    count = "one" if len(established) == 1 else str(len(established))
    return (
        f"Prune: {count} of {len(methods)} methods {'keeps' if len(established) == 1 else 'keep'} better paths than "
        f"chance would, and {best.method} (quadrant {best.quadrant}) gains most, "
        f"{with_interval(best['delta'], signed=True)} points of avg@k at {best.k} of {best.n} paths, with "
        f"{number(best['reduction'].mean)} % of the tokens saved."
    )


def _nothing_established(methods: list[ResultRow], k: int, n: int) -> str:
    best = max(methods, key=lambda row: row["delta"].mean)
    worse, gain = _worse(methods), f"{with_interval(best['delta'], signed=True)} points"
    kept = f"better paths than chance would, {k} of {n}"
    if len(worse) == len(methods):
        return f"Do not prune: no method keeps {kept}{_lose(worse)}; the least is lost with {best.method}, {gain}."
    if len(methods) == 1:
        return f"Not established: that {best.method} keeps {kept}; the difference is {gain}."
    return (
        f"Not established: none of {len(methods)} methods keeps {kept}, after correction for all of them; the largest "
        f"difference is that of {best.method}, {gain}{_lose(worse)}."
    )


def _worse(rows: list[ResultRow]) -> list[str]:
    return [row.method for row in rows if row["p_holm"].mean < LEVEL and row["delta"].mean < 0]


def _lose(worse: list[str], verb: str = "keep", what: str = "worse ones") -> str:
    return f"; {', '.join(worse)} {verb}{'s' if len(worse) == 1 else ''} {what}" if worse else ""


def summary(results: Results, task: str) -> list[str]:
    """Three to five sentences: what was compared, equal retention, headroom, equal cost."""
    rows = rows_of(results, task)
    none = next(row for row in rows if row.method == "none")
    methods = [row for row in rows if row.quadrant != "control"]
    k, n = _usual(methods)
    tasks = "one task" if len(results.problems) == 1 else f"{len(results.problems)} tasks"
    sentences = [
        f"{none.n_problems} problems of {tasks}, {none.n} paths each by {none.model}. Of all "
        f"paths {with_interval(none['avg_at_k'])} % are right, and their majority "
        f"vote is in {number(none['maj_at_k'].mean)} % of the problems.",
        _retention(methods, k, n),
        _headroom(rows),
        _cost(results.equal_cost),
    ]
    return [sentence for sentence in sentences if sentence]


def _usual(methods: list[ResultRow]) -> tuple[int, int]:
    usual = next((row for row in methods if row.policy.startswith("topk")), methods[0] if methods else None)
    return (usual.k, usual.n) if usual else (0, 0)


def _retention(methods: list[ResultRow], k: int, n: int) -> str:
    better = sorted(
        (row for row in methods if row["p_holm"].mean < LEVEL and row["delta"].mean > 0),
        key=lambda row: -row["delta"].mean,
    )
    tested = sum(not math.isnan(row["p_holm"].mean) for row in methods)
    head = f"At equal retention ({k} of {n} paths) "
    if not tested:
        said = "no method was tested"
    elif not better:
        said = f"no method of {tested} keeps better paths than chance would, after correction for all of them"
    else:
        named = "; ".join(f"{r.method} {with_interval(r['delta'], signed=True)}" for r in better)
        said = f"{len(better)} of {tested} methods keep better paths than chance would, after correction: {named}"
    return f"{head}{said}{_lose(_worse(methods))} (points of avg@k, Holm)."


def _headroom(rows: list[ResultRow]) -> str:
    potential = next((row for row in rows if row.method == "potential"), None)
    if potential is None or math.isnan(potential["delta"].mean):
        return ""
    compared = [row for row in rows if row.quadrant != "control" and not math.isnan(row["headroom"].mean)]
    best = max(compared, key=lambda row: row["headroom"].mean, default=None)
    gain = with_interval(potential["delta"], signed=True)
    if best is None:
        return f"Whoever knew the success rate of every prefix would gain {gain} points."
    share = with_interval(best["headroom"], decimals=0)
    return (
        f"Whoever knew the success rate of every prefix would gain {gain} points; {best.method} captures {share} % of "
        "that, the most of all methods."
    )


def _cost(rows: list[EqualCostRow]) -> str:
    methods = [row for row in rows if row.quadrant != "control" and not math.isnan(row.p_holm)]  # who competes
    if not methods:
        return ""
    better = [row for row in methods if row.p_holm < LEVEL and row.maj_delta.mean > 0]
    best = max(methods, key=lambda row: row.maj_delta.mean)
    gain = with_interval(best.maj_delta, signed=True)
    head = f"At equal cost ({rows[0].budget:,.0f} generator tokens per problem) "
    if better:
        return (
            f"{head}{', '.join(row.method for row in better)} vote{'s' if len(better) == 1 else ''} better than "
            f"keeping all; the largest gain is {gain}."
        )
    if best.maj_delta.mean <= 0:
        return f"{head}no method gains; the least is lost with {best.method}, {gain} points of maj@k."
    lost = _lose([row.method for row in methods if row.p_holm < LEVEL], "vote", "worse")
    return f"{head}no gain survives the correction; the largest is that of {best.method}, {gain} points of maj@k{lost}."
