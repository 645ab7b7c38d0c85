"""Rows of a table with a delimiter: comma, semicolon, tab or bar, found in its first lines."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from prunebench.tasks.errors import UserError, shown
from prunebench.tasks.text_files import lines

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
LOOKED_AT = 20
"""Lines by which the delimiter is found."""


def delimited_rows(file: Path, longest_line: int) -> Iterator[tuple[str, dict[str, str]]]:
    """(place, values as they stand by the names of the first line) of every row. Raises UserError for a torn one."""
    csv.field_size_limit(longest_line)
    texts = (text for _, text in lines(file, longest_line))
    first = list(islice(texts, LOOKED_AT))
    delimiter, skipped = _delimiter(first)
    records = _records(file, chain(first[skipped:], texts), delimiter, skipped)
    names: list[str] = []
    for line, record in records:
        if not names:
            names = _names(file, line, record)
            continue
        extra = record[len(names) :]
        if len(record) < len(names) or any(text.strip() for text in extra):
            raise UserError(
                f"{file}, line {line}: has {len(record)} values, but line {skipped + 1} names {len(names)} columns "
                f"({shown(', '.join(names))}), which {DELIMITERS.get(delimiter, repr(delimiter))} part; put texts with "
                "these or with line ends in double quotes"
            )
        yield f"line {line}", {name: text for name, text in zip(names, record, strict=False) if name}


def _records(file: Path, texts: Iterator[str], delimiter: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
    """(number of its first line, values) of every row that is not blank."""
    reader = csv.reader(texts, delimiter=delimiter, strict=True)
    while True:
        line = skipped + reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{file}, line {line}: {_torn(error, line, skipped + reader.line_num)}") from error
        if any(text.strip() for text in record):
            yield line, record


def _torn(error: csv.Error, first: int, last: int) -> str:
    if "new-line" in str(error):
        return "its lines end in carriage returns alone; save the file with the line ends of Unix or Windows"
    reach = f"the row reaches to line {last}; " if last > first else ""
    return f"not valid CSV ({error}); {reach}is a double quote missing or too many there?"


def _names(file: Path, line: int, record: Sequence[str]) -> list[str]:
    """The names of the columns; those without one behind the last name are none."""
    names = [name.strip() for name in record]
    while names and not names[-1]:
        names.pop()
    twice = [name for name in names if name and names.count(name) > 1]
    if twice:
        raise UserError(f"{file}, line {line}: names two columns '{twice[0]}'; give each a name of its own")
    return names


def _delimiter(first: Sequence[str]) -> tuple[str, int]:
    """What parts the columns, and how many lines stand before their names (Excel's ``sep=;``)."""
    if first and first[0].lower().startswith("sep=") and len(first[0].strip("\r\n")) == 5:
        return first[0][4], 1

    def fits(delimiter: str) -> tuple[bool, int]:
        """Whether the next row has as many values as there are names, and how many these are."""
        try:
            counts = [len(record) for record in csv.reader(first, delimiter=delimiter) if record]
        except csv.Error:
            return False, 0
        return len(counts) > 1 and counts[0] == counts[1] > 1, counts[0] if counts else 0

    return max(DELIMITERS, key=fits), 0  # of equals the first
