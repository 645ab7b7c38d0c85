"""The goals of `prunebench perf`, and what was measured beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from prunebench.bench.perf.decoding import DeviceLimits

GOALS: dict[str, tuple[str, float]] = {
    "decode_vs_dynamic": (">=", 2.5),
    "check_vs_reencode": (">=", 20),
    "seconds_over_tokens_saved": (">=", 0.9),
    "replay_seconds": ("<=", 20),
    "replay_peak_mb": ("<=", 1024),
    "train_step_speedup": (">=", 5),
    "help_seconds": ("<=", 0.5),
    "grades_per_second": (">=", 1000),
    "decode_share_of_limit": (">=", 0.6),
    "draw_share_of_step": ("<=", 0.1),
    "decode_vs_vllm": (">=", 1),
    "compare_base_minutes": ("<=", 15),
}


@dataclass(frozen=True)
class Growth:
    """Seconds at several sizes, and the exponent of the power law through them (least squares of the logarithms)."""

    of: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def exponent(self) -> float:
        return float(np.polyfit(np.log(self.sizes), np.log(self.seconds), 1)[0])

    def described(self) -> dict[str, Any]:
        return {**asdict(self), "exponent": self.exponent}

    @classmethod
    def measured(cls, of: str, sizes: Sequence[int], seconds: Callable[[int], float]) -> Growth:
        return cls(of, tuple(sizes), tuple(seconds(size) for size in sizes))


@dataclass
class Speed:
    """The measurements by name; what else was seen; growth by measurement; ``share_of_limit`` of the machine's.

    ``absent``: why a measurement has no value.
    """

    device: str
    values: dict[str, float] = field(default_factory=dict)
    details: dict[str, float] = field(default_factory=dict)
    growth: dict[str, list[Growth]] = field(default_factory=dict)
    limits: DeviceLimits | None = None
    share_of_limit: dict[str, float] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def met(self, name: str) -> bool:
        sign, goal = GOALS[name]
        return self.values[name] >= goal if sign == ">=" else self.values[name] <= goal

    def described(self) -> dict[str, Any]:
        """One JSON object: the values under their names, null where one is ``absent``, and the rest."""
        nothing: dict[str, Any] = dict.fromkeys(self.absent)
        return {
            **nothing,
            **self.values,
            "met": {**nothing, **{name: self.met(name) for name in self.values}},
            "absent": self.absent,
            "details": self.details,
            "growth": {name: [growth.described() for growth in growths] for name, growths in self.growth.items()},
            "limits": None if self.limits is None else asdict(self.limits),
            "share_of_limit": self.share_of_limit,
            "device": self.device,
        }

    def lines(self, names: Sequence[str]) -> list[str]:
        """What is printed of some of the measurements."""
        lines = []
        for name in names:
            sign, goal = GOALS[name]
            if name in self.absent:
                lines.append(f"{name}: not measured (goal: {sign} {goal:g}); {self.absent[name]}")
                continue
            state = "met" if self.met(name) else "NOT MET"
            lines.append(f"{name}: {self.values[name]:.4g} (goal: {sign} {goal:g}; {state})")
        return lines
