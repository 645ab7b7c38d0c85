"""Figures and tables of a comparison.

``from figures import pareto; pareto(results)`` returns a Matplotlib figure; ``figures.style.save`` writes it.
"""

from figures.ablations import ablations
from figures.attention import attention
from figures.budget import budget
from figures.law import law
from figures.motivation import motivation
from figures.overhead import overhead
from figures.pareto import pareto
from figures.reliability import reliability
from figures.retention import retention
from figures.score_quality import score_quality
from figures.taxonomy import taxonomy

__all__ = [
    "ablations",
    "attention",
    "budget",
    "law",
    "motivation",
    "overhead",
    "pareto",
    "reliability",
    "retention",
    "score_quality",
    "taxonomy",
]
