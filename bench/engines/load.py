"""Which engine samples: from the text of ``--engine`` to the engine itself."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from prunebench.bench.engines.kinds.transformers import Transformers
from prunebench.bench.engines.options import ModelOptions
from prunebench.bench.engines.registry import ENGINES, EngineKind
from prunebench.bench.errors import UserError

if TYPE_CHECKING:
    from prunebench.bench.engines.base import Engine
    from prunebench.bench.engines.transformers.engine import TransformersEngine

DEFAULT_ENGINE = Transformers()
_ENGINE_BEFORE_A_MODEL = re.compile(r"[a-z0-9_-]+:")


def parse_engine(text: str, option: str = "--engine") -> EngineKind:
    """``vllm,kv_memory=4`` or ``openai:URL`` as the kind of engine that it names. Raises UserError (one sentence)."""
    first, *rest = re.split(r",(?=\s*\w+=)", text.strip())
    name, colon, value = first.partition(":")
    kind = _kind(name, f"{option} {text}")
    pairs = [(field.strip(), content.strip()) for field, _, content in (pair.partition("=") for pair in rest)]
    try:
        if colon and not kind.value:
            raise UserError(f"nothing stands behind a colon of {name}; it has {', '.join(_names(kind))}")
        values: dict[str, Any] = {}
        for field, content in [(kind.value, value), *pairs] if colon else pairs:
            if field in values:
                raise UserError(f"{field} stands twice")
            values[field] = _read(kind, field, content)
        return kind(**values)
    except UserError as error:
        raise UserError(f"{option} {text}: {error}") from error


def parse_judge(text: str) -> tuple[EngineKind, str]:
    """``FOLDER_OR_ID``, or ``vllm:FOLDER_OR_ID`` where another engine than the default one runs the judge.

    Raises UserError for an engine that is not there, or whose model is not at hand.
    """
    if not _ENGINE_BEFORE_A_MODEL.match(text) or Path(text).exists():
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


def _read(kind: type[EngineKind], name: str, text: str) -> Any:
    """The value of a field. Raises UserError for a field that the kind does not have, and for a wrong value."""
    known = _names(kind)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        others = [other for other, entry in ENGINES.items() if name in _names(entry)]
        hint = f"it belongs to {' and '.join(others)}" if others else f"it has {', '.join(known)}"
        raise UserError(f"{kind.name} has no '{name}': {f'did you mean {near[0]!r}?' if near else hint}")
    types = get_args(hint := get_type_hints(kind)[name]) or (hint,)
    read, what = _READERS[next(type_ for type_ in types if type_ is not NoneType)]
    try:
        return read(text)
    except ValueError:
        raise UserError(f"{name} = '{text}' is not {what}") from None


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise ValueError(text)
    return value


def _text(text: str) -> str:
    if not text:
        raise ValueError(text)
    return text


_READERS: dict[Any, tuple[Callable[[str], Any], str]] = {
    int: (int, "a whole number"),
    float: (_finite, "a number that is not negative"),
    str: (_text, "a text"),
}
