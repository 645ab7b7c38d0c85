"""What every method did, graded and charged: per problem and measure a number, and what all are held against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.arithmetic import Arithmetic
from prunebench.bench.evaluation import metrics
from prunebench.bench.evaluation.candidates import Candidate
from prunebench.bench.evaluation.ledger import LedgerRow, entries, in_generator_tokens, paper_tokens
from prunebench.bench.evaluation.replay import Replay
from prunebench.bench.policies import CheckRecord, Policy, tied
from prunebench.bench.policies.votes import Majority, Vote
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.methods.base import Quadrant, Signal

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Graded:
    """One method on all problems: a (problems,) array per measure, means over draws, accuracies from 0 to 1.

    ``records`` and ``replays`` are what it was computed from, the draws of one problem together.
    """

    candidate: Candidate
    records: Sequence[ProblemRecord]
    replays: Sequence[Sequence[Replay]]
    kept: Array
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
class Baseline:
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


def graded(
    candidate: Candidate,
    records: Sequence[ProblemRecord],
    replays: Sequence[Sequence[Replay]],
    arithmetic: Arithmetic | None,
    unit: float,
    vote: Vote = Majority(),  # noqa: B008 - frozen
) -> Graded:
    """Grade and charge what one method did, draw by draw; ``unit`` FLOPs are one generator token."""
    ledger: list[LedgerRow] = []
    measured: list[dict[str, float]] = []
    for record, draws in zip(records, replays, strict=True):
        phases = entries(record, candidate.name, draws, arithmetic)
        ledger += phases
        measured.append(
            {
                **_chosen(record, draws, candidate, vote),
                **_ranked(record, draws, candidate.policy),
                "tokens": sum(phase.tokens for phase in phases),
                "flops_tokens": in_generator_tokens(phases, draws, unit),
            }
        )
    columns = {name: np.array([row[name] for row in measured]) for name in measured[0]}
    return Graded(candidate, records, replays, ledger=ledger, **columns)


def _chosen(record: ProblemRecord, draws: Sequence[Replay], candidate: Candidate, vote: Vote) -> dict[str, float]:
    """What was kept of one problem, and what it took; means over the draws."""
    keep = np.stack([replay.keep for replay in draws])
    decoded = np.stack([replay.decoded for replay in draws])
    scores = np.stack([replay.scores for replay in draws])
    correct = np.stack([correct_of(record, replay) for replay in draws])
    position = record.pool.position
    one_check = (decoded == np.where(keep, record.lengths, np.minimum(record.lengths, position))).all(-1)
    type_ii = candidate.pruner.quadrant() is Quadrant.II
    right, vote_tied = elected(vote, record, draws)
    measures = {
        "kept": keep.sum(-1),
        "avg": metrics.avg_at_k(correct, keep),
        "expected": _expected(record, draws, candidate),
        "maj": right,
        "vote_tied": vote_tied,
        "passed": metrics.pass_at_k(correct, keep),
        "paper_tokens": np.where(one_check, paper_tokens(record.lengths, position, keep, type_ii), math.nan),
        "cut_tied": np.where(one_check, tied(scores, keep), math.nan),
        "check_seconds": np.array([replay.seconds for replay in draws]),
    }
    return {name: float(np.mean(values)) for name, values in measures.items()}


def _expected(record: ProblemRecord, draws: Sequence[Replay], candidate: Candidate) -> Array:
    """(draws,) held-out potential of what was kept; NaN without labels and for paths that were stopped to vote."""
    if Signal.POTENTIAL in candidate.pruner.requires:
        return np.array([split_half(record, candidate.policy)])
    if record.potential is None:
        return np.array([math.nan])
    potential = record.potential
    return np.array(
        [math.nan if replay.stopped else float(metrics.avg_at_k(potential, replay.keep)) for replay in draws]
    )


def _ranked(record: ProblemRecord, draws: Sequence[Replay], policy: Policy) -> dict[str, float]:
    """How well the scores rank the paths; undefined for a policy over completed paths, which reads none."""
    if policy.over_completed:
        return {"auroc": math.nan, "spearman": math.nan}
    scores = np.stack([replay.scores for replay in draws])
    ranks = metrics.ranks(scores)
    potential = record.potential
    return {
        "auroc": metrics.auroc(scores, record.correct, ranks),
        "spearman": math.nan if potential is None else metrics.spearman(scores, potential, ranks),
    }


def elected(
    vote: Vote, record: ProblemRecord, draws: Sequence[Replay], voters: Flags | None = None
) -> tuple[Array, Array]:
    """(draws,) expected correctness of the vote of the kept paths (or of the ``voters``, bool (N,)), and its ties.

    NaN where the vote reads what is not there: entropies that were not recorded, scores of paths that were not scored,
    or numbers out of its range.
    """
    keep = np.stack([replay.keep if voters is None else voters for replay in draws])
    classes = np.stack([replay.answer_class for replay in draws])
    evidence = None
    if vote.reads != "nothing":
        columns = [replay.scores for replay in draws] if vote.reads == "score" else [record.entropy] * len(draws)
        if any(column is None or column.shape != record.lengths.shape for column in columns):
            return np.full(len(draws), math.nan), np.full(len(draws), math.nan)
        evidence = np.stack(columns)  # type: ignore[arg-type]
    try:
        if evidence is not None and vote.reads == "score":
            for scores in evidence:  # a score that leaves the vote's range anywhere is no weight
                vote.weights(scores)
        right, is_tied = vote.correctness(classes, keep, record.gold_class, evidence)
    except ValueError:  # evidence that is out of the vote's range, or not finite
        return np.full(len(draws), math.nan), np.full(len(draws), math.nan)
    return right, is_tied.astype(np.float64)


def correct_of(record: ProblemRecord, replay: Replay) -> Array:
    """(N,) verdicts of what the paths vote for: paths that were stopped vote with the answers they were stopped at."""
    if not replay.stopped:
        return record.correct
    right: Array = ((replay.answer_class == record.gold_class) & (replay.answer_class >= 0)).astype(np.float64)
    return right


def kept_by(record: ProblemRecord, scores: Array, policy: Policy) -> Flags:
    """bool (N,): what one check by ``policy`` keeps of this pool."""
    pool = record.pool
    return policy.decide([CheckRecord(pool.position, scores, pool.finished, pool.answer_class)]).keep


def split_half(record: ProblemRecord, policy: Policy) -> float:
    """Potential of the paths that one half of the labels chooses, told by the other half; mean of both directions.

    Choosing and grading by the same labels would be biased up: the best of N noisy estimates is partly luck.
    """
    if record.halves is None:
        return math.nan
    first, second = record.halves
    by_half = [
        metrics.avg_at_k(held_out, kept_by(record, chosen_by, policy))
        for chosen_by, held_out in ((first, second), (second, first))
    ]
    return float(np.mean(by_half))


def baseline(
    records: Sequence[ProblemRecord],
    policy: Policy,
    random_maj: Array | None = None,
    vote: Vote = Majority(),  # noqa: B008 - frozen
) -> Baseline:
    """The references of every problem; ``policy`` is what the potential is held to.

    All paths together have no scores: a vote that reads scores is the majority there.
    """

    def column(value: float | None) -> float:
        return math.nan if value is None else value

    rows = []
    for record in records:
        everything = np.ones(len(record.pool), dtype=np.bool_)
        potential, leaky, ungraded = record.potential, record.leaky, record.ungraded
        of_all = Majority() if vote.reads == "score" else vote
        entropy = None if record.entropy is None else record.entropy[None]
        usable = of_all.reads == "nothing" or entropy is not None
        rows.append(
            {
                "avg": float(metrics.avg_at_k(record.correct, everything)),
                "maj": float(
                    of_all.correctness(record.answer_class[None], everything[None], record.gold_class, entropy)[0][0]
                )
                if usable
                else math.nan,
                "expected": column(None if potential is None else float(metrics.avg_at_k(potential, everything))),
                "tokens": float(record.lengths.sum()),
                "finished": float(record.pool.finished.mean()),
                "leaky": column(None if leaky is None else float(leaky.mean())),
                "launch_seconds": record.launch_seconds,
                "unanswered": float((record.answer_class < 0).mean()),
                "ungraded": 0.0 if ungraded is None else float(ungraded.mean()),
                "potential_avg": column(
                    None
                    if potential is None
                    else float(metrics.avg_at_k(record.correct, kept_by(record, potential, policy)))
                ),
                "potential_expected": split_half(record, policy),
                "oracle_avg": float(metrics.avg_at_k(record.correct, kept_by(record, record.correct, policy))),
            }
        )
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    undefined = np.full(len(records), math.nan)
    return Baseline(**columns, random_maj=undefined if random_maj is None else random_maj)
