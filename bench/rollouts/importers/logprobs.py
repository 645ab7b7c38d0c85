"""Log-probabilities as engines write them: numbers, OpenAI's objects, or the candidates of vLLM and SGLang."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.rollouts.importers.records import Record

NEVER = -9999.0
"""What OpenAI and vLLM write where the log-probability is minus infinity."""

LARGEST = 1e-3
"""What rounding may leave of the logarithm of one."""


@dataclass(frozen=True)
class TokenLogprobs:
    """``values``: float32 (tokens,), NaN for what is missing; ``tokens``: their texts, where every one is there."""

    values: NDArray[np.float32]
    tokens: list[str] | None


def logprobs_of(record: Record, field: str, ids: NDArray[np.int64] | None) -> TokenLogprobs | None:
    """The log-probabilities of the sampled tokens; ``ids`` tell which of several candidates these are.

    Raises UserError for what is in no known form.
    """
    value = record.get(field)
    if isinstance(value, Mapping):  # OpenAI's: of completions, of chats
        texts = value.get("tokens")
        value = value.get("token_logprobs", value.get("content"))
    else:
        texts = None
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise record.error(field, value, "a list of log-probabilities, as numbers or as OpenAI and vLLM write them")
    items = [_item(item, None if ids is None or place >= len(ids) else ids[place]) for place, item in enumerate(value)]
    numbers = [record.as_float(field, number, place) for place, (number, _) in enumerate(items)]
    for place, number in enumerate(numbers):
        if number > LARGEST:
            raise record.error(
                field, number, "a log-probability, at most 0 (the natural logarithm of a probability)", place
            )
    tokens = texts if isinstance(texts, list) else [token for _, token in items]
    known = [token for token in tokens if isinstance(token, str)]
    values = np.array([np.nan if number <= NEVER else number for number in numbers], np.float32)
    return TokenLogprobs(values, known if 0 < len(known) == len(numbers) else None)


def _item(item: object, sampled: int | None) -> tuple[object, object]:
    """(log-probability, text of the token) of what stands for one token."""
    if isinstance(item, list | tuple) and item:  # SGLang's: log-probability, id, text
        return item[0], item[2] if len(item) > 2 else None
    if isinstance(item, Mapping) and "logprob" not in item:  # vLLM's: candidates by their ids
        candidates = {str(token): candidate for token, candidate in item.items() if candidate is not None}
        only = next(iter(candidates.values())) if len(candidates) == 1 else None
        item = candidates.get(str(sampled), only)
    if isinstance(item, Mapping):
        return item.get("logprob"), item.get("token", item.get("decoded_token"))
    return item, None


def holds_candidates(value: object) -> bool:
    """Whether other tokens' log-probabilities stand beside those of the sampled ones, as OpenAI writes them."""
    if isinstance(value, Mapping):
        value = [value, *(value.get("content") or ())]
    return isinstance(value, list | tuple) and any(
        isinstance(item, Mapping) and item.get("top_logprobs") for item in value
    )
