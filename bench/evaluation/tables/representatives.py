"""One method per quadrant, chosen on validation problems."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from prunebench.bench.evaluation.candidates import Candidate
from prunebench.bench.evaluation.formats import with_interval
from prunebench.bench.evaluation.results import LEVEL, PURE, PairRow, Representative, Results
from prunebench.methods.base import Quadrant


def representatives(candidates: Mapping[str, Candidate], competing: Collection[str]) -> list[Representative]:
    """Per quadrant the tuned method that ranks the validation problems best, of those that are ``competing``.

    What was tuned on other validation problems than most (see :func:`ranked_elsewhere`) is no candidate.
    """
    tuned, chosen = _tuned_alike(candidates, competing), []
    for quadrant in Quadrant:
        rivals = {name: auroc for name, auroc in tuned.items() if candidates[name].pruner.quadrant() is quadrant}
        if rivals:
            best = max(rivals, key=lambda name: rivals[name])
            chosen.append(
                Representative(
                    quadrant=quadrant.value, method=best, validation_auroc=rivals[best], candidates=len(rivals)
                )
            )
    return chosen


def ranked_elsewhere(candidates: Mapping[str, Candidate], competing: Collection[str]) -> str:
    """The sentence about tuned methods whose validation problems are not those of most; empty where there are none."""
    alike = _tuned_alike(candidates, competing)
    others = {
        name: len(card.validation_problems)
        for name in competing
        if name not in alike and (card := candidates[name].card) is not None
    }
    if not others:
        return ""
    named = ", ".join(f"{name} ({count})" for name, count in others.items())
    usual = candidates[next(iter(alike))].card
    assert usual is not None
    return (
        f"no candidate for its quadrant, being chosen on other validation problems than the {len(alike)} others "
        f"({len(usual.validation_problems)} problems): {named}"
    )


def _tuned_alike(candidates: Mapping[str, Candidate], competing: Collection[str]) -> dict[str, float]:
    """Validation AUROC of those with the validation problems of most methods (of equally many: the most problems).

    AUROCs of different problems do not rank methods.
    """
    groups: dict[frozenset[str], dict[str, float]] = {}
    for name in competing:
        if (card := candidates[name].card) is not None:
            groups.setdefault(frozenset(card.validation_problems), {})[name] = card.validation_auroc
    most = max(groups, key=lambda problems: (len(groups[problems]), len(problems)), default=None)
    return {} if most is None else groups[most]


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
    rivals = [one for one in results.representatives if one.quadrant in PURE]
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
