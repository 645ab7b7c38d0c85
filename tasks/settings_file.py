"""A YAML file of settings, read safely."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from prunebench.tasks.errors import UserError, first_line

MOST_BYTES = 256 * 1024
"""No settings are that long; a file of another kind is."""


class _Loader(yaml.SafeLoader):
    """Without references within the file: a few lines of them can stand for more than fits into any memory."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "references (*name) are not read: write it out", mark)
        return super().compose_node(parent, index)


def read_settings(path: Path, missing: str, empty: str) -> dict[str, Any]:
    """The keys and values of a file. Raises UserError with the line; ``missing`` and ``empty`` say what to do."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path}: more than {MOST_BYTES // 1024} KiB, so no file of settings; check the path")
        content = _Loader(path.read_text(encoding="utf-8")).get_single_data()
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
