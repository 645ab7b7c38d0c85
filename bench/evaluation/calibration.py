"""How well scores that claim to be probabilities keep their word: reliability, calibration error, Brier score."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ReliabilityBin:
    """The paths whose probability lies in (low, high]; the first bin also holds 0."""

    low: float
    high: float
    count: int
    mean_probability: float
    mean_outcome: float

    @property
    def gap(self) -> float:
        """Claimed minus observed rate; positive where the scores are overconfident."""
        return self.mean_probability - self.mean_outcome


def reliability(probabilities: Array, outcomes: Array, bins: int = 10) -> list[ReliabilityBin]:
    """The diagram of Guo et al. 2017 (arXiv 1706.04599, Section 2): ``bins`` of equal width, empty ones left out.

    ``probabilities`` (n,) are the scores; ``outcomes`` (n,) are 0/1 verdicts, or rates such as Monte Carlo potentials.
    An outcome of NaN makes its bin NaN. Raises ValueError for a probability that is not in [0, 1] (NaN is not), an
    outcome outside it, unequal lengths, and fewer than one bin.
    """
    _check(probabilities, outcomes)
    if bins < 1:
        raise ValueError(f"reliability: {bins} bins; give at least 1")
    # i / bins is the float that is written so, 0.3 for 3 / 10; the steps of linspace are not.
    edges = np.arange(bins + 1) / bins
    place = np.maximum(np.searchsorted(edges, probabilities, side="left") - 1, 0)
    return [
        ReliabilityBin(
            low=float(edges[i]),
            high=float(edges[i + 1]),
            count=int((place == i).sum()),
            mean_probability=float(probabilities[place == i].mean()),
            mean_outcome=float(outcomes[place == i].mean()),
        )
        for i in np.unique(place)
    ]


def expected_calibration_error(probabilities: Array, outcomes: Array, bins: int = 10) -> float:
    """Mean over the paths of their bin's abs(gap), from 0 (calibrated) to 1; NaN for no path.

    Guo et al. 2017 (arXiv 1706.04599), eq. 3. Arguments and errors are those of :func:`reliability`. Within a bin
    errors of opposite sign cancel, so the value grows with the number of bins; compare at the same number.
    """
    diagram = reliability(probabilities, outcomes, bins)
    if not diagram:
        return math.nan
    return sum(group.count * abs(group.gap) for group in diagram) / len(probabilities)


def brier(probabilities: Array, outcomes: Array) -> float:
    """Mean squared difference, from 0 (sure and right) to 1; NaN for no path.

    Brier 1950 (Verification of forecasts expressed in terms of probability) for one event: half of his sum over both
    classes. Arguments and errors are those of :func:`reliability`. For outcomes that are rates it leaves out the noise
    of single verdicts, and is lower by the mean of rate * (1 - rate).
    """
    _check(probabilities, outcomes)
    return float(np.mean((probabilities - outcomes) ** 2)) if len(probabilities) else math.nan


def _check(probabilities: Array, outcomes: Array) -> None:
    if probabilities.shape != outcomes.shape:
        raise ValueError(f"calibration: {probabilities.shape} probabilities for {outcomes.shape} outcomes")
    bad = ~((probabilities >= 0) & (probabilities <= 1))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"calibration: the probability of row {row} is {probabilities[row]}, not in [0, 1]; "
            "scores on another scale have no calibration"
        )
    bad = (outcomes < 0) | (outcomes > 1)
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"calibration: the outcome of row {row} is {outcomes[row]}, not in [0, 1]")
