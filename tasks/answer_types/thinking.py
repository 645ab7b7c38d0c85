"""Thinking and answer, told apart by the marks between which models think, as tokens of their own or as plain text."""

from __future__ import annotations

import re

_WORDS = ("think", "thinking", "thought", "thoughts", "reason", "reasoning", "scratchpad", "seed:think")
_FORMS = (
    ("<{}>", "</{}>"), ("[{}]", "[/{}]"), ("◁{}▷", "◁/{}▷"), ("<|begin_of_{}|>", "<|end_of_{}|>"),
    ("<|start_{}|>", "<|end_{}|>"), ("<|{}_start|>", "<|{}_end|>"), ("<|{}_begin|>", "<|{}_end|>"),
)  # fmt: skip
PAIRS = {
    cased(opened.format(word)): cased(closed.format(word))
    for cased in (str.lower, str.upper, str.title)
    for opened, closed in _FORMS
    for word in _WORDS
}
"""What opens thinking, and what closes it then."""
ANSWERS = {"<|end_of_thought|>": "<|begin_of_solution|>", "<|END_THINKING|>": "<|START_RESPONSE|>"}
"""What opens the answer behind closed thinking, where a format has a mark for that."""
_MARK = re.compile("|".join(map(re.escape, sorted({*PAIRS, *PAIRS.values()}, key=len, reverse=True))))
_HARMONY = re.compile(r"(?:<\|start\|>assistant)?<\|channel\|>final<\|message\|>|assistantfinal")
_END_TOKEN = re.compile(r"(?:<\|[A-Za-z_]{1,30}\|>|<｜[^<>]{1,40}｜>|</s>|<eos>|<end_of_turn>)$")
LONGEST_END_TOKEN = 48


def behind_thinking(text: str) -> str:
    """What stands behind the last closed thinking, or what was thought where nothing does; end tokens taken off."""
    text = _without_end_tokens(text)
    closed = [mark for mark in _MARK.finditer(text) if mark[0] not in PAIRS] + [*_HARMONY.finditer(text)]
    if not closed:
        return text
    last = max(closed, key=lambda mark: mark.end())
    behind = text[last.end() :]
    return behind if behind.strip() else text[: last.start()]


def opened_in(text: str) -> set[str]:
    """The marks in a text that open thinking."""
    return {mark[0] for mark in _MARK.finditer(text)} & set(PAIRS)


def open_thinking(prompt: str, path: str) -> str | None:
    """The mark that opened the thinking in which ``path`` ends; None where it does not think.

    A mark within the prompt is spoken of: only at its end it opens something.
    """
    opened = None
    for mark in _MARK.finditer(prompt):
        opened = mark[0] if mark[0] in PAIRS and not prompt[mark.end() :].strip() else None
    for mark in _MARK.finditer(path):
        if mark[0] in PAIRS:
            opened = mark[0]
        elif opened is not None and mark[0] == PAIRS[opened]:
            opened = None
    return opened


def _without_end_tokens(text: str) -> str:
    while True:
        stripped = text.rstrip()
        token = _END_TOKEN.search(stripped[-LONGEST_END_TOKEN:])
        if token is None:
            return text
        text = stripped[: len(stripped) - len(token[0])]
