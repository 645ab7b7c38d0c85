"""The main table: a row per task and method with every metric, and the statements under it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.arithmetic import Arithmetic
from prunebench.bench.evaluation.candidates import Candidate
from prunebench.bench.evaluation.columns import METRICS, Cell
from prunebench.bench.evaluation.grading import Baseline, Graded, baseline, graded
from prunebench.bench.evaluation.ledger import LedgerRow, generator_token
from prunebench.bench.evaluation.metrics import ranks
from prunebench.bench.evaluation.replays import Replays, competing
from prunebench.bench.evaluation.results import POOLED, Note, ResultRow
from prunebench.bench.evaluation.statistics import (
    DECIDED,
    FEWEST_PROBLEMS,
    holm,
    minimum_detectable_difference,
    problems_to_find,
    sign_flip_p,
)
from prunebench.bench.policies import Policy
from prunebench.bench.policies.votes import Majority, Vote
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.bench.rollouts.store import NONE

Array = NDArray[np.float64]
TABLE = "main"


@dataclass(frozen=True)
class MainRows:
    """The rows of every table, the notes under them, and the ledger of every method on every problem."""

    rows: list[ResultRow]
    notes: list[Note]
    ledger: list[LedgerRow]


@dataclass(frozen=True)
class Setting:
    """What the rows of one comparison have in common.

    ``policy`` is the one that the potential is held to; ``arithmetic`` that of the generating model, None where nobody
    knows it; ``spreads`` hold the draw spread by task and method.
    """

    model: str
    prefix_tokens: int
    seed: int
    policy: Policy
    arithmetic: Arithmetic | None = None
    vote: Vote = Majority()  # noqa: RUF009 - frozen
    spreads: Mapping[tuple[str, str], float] | None = None


def main_rows(
    records: Sequence[ProblemRecord], replays: Replays, candidates: Mapping[str, Candidate], setting: Setting
) -> MainRows:
    """One row per task and method, then for task ``all`` when there are several; and the notes under each table.

    Raises ValueError when there is no record, UserError when the policy does not fit them.
    """
    if not records:
        raise ValueError("a comparison needs at least one problem")
    unit = generator_token(records, setting.arithmetic)
    methods = {
        name: graded(candidate, records, replays.of[name], setting.arithmetic, unit, setting.vote)
        for name, candidate in candidates.items()
        if name in replays.of
    }
    base = baseline(records, setting.policy, methods["random"].maj if "random" in methods else None, setting.vote)
    tested = [name for name in competing(candidates, replays) if name in methods]
    rows: list[ResultRow] = []
    notes: list[Note] = []
    for task, problems in tables_of(records).items():
        differences = {name: (method.avg - base.avg)[problems] for name, method in methods.items()}
        p_values, adjusted = significance(differences, tested, setting.seed)
        for name, method in methods.items():
            spread = (setting.spreads or {}).get((task, name), math.nan)
            cell = Cell(method, base, problems, setting.seed, p_values[name], adjusted.get(name, math.nan), spread)
            rows.append(_row(task, cell, setting))
        texts = _notes(records, problems, methods, tested, base, setting)
        notes += [Note(table=TABLE, task=task, text=text) for text in texts]
    return MainRows(rows, notes, [row for method in methods.values() for row in method.ledger])


def _row(task: str, cell: Cell, setting: Setting) -> ResultRow:
    candidate, problems = cell.method.candidate, cell.problems
    return ResultRow(
        task=task,
        model=setting.model,
        method=candidate.name,
        quadrant=candidate.pruner.quadrant().value,
        n=round(float(np.mean([len(cell.method.records[problem].pool) for problem in problems]))),
        k=round(float(cell.method.kept.mean())),
        prefix_tokens=setting.prefix_tokens,
        finished=candidate.policy.finished,
        policy=str(candidate.policy),
        n_problems=len(problems),
        configuration=candidate.configuration,
        note=candidate.note,
        metrics={name: metric.function(cell) for name, metric in METRICS.items()},
    )


def significance(
    differences: Mapping[str, Array], tested: Collection[str], seed: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Sign-flip p of every method's (n,) paired differences, and Holm's over those that are ``tested``."""
    p_values = {name: sign_flip_p(values, seed) for name, values in differences.items()}
    counted = [name for name in differences if name in tested]
    return p_values, dict(zip(counted, holm([p_values[name] for name in counted]), strict=True))


def tables_of(records: Sequence[ProblemRecord]) -> dict[str, NDArray[np.int64]]:
    """The records of every task, in order, and of ``all`` when there are several tasks: the primary family."""
    names = list(dict.fromkeys(record.task for record in records))
    tables = {task: np.array([i for i, record in enumerate(records) if record.task == task]) for task in names}
    if len(tables) > 1:
        tables[POOLED] = np.arange(len(records))
    return tables


def primary_task(records: Sequence[ProblemRecord]) -> str:
    """The pooled table, or the only one."""
    return list(tables_of(records))[-1]


def _notes(
    records: Sequence[ProblemRecord],
    problems: NDArray[np.int64],
    methods: Mapping[str, Graded],
    tested: Sequence[str],
    base: Baseline,
    setting: Setting,
) -> list[str]:
    """The statements under one table, about its ``problems``."""
    notes = [_number_of(len(tested)), *_uncounted(methods, tested)]
    if len(problems) < FEWEST_PROBLEMS:
        few = f"{len(problems)} problems do not tell how much problems differ"
        notes.append(f"no intervals: {few}; at least {FEWEST_PROBLEMS} are needed")
    notes.append(_detectable([methods[name].avg - base.avg for name in tested], problems))
    finished, leaky = (100 * float(share[problems].mean()) for share in (base.finished, base.leaky))
    stated = "without text nobody knows how many are leaky" if math.isnan(leaky) else f"{leaky:.1f} % are leaky"
    notes.append(f"{finished:.1f} % of the prefixes finished before the checkpoint, {stated}")
    unanswered, ungraded = (100 * float(share[problems].mean()) for share in (base.unanswered, base.ungraded))
    notes.append(
        f"{unanswered:.1f} % of the paths state no answer, {ungraded:.1f} % one that nobody could grade: both are wrong"
    )
    notes += _found_by([records[problem] for problem in problems])
    ties = {name: 100 * float(method.vote_tied[problems].mean()) for name, method in methods.items()}
    defined = {name: share for name, share in ties.items() if not math.isnan(share)}
    if any(defined.values()):
        most = max(defined, key=lambda name: defined[name])
        notes.append(f"at most {ties[most]:.1f} % of the votes were tied ({most}); a tie counts its expected value")
    if len(defined) < len(ties):
        names = ", ".join(name for name in ties if name not in defined)
        notes.append(
            f"the vote '{setting.vote.name}' is undefined for {names}: it needs a {setting.vote.reads} in its range "
            "of every path"
        )
    notes += [
        f"{', '.join(group)} rank the paths identically on every problem: count them as one method"
        for group in _duplicates(methods, setting.policy, problems)
    ]
    return notes


def _number_of(candidates: int) -> str:
    if candidates < 2:
        return f"{('no candidate', 'one candidate')[candidates]} besides the controls"
    return f"{candidates} candidates besides the controls; the best of them wins partly by their number"


def _uncounted(methods: Mapping[str, Graded], tested: Sequence[str]) -> list[str]:
    """Who is no candidate though no control either, and why."""
    others = [method.candidate for name, method in methods.items() if name not in tested]
    procedures = ", ".join(one.name for one in others if one.procedure is not None and not one.is_control)
    tied = ", ".join(one.name for one in others if one.competes)
    blind = [name for name, method in methods.items() if method.candidate.is_control and _ties_all(method)]
    chance = ", ".join(name for name in blind if name != "none")
    ending = ", ".join(one.name for one in others if one.policy.over_completed and not one.is_control)
    return [
        f"not among them: {names} ({why})"
        for names, why in (
            (procedures, "procedures with the settings of their sources, not tuned"),
            (tied, "all paths of every problem score alike, nothing is chosen"),
            (ending, "ended once complete paths agree, which is no choice among them: read the vote, not avg@k"),
        )
        if names
    ] + ([f"chosen by the order of the paths, since it ties all of them in every problem: {chance}"] if chance else [])


def _ties_all(method: Graded) -> bool:
    return all(np.ptp(replay.scores) == 0 for draws in method.replays for replay in draws if len(replay.scores))


def _found_by(records: Sequence[ProblemRecord]) -> list[str]:
    """How the final answers of the paths were found, as one note; none where nobody counted."""
    counts = Counter(rule for record in records for rule in record.found_by or ())
    shares = {rule: 100 * count / counts.total() for rule, count in counts.most_common() if rule != NONE}
    if counts[NONE]:
        shares[NONE] = 100 * counts[NONE] / counts.total()
    return [f"answers found: {', '.join(f'{share:.1f} % {rule}' for rule, share in shares.items())}"] if shares else []


def _detectable(differences: Sequence[Array], problems: NDArray[np.int64]) -> str:
    n, what = len(problems), "minimum detectable difference to none"
    if n < 2 or not differences:
        return f"{what}: undefined (it needs {'2 problems' if n < 2 else 'a candidate besides the controls'})"
    deviations = [np.std(difference[problems], ddof=1) for difference in differences]
    varying = [deviation for deviation in deviations if deviation > 0]  # what never differs says nothing of the others
    if not varying:
        return f"{what}: undefined (every candidate differs from none by the same on all problems)"
    typical = 100 * float(np.median(varying))
    points = minimum_detectable_difference(typical, n)
    needed = " / ".join(f"{problems_to_find(typical, size):,.0f}" for size in DECIDED)
    told = f"; {' / '.join(map(str, DECIDED))} points take {needed} problems"
    return f"{what}: {points:.1f} points (two-sided 5 %, 80 % power, {n=}){told}"


def _duplicates(methods: Mapping[str, Graded], policy: Policy, problems: NDArray[np.int64]) -> list[list[str]]:
    """Groups of two and more methods under ``policy`` whose scores order the paths alike, ties included."""
    groups: dict[bytes, list[str]] = {}
    for name, method in methods.items():
        if str(method.candidate.policy) == str(policy):
            rows = [np.stack([replay.scores for replay in method.replays[problem]]) for problem in problems]
            together = [np.concatenate(rows)] if len({row.shape[1] for row in rows}) == 1 else rows
            groups.setdefault(b"".join(ranks(some).tobytes() for some in together), []).append(name)
    return [group for group in groups.values() if len(group) > 1]
