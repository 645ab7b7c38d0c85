from __future__ import annotations

import math

from prunebench.bench.guideline.curves import curves_of, optimum_of
from tests.made_up_sweep import GAMMAS, made_up, planted


def test_the_optimum_and_all_that_are_as_good():
    (curve, *_) = curves_of(made_up(noise=0.001), "stop")
    found = optimum_of(curve)
    nearest = min(GAMMAS, key=lambda g: abs(math.log(g) + math.log(planted(2048, 20, 200))))
    assert found.gamma == nearest and found.as_good == [nearest]
    assert found.gain.low <= found.gain.mean <= found.gain.high
    noisy = optimum_of(curves_of(made_up(problems=8, noise=0.5), "stop")[0])
    assert len(noisy.as_good) > 1
