"""One method per quadrant, chosen on validation problems."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from prunebench.bench.evaluation.candidates import Candidate
from prunebench.bench.evaluation.formats import with_interval
from prunebench.bench.evaluation.results import LEVEL, PairRow, Representative, Results
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


@dataclass(frozen=True)
class Lead:
    """The quadrant whose representative keeps the best paths of a task, and the rival that is hardest to leave behind.

    ``pair`` is the leader minus that rival, in whichever order it was tested: ``sign`` turns it.
    """

    leader: Representative
    rival: Representative
    pair: PairRow
    sign: int

    @property
    def established(self) -> bool:
        """Whether it is ahead of every other quadrant, after Holm's correction for all pairs."""
        return self.pair.p_holm < LEVEL and self.sign * self.pair.avg.mean > 0

    @property
    def headline(self) -> str:
        return f"best quadrant: {f'{self.leader.quadrant}, established' if self.established else 'not established'}"

    @property
    def detail(self) -> str:
        best, other = (f"{one.quadrant} ({one.method})" for one in (self.leader, self.rival))
        return f"{best} minus {other}: {with_interval(self.pair.avg.scaled(self.sign), signed=True)}"


def lead(results: Results, task: str) -> Lead | None:
    """Which quadrant is ahead on a task; None where there are not two of them, or they were never held together."""
    gains = {row.method: row["avg_at_k"].mean for row in results.rows if row.task == task}
    rivals = [one for one in results.representatives if one.quadrant in ("I", "II", "III", "IV")]
    tested = {(row.method, row.other): row for row in results.pairs if row.task == task}
    best = max(rivals, key=lambda one: gains.get(one.method, -1.0), default=None)
    found = []
    for other in rivals:
        if best is None or other is best:
            continue
        if (row := tested.get((best.method, other.method))) is not None:
            found.append(Lead(best, other, row, 1))
        elif (row := tested.get((other.method, best.method))) is not None:
            found.append(Lead(best, other, row, -1))
    return max(found, key=lambda each: (each.pair.p_holm, -each.sign * each.pair.avg.mean), default=None)
