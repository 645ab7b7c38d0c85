"""Synthetic families with one integer answer, for the embedded reasoner."""

from __future__ import annotations

from tasks.synthetic.congruence import Congruence
from tasks.synthetic.family import Family
from tasks.synthetic.power import Power
from tasks.synthetic.program import Program
from tasks.synthetic.recurrence import Recurrence

FAMILIES: dict[str, Family] = {family.name: family for family in (Recurrence(), Power(), Congruence(), Program())}
