"""Checks of prefixes that lie in vLLM's cache: last states, learned tokens, opinions, forced answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.base import Recording, Request, Rollout, Sampling
from prunebench.bench.engines.tokenization import distinct_rows, forced_answers
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.engines.vllm.process import VllmProcess
from prunebench.bench.errors import UserError
from prunebench.methods.generator import LearnedTokens, PrefixCache, Probe
from prunebench.methods.pool import Pool

Sample = Callable[[Iterable[Request], Sampling, int, Recording], Iterator[Rollout]]


class CachedPrefixes:
    """The generator of pools whose prefixes lie in vLLM's cache (:class:`methods.base.Generator`).

    ``reader`` is the default engine with the same model: it gives the keys and values that vLLM does not.
    """

    replay_seconds = 0.0

    def __init__(self, process: VllmProcess, reader: TransformersEngine, sample: Sample) -> None:
        self.process, self.reader, self._sample = process, reader, sample
        self._adapted: dict[str, int] = {}
        """The spare id of learned tokens, by their digest."""

    def probe(self, pool: Pool, suffix_ids: Sequence[int], max_new_tokens: int) -> Probe:
        """See :func:`bench.engines.tokenization.forced_answers`."""

        def ask(request: Request, sampling: Sampling, recording: Recording) -> Rollout:
            (rollout,) = self._sample([request], sampling, 0, recording)
            return rollout

        return forced_answers(pool, suffix_ids, max_new_tokens, ask)

    def next_logprobs(self, pool: Pool, suffix_ids: Sequence[int], token_ids: Sequence[int]) -> NDArray[np.float64]:
        import torch

        rows, inverse = distinct_rows(pool)
        last = torch.from_numpy(self.last_states(pool, rows, suffix_ids)[:, 0])
        with torch.inference_mode():
            logits = self.reader.decoder.head(last.to(self.reader.device, self.reader.model.dtype))
            logprobs: NDArray[np.float64] = logits.double().log_softmax(-1)[:, list(token_ids)].cpu().numpy()
        return logprobs[inverse]

    def kv(self, pool: Pool, rows: Sequence[int]) -> PrefixCache:
        """vLLM's cache cannot be had from outside: the default engine encodes the prefixes."""
        return self.reader.kv(pool, rows)

    def behind(self, pool: Pool, learned: LearnedTokens) -> NDArray[np.float32] | None:
        """See :meth:`methods.base.Generator.behind`. None where the vocabulary has no spare id."""
        token = self._token_of(learned)
        if token is None:
            return None
        if any(token in ids for ids in (pool.prompt_ids, *pool.token_ids)):
            raise UserError(f"{pool.task}/{pool.problem}: holds token {token}, which stands for learned tokens in vLLM")
        rows, inverse = distinct_rows(pool)
        states: NDArray[np.float32] = self.last_states(pool, rows, [token] * learned.count)[inverse, 0]
        return states

    @property
    def spare_ids(self) -> list[int]:
        """Ids of the vocabulary that no text has: those beyond the tokenizer, then banned ones that mark nothing."""
        beyond = range(len(self.reader.tokenizer), self.reader.shape.vocabulary)
        marks = set(self.reader.tokenizer.all_special_ids)
        return [*beyond, *sorted(set(self.reader.banned) - marks, reverse=True)]

    def _token_of(self, learned: LearnedTokens) -> int | None:
        """The spare id that stands for learned tokens. The prefix cache knows texts by their ids: each gets its own."""
        from safetensors.numpy import save

        tensors = {"vector": learned.vector}
        for module, (down, up) in learned.adapter.items():
            tensors |= {f"{module}.A": down, f"{module}.B": up}
        content: bytes = save({name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()})
        digest = hashlib.sha256(content + str(learned.scale).encode()).hexdigest()
        if digest not in self._adapted:
            spare = self.spare_ids
            if not spare:
                return None
            if len(self._adapted) == len(spare):
                self.process.forget()
                self._adapted.clear()
            token = spare[len(self._adapted)]
            self.process.ask("prunebench_adapt", token, learned.scale, content)
            self._adapted[digest] = token
        return self._adapted[digest]

    def last_states(
        self, pool: Pool, rows: Sequence[int], suffix: Sequence[int], layers: bool = False
    ) -> NDArray[np.float32]:
        """(rows, 1, H), or (rows, layers + 1, H): the states of the last token of prompt, prefix and suffix.

        Raises UserError for a text that vLLM cannot read.
        """
        from vllm import SamplingParams

        from prunebench.bench.engines.vllm.worker import STATES

        prompts, params = [], []
        for number, row in enumerate(rows):
            ids = [*pool.prompt_ids.tolist(), *pool.token_ids[row].tolist(), *suffix]
            if not 1 <= len(ids) < self.reader.context:
                raise UserError(
                    f"{pool.task}/{pool.problem}: {len(ids)} tokens with what a check puts behind them; vLLM reads 1 "
                    f"to {self.reader.context - 1}: check at an earlier position"
                )
            prompts.append(ids)
            params.append(
                SamplingParams(
                    temperature=0.0, max_tokens=1, detokenize=False, extra_args={STATES: [str(number), layers]}
                )
            )
        self.process.generate(prompts, params)
        states = self.process.tensors("prunebench_states")
        return np.stack([states[str(number)] for number in range(len(rows))])
