"""Answers that were forced while the rollouts were made: read where they are, never asked for again."""

from __future__ import annotations

from collections.abc import Sequence

from prunebench.bench.rollouts.store import StoredProblem


def answers_at(stored: StoredProblem, position: int, rows: Sequence[int]) -> list[str | None] | None:
    """What the paths in ``rows`` answered when an answer was forced behind ``position`` tokens; None: nobody asked.

    Answers were forced at the multiples of ``stored.probe_every`` only.
    """
    every, paths = stored.probe_every, [stored.paths[row] for row in rows]
    if every is None or position % every or any(path.probed is None for path in paths):
        return None
    return [answer_at(path.probed, path.answer, path.length, position, position // every - 1) for path in paths]


def answer_at(
    probed: Sequence[str | None] | None, final: str | None, length: int, position: int, place: int
) -> str | None:
    """The ``place``-th answer forced of a path of ``length`` tokens, at ``position``; behind its end the ``final`` one.

    A path is no longer asked once its reasoning is over: while it writes down its final answer it gives that.
    """
    return probed[place] if probed and place < len(probed) and position < length else final
