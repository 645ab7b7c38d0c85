"""The one error that people are meant to see: a sentence that says what, where, and what to do."""

from __future__ import annotations

from collections.abc import Sized

LONGEST = 1500
"""Characters of a sentence; of a longer one the middle is left out."""


class UserError(Exception):
    """Bad input or a broken file. The command line prints the sentence and exits with code 2, without a traceback.

    Values from files stand in it: whatever they hold, it is one line of printable characters, and no book.
    """

    def __init__(self, sentence: str) -> None:
        line = " ".join(part.strip() for part in sentence.splitlines())
        line = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in line).strip()
        if len(line) > LONGEST:
            line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 3 :]}"
        super().__init__(line)


class NoProblemsError(UserError):
    """A split that a task does not have, or that is empty."""


def shown(value: object, by_size: bool = False) -> str:
    """A value in a sentence: short, whatever it is; containers in full, or ``by_size`` as ``a list of 3``."""
    if isinstance(value, int) and abs(value) > 10**20:
        return "a huge integer"
    if by_size and not isinstance(value, str | int | float | None):
        return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, Sized) else "")
    text = repr(value[:LONGEST] if isinstance(value, str) else value)
    return text if len(text) <= 70 else text[:67] + "..."


def first_line(error: Exception) -> str:
    """What another library's error says, in short."""
    said = str(error).strip()
    return f"{type(error).__name__}: {said.splitlines()[0][:160]}" if said else type(error).__name__
