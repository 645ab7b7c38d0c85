"""Are a model's errors confident? What entropy tells of them beside a learned score of its states, from a few verdicts.

An error is uncertain where the next token was: entropy tells it for nothing. A confident one only the states may tell.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import BaseModel, ConfigDict

from prunebench.bench.evaluation.formats import with_interval
from prunebench.bench.evaluation.statistics import SHARE, Interval, mean_interval
from prunebench.bench.guideline.sweep import Sweep

FREE = "entropy"
PROBES = ("step", "stop", "mlp-probe", "linear-probe")
"""Learned scores of the states; the first that was swept is held against entropy, whatever it gave."""


class Diagnosis(BaseModel):
    """AUROC within problems, of ``problems`` with right and wrong paths, and their paired difference."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    problems: int
    probe: str
    entropy: Interval
    states: Interval
    difference: Interval

    def line(self) -> str:
        """What it shows, in one sentence."""
        d = self.difference
        if math.isnan(d.low):
            shown = f"{self.problems} problems with right and wrong paths are too few to tell them apart"
        elif d.low > 0:
            shown = "some errors are confident, and what reads the states is worth its training"
        elif d.high < 0:
            shown = "errors are uncertain, and entropy, which costs nothing, tells more of them"
        else:
            shown = "that what reads the states tells more than entropy, which costs nothing, is not established"
        return (
            f"AUROC of right against wrong paths within a problem: by entropy {with_interval(self.entropy, 2)}, by "
            f"states ({self.probe}) {with_interval(self.states, 2)}, difference "
            f"{with_interval(d, 2, signed=True)}: {shown}"
        )


def diagnosed(sweep: Sweep, prefix: int) -> Diagnosis | None:
    """From a sweep at one length; None where entropy or every probe is missing, or no problem has right and wrong."""
    ranked = {
        method: np.concatenate([np.array(one.auroc, float) for one in found])
        for method in (FREE, *PROBES)
        if (found := [one for one in sweep.rankings if (one.method, one.prefix) == (method, prefix)])
    }
    probe = next((name for name in PROBES if name in ranked), None)
    if probe is None or FREE not in ranked:
        return None
    both = np.isfinite(ranked[FREE])
    if not both.any():
        return None
    entropy, states = ranked[FREE][both], ranked[probe][both]
    return Diagnosis(
        problems=int(both.sum()),
        probe=probe,
        entropy=mean_interval(entropy, bounds=SHARE),
        states=mean_interval(states, bounds=SHARE),
        difference=mean_interval(states - entropy, bounds=(-1.0, 1.0)),
    )
