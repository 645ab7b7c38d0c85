"""A server that is running already and speaks OpenAI's completions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunebench.bench.engines.registry import EngineKind, engine

if TYPE_CHECKING:
    from prunebench.bench.engines.openai import OpenAIEngine
    from prunebench.bench.engines.options import ModelOptions


@engine
@dataclass(frozen=True, kw_only=True)
class OpenAI(EngineKind):
    """``url``: the server, as in ``openai:http://127.0.0.1:8000/v1``; not needed where paths are only read."""

    name = "openai"
    value = "url"
    reads = False

    url: str | None = None

    def load(self, model: str, device: str, options: ModelOptions) -> OpenAIEngine:
        from prunebench.bench.engines.openai import OpenAIEngine

        return OpenAIEngine(model, self.url, options)
