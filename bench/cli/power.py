"""Before a run: how many problems would decide a difference, by the verdicts of a trial."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from prunebench.bench.cli.trial import PILOT_PATHS
from prunebench.bench.config import RunConfig
from prunebench.bench.evaluation.statistics import DECIDED, problems_to_find


def deciding(right: Sequence[float], config: RunConfig, problems: int) -> str:
    """How many problems find a difference to none of 2, 5 and 10 points, by the share of right paths of a few problems.

    Nobody knows before the run how alike the kept paths are. If each is right or wrong by itself, the difference
    spreads as a draw of k of N does, p (1 - p) / k * (N - k) / (N - 1); if they share one fate, as p (1 - p). Paths
    that begin alike are in between.
    """
    what = f"to find a difference to none of {', '.join(map(str, DECIDED))} points (two-sided 5 %, 80 % power)"
    if not right:
        return f"{what}: not known before the run, as no trial reached the end of its paths"
    spread = [p * (1 - p) * PILOT_PATHS / (PILOT_PATHS - 1) for p in right]  # unbiased for so few paths
    n, k = config.n, config.k
    if k >= n or not any(spread):
        return f"{what}: not known before the run, as the {len(right)} problems of the trial are all right or all wrong"
    shared = 100 * math.sqrt(float(np.mean(spread)))
    alone = shared * math.sqrt((n - k) / (k * (n - 1)))
    needed = " / ".join(
        f"{problems_to_find(alone, size):,.0f} to {problems_to_find(shared, size):,.0f}" for size in DECIDED
    )
    return (
        f"{what}: {needed} problems, from kept paths that err each by itself to such as err together "
        f"(spread of {len(right)} problems of a trial); asked for are {problems}"
    )
