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
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.base import NOTHING, Path, Recording, Request, Rollout, Sampling
from prunebench.bench.engines.noise import noise_key
from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.engines.served import ServedEngine
from prunebench.bench.engines.sources import source_of
from prunebench.bench.errors import UserError
from prunebench.methods.base import Signal

IN_FLIGHT = 256
"""Paths that are asked for at a time."""
RETRIES = 8
"""How often a request that failed is sent again: the client waits up to 8 s before each."""
_SAMPLE = "Let $x = 12$. Then $x^2 + 3x = 180$, so the answer is \\boxed{180}."


class OpenAIEngine(ServedEngine):
    """Samples from the server at ``base_url`` what it serves as ``model``. Nothing is asked before the first path."""

    backend = "openai"
    rows_in_flight = IN_FLIGHT

    def __init__(self, model: str, base_url: str | None, options: ModelOptions | None = None) -> None:
        super().__init__(model, options)
        self.base_url = base_url
        if self.options.tools is not None:
            raise UserError("tool use with --engine openai is not there: leave out --set tools=python")
        self._banned, self._stops = (
            _banned(source_of(model, self.options).place()),
            self.options.stop_ids(self.tokenizer),
        )

    @property
    def context(self) -> int:
        """The longest prompt + path, as the server says; without a server what the tokenizer says."""
        longest = getattr(self._served, "max_model_len", None) if self.base_url else None
        return int(longest or super().context)

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
        with self._in_a_sentence():
            models = {served.id: served for served in self.client.models.list()}
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
        recorded = recording.per_token
        largest = recording.topk if Signal.TOPK_LOGPROBS in recorded else 0 if Signal.LOGPROBS in recorded else None
        with self._in_a_sentence():
            (choice,) = self.client.completions.create(
                model=self.name,
                prompt=[*request.prompt_ids.tolist(), *prefix],
                max_tokens=max(1, self.limit(request, sampling) - len(prefix)),
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=_seed(key, path),
                logprobs=largest,
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
        recorded_path = _recorded(path, choice, recording, len(prefix))
        request.tick(len(recorded_path.token_ids))
        return recorded_path

    @contextmanager
    def _in_a_sentence(self) -> Iterator[None]:
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

    def read_next(self, contexts: Sequence[NDArray[np.int64]], token_ids: Sequence[int]) -> NDArray[np.float64]:
        """See :class:`bench.engines.base.Engine`: each token is put behind, and the server reads it."""
        texts = [[*ids.tolist(), token] for ids in contexts for token in token_ids]
        with ThreadPoolExecutor(max(1, min(IN_FLIGHT, len(texts)))) as threads:
            logprobs = list(threads.map(self._last_logprob, texts))
        return np.array(logprobs, np.float64).reshape(len(contexts), len(token_ids))

    def _last_logprob(self, ids: list[int]) -> float:
        with self._in_a_sentence():
            (choice,) = self.client.completions.create(
                model=self.name, prompt=ids, max_tokens=1, echo=True, logprobs=0, temperature=0.0
            ).choices
        return float(choice.logprobs.token_logprobs[len(ids) - 1])


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


def _recorded(path: int, choice: Any, recording: Recording, prefix_tokens: int) -> Path:
    ids = np.array(choice.token_ids, np.int64)
    signals = {}
    if Signal.LOGPROBS in recording.per_token:
        signals["logprobs"] = np.array(choice.logprobs.token_logprobs, np.float32)
    if Signal.TOPK_LOGPROBS in recording.per_token:
        steps = choice.logprobs.top_logprobs[: max(0, recording.topk_tokens - prefix_tokens)]
        largest = [sorted(step.values(), reverse=True)[: recording.topk] for step in steps]
        signals["topk_logprobs"] = np.array(largest, np.float32).reshape(len(largest), -1)
    return Path(path, ids, "stop" if choice.finish_reason == "stop" else "length", signals)
