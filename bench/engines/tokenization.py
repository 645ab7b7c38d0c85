"""What every engine does with the model's tokenizer: prompts to ids, ids to text, forced answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.base import Recording, Request, Rollout, Sampling
from prunebench.bench.engines.chat import closing, has_reasoning_marks, prompt_ids
from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.errors import UserError
from prunebench.methods.base import Signal
from prunebench.methods.generator import Answer, Probe
from prunebench.methods.pool import Pool

MOST_UNKNOWN = 0.1
"""So large a share of a prompt may be unknown words: a rare sign is no other language."""


class Tokenization(ABC):
    """The tokenizer's side of an engine."""

    name: str
    tokenizer: Any
    options: ModelOptions

    @property
    @abstractmethod
    def context(self) -> int:
        """The longest prompt + path that the model takes, in tokens."""

    def limit(self, request: Request, sampling: Sampling) -> int:
        """The most tokens that a path can have.

        Raises UserError for a prompt that fills the context, or of whose words the tokenizer knows too few.
        """
        unknown = self._unknown(request.prompt_ids)
        if unknown > MOST_UNKNOWN * len(request.prompt_ids):
            raise UserError(
                f"problem {request.problem}: {unknown} of the {len(request.prompt_ids)} tokens of its prompt stand for "
                f"words that the tokenizer of {self.name} does not know; name a model that does: --model FOLDER_OR_ID"
            )
        room = self.context - len(request.prompt_ids)
        if room < 1:
            raise UserError(
                f"problem {request.problem}: its prompt of {len(request.prompt_ids)} tokens leaves no room in the "
                f"context of {self.context} tokens of {self.name}"
            )
        return min(sampling.max_new_tokens, room)

    def _unknown(self, ids: NDArray[np.int64]) -> int:
        """How many of these tokens stand for what has no token of its own."""
        tokenizer = self.tokenizer
        unknown = tokenizer.unk_token_id
        if unknown is None or unknown in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id):
            return 0  # a token that stands for more
        return int(np.count_nonzero(np.asarray(ids) == unknown))

    def encode_prompt(self, prompt: str) -> NDArray[np.int64]:
        """Prompt text -> ids: through the chat template if there is one, else with the tokenizer's BOS in front."""
        return np.array(prompt_ids(self.tokenizer, prompt, self.options), np.int64)

    def decode(self, token_ids: NDArray[np.int64]) -> str:
        """Ids -> text without special tokens; a last character that is cut in its bytes is left out."""
        return str(self.tokenizer.decode(token_ids.tolist(), skip_special_tokens=True)).rstrip("\ufffd")

    @property
    def reasons(self) -> bool:
        """Whether it may think between marks, which have to be closed before an answer can be forced."""
        return has_reasoning_marks(self.tokenizer)

    def closing_ids(self, token_ids: NDArray[np.int64], prompt_tokens: int = 0) -> tuple[int, ...]:
        """See :class:`bench.engines.base.Engine`."""
        prompt, path = (
            str(self.tokenizer.decode(ids.tolist(), skip_special_tokens=False))
            for ids in (token_ids[:prompt_tokens], token_ids[prompt_tokens:])
        )
        return tuple(self.tokenizer(closing(self.tokenizer, path, prompt), add_special_tokens=False)["input_ids"])


def distinct_rows(pool: Pool) -> tuple[list[int], NDArray[np.int64]]:
    """Rows with distinct prefixes, and for every row of the pool its place among them."""
    first: dict[bytes, int] = {}
    rows: list[int] = []
    places = []
    for row, ids in enumerate(pool.token_ids):
        place = first.setdefault(ids.tobytes(), len(rows))
        if place == len(rows):
            rows.append(row)
        places.append(place)
    return rows, np.array(places, np.int64)


def forced_answers(
    pool: Pool,
    suffix_ids: Sequence[int],
    max_new_tokens: int,
    ask: Callable[[Request, Sampling, Recording], Rollout],
) -> Probe:
    """Greedy decoding after prefix + suffix by ``ask``, equal prefixes once, prefixes of one length together.

    ``answer_class`` is left to the harness, which can grade: all -1; so is where an answer ends.
    """
    distinct, inverse = distinct_rows(pool)
    ids: dict[int, NDArray[np.int64]] = {}
    logprobs: dict[int, NDArray[np.float64]] = {}
    suffix = np.array(list(suffix_ids), np.int64)
    for length in np.unique(pool.lengths[distinct]):
        rows = np.array([row for row in distinct if pool.lengths[row] == length])
        prefixes = np.stack([np.concatenate([pool.token_ids[row], suffix]) for row in rows])
        request = Request(pool.problem, pool.prompt_ids, tuple(rows.tolist()), prefixes)
        greedy = Sampling(temperature=0.0, max_new_tokens=prefixes.shape[1] + max_new_tokens)
        rollout = ask(request, greedy, Recording((Signal.LOGPROBS,)))
        for row, path in zip(rows, rollout.paths, strict=True):
            ids[row], logprobs[row] = path.token_ids, path.signals["logprobs"].astype(np.float64)
    source = [distinct[place] for place in inverse]
    return Probe.of([Answer(ids[row], logprobs[row], -1, len(ids[row])) for row in source])


def pool_of_ids(prefixes: tuple[NDArray[np.int64], ...], prompt: NDArray[np.int64]) -> Pool:
    """Given ids as a pool, ``prefixes`` behind one ``prompt``."""
    count = len(prefixes)
    return Pool(
        problem="given", task="ids", position=max(map(len, prefixes), default=0), prompt="", prompt_ids=prompt,
        paths=np.arange(count), lengths=np.array([len(ids) for ids in prefixes]), finished=np.zeros(count, np.bool_),
        answer_class=np.full(count, -1, np.int64), signals={Signal.TOKEN_IDS: prefixes},
    )  # fmt: skip
