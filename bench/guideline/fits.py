"""The forms fitted to the best ratios of a sweep, with intervals over resampled problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from prunebench.bench.evaluation.statistics import Interval
from prunebench.bench.guideline.curves import Curve
from prunebench.bench.guideline.forms import CONSTANTS, FORMS, Form, fit_form

Array = NDArray[np.float64]
RESAMPLES = 500
KEPT_RESAMPLES = 100


class Fit(BaseModel):
    """One form with its constants and their bootstrap intervals (problems resampled within their tasks).

    ``resampled`` holds the constants of some of the resamples, in the order of ``constants``: for bands around a curve.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="null")

    form: Form
    constants: dict[str, Interval]
    resampled: list[list[float]]


def points_of(curves: Sequence[Curve]) -> Array:
    """(curves, 3): budget, prefix and task length, in tokens."""
    return np.array([[curve.budget, curve.prefix, curve.task_length] for curve in curves])


def best_inverse(curves: Sequence[Curve], weights: Mapping[str, Array] | None = None) -> Array:
    """1 / best gamma of every curve; ``weights`` (problems,) by task count resampled problems."""
    means = [curve.maj.mean(axis=1) if weights is None else curve.maj @ weights[curve.task] for curve in curves]
    return np.array([1 / curve.gammas[int(np.argmax(mean))] for curve, mean in zip(curves, means, strict=True)])


def fitted(curves: Sequence[Curve], seed: int = 0, resamples: int = RESAMPLES) -> list[Fit]:
    """Every form, with percentile intervals of its constants over resamples of the problems within their tasks."""
    points, random = points_of(curves), np.random.default_rng(seed)
    sizes = {curve.task: curve.maj.shape[1] for curve in curves}
    drawn: dict[Form, list[list[float]]] = {form: [] for form in FORMS}
    for _ in range(resamples):
        weights = {task: random.multinomial(n, np.full(n, 1 / n)) / n for task, n in sizes.items()}
        inverse = best_inverse(curves, weights)
        for form in FORMS:
            drawn[form].append(fit_form(form, points, inverse))
    return [_fit(form, fit_form(form, points, best_inverse(curves)), drawn[form]) for form in FORMS]


def _fit(form: Form, constants: Sequence[float], resampled: list[list[float]]) -> Fit:
    low, high = np.percentile(np.array(resampled), [2.5, 97.5], axis=0)
    return Fit(
        form=form,
        constants={
            name: Interval(mean=constants[i], low=float(low[i]), high=float(high[i]))
            for i, name in enumerate(CONSTANTS[form])
        },
        resampled=[[float(f"{value:.6g}") for value in drawn] for drawn in resampled[:KEPT_RESAMPLES]],
    )
