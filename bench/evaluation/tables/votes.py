"""What a vote adds to what pruning adds: the same voters under majority and under the weighted votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.evaluation.candidates import Candidate
from prunebench.bench.evaluation.grading import elected
from prunebench.bench.evaluation.replay import Replay
from prunebench.bench.evaluation.replays import Replays
from prunebench.bench.evaluation.results import VoteRow
from prunebench.bench.evaluation.statistics import POINTS, mean_interval
from prunebench.bench.policies.votes import VOTES, Majority, Vote
from prunebench.bench.rollouts.records import ProblemRecord

Array = NDArray[np.float64]


def vote_rows(
    records: Sequence[ProblemRecord], task: str, replays: Replays, candidates: Mapping[str, Candidate]
) -> list[VoteRow]:
    """Every vote over the paths that a method kept, and the score votes over all N paths; ``none`` has no scores.

    Of a method that was trained with several seeds each vote is the mean over its trainings.

    Left out are controls but ``none``, and what stops or launches paths by itself. A vote is left out where its
    evidence is missing: entropies of complete paths that were not recorded, scores below 0 for the score-weighted one.
    """
    rows = []
    votes = [entry() for _, entry in VOTES.items()]
    for name, candidate in candidates.items():
        made = replays.of.get(name, [])
        if not made or (candidate.is_control and name != "none") or not _one_check(records, made):
            continue
        whole, _ = _elected(Majority(), records, made, of_all=True)
        for voters in ("all",) if name == "none" else ("kept", "all"):
            of_all = voters == "all"
            majority, _ = _elected(Majority(), records, made, of_all)
            for vote in votes:
                if of_all and (vote.reads != "score") != (name == "none"):
                    continue  # what does not read scores is the same for every method over all paths
                accuracy, tied = _elected(vote, records, made, of_all)
                if np.isnan(accuracy).any():
                    continue
                rows.append(
                    VoteRow(
                        task=task,
                        method=name,
                        voters="all" if of_all else "kept",
                        vote=vote.name,
                        accuracy=100 * float(accuracy.mean()),
                        pruning_gain=mean_interval(100 * (majority - whole), bounds=POINTS),
                        vote_gain=mean_interval(100 * (accuracy - majority), bounds=POINTS),
                        tie_rate=100 * float(tied.mean()),
                        n_problems=len(records),
                    )
                )
    return rows


def _one_check(records: Sequence[ProblemRecord], made: Sequence[Sequence[Replay]]) -> bool:
    """Whether every path has a score, and voters vote with their final answers."""
    return all(
        not replay.stopped and replay.launched.all() and replay.scores.shape == record.lengths.shape
        for record, draws in zip(records, made, strict=True)
        for replay in draws
    )


def _elected(
    vote: Vote, records: Sequence[ProblemRecord], made: Sequence[Sequence[Replay]], of_all: bool
) -> tuple[Array, Array]:
    """(problems,) expected correctness, and how often the vote was tied; means over the draws."""
    outcomes = [
        elected(vote, record, draws, np.ones_like(draws[0].keep) if of_all else None)
        for record, draws in zip(records, made, strict=True)
    ]
    right, tied = np.array(outcomes).mean(axis=2).T
    return right, tied
