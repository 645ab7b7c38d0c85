"""A sweep with a known law inside."""

from __future__ import annotations

import math

import numpy as np

from prunebench.bench.guideline.paper_law import UNIT
from prunebench.bench.guideline.sweep import Sweep, SweepCell

GAMMAS = (1.0, 0.5, 0.25, 0.125, 0.0625)
LENGTHS = {"short": 200.0, "middle": 300.0, "long": 450.0}
PREFIXES, BUDGETS = (20, 40), (2048.0, 4096.0, 8192.0)


def planted(budget: float, prefix: float, length: float) -> float:
    """1/gamma of the law that the made-up sweep follows."""
    return 1.5 * (budget / UNIT) ** 0.5 * (prefix / UNIT) ** 0.2 / (length / UNIT) ** 0.4


def made_up(problems: int = 40, noise: float = 0.02, seed: int = 0, slope: float = 0.08) -> Sweep:
    """Accuracy falls with the distance of log gamma from the planted optimum; every problem has its own level."""
    random = np.random.default_rng(seed)
    cells = []
    for task, length in LENGTHS.items():
        level = random.uniform(0.3, 0.7, problems)
        for prefix in PREFIXES:
            for budget in BUDGETS:
                wanted = math.log(planted(budget, prefix, length))
                for gamma in GAMMAS:
                    maj = level - slope * (math.log(1 / gamma) - wanted) ** 2 + random.normal(0, noise, problems)
                    n = int(budget / (prefix + gamma * (length - prefix)))
                    cells.append(
                        SweepCell(method="stop", task=task, prefix=prefix, budget=budget, gamma=gamma, n=n,
                             k=max(1, round(gamma * n)), cost=budget, capped=False, maj=maj.tolist(), avg=maj.tolist())
                    )  # fmt: skip
    return Sweep(
        command="test", model="m", model_hash="h", sampling={}, store="s", stored_paths=256, draws=4, seed=0,
        problems={task: [f"{task}{i}" for i in range(problems)] for task in LENGTHS}, lengths=LENGTHS, cells=cells,
        left_out={"slim-sc": "because"},
    )  # fmt: skip
