from __future__ import annotations

import numpy as np
import pytest

from prunebench.bench.guideline.forms import fit_form
from prunebench.bench.guideline.paper_law import UNIT


@pytest.mark.parametrize("form", ["law", "log-linear", "constant"])
def test_a_form_that_made_the_points_is_found_again(form):
    random = np.random.default_rng(1)
    points = np.exp(random.uniform(2, 9, (30, 3)))
    c, p, t = np.log(points / UNIT).T
    truth = {"law": [2.0, 0.46, 0.4, 1.3], "log-linear": [40.0, 0.5, 0.25, 0.75], "constant": [7.0]}[form]
    inverse = {
        "law": truth[0] * np.exp(0.46 * c + 0.4 * p - 1.3 * t),
        "log-linear": truth[0] + 0.5 * c + 0.25 * p - 0.75 * t,
        "constant": np.full(30, 7.0),
    }[form]
    np.testing.assert_allclose(fit_form(form, points, inverse), truth, rtol=1e-6)


def test_what_does_not_vary_gets_no_exponent():
    points = np.array([[1024.0, 40, 270], [2048, 40, 270], [4096, 40, 270]])
    a, b, c, d = fit_form("law", points, np.array([2.0, 4.0, 8.0]))
    assert (b, c, d) == (pytest.approx(1.0), 0.0, 0.0) and a == pytest.approx(2.0)
