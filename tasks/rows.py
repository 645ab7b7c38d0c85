"""Rows of JSON, JSON Lines, CSV, XML and Parquet files, each with its place for complaints."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from xml.parsers import expat

from prunebench.tasks.errors import UserError

LONGEST_LINE = 16 * 2**20
"""Bytes; a longer line is no problem with an answer, and would only fill the memory."""
LONGEST_FILE = 2**30
"""Bytes of a JSON or XML file, which is read as a whole."""
BATCH_ROWS = 16
"""Rows of a Parquet file in memory at once: one may hold all paths of a problem."""
SUFFIXES = (".jsonl", ".json", ".csv", ".xml", ".parquet")


@dataclass(frozen=True)
class DataRow:
    """Named values at a place of a file (``line 3``)."""

    file: str
    place: str
    values: Mapping[str, Any]

    @property
    def where(self) -> str:
        return f"{self.file}, {self.place}"


def rows_of(file: Path, longest_line: int = LONGEST_LINE) -> Iterator[DataRow]:
    """Every row of a file, read as it is asked for. Raises UserError for what cannot be read, with its line."""
    readers: dict[str, Callable[[], Iterator[DataRow]]] = {
        ".jsonl": lambda: _json_lines(file, longest_line), ".json": lambda: _json(file),
        ".csv": lambda: _csv(file, longest_line), ".xml": lambda: _xml(file), ".parquet": lambda: _parquet(file),
    }  # fmt: skip
    if file.suffix not in readers:
        raise UserError(f"{file}: the name must end in {', '.join(SUFFIXES)}")
    try:
        yield from readers[file.suffix]()
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from error


def json_of(file: Path) -> Any:
    """The content of a JSON file. Raises UserError for one that is too long, not UTF-8 or not valid."""
    _refuse_too_long(file)
    try:
        return _parsed(file, "", file.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 (byte {error.start + 1}); save the file as UTF-8") from error


def _refuse_too_long(file: Path) -> None:
    """Raises UserError for a file that is read as a whole and has no room in memory."""
    if file.stat().st_size > LONGEST_FILE:
        raise UserError(f"{file}: more than {LONGEST_FILE >> 30} GiB; write one object per line (.jsonl)")


@contextmanager
def reading_parquet(file: Path) -> Iterator[None]:
    """Whatever is wrong with a Parquet file becomes a UserError."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        if getattr(error, "errno", None):  # the file system's, not the format's
            raise
        raise UserError(f"{file}: cannot be read as Parquet ({str(error).splitlines()[0]}); fetch it again") from error


def _lines(file: Path, longest: int) -> Iterator[tuple[int, str]]:
    """(number, text with its end) of every line. Raises UserError for one that is too long or not UTF-8."""
    with file.open("rb") as stream:
        for number, line in enumerate(_bounded(stream, longest), 1):
            if len(line) > longest:
                raise UserError(f"{file}, line {number}: longer than {longest >> 20} MiB; is a line end missing there?")
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{file}, line {number}: not UTF-8 (byte {error.start + 1} is 0x{line[error.start]:02x}); save the "
                    "file as UTF-8"
                ) from error


def _bounded(stream: BinaryIO, longest: int) -> Iterator[bytes]:
    while line := stream.readline(longest + 1):
        yield line


def _json_lines(file: Path, longest_line: int) -> Iterator[DataRow]:
    for number, line in _lines(file, longest_line):
        if line.strip():
            place = f"line {number}"
            yield DataRow(str(file), place, _object(file, place, _parsed(file, f", {place}", line)))


def _json(file: Path) -> Iterator[DataRow]:
    """A list of objects, or an object with one such list."""
    content = json_of(file)
    if isinstance(content, dict):
        lists = [value for value in content.values() if isinstance(value, list)]
        content = lists[0] if len(lists) == 1 else content
    if not isinstance(content, list):
        raise UserError(f"{file}: no list of problems; write [{{...}}, {{...}}], or one object per line (.jsonl)")
    for number, item in enumerate(content, 1):
        yield DataRow(str(file), f"item {number}", _object(file, f"item {number}", item))


def _parsed(file: Path, where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = where or f", line {error.lineno}"
        raise UserError(f"{file}{place}: not valid JSON ({error.msg}, column {error.colno}); mend it there") from error
    except (RecursionError, ValueError) as error:  # nested without end; an integer of more digits than Python reads
        raise UserError(f"{file}{where}: not readable as JSON ({str(error).splitlines()[0]})") from error


def _object(file: Path, place: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f'{file}, {place}: no object with named fields; write {{"problem": ..., "answer": ...}}')
    return value


def _csv(file: Path, longest_line: int) -> Iterator[DataRow]:
    """With a header line; values are texts as they stand."""
    csv.field_size_limit(longest_line)
    reader = csv.DictReader((line for _, line in _lines(file, longest_line)), restkey="", strict=True)
    try:
        for values in reader:
            if "" in values or None in values.values():
                raise UserError(
                    f"{file}, line {reader.line_num}: {len(reader.fieldnames or ())} columns are named in line 1, this "
                    "row has another number; put texts with commas or line ends in double quotes"
                )
            yield DataRow(str(file), f"line {reader.line_num}", values)
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num}: not valid CSV ({error})") from error


@dataclass
class _Element:
    """An open element. ``holds``: it has elements in it; ``row``: these hold none."""

    line: int
    fields: dict[str, Any]
    text: list[str] = field(default_factory=list)
    holds: bool = False
    row: bool = True


def _xml(file: Path) -> Iterator[DataRow]:
    """A row is an element that holds elements with nothing but text; its fields are its attributes and theirs."""
    _refuse_too_long(file)
    parser, opened, rows = expat.ParserCreate(), [_Element(0, {})], list[DataRow]()
    parser.buffer_text = True

    def start(name: str, attributes: dict[str, str]) -> None:
        opened.append(_Element(parser.CurrentLineNumber, dict(attributes)))

    def end(name: str) -> None:
        element, around = opened.pop(), opened[-1]
        around.holds, around.row = True, around.row and not element.holds
        if not element.holds:
            value, before = "".join(element.text).strip(), around.fields.get(name)
            several = before is not None and [*(before if isinstance(before, list) else [before]), value]
            around.fields[name] = several or value
        elif element.row:
            rows.append(DataRow(str(file), f"line {element.line}", element.fields))

    def doctype(*_: object) -> None:
        raise UserError(f"{file}, line {parser.CurrentLineNumber}: a document type is not read; delete it")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = lambda text: opened[-1].text.append(text)
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(file.read_bytes(), True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the last two: an encoding that is none
        raise UserError(f"{file}, line {parser.ErrorLineNumber}: not valid XML ({error}); mend it there") from error
    yield from rows


def _parquet(file: Path) -> Iterator[DataRow]:
    import pyarrow.parquet as pq

    number = 0
    with reading_parquet(file), pq.ParquetFile(file) as table:
        for batch in table.iter_batches(batch_size=BATCH_ROWS):
            for values in batch.to_pylist():
                number += 1
                yield DataRow(str(file), f"row {number}", values)
