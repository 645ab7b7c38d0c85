"""The one error that people are meant to see: a sentence that says what, where, and what to do."""

from __future__ import annotations


class UserError(Exception):
    """Bad input or a broken file. The command line prints the sentence and exits with code 2, without a traceback.

    Values from files stand in it: whatever they hold, it is one line of printable characters.
    """

    def __init__(self, sentence: str) -> None:
        line = " ".join(part.strip() for part in sentence.splitlines())
        super().__init__("".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in line).strip())


class NoProblemsError(UserError):
    """A split that a task does not have, or that is empty."""


def shown(value: object) -> str:
    """A value in a sentence: short, whatever it is."""
    if isinstance(value, int) and abs(value) > 10**20:
        return "a huge integer"
    text = repr(value)
    return text if len(text) <= 70 else text[:67] + "..."


def first_line(error: Exception) -> str:
    """What another library's error says, in short."""
    told = str(error).strip()
    return f"{type(error).__name__}: {told.splitlines()[0][:160]}" if told else type(error).__name__
