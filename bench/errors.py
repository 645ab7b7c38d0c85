"""The error that people are meant to see, under the name that the harness uses."""

from __future__ import annotations

from prunebench.tasks.errors import UserError

__all__ = ["UserError"]
