"""Results of one experiment as one versioned JSON file: written whole, read back or refused in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.shards import write_atomically


class Document(BaseModel):
    """``KIND`` is what it is called and how its file is named, ``COMMAND`` makes one."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="null")

    KIND: ClassVar[str]
    COMMAND: ClassVar[str]

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a file, or from ``<KIND>.json`` in a folder.

        Raises UserError for a file that is missing, damaged or of another version.
        """
        file = path / f"{cls.KIND}.json" if path.is_dir() else path
        try:
            return cls.model_validate_json(file.read_text())
        except FileNotFoundError as error:
            raise UserError(f"{file}: no {cls.KIND} there; make it with: {cls.COMMAND}") from error
        except (ValidationError, UnicodeDecodeError) as error:
            raise UserError(f"{file}: not a {cls.KIND} of this version; make it again with: {cls.COMMAND}") from error

    def save(self, file: Path, indent: int | None = None) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, (self.model_dump_json(indent=indent) + "\n").encode())
