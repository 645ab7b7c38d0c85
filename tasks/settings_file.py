"""A YAML file of settings, read safely."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tasks.errors import UserError, first_line


def read_settings(path: Path, missing: str, empty: str) -> dict[str, Any]:
    """The keys and values of a file. Raises UserError with the line; ``missing`` and ``empty`` say what to do."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; {missing}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not valid YAML ({getattr(error, 'problem', error)})") from error
    except (ValueError, RecursionError) as error:  # a date or a number that is none; lists within lists
        raise UserError(f"{path}: not valid YAML ({first_line(error)})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: {empty}")
    return content
