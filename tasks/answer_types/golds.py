"""Gold answers of which any one is right, in the one text that a problem and a store have for its gold answer."""

from __future__ import annotations

import json
from collections.abc import Sequence


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
