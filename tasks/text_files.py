"""Text files as the world writes them: UTF-8 or marked UTF-16, packed by gzip or not, and a sentence about others."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from prunebench.tasks.errors import UserError

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),  # the first begins like the next
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_OTHERS = (
    (b"pk\x03\x04", "a zip archive, as .xlsx files are; export the table as CSV, or unpack it"),
    (b"\xd0\xcf\x11\xe0", "an Excel file; export the table as CSV"),
    (b"\x1f\x8b", "a file packed by gzip; let its name end in .gz"),
    (b"par1", "a Parquet file; let its name end in .parquet"),
    (b"%pdf", "a PDF; export the table as CSV"),
    (b"version https://git-lfs", "a pointer of Git LFS; fetch the file itself: git lfs pull"),
    (b"<!doctype html", "a web page; fetch the file itself"),
    (b"<html", "a web page; fetch the file itself"),
)
"""How files begin that are often taken for a table, in lower case."""


@contextmanager
def opened(file: Path) -> Iterator[IO[bytes]]:
    """The bytes of a text, unpacked where the name ends in ``.gz``. Raises UserError for what begins like no text."""
    try:
        with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as stream:
            start = stream.read(max(len(start) for start, _ in _OTHERS)).lower()
            for other, kind in _OTHERS:
                if start.startswith(other):
                    raise UserError(f"{file}: looks like {kind}")
            stream.seek(0)
            yield stream  # type: ignore[misc]
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{file}: cannot be unpacked ({error}); fetch it again") from error


def decoded(file: Path, content: bytes) -> str:
    """The text of a whole file. Raises UserError for no known coding."""
    return _decoded(content, _wide(content) or "utf-8-sig", str(file))


def lines(file: Path, longest: int) -> Iterator[tuple[int, str]]:
    """(number, text with its end) of every line. Raises UserError for no text, or one longer than ``longest``."""
    with opened(file) as stream:
        wide = _wide(stream.read(4))
        stream.seek(0)
        reader: IO[str] | IO[bytes] = io.TextIOWrapper(stream, wide, newline="\n") if wide else stream
        number = 0
        while True:
            number += 1
            where = f"{file}, line {number}"
            try:
                line = reader.readline(longest + 1)
            except UnicodeError as error:
                raise UserError(f"{where}: not {wide} ({error}), as which the file begins; save it as UTF-8") from error
            if not line:
                return
            if len(line) > longest:
                raise UserError(f"{where}: longer than {longest >> 20} MiB; is a line end missing there?")
            yield (
                number,
                line if isinstance(line, str) else _decoded(line, "utf-8-sig" if number == 1 else "utf-8", where),
            )


def _wide(start: bytes) -> str | None:
    """The coding of several bytes per character that a file begins with the mark of."""
    return next((coding for mark, coding in _MARKS if start.startswith(mark)), None)


def _decoded(content: bytes, coding: str, where: str) -> str:
    try:
        text = content.decode(coding)
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: {_no_utf8(content, error)}; save the file as UTF-8") from error
    if "\0" in text:
        raise UserError(f"{where}: holds zero bytes, as UTF-16 without its mark does; save the file as UTF-8")
    return text


def _no_utf8(content: bytes, error: UnicodeDecodeError) -> str:
    """What is wrong, with the character that the byte is in the coding of Windows, by which a person will know it."""
    byte = content[error.start]
    character = bytes([byte]).decode("cp1252", errors="ignore")
    in_windows = f", {character} in Windows-1252" if character.isprintable() and character else ""
    return f"not {error.encoding.upper()} (byte {error.start + 1} is 0x{byte:02x}{in_windows})"
