"""STOP without its adapter: what the frozen model alone tells a learned token and a linear head."""

from __future__ import annotations

from dataclasses import dataclass

from prunebench.methods.learned.stop import Stop
from prunebench.methods.registry import pruner


@pruner
@dataclass
class StopWithoutAdapter(Stop):
    """A linear head on the last [STOP] token's state, and the token's vector; no LoRA (arXiv 2604.16029, Table 4).

    Everything else is :class:`Stop`, the sign included (higher = keep, as in the source): the difference of the two is
    what the adapter is worth. ``rank`` and ``dropout`` have no effect.
    """

    name = "stop-without-adapter"
    paper = "arXiv 2604.16029, Table 4"

    adapter: bool = False
