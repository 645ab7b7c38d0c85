"""``--set KEY=VALUE``: the rare settings of a command, checked as in a file."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import typer

from prunebench.bench.cli.at_hand import known
from prunebench.bench.errors import UserError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from prunebench.bench.config import RunConfig
    from prunebench.bench.engines.options import ModelOptions


def set_option(keys: str) -> Any:
    """The option ``--set``, whose help names its keys."""
    return typer.Option("--set", help=f"KEY=VALUE, may be given several times; {keys}.")


def keys_of(*records: type) -> str:
    """The fields of dataclasses with their defaults, for a help page."""
    return ", ".join(f"{field.name} ({_shown(field.default)})" for record in records for field in fields(record))


def _shown(default: Any) -> str:
    text = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return "-" if default is None else text or "-"


def names_of(text: str) -> list[str]:
    """``a,b(c,d)`` -> a and b(c,d); ``all`` is every one, which an empty list stands for."""
    return [] if text == "all" else [name.strip() for name in re.split(r",(?![^(]*\))", text) if name.strip()]


def pairs_of(option: str, pairs: Sequence[str] | None, form: str) -> dict[str, str]:
    """What stands before and behind the first equals sign."""
    for pair in pairs or ():
        if "=" not in pair:
            raise UserError(f"{option} {pair}: write {form}")
    return {name.strip(): value for name, _, value in (pair.partition("=") for pair in pairs or ())}


def sorted_settings(pairs: Sequence[str] | None, *kinds: Any) -> list[dict[str, Any]]:
    """The values of ``pairs`` for each of ``kinds`` (records of pydantic or dataclasses), by the one that has the key.

    A key of several values takes them joined by commas, or is given several times. Raises UserError for a key that no
    kind has, for a value of another type, and for one that is given twice.
    """
    from prunebench.bench.config import nearest

    pairs_of("--set", pairs, "KEY=VALUE")
    checks = [_fields_of(kind) for kind in kinds]
    texts: dict[str, list[str]] = {}
    for key, _, text in (pair.partition("=") for pair in pairs or ()):
        texts.setdefault(key.strip(), []).append(text)
    for key, values in texts.items():
        if not any(key in check for check in checks):
            names = [name for check in checks for name in check]
            raise UserError(f"--set {key}={values[0]}: unknown key '{key}'; {nearest(key, names)}")
    return [
        {key: _value(key, of_kind[key], values) for key, values in texts.items() if key in of_kind}
        for of_kind in checks
    ]


def _fields_of(kind: Any) -> dict[str, TypeAdapter[Any]]:
    """What checks the value of every field that is no record itself."""
    from pydantic import TypeAdapter

    names = kind.model_fields if hasattr(kind, "model_fields") else [field.name for field in fields(kind)]
    hints = get_type_hints(kind, include_extras=True)
    adapters = {name: TypeAdapter(hints[name]) for name in names}
    return {name: adapter for name, adapter in adapters.items() if "properties" not in adapter.json_schema()}


def _value(key: str, adapter: TypeAdapter[Any], texts: list[str]) -> Any:
    """What the texts of one key say, read by the type of its field."""
    import yaml
    from pydantic import ValidationError

    schema = adapter.json_schema()
    parts = {str(part.get("type")): part for part in (schema, *schema.get("anyOf", ()))}
    value: Any
    if "array" in parts:
        commas = "anyOf" not in parts["array"]["items"]  # an item that may be many things may be a comma
        value = [item for text in texts for item in (names_of(text) if commas else [text])]
    elif "object" in parts:
        value = {name or "*": place for name, _, place in (text.rpartition("=") for text in texts)}
    elif len(texts) > 1:
        raise UserError(f"--set {key}={texts[1]}: {key} is given twice")
    elif "string" in parts:
        value = texts[0]
    else:
        try:
            value = yaml.safe_load(texts[0])
        except yaml.YAMLError:
            value = texts[0]
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        raise UserError(f"--set {key}={','.join(texts)}: {message[0].lower()}{message[1:]}") from error


T = TypeVar("T")


def settings_of(kind: type[T], pairs: Sequence[str] | None) -> T:
    """The settings of a command. Raises UserError."""
    (values,) = sorted_settings(pairs, kind)
    return kind(**values)


def model_options_of(pairs: Sequence[str] | None, kind: type[T]) -> tuple[T, ModelOptions]:
    """The settings of a command that loads a model, and the model's."""
    from prunebench.bench.engines.options import ModelOptions

    values, options = sorted_settings(pairs, kind, ModelOptions)
    return kind(**values), ModelOptions(**options)


def config_from(
    config: str | None,
    pairs: Sequence[str] | None,
    unused: Collection[str] = (),
    usual: Mapping[str, Any] | None = None,
    **options: Any,
) -> RunConfig:
    """The settings of a preset or file, but for the options and the pairs that were given.

    Without either it is a shipped reasoner's own preset, or the standard setting for any other model. Tasks that are
    named on the command line and have an end are taken whole, unless a number of problems is given. ``usual`` is what
    the command takes instead of the preset's. Raises UserError, also for a key in ``unused``, which it does not read.
    """
    from prunebench.bench.config import load_config, preset, usual_config
    from prunebench.tasks import catalogue

    overrides = overrides_of(pairs, options)
    for key in overrides.keys() & set(unused):
        raise UserError(f"--set {key}: this command makes no use of it; leave it out")
    if "tasks" in overrides and "problems" not in overrides:
        named = known(lambda: catalogue.expand(overrides["tasks"]))
        overrides |= {} if any(task.endless for task in named) else {"problems": None}
    overrides = {**(usual or {}), **overrides}
    if config is not None:
        return (load_config if config.endswith((".yaml", ".yml")) else preset)(config, **overrides)
    fitting = _fitting(overrides, usual_config(overrides.get("model", "embedded")))
    return usual_config(overrides.pop("model", "embedded"), **overrides, **fitting)


def standard_taken(config: str | None, pairs: Sequence[str] | None, run: RunConfig) -> str | None:
    """The sentence that says what a model of one's own is given where nobody said how long its paths may become."""
    from prunebench.bench.engines.shipped import REASONERS

    if config is not None or run.model in REASONERS or "max_new_tokens" in overrides_of(pairs, {}):
        return None
    return (
        f"{run.model} has no preset: as in the paper, {run.n} paths of at most {run.max_new_tokens:,} new tokens at "
        f"temperature {run.temperature:g}, checkpoint at {run.prefix_tokens:,}; for shorter ones: --set "
        "max_new_tokens=1024"
    )


def _fitting(overrides: Mapping[str, Any], usual: RunConfig) -> dict[str, int]:
    """What nobody named and what is usual does not fit: an eighth of shorter paths, or of fewer, as in the paper."""
    cap, paths = overrides.get("max_new_tokens", usual.max_new_tokens), overrides.get("n", usual.n)
    fitting = {}
    if "prefix_tokens" not in overrides and 2 * usual.prefix_tokens > cap:
        fitting["prefix_tokens"] = max(1, cap // 8)
    if "k" not in overrides and usual.k > paths:
        fitting["k"] = max(1, paths // 8)
    return fitting


def overrides_of(pairs: Sequence[str] | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that were given, and pairs: keys of a configuration. Raises UserError for one that is given by both."""
    from prunebench.bench.config import RunConfig
    from prunebench.bench.engines.options import ModelOptions

    overrides = {name: value for name, value in options.items() if value is not None}
    values, of_model = sorted_settings(pairs, RunConfig, ModelOptions)
    for key in values.keys() & overrides.keys():
        raise UserError(f"--set {key}: an option says the same; give one of them")
    return {**overrides, **values, **({"model_options": of_model} if of_model else {})}
