"""Files as the suite writes and reads them: whole or not at all, and refused in a sentence where they do not serve."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from prunebench.bench.errors import UserError
from prunebench.tasks.errors import first_line

T = TypeVar("T")


def write_atomically(path: Path, content: bytes) -> None:
    """Either the old file or the whole new one is there, whatever happens."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError:  # a full disk would stay full of it
        temporary.unlink(missing_ok=True)
        raise


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """One JSON object more at the end of a file of lines; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:  # the newline first: it ends what a kill may have cut off
        stream.write((b"\n" if stream.tell() else b"") + json.dumps(row).encode())


def rows_in(path: Path) -> Iterator[dict[str, Any]]:
    """What :func:`append_row` wrote, none without the file; a line that a kill cut off is as if never written."""
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def file_digest(path: Path) -> str:
    """SHA-256 as hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def in_groups(stream: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` items as they come; the last one may be shorter."""
    rest = iter(stream)
    while group := list(islice(rest, size)):
        yield group


def table_of(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a Parquet file, all or some columns. Raises UserError where it cannot be read, texts included."""
    try:
        table = pq.read_table(path, columns=None if columns is None else list(columns))
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)}); run the command that made it again") from error
    return table


def csv_text(columns: Sequence[str], rows: Iterable[Iterable[Any]], digits: int = 6) -> str:
    """A table as CSV; floats with so many significant digits, NaN written as ``nan``."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(f"{value:.{digits}g}" if isinstance(value, float) else value for value in row)
    return stream.getvalue()


class Document(BaseModel):
    """Results of one experiment as one versioned JSON file.

    ``KIND`` is what it is called and how its file is named, ``COMMAND`` makes one.
    """

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="null")

    KIND: ClassVar[str]
    COMMAND: ClassVar[str]

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a file, or from ``<KIND>.json`` in a folder.

        Raises UserError for a file that is missing, damaged or of another version.
        """
        file = path / f"{cls.KIND}.json" if path.is_dir() or not path.suffix else path
        command = f"{cls.COMMAND} --out {file.parent}"
        try:
            return cls.model_validate_json(file.read_text())
        except FileNotFoundError as error:
            raise UserError(f"{file}: no {cls.KIND} there; make it with: {command}") from error
        except (ValidationError, UnicodeDecodeError) as error:
            raise UserError(f"{file}: not a {cls.KIND} of this version; make it again with: {command}") from error

    def save(self, file: Path, indent: int | None = None) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, (self.model_dump_json(indent=indent) + "\n").encode())
