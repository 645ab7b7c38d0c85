"""Synthetic families with one integer answer, for the embedded reasoner."""

from __future__ import annotations

from prunebench.tasks.synthetic.congruence import Congruence
from prunebench.tasks.synthetic.family import Family
from prunebench.tasks.synthetic.power import Power
from prunebench.tasks.synthetic.program import Program
from prunebench.tasks.synthetic.recurrence import Recurrence

FAMILIES: dict[str, Family] = {family.name: family for family in (Recurrence(), Power(), Congruence(), Program())}
