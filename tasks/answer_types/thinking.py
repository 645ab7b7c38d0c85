"""Thinking and answer, told apart: what stands behind the closed thinking is what the model answers."""

from __future__ import annotations

import re

_CLOSED = re.compile(
    r"</(?:think|thinking|thoughts?|reasoning|seed:think)>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>"
    r"|(?:<\|start\|>assistant)?<\|channel\|>final<\|message\|>|assistantfinal"
)
_END_TOKEN = re.compile(r"(?:<\|[A-Za-z_]{1,30}\|>|<｜[^<>]{1,40}｜>|</s>|<eos>|<end_of_turn>)$")
LONGEST_END_TOKEN = 48


def behind_thinking(text: str) -> str:
    """What stands behind the last closed thinking, or what was thought where nothing does; end tokens taken off."""
    text = _without_end_tokens(text)
    closed = None
    for mark in _CLOSED.finditer(text):
        closed = mark
    if closed is None:
        return text
    behind = text[closed.end() :]
    return behind if behind.strip() else text[: closed.start()]


def _without_end_tokens(text: str) -> str:
    while True:
        stripped = text.rstrip()
        token = _END_TOKEN.search(stripped[-LONGEST_END_TOKEN:])
        if token is None:
            return text
        text = stripped[: len(stripped) - len(token[0])]
