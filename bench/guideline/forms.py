"""The forms that a guideline may take: 1/gamma from a budget, a prefix length and a mean path length, all in tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.guideline.paper_law import UNIT

Array = NDArray[np.float64]
Form = Literal["law", "constant", "log-linear"]
FORMS: tuple[Form, ...] = ("law", "constant", "log-linear")
CONSTANTS: Mapping[Form, tuple[str, ...]] = {
    "law": ("a", "b", "c", "d"),
    "constant": ("a",),
    "log-linear": ("a", "b", "c", "d"),
}
"""Their names, in order."""


def inverse_of(form: Form, constants: Sequence[float], budget: float, prefix: float, task_length: float) -> float:
    """1/gamma, also below 1."""
    logs = [math.log(value / UNIT) for value in (budget, prefix, task_length)]
    if form == "constant":
        return constants[0]
    a, b, c, d = constants
    if form == "law":
        return a * math.exp(b * logs[0] + c * logs[1] - d * logs[2])
    return max(1.0, a + b * logs[0] + c * logs[1] - d * logs[2])


def fit_form(form: Form, points: Array, inverse: Array) -> list[float]:
    """Constants from ``points`` (cells, 3: budget, prefix, task length in tokens) and the measured ``inverse`` gammas.

    The law by least squares on log(1/gamma), the log-linear rival on 1/gamma itself, the constant as geometric mean.
    What the points do not vary in gets no exponent: a single task length says nothing of d.
    """
    logs = np.log(points / UNIT)
    if form == "constant":
        return [float(np.exp(np.log(inverse).mean()))]
    target = np.log(inverse) if form == "law" else inverse
    varies = np.ptp(logs, axis=0) > 1e-9
    design = np.column_stack([np.ones(len(logs)), *(logs[:, i] for i in range(3) if varies[i])])
    solved, *_ = np.linalg.lstsq(design, target, rcond=None)
    rest = iter(solved[1:])
    slopes = [float(next(rest)) if varies[i] else 0.0 for i in range(3)]
    first = float(np.exp(solved[0])) if form == "law" else float(solved[0])
    return [first, slopes[0], slopes[1], -slopes[2]]
