"""An unmodified vLLM on this machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prunebench.bench.engines.registry import EngineKind, engine

if TYPE_CHECKING:
    from prunebench.bench.engines.options import ModelOptions
    from prunebench.bench.engines.vllm.engine import VllmEngine

JUDGE_GIB = 2.0
"""What the keys and values of a judge take beside the generator's."""


@engine
@dataclass(frozen=True, kw_only=True)
class Vllm(EngineKind):
    """``kv_memory``: GiB for keys and values (None: 4 on a CPU, what vLLM takes on a GPU)."""

    name = "vllm"

    kv_memory: float | None = None

    def load(self, model: str, device: str, options: ModelOptions) -> VllmEngine:
        from prunebench.bench.engines.transformers.engine import TransformersEngine
        from prunebench.bench.engines.vllm.engine import VllmEngine

        return VllmEngine.beside(TransformersEngine.load(model, device, options=options), self.kv_memory)

    def for_a_judge(self) -> Vllm:
        return self if self.kv_memory else replace(self, kv_memory=JUDGE_GIB)
