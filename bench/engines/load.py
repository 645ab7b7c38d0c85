"""Which engine samples: from the text of ``--engine`` to the engine itself."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunebench.bench.engines.kinds.transformers import Transformers
from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.engines.registry import ENGINES, EngineKind
from prunebench.bench.engines.sources import PACKAGE
from prunebench.bench.errors import UserError
from prunebench.bench.parameters import Reader, finite, pairs_in, values_of, whole

if TYPE_CHECKING:
    from prunebench.bench.engines.base import Engine
    from prunebench.bench.engines.transformers.engine import TransformersEngine

DEFAULT_ENGINE = Transformers()
_ENGINE_BEFORE_A_MODEL = re.compile(r"[a-z0-9_-]+:")


def parse_engine(text: str, option: str = "--engine") -> EngineKind:
    """``vllm,kv_memory=4`` or ``openai:URL`` as the kind of engine that it names. Raises UserError (one sentence)."""
    name, mark, rest = re.fullmatch(r"\s*([^:,\s]*)\s*([:,]?)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    kind, value = _kind(name, f"{option} {text}"), mark == ":"
    try:
        if value and not kind.value:
            raise UserError(f"nothing stands behind a colon of {name}; it has {', '.join(_names(kind))}")
        if value and not rest.partition(",")[0].strip():
            raise UserError(f"{kind.value} is missing behind the colon")
        return kind(**values_of(kind, pairs_in(rest, kind.value if value else ""), _READERS, _owner))
    except UserError as error:
        raise UserError(f"{option} {text}: {error}") from error


def parse_judge(text: str) -> tuple[EngineKind, str]:
    """``FOLDER_OR_ID``, or ``vllm:FOLDER_OR_ID`` where another engine than the default one runs the judge.

    Raises UserError for an engine that is not there, or whose model is not at hand.
    """
    if not _ENGINE_BEFORE_A_MODEL.match(text) or text.startswith(PACKAGE) or Path(text).exists():
        return DEFAULT_ENGINE, text
    name, _, model = text.partition(":")
    kind = _kind(name, f"--judge {text}")
    if not kind.reads:
        raise UserError(f"--judge {text}: {name} does not tell what a judge has to read; name a model that lies here")
    return kind().for_a_judge(), model


def kind_for_store(backend: str, wanted: EngineKind = DEFAULT_ENGINE) -> EngineKind:
    """What reads paths again that ``backend`` sampled: ``wanted``, unless the model lies on a server."""
    kind = _kind(backend.split()[0], "these rollouts") if backend else Transformers
    return wanted if kind.reads else kind()


def load_engine(
    model: str, device: str, options: ModelOptions | None = None, kind: EngineKind = DEFAULT_ENGINE
) -> Engine:
    """The model, sampled by this kind of engine. Raises UserError where it cannot be had."""
    loaded = kind.load(model, device, options or ModelOptions())
    if not isinstance(kind, Transformers) and not loaded.backend.startswith(kind.name):
        raise UserError(f"engine '{kind.name}': backend = '{loaded.backend}' has to begin with its name")
    return loaded


def load_local(
    model: str, device: str = "cpu", options: ModelOptions | None = None, rows_in_flight: int = 256
) -> TransformersEngine:
    """The model by the default engine, whose network lies in this process."""
    from prunebench.bench.engines.transformers.engine import TransformersEngine

    return TransformersEngine.load(
        model, device=device, rows_in_flight=rows_in_flight, options=options or ModelOptions()
    )


def require_digest(engine: Engine, digest: str) -> None:
    """Raises UserError where a process or a worker has loaded another model than the one that began."""
    if engine.digest != digest:
        raise UserError(f"model '{engine.name}' is another one here: {engine.digest} instead of {digest}")


def _kind(name: str, where: str) -> type[EngineKind]:
    try:
        return ENGINES.get(name)
    except ValueError as error:
        raise UserError(f"{where}: {error} (a file of your own: --plugin FILE)") from error


def _names(kind: type[EngineKind]) -> list[str]:
    return [field.name for field in fields(kind)]


def _owner(name: str) -> str | None:
    """The engines that have a field of that name."""
    others = [other for other, entry in ENGINES.items() if name in _names(entry)]
    return f"'{name}' belongs to {' and '.join(others)}" if others else None


def _not_negative(text: str) -> float:
    value = finite(text)
    if value < 0:
        raise ValueError(text)
    return value


def _text(text: str) -> str:
    if not text:
        raise ValueError(text)
    return text


_READERS: dict[Any, Reader] = {
    int: (whole, "a whole number"),
    float: (_not_negative, "a number that is not negative"),
    str: (_text, "a text"),
}
