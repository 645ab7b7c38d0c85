"""What a vote adds to what pruning adds: the same voters under majority and under the weighted votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.evaluation.replay import Replay
from prunebench.bench.evaluation.results import VoteRow
from prunebench.bench.evaluation.statistics import mean_interval
from prunebench.bench.evaluation.tables.main import Replays, is_control
from prunebench.bench.policies.votes import Borda, InverseEntropy, Majority, ScoreWeighted, Vote
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.methods.base import Pruner

Array = NDArray[np.float64]

VOTES: dict[str, Vote] = {
    "majority": Majority(),
    "score-weighted": ScoreWeighted(),
    "borda": Borda(),
    "inverse-entropy": InverseEntropy(),
}


def vote_rows(
    records: Sequence[ProblemRecord], task: str, scored: Replays, methods: Mapping[str, Pruner]
) -> list[VoteRow]:
    """Every vote over the paths that a method kept, and the score votes over all N paths; ``none`` has no scores.

    Left out are controls but ``none``, and what stops or launches paths by itself. A vote is left out where its
    evidence is missing: entropies of complete paths that were not recorded, scores below 0 for the score-weighted one.
    """
    rows = []
    whole = np.array([Majority().elect(r.answer_class).correctness(r.gold_class) for r in records])
    for name, pruner in methods.items():
        played = [draws[0] for draws in scored.played.get(name, ())]
        if not played or (is_control(pruner) and name != "none") or not _one_check(records, played):
            continue
        for voters in ("all",) if name == "none" else ("kept", "all"):
            keeps = [one.keep if voters == "kept" else np.ones_like(one.keep) for one in played]
            majority, _ = _elected(records, keeps, [None] * len(records), VOTES["majority"])
            for vote in VOTES:
                if voters == "all" and (vote in ("majority", "inverse-entropy")) != (name == "none"):
                    continue  # those two do not read scores: over all paths they are the same for every method
                evidence = _evidence(vote, records, played)
                if evidence is None:
                    continue
                accuracy, tied = _elected(records, keeps, evidence, VOTES[vote])
                pruning, gain = mean_interval(100 * (majority - whole)), mean_interval(100 * (accuracy - majority))
                rows.append(
                    VoteRow(
                        task=task,
                        method=name,
                        voters="kept" if voters == "kept" else "all",
                        vote=vote,
                        accuracy=100 * float(accuracy.mean()),
                        pruning_gain=pruning.mean,
                        pruning_gain_low=pruning.low,
                        pruning_gain_high=pruning.high,
                        vote_gain=gain.mean,
                        vote_gain_low=gain.low,
                        vote_gain_high=gain.high,
                        tie_rate=100 * float(tied.mean()),
                        n_problems=len(records),
                    )
                )
    return rows


def _one_check(records: Sequence[ProblemRecord], played: Sequence[Replay]) -> bool:
    """Whether every path has a score, and voters vote with their final answers."""
    return all(
        not one.stopped and one.launched.all() and one.scores.shape == record.lengths.shape
        for record, one in zip(records, played, strict=True)
    )


def _evidence(vote: str, records: Sequence[ProblemRecord], played: Sequence[Replay]) -> Sequence[Array | None] | None:
    """What the vote reads, (N,) per problem; None where it is missing or out of the vote's range."""
    if vote == "majority":
        return [None] * len(records)
    if vote == "inverse-entropy":
        entropies = [record.entropy for record in records]
        return None if any(entropy is None for entropy in entropies) else entropies
    if vote == "score-weighted" and any((one.scores < 0).any() for one in played):
        return None
    return [one.scores for one in played]


def _elected(
    records: Sequence[ProblemRecord], keeps: Sequence[NDArray[np.bool_]], evidence: Sequence[Array | None], vote: Vote
) -> tuple[Array, Array]:
    """(problems,) expected correctness, and whether the vote was tied."""
    found = [
        vote.elect(record.answer_class[keep], None if seen is None else seen[keep])
        for record, keep, seen in zip(records, keeps, evidence, strict=True)
    ]
    correct = [outcome.correctness(record.gold_class) for outcome, record in zip(found, records, strict=True)]
    return np.array(correct), np.array([float(outcome.tied) for outcome in found])
