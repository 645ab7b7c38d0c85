"""The default engine: any causal language model of transformers, in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunebench.bench.engines.registry import EngineKind, engine

if TYPE_CHECKING:
    from prunebench.bench.engines.options import ModelOptions
    from prunebench.bench.engines.transformers.engine import TransformersEngine


@engine
@dataclass(frozen=True, kw_only=True)
class Transformers(EngineKind):
    name = "transformers"

    def load(self, model: str, device: str, options: ModelOptions) -> TransformersEngine:
        from prunebench.bench.engines.transformers.engine import TransformersEngine

        return TransformersEngine.load(model, device, options=options)
