"""One line of an acceptance card."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Line:
    """One requirement: its bounds (None: none on that side), the measured value, and whether it is met."""

    name: str
    low: float | None
    high: float | None
    value: float

    @property
    def met(self) -> bool:
        above = self.low is None or self.value >= self.low
        return bool(above and (self.high is None or self.value <= self.high) and not np.isnan(self.value))
