"""Which engine samples: the one place that knows all of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.errors import UserError

if TYPE_CHECKING:
    from prunebench.bench.engines.base import Engine
    from prunebench.bench.engines.transformers.engine import TransformersEngine

ENGINES = ("transformers", "vllm", "openai")
JUDGE_ENGINES = ("transformers", "vllm")


@dataclass(frozen=True)
class EngineChoice:
    """What samples: one of :data:`ENGINES`, the server of ``openai``, the memory of ``vllm`` in GiB."""

    kind: str = "transformers"
    base_url: str | None = None
    kv_memory: float | None = None


DEFAULT_ENGINE = EngineChoice()


def require_digest(engine: Engine, digest: str) -> None:
    """Raises UserError where a process or a worker has loaded another model than the one that began."""
    if engine.digest != digest:
        raise UserError(f"model '{engine.name}' is another one here: {engine.digest} instead of {digest}")


def load_local(
    model: str, device: str = "cpu", options: ModelOptions | None = None, rows_in_flight: int = 256
) -> TransformersEngine:
    """The model by the default engine, whose network lies in this process."""
    import logging

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging as transformers_logging

    from prunebench.bench.engines.transformers.engine import TransformersEngine

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("datasets").setLevel(logging.ERROR)
    return TransformersEngine.load(
        model, device=device, rows_in_flight=rows_in_flight, options=options or ModelOptions()
    )


def load_engine(
    model: str, device: str, options: ModelOptions | None = None, choice: EngineChoice = DEFAULT_ENGINE
) -> Engine:
    """The model, sampled as chosen. Raises UserError for an unknown kind, and for options that another kind has."""
    if choice.kind not in ENGINES:
        raise UserError(f"--engine {choice.kind}: write {', '.join(ENGINES[:-1])} or {ENGINES[-1]}")
    for option, kind in (("base_url", "openai"), ("kv_memory", "vllm")):
        if getattr(choice, option) is not None and choice.kind != kind:
            raise UserError(f"--{option.replace('_', '-')} belongs to --engine {kind}; this is {choice.kind}")
    if choice.kind == "openai":
        from prunebench.bench.engines.openai import OpenAIEngine

        return OpenAIEngine(model, choice.base_url, options)
    engine = load_local(model, device, options)
    if choice.kind == "transformers":
        return engine
    from prunebench.bench.engines.vllm.engine import VllmEngine

    return VllmEngine.beside(engine, choice.kv_memory)
