"""How a model is loaded and asked, beyond its name: everything here that changes a sample is part of its hash."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from prunebench.bench.errors import UserError


def model_digest(source: str) -> str:
    """16 hex digits over weights, configurations and tokenizer of a local folder; of the id itself for a hub model."""
    digest = hashlib.sha256()
    folder = Path(source)
    if not folder.is_dir():
        return hashlib.sha256(source.encode()).hexdigest()[:16]
    named = [folder / name for name in ("config.json", "generation_config.json", "tokenizer.json")]
    for file in sorted([*folder.glob("*.safetensors"), *(file for file in named if file.exists())]):
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


class ModelOptions(BaseModel):
    """``dtype`` None: float32 for a shipped reasoner and on a CPU, else that of the checkpoint.

    ``chat_template``: ``auto`` (the tokenizer's own where it has one), ``none``, or the path of a Jinja file.
    ``system`` is the system message; ``reasoning_effort`` (gpt-oss: low, medium, high) and ``enable_thinking`` (Qwen3
    and others) go to the template. ``stop`` holds further tokens that end a path: single tokens as text, or ids.
    ``tools``: blocks of Python that a path writes are run in a sandbox and answered. Code of a checkpoint runs only
    with ``trust_remote_code``. ``base`` is the model that a LoRA is put on, where it is another than the LoRA names.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    revision: str | None = None
    base: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] | None = None
    device_map: str | None = None
    trust_remote_code: bool = False
    chat_template: str = "auto"
    system: str | None = None
    reasoning_effort: str | None = None
    enable_thinking: bool | None = None
    tools: Literal["python"] | None = None
    stop: Annotated[tuple[int | str, ...], Field(strict=False)] = ()

    @property
    def changes(self) -> dict[str, Any]:
        """What differs from the defaults, as JSON takes it."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def stop_ids(self, tokenizer: Any) -> list[int]:
        """The ids of the stop tokens. Raises UserError for a text that is not one token."""
        stops: list[int] = []
        for stop in self.stop:
            ids = [stop] if isinstance(stop, int) else tokenizer(stop, add_special_tokens=False)["input_ids"]
            if len(ids) != 1:
                raise UserError(f"stop {stop!r}: {len(ids)} tokens of this model; only single tokens can end a path")
            stops += ids
        return stops

    def digest(self, model: str) -> str:
        """``model``, a hash of weights, with what else changes its samples: the same hash where nothing does."""
        silent = ("device_map", "trust_remote_code", "base")  # the base is in the hash of the weights
        telling = {name: value for name, value in self.changes.items() if name not in silent}
        if not telling:
            return model
        return hashlib.sha256(json.dumps([model, telling], sort_keys=True).encode()).hexdigest()[:16]
