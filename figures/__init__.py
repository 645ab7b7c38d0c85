"""Figures and tables of a comparison.

``from prunebench.figures import pareto; pareto(results)`` is a Matplotlib figure; ``figures.style.save`` writes it.
"""

from prunebench.figures.ablations import ablations
from prunebench.figures.attention import attention
from prunebench.figures.budget import budget
from prunebench.figures.law import law
from prunebench.figures.motivation import motivation
from prunebench.figures.overhead import overhead
from prunebench.figures.pareto import pareto
from prunebench.figures.reliability import reliability
from prunebench.figures.retention import retention
from prunebench.figures.score_quality import score_quality
from prunebench.figures.taxonomy import taxonomy

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
