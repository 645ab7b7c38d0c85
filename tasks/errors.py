"""The one error that people are meant to see: a sentence that says what, where, and what to do."""

from __future__ import annotations


class UserError(Exception):
    """Bad input or a broken file. The command line prints the sentence and exits with code 2, without a traceback."""


class NoProblemsError(UserError):
    """A split that a task does not have, or that is empty."""
