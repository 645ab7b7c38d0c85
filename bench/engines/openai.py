"""Rollouts from a server that is running already: OpenAI's completions with token ids and log-probabilities.

Text, token ids, log-probabilities, the largest of them, and what follows a prefix are all that a server tells: methods
that read more are refused, with the reason. The tokenizer is loaded here, and held against the server's before the
first path. A request that fails is sent again with back-off by OpenAI's client; when that does not help, what is
finished stays in the store.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.base import NOTHING, LivePool, Path, Recording, Request, Rollout, Sampling
from prunebench.bench.engines.noise import noise_key
from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.engines.shipped import source_of
from prunebench.bench.engines.tokenization import Tokenization, distinct_rows, forced_answers
from prunebench.bench.errors import UserError
from prunebench.methods.base import Signal
from prunebench.methods.generator import LearnedTokens, PrefixCache, Probe
from prunebench.methods.pool import Pool
from prunebench.tasks.errors import first_line

BACKEND = "openai"
TOLD = frozenset({Signal.TEXT, Signal.TOKEN_IDS, Signal.LOGPROBS, Signal.TOPK_LOGPROBS, Signal.PROBE})
"""What can be had of a server's paths."""
IN_FLIGHT = 256
"""Paths that are asked for at a time."""
RETRIES = 8
"""How often a request that failed is sent again: the client waits up to 8 s before each."""
_SAMPLE = "Let $x = 12$. Then $x^2 + 3x = 180$, so the answer is \\boxed{180}."


class OpenAIEngine(Tokenization):
    """Samples from the server at ``base_url`` what it serves as ``model``; it is asked when the first path is wanted.

    ``model`` is also where the tokenizer lies: a shipped reasoner, a local folder or a hub id.
    """

    reads = False
    shape = None
    arithmetic = None
    weight_bytes = 0
    backend = BACKEND
    device = "server"
    rows_in_flight = IN_FLIGHT
    replay_seconds = 0.0

    def __init__(self, model: str, base_url: str | None, options: ModelOptions | None = None) -> None:
        from transformers import AutoTokenizer

        self.name, self.base_url, self.options = model, base_url, options or ModelOptions()
        if self.options.tools is not None:
            raise UserError("tool use with --engine openai is not there: leave out --set tools=python")
        source = source_of(model)
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(source, revision=self.options.revision)
        except (OSError, ValueError) as error:
            raise UserError(
                f"no tokenizer of '{model}' ({first_line(error)}); name the folder or hub id that the server's model "
                "came from"
            ) from error
        self.digest = self.options.digest(hashlib.sha256(f"served:{model}".encode()).hexdigest()[:16])
        self._banned, self._stops = _banned(source), self.options.stop_ids(self.tokenizer)

    @property
    def context(self) -> int:
        """The longest prompt + path, as the server says; without a server what the tokenizer says."""
        told = getattr(self._served, "max_model_len", None) if self.base_url else None
        return int(told or self.tokenizer.model_max_length)

    @cached_property
    def client(self) -> Any:
        """Raises UserError without OpenAI's client, or without an address."""
        try:
            import openai
        except ImportError as error:
            raise UserError("OpenAI's client is not installed: pip install 'prunebench[openai]'") from error
        if self.base_url is None:
            raise UserError("--engine openai: name the server, as in openai:http://127.0.0.1:8000/v1")
        key = os.environ.get("OPENAI_API_KEY", "none")
        return openai.OpenAI(base_url=self.base_url, api_key=key, max_retries=RETRIES, timeout=3600.0)

    @cached_property
    def _served(self) -> Any:
        """What the server says of the model. Raises UserError where it serves another one, or reads text otherwise."""
        with self._told_in_a_sentence():
            models = {one.id: one for one in self.client.models.list()}
            if self.name not in models:
                raise UserError(
                    f"the server at {self.base_url} serves {', '.join(models) or 'nothing'}, not '{self.name}'; name "
                    "it so with --served-model-name, or choose --model"
                )
            (choice,) = self.client.completions.create(
                model=self.name, prompt=_SAMPLE, max_tokens=1, extra_body={"return_token_ids": True}
            ).choices
        theirs = getattr(choice, "prompt_token_ids", None)
        if theirs is None:
            raise UserError(
                f"the server at {self.base_url} tells no token ids (return_token_ids), so that its paths cannot be cut "
                "at a checkpoint; serve the model with vLLM"
            )
        if list(theirs) != list(self.tokenizer(_SAMPLE)["input_ids"]):
            raise UserError(
                f"the tokenizer of '{self.name}' here is not the one of the server at {self.base_url}: a sample text "
                "has other ids; name the folder that the server's model came from"
            )
        return models[self.name]

    def sample(
        self,
        requests: Iterable[Request],
        sampling: Sampling,
        seed: int,
        recording: Recording = NOTHING,
        purpose: str = "rollout",
    ) -> Iterator[Rollout]:
        """See :class:`bench.engines.base.Engine`. The seed of every path goes to the server, which draws by it.

        Raises UserError when the server does not answer.
        """
        flying: deque[tuple[Request, list[Future[Path]]]] = deque()
        with ThreadPoolExecutor(IN_FLIGHT) as threads:
            try:
                for request in requests:
                    while flying and sum(len(asked) for _, asked in flying) + len(request.paths) > IN_FLIGHT:
                        yield _rollout(*flying.popleft())
                    key = int(noise_key(seed, purpose, request.problem))
                    asked = [
                        threads.submit(self._path, request, row, key, sampling, recording)
                        for row in range(len(request.paths))
                    ]
                    flying.append((request, asked))
                while flying:
                    yield _rollout(*flying.popleft())
            finally:
                threads.shutdown(wait=False, cancel_futures=True)

    def _path(self, request: Request, row: int, key: int, sampling: Sampling, recording: Recording) -> Path:
        path = request.paths[row]
        prefix = [] if request.prefixes is None else request.prefixes[row].tolist()
        recorded = recording.told
        told = recording.topk if Signal.TOPK_LOGPROBS in recorded else 0 if Signal.LOGPROBS in recorded else None
        with self._told_in_a_sentence():
            (choice,) = self.client.completions.create(
                model=self.name,
                prompt=[*request.prompt_ids.tolist(), *prefix],
                max_tokens=max(1, self.limit(request, sampling) - len(prefix)),
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=_seed(key, path),
                logprobs=told,
                logit_bias={str(token): -100 for token in self._banned},
                extra_body={
                    "top_k": sampling.top_k,
                    "min_p": sampling.min_p,
                    "stop_token_ids": self._stops,
                    "return_token_ids": True,
                    "return_tokens_as_token_ids": True,
                    "skip_special_tokens": False,
                },
            ).choices
        return _recorded(path, choice, recording, len(prefix))

    @contextmanager
    def _told_in_a_sentence(self) -> Iterator[None]:
        import openai

        try:
            yield
        except (openai.APIConnectionError, openai.InternalServerError) as error:
            raise UserError(
                f"the server at {self.base_url} does not answer ({error}), tried {RETRIES + 1} times; start it again "
                "and run the same command: what is finished is kept"
            ) from error
        except openai.APIError as error:
            raise UserError(f"the server at {self.base_url} refused a request: {str(error)[:300]}") from error

    def recordable(self, recording: Recording) -> Recording:
        """What of it a server tells."""
        return recording.only(TOLD)

    def probe(self, pool: Pool, suffix_ids: Sequence[int], max_new_tokens: int) -> Probe:
        """See :func:`bench.engines.tokenization.forced_answers`."""

        def ask(request: Request, sampling: Sampling, recording: Recording) -> Rollout:
            (rollout,) = self.sample([request], sampling, 0, recording)
            return rollout

        return forced_answers(pool, suffix_ids, max_new_tokens, ask)

    def next_logprobs(self, pool: Pool, suffix_ids: Sequence[int], token_ids: Sequence[int]) -> NDArray[np.float64]:
        """See :meth:`methods.base.Generator.next_logprobs`."""
        rows, inverse = distinct_rows(pool)
        suffix = np.array(list(suffix_ids), np.int64)
        contexts = [np.concatenate([pool.prompt_ids, pool.token_ids[row], suffix]) for row in rows]
        return self.read_next(contexts, token_ids)[inverse]

    def read_next(self, contexts: Sequence[NDArray[np.int64]], token_ids: Sequence[int]) -> NDArray[np.float64]:
        """See :class:`bench.engines.base.Engine`: each token is put behind, and the server reads it."""
        texts = [[*ids.tolist(), token] for ids in contexts for token in token_ids]
        with ThreadPoolExecutor(max(1, min(IN_FLIGHT, len(texts)))) as threads:
            logprobs = list(threads.map(self._last_logprob, texts))
        return np.array(logprobs, np.float64).reshape(len(contexts), len(token_ids))

    def _last_logprob(self, ids: list[int]) -> float:
        with self._told_in_a_sentence():
            (choice,) = self.client.completions.create(
                model=self.name, prompt=ids, max_tokens=1, echo=True, logprobs=0, temperature=0.0
            ).choices
        return float(choice.logprobs.token_logprobs[len(ids) - 1])

    def launch(
        self, requests: Iterable[Request], sampling: Sampling, seed: int, recording: Recording, until: int
    ) -> Iterator[LivePool]:
        """Raises UserError: nobody keeps a server's cache between a checkpoint and what follows."""
        raise UserError("a server does not stop at a checkpoint; prune online with --engine transformers or vllm")

    def resume(self, live: Iterable[tuple[LivePool, NDArray[np.bool_]]]) -> Iterator[Rollout]:
        """Nothing to go on with, see :meth:`launch`."""
        return iter(())

    def forget(self) -> None:
        """Nothing is kept here."""

    def kv(self, pool: Pool, rows: Sequence[int]) -> PrefixCache:
        """Raises ValueError: a server's cache cannot be had."""
        raise ValueError("the keys and values of a server cannot be read")

    def behind(self, pool: Pool, learned: LearnedTokens) -> None:
        """None, see :meth:`kv`."""
        return None

    def reread(self, pool: Pool, signals: Collection[Signal]) -> dict[Signal, Any]:
        """Nothing: a server does not tell more than it did while sampling."""
        return {}


def refusal(name: str, reads: Collection[Signal]) -> str | None:
    """Why a method that reads these signals cannot run on a server's paths, or None."""
    missing = sorted(signal.name for signal in frozenset(reads) - TOLD - {Signal.OUTCOME, Signal.POTENTIAL})
    if not missing:
        return None
    return (
        f"method '{name}' reads {', '.join(missing)}: a server tells text, token ids and log-probabilities only; "
        "run it with --engine transformers or vllm"
    )


def _banned(source: str) -> list[int]:
    """Ids that the model's settings ban from sampling; none where it has no settings at hand."""
    from transformers import GenerationConfig

    try:
        return list(GenerationConfig.from_pretrained(source).suppress_tokens or [])
    except OSError:
        return []


def _seed(key: int, path: int) -> int:
    """31 bits that name a path among all others."""
    return int.from_bytes(hashlib.sha256(f"{key}/{path}".encode()).digest()[:8], "big") >> 33


def _rollout(request: Request, asked: list[Future[Path]]) -> Rollout:
    paths = [future.result() for future in asked]
    return Rollout(request.problem, paths)


def _recorded(path: int, choice: Any, recording: Recording, given: int) -> Path:
    ids = np.array(choice.token_ids, np.int64)
    signals = {}
    if Signal.LOGPROBS in recording.told:
        signals["logprobs"] = np.array(choice.logprobs.token_logprobs, np.float32)
    if Signal.TOPK_LOGPROBS in recording.told:
        steps = choice.logprobs.top_logprobs[: max(0, recording.topk_tokens - given)]
        largest = [sorted(step.values(), reverse=True)[: recording.topk] for step in steps]
        signals["topk_logprobs"] = np.array(largest, np.float32).reshape(len(largest), -1)
    return Path(path, ids, "stop" if choice.finish_reason == "stop" else "length", signals)
