"""Rows of JSON, JSON Lines, CSV, XML and Parquet files, each with its place for complaints."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

from prunebench.tasks.delimited import delimited_rows
from prunebench.tasks.errors import UserError
from prunebench.tasks.text_files import decoded, lines, opened

LONGEST_LINE = 16 * 2**20
"""Bytes; a longer line is no problem with an answer, and would only fill the memory."""
LONGEST_FILE = 2**30
"""Bytes of a JSON or XML file, which is read as a whole."""
BATCH_ROWS = 16
"""Rows of a Parquet file in memory at once: one may hold all paths of a problem."""
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".xml", ".parquet")
"""How names of data files end; texts may be packed, with ``.gz`` behind."""

_NO_NUMBER = re.compile(r"(?<![\w\"'])(?:nan|inf)(?![\w\"'])")
_TORN = re.compile(r"(?P<quote>['\"])\s+(?P=quote)")


@dataclass(frozen=True)
class DataRow:
    """Named values at a place of a file (``line 3``)."""

    file: str
    place: str
    values: Mapping[str, Any]

    @property
    def where(self) -> str:
        return f"{self.file}, {self.place}"


def is_data_file(file: Path) -> bool:
    """Whether its name says that there are rows in it."""
    return kind_of(file) in SUFFIXES


def kind_of(file: Path) -> str:
    """How the name ends, in small letters, packed or not."""
    return Path(file.name.lower().removesuffix(".gz")).suffix


def rows_of(file: Path, longest_line: int = LONGEST_LINE) -> Iterator[DataRow]:
    """Every row of a file, read as it is asked for. Raises UserError for what cannot be read, with its line."""
    readers: dict[str, Callable[[], Iterator[DataRow]]] = {
        ".jsonl": lambda: _json_lines(file, longest_line), ".json": lambda: _json(file),
        ".csv": lambda: _table(file, longest_line), ".tsv": lambda: _table(file, longest_line),
        ".xml": lambda: _xml(file), ".parquet": lambda: _parquet(file),
    }  # fmt: skip
    if not is_data_file(file):
        raise UserError(f"{file}: the name must end in {', '.join(SUFFIXES)}")
    try:
        yield from readers[kind_of(file)]()
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from error


def json_of(file: Path) -> Any:
    """The content of a JSON file. Raises UserError for one that is too long, in no known coding or not valid."""
    return _parsed(file, "", decoded(file, _whole(file)))


def _whole(file: Path) -> bytes:
    """Every byte of a file. Raises UserError for one that has no room in memory."""
    with opened(file) as stream:
        content = stream.read(LONGEST_FILE + 1)
    if len(content) > LONGEST_FILE:
        raise UserError(f"{file}: more than {LONGEST_FILE >> 30} GiB; write one object per line (.jsonl)")
    return content


def unwritten(text: str) -> Any:
    """The list, number or truth value that a text spells in JSON or Python; the text where it spells none."""
    spelled = {"nan": "NaN", "inf": "Infinity"}
    for read in (
        json.loads,
        _of_python,
        lambda text: json.loads(_NO_NUMBER.sub(lambda no: spelled[no[0]], text)),
    ):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text


def _of_python(text: str) -> Any:
    if _TORN.search(text):  # as numpy writes lists: to Python 'a' 'b' is one text
        raise ValueError(text)
    return ast.literal_eval(text)


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


def _json_lines(file: Path, longest_line: int) -> Iterator[DataRow]:
    for number, line in lines(file, longest_line):
        if line.strip():
            place = f"line {number}"
            yield DataRow(str(file), place, _object(file, place, _parsed(file, f", {place}", line)))


def _table(file: Path, longest_line: int) -> Iterator[DataRow]:
    yield from (DataRow(str(file), place, values) for place, values in delimited_rows(file, longest_line))


def _json(file: Path) -> Iterator[DataRow]:
    """A list of objects, or an object with one such list."""
    content = json_of(file)
    if isinstance(content, dict):
        lists = [value for value in content.values() if isinstance(value, list)]
        objects = [value for value in lists if value and all(isinstance(item, dict) for item in value)]
        content = next((found[0] for found in (objects, lists) if len(found) == 1), content)
    if not isinstance(content, list):
        raise UserError(f"{file}: no list of problems; write [{{...}}, {{...}}], or one object per line (.jsonl)")
    for number, item in enumerate(content, 1):
        yield DataRow(str(file), f"item {number}", _object(file, f"item {number}", item))


def _parsed(file: Path, where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = where or f", line {error.lineno}"
        cure = "mend it there"
        if where == ", line 1" and text.lstrip().startswith("["):
            cure = "let the name of a file with one list of objects end in .json"
        elif not where and _is_lines(text):
            cure = "let the name of a file with one object per line end in .jsonl"
        raise UserError(f"{file}{place}: not valid JSON ({error.msg}, column {error.colno}); {cure}") from error
    except (RecursionError, ValueError) as error:  # nested without end; an integer of more digits than Python reads
        raise UserError(f"{file}{where}: not readable as JSON ({str(error).splitlines()[0]})") from error


def _is_lines(text: str) -> bool:
    """Whether the first of several lines is an object in itself."""
    first, _, rest = text.lstrip().partition("\n")
    try:
        return bool(rest.strip()) and isinstance(json.loads(first), dict)
    except ValueError:
        return False


def _object(file: Path, place: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f'{file}, {place}: no object with named fields; write {{"problem": ..., "answer": ...}}')
    return value


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
        parser.Parse(_whole(file), True)
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
