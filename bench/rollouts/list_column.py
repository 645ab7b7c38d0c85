"""A column of lists, read row by row without a Python object per item."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


class ListColumn:
    """A list column as one flat array with offsets."""

    def __init__(self, column: Any) -> None:
        array = column.combine_chunks()
        if isinstance(array, pa.ChunkedArray):
            array = pa.concat_arrays(array.chunks)
        self._valid = np.asarray(array.is_valid())
        self._offsets = np.asarray(array.offsets)
        self._values = array.values.to_numpy(zero_copy_only=False)

    def get(self, row: int) -> NDArray[Any] | None:
        return self._values[self._offsets[row] : self._offsets[row + 1]].copy() if self._valid[row] else None

    def require(self, row: int) -> NDArray[Any]:
        values = self.get(row)
        if values is None:
            raise ValueError("a list is missing")
        return values
