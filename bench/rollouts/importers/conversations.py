"""Conversations as chat models are given them: a list of messages with a role and a content, or the JSON of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prunebench.bench.rollouts.importers.records import Record
from prunebench.tasks.rows import unwritten

ASSISTANT = "assistant"
REASONING = ("reasoning_content", "reasoning", "thinking")
"""What servers call the thinking of a message that they keep apart from its content."""


def prompt_of(record: Record, field: str, value: object) -> str:
    """A prompt: the text as it is, or what the messages say; those of several with their roles. '' for nothing."""
    messages = conversation(value)
    if messages is None:
        return record.as_text(field, value) if value else ""
    said = [(str(message.get("role")), _content(record, field, message)) for message in messages]
    return said[0][1] if len(said) == 1 else "\n\n".join(f"{role}: {content}" for role, content in said)


def conversation(value: object) -> list[dict[str, Any]] | None:
    """The messages that a value is, or writes as JSON or as Python does; None for anything else."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        value = unwritten(value)
    if not isinstance(value, list) or not value:
        return None
    return value if all(isinstance(message, dict) and "role" in message for message in value) else None


def answer_of(record: Record, field: str) -> tuple[Sequence[dict[str, Any]], str]:
    """What goes before the last message, and what that says, its thinking in marks.

    Raises UserError where the last is not the assistant's.
    """
    value = record.get(field)
    messages = conversation(value)
    if messages is None or messages[-1].get("role") != ASSISTANT:
        raise record.error(field, value, "a list of messages of which the last is the assistant's")
    *before, last = messages
    text = _content(record, field, last)
    thinking = next((last[name] for name in REASONING if last.get(name)), None)
    return before, text if thinking is None else f"<think>\n{record.as_text(field, thinking)}\n</think>\n\n{text}"


def _content(record: Record, field: str, message: dict[str, Any]) -> str:
    """The text of a message; of one in parts those that are text."""
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        content = "".join(part for part in parts if isinstance(part, str))
    return "" if content is None else record.as_text(field, content)
