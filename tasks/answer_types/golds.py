"""Gold answers: in whole solutions, and several of which any one is right, as one text of a problem and a store."""

from __future__ import annotations

import json
from collections.abc import Sequence

from prunebench.tasks.answer_types.boxes import joined_box

HASHES = "####"
"""What stands before the answer of a solution of GSM8K."""


def marked_gold(solution: str) -> str | None:
    """What a whole solution boxes, or writes at its end behind ``####``; None where it marks no answer so."""
    return joined_box(solution) or behind_hashes(solution)


def behind_hashes(solution: str) -> str | None:
    """What the last line says behind ``####``; elsewhere these begin a heading."""
    last = solution.strip().rpartition("\n")[2]
    return last.rpartition(HASHES)[2].strip() or None if HASHES in last else None


def any_of(golds: Sequence[str]) -> str:
    """One text for several accepted gold answers: a JSON list of texts, or the only one as it is."""
    distinct = list(dict.fromkeys(golds))
    return distinct[0] if len(distinct) == 1 else json.dumps(distinct, ensure_ascii=False)


def accepted(gold: str) -> list[str]:
    """The gold answers of a text that :func:`any_of` gave; of any other text itself."""
    if not (gold.startswith('["') and gold.endswith('"]')):
        return [gold]
    try:
        golds = json.loads(gold)
    except ValueError:
        return [gold]
    several = isinstance(golds, list) and len(golds) > 1 and all(isinstance(text, str) for text in golds)
    return golds if several else [gold]
