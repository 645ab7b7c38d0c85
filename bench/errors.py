"""The errors that people are meant to see, under the names that the harness uses."""

from __future__ import annotations

from prunebench.tasks.errors import UserError


class CrashError(UserError):
    """A method of somebody's own failed, or a process was ended from outside. The command line prints the sentence and
    exits with code 1: nothing is wrong with what was asked for.
    """


__all__ = ["CrashError", "UserError"]
