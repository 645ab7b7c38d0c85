"""Pickles without code: a reader that knows only the opcodes of plain data.

Everything that a pickle can do beyond plain containers, numbers, texts, bytes and NumPy numbers is refused by name.
NumPy's own functions are not called either: arrays are put together here, from bytes of a checked length. The reader
is the one of the standard library that is written in Python, because the one in C makes room for any memo index that
a file names, however large.
"""

from __future__ import annotations

import io
import pickle  # the reader below runs none of what makes pickles dangerous
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.errors import UserError
from prunebench.tasks.errors import shown

_OPCODES = (
    pickle.PROTO,
    pickle.FRAME,
    pickle.STOP,
    pickle.MARK,
    pickle.POP,
    pickle.POP_MARK,
    pickle.NONE,
    pickle.NEWTRUE,
    pickle.NEWFALSE,
    pickle.BININT,
    pickle.BININT1,
    pickle.BININT2,
    pickle.LONG1,
    pickle.LONG4,
    pickle.BINFLOAT,
    pickle.BINBYTES,
    pickle.SHORT_BINBYTES,
    pickle.BINBYTES8,
    pickle.BINUNICODE,
    pickle.SHORT_BINUNICODE,
    pickle.BINUNICODE8,
    pickle.EMPTY_LIST,
    pickle.APPEND,
    pickle.APPENDS,
    pickle.EMPTY_TUPLE,
    pickle.TUPLE,
    pickle.TUPLE1,
    pickle.TUPLE2,
    pickle.TUPLE3,
    pickle.EMPTY_DICT,
    pickle.SETITEM,
    pickle.SETITEMS,
    pickle.BINPUT,
    pickle.LONG_BINPUT,
    pickle.BINGET,
    pickle.LONG_BINGET,
    pickle.MEMOIZE,
    pickle.GLOBAL,
    pickle.STACK_GLOBAL,
    pickle.REDUCE,
    pickle.BUILD,
)
_NUMBER_TYPE = re.compile(r"[iuf][1248]|b1")


class RefusedError(ValueError):
    """A pickle holds something that is not plain data."""


class _DType:
    """What stands for a NumPy dtype: its code, and its byte order once that is told."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not _NUMBER_TYPE.fullmatch(code):
            raise RefusedError(f"the NumPy dtype {shown(code, by_size=True)}")
        self.code, self.order = code, "="

    def tell(self, state: object) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise RefusedError("a NumPy dtype with a damaged description")
        self.order = str(order)

    def numbers(self, content: object, count: int) -> NDArray[Any]:
        dtype = np.dtype(self.order + self.code)
        if not isinstance(content, bytes) or len(content) != count * dtype.itemsize:
            raise RefusedError(f"a NumPy array whose content is not {count} numbers")
        return np.frombuffer(content, dtype)


class _Array(list[Any]):
    """What stands for a NumPy array: its numbers as a list, once they are told."""

    def __init__(self, *_: object) -> None:
        super().__init__()

    def tell(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _DType):
            raise RefusedError("a NumPy array with a damaged description")
        _, shape, dtype, _, content = state
        if not isinstance(shape, tuple) or len(shape) != 1 or not isinstance(shape[0], int):
            raise RefusedError("a NumPy array that is not one row of numbers")
        self[:] = dtype.numbers(content, shape[0]).tolist()


def _scalar(dtype: object, content: object) -> Any:
    if not isinstance(dtype, _DType):
        raise RefusedError("a NumPy number without a dtype")
    return dtype.numbers(content, 1)[0].item()


_GLOBALS: dict[str, object] = {
    "numpy.ndarray": "ndarray",
    "numpy.dtype": _DType,
    **{f"numpy.{core}.multiarray._reconstruct": _Array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
}


class _PlainUnpickler(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        code: pickle._Unpickler.dispatch[code] for (code,) in _OPCODES
    }
    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def find_class(self, module: str, name: str) -> Any:
        known = _GLOBALS.get(f"{module}.{name}")
        if known is None:
            raise RefusedError(f"{module}.{name}"[:80])
        return known

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, _DType | _Array):
            raise RefusedError(f"a state for a {type(target).__name__}")
        target.tell(state)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def load_setitems(self) -> None:
        self._set(self.pop_mark())

    def _set(self, items: list[Any]) -> None:
        """Keys are texts or numbers: hashing a deeply nested one would overflow the stack of the interpreter."""
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise RefusedError("items for something that is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int | float | None):
                raise RefusedError(f"a dict with a {type(key).__name__} as a key")
            target[key] = value

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems


def read_pickle(file: Path) -> Any:
    """The plain data of a pickle; an array of one dimension is a list of its numbers.

    Raises UserError that names what was refused, or says that the file is damaged. Nothing of it is run.
    """
    content = file.read_bytes()
    try:
        return _PlainUnpickler(io.BytesIO(content)).load()
    except RefusedError as refusal:
        raise UserError(
            f"{file}: refused, because it holds {refusal}; only plain containers, numbers, texts and NumPy numbers "
            "are read from a pickle"
        ) from None
    except KeyError as error:
        raise UserError(f"{file}: refused, because it holds {_opcode(error.args[0])}; plain data needs none") from None
    except Exception as error:  # a damaged pickle can fail in any way: none of it is ours
        raise UserError(
            f"{file}: not a whole pickle ({type(error).__name__}: {str(error)[:80]}); fetch it again"
        ) from None


def _opcode(code: object) -> str:
    names = {getattr(pickle, name)[0]: name for name in vars(pickle) if name.isupper() and _is_code(name)}
    return f"the instruction {names.get(code, code)}"


def _is_code(name: str) -> bool:
    value = getattr(pickle, name)
    return isinstance(value, bytes) and len(value) == 1
