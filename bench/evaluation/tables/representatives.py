"""One method per quadrant, chosen on validation problems."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from prunebench.bench.evaluation.candidates import Candidate
from prunebench.bench.evaluation.results import Representative
from prunebench.methods.base import Quadrant


def representatives(candidates: Mapping[str, Candidate], competing: Collection[str]) -> list[Representative]:
    """Per quadrant the tuned method that ranks the validation problems best, of those that are ``competing``."""
    chosen = []
    for quadrant in Quadrant:
        rivals = {
            name: candidate.card.validation_auroc
            for name, candidate in candidates.items()
            if candidate.card and name in competing and candidate.pruner.quadrant() is quadrant
        }
        if rivals:
            best = max(rivals, key=lambda name: rivals[name])
            chosen.append(
                Representative(
                    quadrant=quadrant.value, method=best, validation_auroc=rivals[best], candidates=len(rivals)
                )
            )
    return chosen
