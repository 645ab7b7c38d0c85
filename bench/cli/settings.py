"""``--set KEY=VALUE``: the rare settings of a command, checked as in a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

import typer

from prunebench.bench.errors import UserError


def set_option(keys: str) -> Any:
    """The option ``--set``, whose help names its keys."""
    return typer.Option("--set", help=f"KEY=VALUE, may be given several times; {keys}.")


def keys_of(*records: type) -> str:
    """The fields of dataclasses with their defaults, for a help page."""
    return ", ".join(f"{field.name} ({_shown(field.default)})" for record in records for field in fields(record))


def _shown(default: Any) -> str:
    text = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return "-" if default is None else text or "-"


def tokens_of(text: str) -> float:
    """``300k`` is 300 * 1,024 tokens."""
    text = text.strip()
    number = text[:-1] if text.endswith("k") else text
    try:
        return float(number) * (1024 if text.endswith("k") else 1)
    except ValueError as error:
        raise UserError(f"{text}: write a number of tokens, such as 16384 or 16k") from error


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
    kind has, or that is given twice and has one value.
    """
    from prunebench.bench.config import nearest

    pairs_of("--set", pairs, "KEY=VALUE")
    schemas = [fields_of(kind) for kind in kinds]
    texts: dict[str, list[str]] = {}
    for key, _, text in (pair.partition("=") for pair in pairs or ()):
        texts.setdefault(key.strip(), []).append(text)
    for key, given in texts.items():
        schema = next((schema[key] for schema in schemas if key in schema), None)
        if schema is None:
            known = [name for schema in schemas for name in schema]
            raise UserError(f"--set {key}={given[0]}: unknown key '{key}'; {nearest(key, known)}")
        if len(given) > 1 and not _types(schema) & {"array", "object"}:
            raise UserError(f"--set {key}={given[1]}: {key} is given twice")
    return [{key: _value(schema[key], given) for key, given in texts.items() if key in schema} for schema in schemas]


def fields_of(kind: Any) -> dict[str, Any]:
    """The JSON schema of every field."""
    from pydantic import TypeAdapter

    schema = TypeAdapter(kind).json_schema()
    return {name: field for name, field in schema["properties"].items() if "$ref" not in str(field)}


def _types(schema: dict[str, Any]) -> set[str]:
    return {str(part.get("type")) for part in (schema, *schema.get("anyOf", ()))}


def _value(schema: dict[str, Any], texts: list[str]) -> Any:
    """What the texts of one key say, read by the type of the key."""
    import yaml

    types = _types(schema)
    if "array" in types:
        items = next(part for part in (schema, *schema.get("anyOf", ())) if part.get("type") == "array")["items"]
        commas = "anyOf" not in items  # an item that may be many things may be a comma
        return [part for text in texts for part in (names_of(text) if commas else [text])]
    if "object" in types:
        return {name or "*": value for name, _, value in (text.rpartition("=") for text in texts)}
    (text,) = texts
    if types & {"string"}:
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


T = TypeVar("T")


def checked(kind: type[T], values: dict[str, Any]) -> T:
    """The record of these values. Raises UserError for the first that does not fit."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        value = ",".join(map(str, it)) if isinstance(it := values.get(key, ""), list) else it
        raise UserError(f"--set {key}={value}: {first['msg'][0].lower()}{first['msg'][1:]}") from error


def settings_of(kind: type[T], pairs: Sequence[str] | None) -> T:
    """The record of a command's settings."""
    (values,) = sorted_settings(pairs, kind)
    return checked(kind, values)
