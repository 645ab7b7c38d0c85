"""Scores that claim to be probabilities, held to their claim over all prefixes of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from prunebench.bench.evaluation.calibration import brier, expected_calibration_error, reliability
from prunebench.bench.evaluation.candidates import Candidate
from prunebench.bench.evaluation.replays import Replays
from prunebench.bench.evaluation.results import CalibrationRow
from prunebench.bench.rollouts.records import ProblemRecord


def calibration_rows(
    records: Sequence[ProblemRecord], task: str, replays: Replays, candidates: Mapping[str, Candidate]
) -> list[CalibrationRow]:
    """One row per method that declares ``probability``; the truth is the potential where all records have labels.

    Errors of a method that was trained with several seeds are means over its trainings; its bins hold the paths of all.
    Methods under a policy that checks only some of the paths first, or several times, are judged by their first check.
    """
    potentials = [record.potential for record in records]
    labelled = all(potential is not None for potential in potentials)
    truth = np.concatenate(
        [record.correct if potential is None or not labelled else potential
         for record, potential in zip(records, potentials, strict=True)]
    )  # fmt: skip
    rows = []
    for name, candidate in candidates.items():
        if not candidate.pruner.probability or name not in replays.of:
            continue
        trainings = [np.concatenate([draw.scores for draw in draws]) for draws in zip(*replays.of[name], strict=True)]
        bins = reliability(np.concatenate(trainings), np.tile(truth, len(trainings)))
        rows.append(
            CalibrationRow(
                task=task,
                method=name,
                truth="potential" if labelled else "outcome",
                ece=float(np.mean([expected_calibration_error(scores, truth) for scores in trainings])),
                brier=float(np.mean([brier(scores, truth) for scores in trainings])),
                bins=[(b.low, b.high, b.count, b.mean_probability, b.mean_outcome) for b in bins],
            )
        )
    return rows
