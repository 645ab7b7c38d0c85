"""The records of a source, their values checked where they are read: a complaint names file, place, field and value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prunebench.bench.errors import UserError
from prunebench.tasks.errors import shown
from prunebench.tasks.rows import LONGEST_FILE, reading_parquet, rows_of

LARGEST = 2**31 - 1
"""The largest token id, count or path number that a store holds."""


@dataclass(frozen=True)
class Record:
    """Named values at one ``place`` of a file (``line 3``).

    Fields have our names; ``names`` maps them to those of the source where these differ. What is null, NaN or not
    there reads as None; anything else that does not fit raises UserError.
    """

    file: Path
    place: str
    values: Mapping[str, Any]
    names: Mapping[str, str]

    def get(self, field: str) -> Any:
        """The value as it is."""
        value = self.values.get(self.names.get(field, field))
        return None if isinstance(value, float) and math.isnan(value) else value

    def error(self, field: str, value: object, wanted: str, index: int | None = None) -> UserError:
        """The complaint that ``field`` (its item ``index``) is ``value`` and not what is ``wanted``."""
        name = self.names.get(field, field) + ("" if index is None else f"[{index}]")
        return UserError(
            f"{self.file}, {self.place}: field '{name}' is {shown(value, by_size=True)}, not {wanted}; "
            "correct the file, or name the right field"
        )

    def text(self, field: str) -> str | None:
        value = self.get(field)
        return None if value is None else self.as_text(field, value)

    def as_text(self, field: str, value: object, index: int | None = None) -> str:
        if not isinstance(value, str):
            raise self.error(field, value, "a text", index)
        try:
            value.encode()
        except UnicodeEncodeError as error:
            broken = ascii(value[error.start])
            raise self.error(field, broken, "a text without halves of surrogate pairs", index) from None
        return value

    def word(self, field: str) -> str | None:
        """A name or an answer: a stripped text, or a number as text; None also for an empty one."""
        return self.as_word(field, self.get(field))

    def as_word(self, field: str, value: object, index: int | None = None) -> str | None:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 10**20:
            return str(int(value) if value == int(value) else value)
        return self.as_text(field, value, index).strip() or None

    def words(self, field: str) -> list[str]:
        """The words of a list, or the only one."""
        value = self.get(field)
        listed = enumerate(value) if isinstance(value, list | tuple) else [(None, value)]
        words = [self.as_word(field, one, place) for place, one in listed]
        return [word for word in words if word is not None]

    def needed(self, field: str) -> str:
        """A word that must be there."""
        word = self.word(field)
        if word is None:
            raise self.error(field, self.get(field), "a name, a text or a number")
        return word

    def integer(self, field: str, least: int = 0) -> int | None:
        value = self.get(field)
        return None if value is None else self.as_integer(field, value, least)

    def as_integer(self, field: str, value: object, least: int = 0, index: int | None = None) -> int:
        number = int(value) if isinstance(value, float) and value.is_integer() else value
        if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= LARGEST:
            raise self.error(field, value, f"an integer from {least} to {LARGEST}", index)
        return number

    def verdict(self, field: str) -> bool | None:
        value = self.get(field)
        if value is None:
            return None
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            raise self.error(field, value, "true, false, 0 or 1")
        return bool(value)

    def texts(self, field: str) -> list[str] | None:
        value = self.get(field)
        return (
            None
            if value is None
            else [self.as_text(field, text, place) for place, text in enumerate(self.items(field))]
        )

    def ids(self, field: str) -> NDArray[np.int64] | None:
        """int64 (tokens,)."""
        value = self.get(field)
        if value is None:
            return None
        return np.array(
            [self.as_integer(field, number, index=place) for place, number in enumerate(self.items(field))], np.int64
        )

    def floats(self, field: str) -> NDArray[np.float32] | None:
        """float32 (tokens,); NaN for what is null, NaN or infinite."""
        if self.get(field) is None:
            return None
        return np.array(
            [self.as_float(field, number, place) for place, number in enumerate(self.items(field))], np.float32
        )

    def as_float(self, field: str, value: object, index: int | None = None) -> float:
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return math.nan
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e30:
            raise self.error(field, value, "a number", index)
        return float(value)

    def items(self, field: str) -> Sequence[Any]:
        """The items of a list."""
        value = self.get(field)
        if not isinstance(value, list | tuple):
            raise self.error(field, value, "a list")
        return value


def records_of(files: Sequence[Path], names: Mapping[str, str] | None = None) -> Iterator[Record]:
    """Every row of JSON Lines and Parquet files; ``names`` as in :class:`Record`. Raises UserError, see ``rows_of``."""
    for file in files:
        yield from (Record(file, row.place, row.values, names or {}) for row in rows_of(file, LONGEST_FILE))


def schema_of(file: Path) -> pa.Schema:
    """The columns of a Parquet file. Raises UserError when it is none."""
    with reading_parquet(file):
        schema = pq.read_schema(file)
        _ = schema.names  # decoded here
    return schema


def values_of(file: Path, column: str) -> list[object]:
    """The distinct values of a column of a Parquet file. Raises UserError when it cannot be read."""
    with reading_parquet(file):
        values: list[object] = pq.read_table(file, columns=[column])[column].unique().to_pylist()
    return values
