"""Replay evaluation: every method scores the same stored prefixes, and its kept paths are graded, voted and charged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.arithmetic import Arithmetic
from prunebench.bench.evaluation import metrics
from prunebench.bench.evaluation.ledger import (
    LedgerRow,
    entries,
    generator_token,
    in_generator_tokens,
    paper_tokens,
)
from prunebench.bench.evaluation.replay import Replay, replay_draws, visible
from prunebench.bench.evaluation.results import ResultRow
from prunebench.bench.evaluation.statistics import (
    Interval,
    holm,
    mean_interval,
    minimum_detectable_difference,
    ratio_of_means,
    sign_flip_p,
)
from prunebench.bench.policies import CheckRecord, Policy, tied
from prunebench.bench.policies.votes import Majority
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.methods.base import PRIVILEGED, Pruner, Quadrant, Signal, Source

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Replays:
    """What every method did on every problem: ``played[name][i]`` holds the draws on record ``i``.

    ``left_out`` says why a method has none.
    """

    played: dict[str, list[list[Replay]]]
    left_out: dict[str, str]

    def scores(self, name: str, record: int) -> Array:
        """(draws, N): the scores of the first check."""
        return np.stack([played.scores for played in self.played[name][record]])


def replay_methods(
    records: Sequence[ProblemRecord],
    methods: Mapping[str, Pruner],
    policies: Mapping[str, Policy],
    progress: Callable[[], None] | None = None,
) -> Replays:
    """Let every method prune every problem under its policy; ``progress`` is called once per problem and method.

    A method sees no privileged signal, unless it is a control that declares it. One that lacks a signal or raises
    ValueError on any problem is left out with a sentence; the others go on. Any other exception is a defect and passes.
    """
    left_out = {name: reason for name, pruner in methods.items() if (reason := _missing(name, pruner, records))}
    played: dict[str, list[list[Replay]]] = {name: [] for name in methods}
    # Problems outside, methods inside: what the engine caches for a pool serves all methods and can then go.
    for record in records:
        for name, pruner in methods.items():
            if name not in left_out:
                try:
                    played[name].append(_draws(pruner, policies[name], record))
                except ValueError as error:
                    left_out[name] = f"{name} failed on {record.task}/{record.problem}: {error}"
            if progress is not None:
                progress()
    return Replays({name: draws for name, draws in played.items() if name not in left_out}, left_out)


def _draws(pruner: Pruner, policy: Policy, record: ProblemRecord) -> list[Replay]:
    """What is drawn is declared with a hyper-parameter `seed`; see Pruner.draws."""
    draws = type(pruner).draws
    pruners = [pruner] if draws == 1 else [replace(pruner, seed=seed) for seed in range(draws)]  # type: ignore[call-arg]
    return replay_draws(pruners, policy, record.complete, record.pool.position)


def _missing(name: str, pruner: Pruner, records: Sequence[ProblemRecord]) -> str | None:
    """Why ``pruner`` cannot score these pools, or None."""
    required = sorted(type(pruner).requires, key=lambda signal: signal.value)
    for record in records:
        pool = visible(record.pool, pruner)
        for signal in required:
            if pool.has(signal):
                continue
            if signal in PRIVILEGED and type(pruner).source is not Source.CONTROL:
                return f"{name} needs the privileged signal '{signal.value}', which only controls are given"
            if signal is Signal.POTENTIAL:
                return (
                    f"{name} needs Monte Carlo labels, and {record.task}/{record.problem} has none; "
                    "make them with: prunebench label"
                )
            if pool.generator is None:
                return f"{name} needs the signal '{signal.value}', which {record.task}/{record.problem} does not hold"
            return (
                f"{name} needs the signal '{signal.value}', which was not recorded for {record.task}/{record.problem}; "
                f"record it with: prunebench rollouts --set record={signal.value}"
            )
    return None


@dataclass(frozen=True)
class Evaluated:
    """The rows of every table, the notes under them, and the ledger of every method on every problem."""

    rows: list[ResultRow]
    notes: list[str]
    ledger: list[LedgerRow]


def compare(
    records: Sequence[ProblemRecord],
    scored: Replays,
    methods: Mapping[str, Pruner],
    policies: Mapping[str, Policy],
    policy: Policy,
    model: str,
    arithmetic: Arithmetic | None,
    configurations: Mapping[str, str],
    seed: int,
    prefix_tokens: int,
    captions: Mapping[str, str] = {},
    spreads: Mapping[tuple[str, str], float] = {},
) -> Evaluated:
    """One row per task and method, then for task ``all`` when there are several; and the notes under each table.

    ``policies`` are those that the methods were played under; ``policy`` is the one that the potential is held to.
    ``arithmetic`` is that of the generating model, None where nobody knows it; ``spreads`` hold the draw spread by task
    and method. Raises ValueError when there is no record, UserError when the policy does not fit them.
    """
    if not records:
        raise ValueError("a comparison needs at least one problem")
    unit = generator_token(records, arithmetic)
    graded = {
        name: _grade(records, name, scored.played[name], methods[name], policies[name], arithmetic, unit)
        for name in methods
        if name in scored.played
    }
    base = _baseline(records, policy, graded)
    rows: list[ResultRow] = []
    notes: list[str] = []
    for task, problems in tables_of(records).items():
        differences = {name: (g.avg - base.avg)[problems] for name, g in graded.items()}
        p_values, adjusted = significance(differences, methods, seed)
        for name, g in graded.items():
            rows.append(
                ResultRow(
                    task=task,
                    model=model,
                    method=name,
                    quadrant=type(methods[name]).quadrant().value,
                    n=round(float(np.mean([len(records[i].pool) for i in problems]))),
                    k=g.k,
                    prefix_tokens=prefix_tokens,
                    finished=policies[name].finished,
                    policy=str(policies[name]),
                    p_value=p_values[name],
                    p_holm=adjusted.get(name, math.nan),
                    draw_spread=spreads.get((task, name), math.nan),
                    n_problems=len(problems),
                    configuration=configurations.get(name, "defaults"),
                    note=captions.get(name, ""),
                    **_cells(g, base, problems, seed),
                )
            )
        alike = [name for name in graded if str(policies[name]) == str(policy)]
        notes += [f"{task}: {note}" for note in _notes(problems, scored, list(adjusted), alike, graded, base)]
    return Evaluated(rows, notes, [row for g in graded.values() for row in g.ledger])


def significance(
    differences: Mapping[str, Array], methods: Mapping[str, Pruner], seed: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Sign-flip p of every method's (n,) paired differences, and Holm's over those that are no controls."""
    p_values = {name: sign_flip_p(values, seed) for name, values in differences.items()}
    tested = [name for name in differences if not is_control(methods[name])]
    return p_values, dict(zip(tested, holm([p_values[name] for name in tested]), strict=True))


def tables_of(records: Sequence[ProblemRecord]) -> dict[str, NDArray[np.int64]]:
    """The records of every task, in order, and of ``all`` when there are several tasks: the primary family."""
    names = list(dict.fromkeys(record.task for record in records))
    tables = {task: np.array([i for i, record in enumerate(records) if record.task == task]) for task in names}
    if len(tables) > 1:
        tables["all"] = np.arange(len(records))
    return tables


@dataclass(frozen=True)
class _Graded:
    """One method under the policy: a (problems,) array per measure, means over draws, accuracies from 0 to 1."""

    k: int
    avg: Array
    expected: Array
    maj: Array
    vote_tied: Array
    passed: Array
    tokens: Array
    flops_tokens: Array
    paper_tokens: Array
    auroc: Array
    spearman: Array
    cut_tied: Array
    check_seconds: Array
    ledger: list[LedgerRow]


@dataclass(frozen=True)
class _Baseline:
    """What every method is held against: (problems,) arrays of keeping all N, of the potential, and of chance.

    They are computed from the records themselves, so that they stand whichever methods take part. ``random_maj`` is
    NaN without the ``random`` control, what reads labels is NaN without them.
    """

    avg: Array
    maj: Array
    expected: Array
    tokens: Array
    finished: Array
    leaky: Array
    launch_seconds: Array
    unanswered: Array
    ungraded: Array
    potential_avg: Array
    potential_expected: Array
    oracle_avg: Array
    random_maj: Array


def is_control(pruner: Pruner) -> bool:
    """Whether it is none of the methods that are compared, but a line to hold them against."""
    return type(pruner).source is Source.CONTROL


def _kept(record: ProblemRecord, scores: Array, policy: Policy) -> NDArray[np.bool_]:
    """bool (N,): what one check by ``policy`` keeps of this pool."""
    pool = record.pool
    return policy.decide([CheckRecord(pool.position, scores, pool.finished, pool.answer_class)]).keep


def _split_half(record: ProblemRecord, policy: Policy) -> float:
    """Potential of the paths that one half of the labels chooses, told by the other half; mean of both directions.

    Choosing and grading by the same labels would be biased up: the best of N noisy estimates is partly luck.
    """
    if record.halves is None:
        return math.nan
    first, second = record.halves
    return float(
        np.mean([metrics.avg_at_k(told, _kept(record, by, policy)) for by, told in ((first, second), (second, first))])
    )


def _grade(
    records: Sequence[ProblemRecord],
    name: str,
    played: Sequence[Sequence[Replay]],
    pruner: Pruner,
    policy: Policy,
    arithmetic: Arithmetic | None,
    unit: float,
) -> _Graded:
    """Grade and charge what one method did, draw by draw; ``unit`` FLOPs are one generator token."""
    reads_labels = Signal.POTENTIAL in type(pruner).requires
    type_ii = type(pruner).quadrant() is Quadrant.II
    measures: list[list[float]] = []
    ledger: list[LedgerRow] = []
    for record, draws in zip(records, played, strict=True):
        means = _measured(record, draws, type_ii)
        if reads_labels:
            means[1] = _split_half(record, policy)
        scores = np.stack([one.scores for one in draws])
        ranked = not policy.over_completed
        placed = metrics.ranks(scores)
        means.append(metrics.auroc(scores, record.correct, placed) if ranked else math.nan)
        potential = record.potential
        means.append(math.nan if potential is None or not ranked else metrics.spearman(scores, potential, placed))
        phases = entries(record, name, draws, arithmetic)
        means += [sum(phase.tokens for phase in phases), in_generator_tokens(phases, draws, unit)]
        ledger += phases
        measures.append(means)
    avg, expected, maj, vote_tied, passed, paper, cut_tied, seconds, kept, auroc, spearman, tokens, flops = np.array(
        measures
    ).T
    return _Graded(
        k=round(float(kept.mean())),
        avg=avg,
        expected=expected,
        maj=maj,
        vote_tied=vote_tied,
        passed=passed,
        tokens=tokens,
        flops_tokens=flops,
        paper_tokens=paper,
        auroc=auroc,
        spearman=spearman,
        cut_tied=cut_tied,
        check_seconds=seconds,
        ledger=ledger,
    )


def _measured(record: ProblemRecord, draws: Sequence[Replay], type_ii: bool) -> list[float]:
    """The measures of one problem that need no ledger, means over the draws; see :class:`_Graded`."""
    position = record.pool.position
    keep, scores = np.stack([one.keep for one in draws]), np.stack([one.scores for one in draws])
    correct = np.stack([correct_of(record, one) for one in draws])
    whole = np.array([not one.stopped for one in draws])
    expected = np.full(len(draws), math.nan)
    if record.potential is not None:
        expected[whole] = metrics.avg_at_k(record.potential, keep[whole])
    right, vote_tied = Majority().correctness(np.stack([one.answer_class for one in draws]), keep, record.gold_class)
    decoded = np.stack([one.decoded for one in draws])
    one_check = (decoded == np.where(keep, record.lengths, np.minimum(record.lengths, position))).all(-1)
    measures = (
        metrics.avg_at_k(correct, keep),
        expected,
        right,
        vote_tied,
        metrics.pass_at_k(correct, keep),
        np.where(one_check, paper_tokens(record.lengths, position, keep, type_ii), math.nan),
        np.where(one_check, tied(scores, keep), math.nan),
        np.array([one.seconds for one in draws]),
        keep.sum(-1),
    )
    return [float(np.mean(values)) for values in measures]


def correct_of(record: ProblemRecord, played: Replay) -> Array:
    """(N,) verdicts of what the paths vote for: paths that were stopped vote with the answers they were stopped at."""
    if not played.stopped:
        return record.correct
    right: Array = ((played.answer_class == record.gold_class) & (played.answer_class >= 0)).astype(np.float64)
    return right


def _baseline(records: Sequence[ProblemRecord], policy: Policy, graded: Mapping[str, _Graded]) -> _Baseline:
    """The references of every problem; see :class:`_Baseline`."""
    everything = [np.ones(len(record.pool), dtype=np.bool_) for record in records]
    labels = [record.potential for record in records]
    undefined = np.full(len(records), math.nan)
    return _Baseline(
        avg=np.array([metrics.avg_at_k(r.correct, keep) for r, keep in zip(records, everything, strict=True)]),
        maj=np.array([Majority().elect(r.answer_class).correctness(r.gold_class) for r in records]),
        expected=np.array(
            [math.nan if p is None else metrics.avg_at_k(p, keep) for p, keep in zip(labels, everything, strict=True)]
        ),
        tokens=np.array([float(r.lengths.sum()) for r in records]),
        finished=np.array([float(r.pool.finished.mean()) for r in records]),
        leaky=np.array([math.nan if r.leaky is None else float(r.leaky.mean()) for r in records]),
        launch_seconds=np.array([r.launch_seconds for r in records]),
        unanswered=np.array([float((r.answer_class < 0).mean()) for r in records]),
        ungraded=np.array([0.0 if r.ungraded is None else float(r.ungraded.mean()) for r in records]),
        potential_avg=np.array(
            [
                math.nan if p is None else metrics.avg_at_k(r.correct, _kept(r, p, policy))
                for r, p in zip(records, labels, strict=True)
            ]
        ),
        potential_expected=np.array([_split_half(r, policy) for r in records]),
        oracle_avg=np.array([metrics.avg_at_k(r.correct, _kept(r, r.correct, policy)) for r in records]),
        random_maj=graded["random"].maj if "random" in graded else undefined,
    )


def _cells(g: _Graded, base: _Baseline, problems: NDArray[np.int64], seed: int) -> dict[str, float]:
    """The numbers of one row: means and intervals over ``problems``."""

    def mean(values: Array) -> float:
        return float(values[problems].mean())

    def interval(name: str, values: Array) -> dict[str, float]:
        return _columns(name, mean_interval(100 * values[problems]))

    ranked = g.auroc[problems]
    headroom = ratio_of_means(
        (g.expected - base.expected)[problems], (base.potential_expected - base.expected)[problems], seed
    )
    # The expected accuracy of k paths at random is that of all N.
    normalised = ratio_of_means((g.avg - base.avg)[problems], (base.oracle_avg - base.avg)[problems], seed)
    tokens = mean(g.tokens)
    return {
        "avg_at_n": 100 * mean(base.avg),
        **interval("avg_at_k", g.avg),
        **interval("delta", g.avg - base.avg),
        "avg_at_k_expected": 100 * mean(g.expected),
        **interval("expected_delta", g.expected - base.expected),
        **interval("potential_delta", g.avg - base.potential_avg),
        **_columns("headroom", headroom.scaled(100)),
        **_columns("normalised", normalised.scaled(100)),
        "maj_at_k": 100 * mean(g.maj),
        **interval("maj_delta", g.maj - base.maj),
        **interval("maj_delta_random", g.maj - base.random_maj),
        "pass_at_k": 100 * mean(g.passed),
        "tokens": tokens,
        "reduction": 100 * (1 - tokens / mean(base.tokens)),
        "paper_tokens": mean(g.paper_tokens),
        "flops_tokens": mean(g.flops_tokens),
        # Problems whose paths all have one verdict have no ranking to judge; they are no part of this mean.
        **_columns("auroc", mean_interval(ranked[~np.isnan(ranked)])),
        "spearman": _mean_where_defined(g.spearman[problems]),
        "tie_rate": 100 * mean(g.cut_tied),
        "finished_share": 100 * mean(base.finished),
        "leaky_share": 100 * mean(base.leaky),
        "launch_seconds": mean(base.launch_seconds),
        "check_seconds": mean(g.check_seconds),
        "resume_seconds": math.nan,  # replay never resumes
    }


def _columns(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _mean_where_defined(values: Array) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan


def _notes(
    problems: NDArray[np.int64],
    scored: Replays,
    tested: Sequence[str],
    alike: Sequence[str],
    graded: Mapping[str, _Graded],
    base: _Baseline,
) -> list[str]:
    """The statements under one table, about its ``problems``.

    ``tested`` names the methods that are no controls; ``alike`` those under one and the same policy, whose score
    columns may be duplicates.
    """
    n = len(problems)
    notes = [f"{len(tested)} candidates besides the controls; the best of them wins partly by their number"]
    if tested and n > 1:
        spread = np.median([np.std((graded[name].avg - base.avg)[problems], ddof=1) for name in tested])
        points = 100 * minimum_detectable_difference(float(spread), n)
        shown = "undefined (no difference varies)" if math.isnan(points) else f"{points:.1f} points"
        notes.append(f"minimum detectable difference to none: {shown} (two-sided 5 %, 80 % power, {n=})")
    else:
        notes.append("minimum detectable difference to none: undefined (it needs 2 problems and a method)")
    finished, leaky = (100 * float(share[problems].mean()) for share in (base.finished, base.leaky))
    stated = "without text nobody knows how many are leaky" if math.isnan(leaky) else f"{leaky:.1f} % are leaky"
    notes.append(f"{finished:.1f} % of the prefixes finished before the checkpoint, {stated}")
    unanswered, ungraded = (100 * float(share[problems].mean()) for share in (base.unanswered, base.ungraded))
    notes.append(
        f"{unanswered:.1f} % of the paths state no answer, {ungraded:.1f} % one that nobody could grade: both are wrong"
    )
    ties = {name: 100 * float(g.vote_tied[problems].mean()) for name, g in graded.items()}
    if ties:
        most = max(ties, key=lambda name: ties[name])
        notes.append(f"at most {ties[most]:.1f} % of the votes were tied ({most}); a tie counts its expected value")
    notes += [
        f"{', '.join(group)} rank the paths identically on every problem: count them as one method"
        for group in _duplicates(scored, alike, problems)
    ]
    return notes


def _duplicates(scored: Replays, names: Sequence[str], problems: NDArray[np.int64]) -> list[list[str]]:
    """Groups of two and more methods whose scores order the paths alike, ties included, on all ``problems``."""
    groups: dict[bytes, list[str]] = {}
    for name in names:
        rows = [scored.scores(name, i) for i in problems]
        together = [np.concatenate(rows)] if len({row.shape[1] for row in rows}) == 1 else rows
        groups.setdefault(b"".join(metrics.ranks(some).tobytes() for some in together), []).append(name)
    return [group for group in groups.values() if len(group) > 1]
