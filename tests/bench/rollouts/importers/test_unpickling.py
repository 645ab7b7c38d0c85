"""Pickles from strangers: read as plain data, or refused; never run, and never waited for."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections import OrderedDict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.importers.unpickling import read_pickle

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@pytest.fixture
def file(tmp_path):
    def write(content: bytes):
        path = tmp_path / "x.pkl"
        path.write_bytes(content)
        return path

    return write


@given(content=PLAIN, protocol=st.integers(3, pickle.HIGHEST_PROTOCOL))
def test_plain_data_is_what_it_was(tmp_path_factory, content, protocol):
    path = tmp_path_factory.mktemp("plain") / "x.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    assert read_pickle(path) == content


@pytest.mark.parametrize("code", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u1", "b1", ">i4", ">f8"])
def test_numpy_numbers_and_rows_of_them_are_read(file, code):
    array = np.array([1, 0, 1], dtype=code)
    content = {"array": array, "number": array[0], "none": array[:0]}
    read = read_pickle(file(pickle.dumps(content, 4)))
    assert read == {"array": array.tolist(), "number": array[0].item(), "none": []}
    assert type(read["number"]) is type(array[0].item())


def test_the_names_of_numpy_before_2_are_known(file):
    content = pickle.dumps({"x": np.array([1.5, 2.5]), "y": np.float64(3)}, 4)
    assert b"numpy._core.multiarray" in content
    older = content.replace(b"\x8c\x16numpy._core.multiarray", b"\x8c\x15numpy.core.multiarray")
    frame = int.from_bytes(older[3:11], "little") - 1  # one byte less in the frame
    assert read_pickle(file(older[:3] + frame.to_bytes(8, "little") + older[11:])) == {"x": [1.5, 2.5], "y": 3.0}


class Calls:
    """Pickles to a call of ``function`` with ``arguments``."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def test_a_command_is_refused_by_name_and_not_run(file, tmp_path):
    import os

    mark = tmp_path / "ran"
    content = pickle.dumps({"all_traces": [Calls(os.system, f"touch {mark}")]})
    with pytest.raises(UserError, match=r"x\.pkl: refused, because it holds posix\.system;"):
        read_pickle(file(content))
    assert not mark.exists()
    pickle.loads(content)
    assert mark.exists(), "the standard library would have run it"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Calls(eval, "1"), "builtins.eval"),
        (Calls(getattr, "x", "y"), "builtins.getattr"),
        (Calls(np.load, "x.npy"), "numpy.load"),
        (OrderedDict(a=1), "collections.OrderedDict"),
        (Fraction(1, 2), "fractions.Fraction"),
        (np.random.default_rng(0), r"numpy\.random"),
        (np.array(["a"]), "the NumPy dtype 'U1'"),
        (np.array([{"a": 1}, None], dtype=object), "the NumPy dtype 'O8'"),
        (np.array([(1, 2)], dtype=[("a", "i4"), ("b", "O")]), "the NumPy dtype 'V12'"),
        (np.zeros((2, 2)), "a NumPy array that is not one row"),
        ({1, 2}, "the instruction EMPTY_SET"),
        (frozenset([1]), "the instruction FROZENSET"),
        (bytearray(b"x"), "builtins.bytearray|the instruction BYTEARRAY8"),
        ({(1, 2): 3}, "a dict with a tuple as a key"),
    ],
)
def test_whatever_is_not_plain_is_refused_by_name(file, value, name):
    with pytest.raises(UserError, match=f"refused, because it holds .*{name}"):
        read_pickle(file(pickle.dumps([value], 4)))


def op(name, *rest):
    return getattr(pickle, name) + b"".join(rest)


def text(value):
    return op("SHORT_BINUNICODE", bytes([len(value)]), value.encode())


def glob(module, name):
    return op("GLOBAL", f"{module}\n{name}\n".encode())


REFUSED = {
    "a state for a class": glob("numpy", "dtype") + op("EMPTY_DICT") + op("BUILD") + op("STOP"),
    "a state for a list": op("EMPTY_LIST") + op("EMPTY_DICT") + op("BUILD") + op("STOP"),
    "an attribute of a name": glob("numpy", "ndarray.__class__") + op("STOP"),
    "items for a list": op("EMPTY_LIST") + text("a") + text("b") + op("SETITEM") + op("STOP"),
    "a number of a dtype that is none": (
        glob("numpy.core.multiarray", "scalar") + text("f8") + op("BINBYTES", b"\0" * 4) + op("TUPLE2")
        + op("REDUCE") + op("STOP")
    ),
    "more numbers than bytes": (
        glob("numpy._core.multiarray", "_reconstruct") + op("EMPTY_TUPLE") + op("REDUCE") + op("MARK")
        + op("BININT1", b"\1") + op("BININT", b"\xff\xff\xff\x7f") + op("TUPLE1")
        + glob("numpy", "dtype") + text("f8") + op("TUPLE1") + op("REDUCE")
        + op("NEWFALSE") + op("SHORT_BINBYTES", b"\4abcd") + op("TUPLE") + op("BUILD") + op("STOP")
    ),
    "a persistent id": op("PERSID", b"x\n") + op("STOP"),
    "a registered extension": op("EXT1", b"\1") + op("STOP"),
    "an object of a class": op("MARK") + glob("os", "system") + op("OBJ") + op("STOP"),
    "an instance": op("MARK") + op("INST", b"os\nsystem\n") + op("STOP"),
}  # fmt: skip

DAMAGED = {
    "a call of a text": text("x") + op("EMPTY_TUPLE") + op("REDUCE") + op("STOP"),
    "nothing": b"",
    "no pickle": b"PK\x03\x04 a zip",
    "no stop": op("EMPTY_LIST"),
    "a stop without a value": op("STOP"),
    "a mark that is missing": op("EMPTY_LIST") + op("APPENDS") + op("STOP"),
    "a text longer than the file": op("BINUNICODE8", (2**62).to_bytes(8, "little"), b"x"),
    "bytes longer than the file": op("BINBYTES8", (2**62).to_bytes(8, "little"), b"x"),
    "a frame longer than the file": op("PROTO", b"\4") + op("FRAME", (2**62).to_bytes(8, "little"), b"x"),
    "a memo entry that is not there": op("LONG_BINGET", b"\xff\xff\xff\xff") + op("STOP"),
}  # fmt: skip


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED)
def test_hostile_bytes_are_refused(file, content):
    with pytest.raises(UserError, match=r"x\.pkl: refused, because it holds"):
        read_pickle(file(content))


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_bytes_are_one_sentence(file, content):
    with pytest.raises(UserError, match=r"x\.pkl: (not a whole pickle|refused, because it holds)"):
        read_pickle(file(content))


def test_every_truncation_is_one_sentence(file):
    content = pickle.dumps({"x": [1, 2.5, "abc", (None, True)], "y": np.arange(3)}, 4)
    for end in range(len(content)):
        with pytest.raises(UserError, match=r"not a whole pickle|refused"):
            read_pickle(file(content[:end]))


@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4))
def test_flipped_bytes_are_read_or_one_sentence(tmp_path_factory, flips):
    content = bytearray(pickle.dumps({"x": [1, 2.5, "abc", (None, True)], "y": np.arange(3), "z": np.float64(1)}, 4))
    for place, mask in flips:
        content[place % len(content)] ^= mask
    path = tmp_path_factory.mktemp("flipped") / "x.pkl"
    path.write_bytes(bytes(content))
    try:
        read_pickle(path)
    except UserError as error:
        assert "refused" in str(error) or "not a whole pickle" in str(error)


def test_deep_nesting_is_read_and_left_again(file):
    depth = 200_000
    content = read_pickle(file(op("EMPTY_LIST") * depth + op("APPEND") * (depth - 1) + op("STOP")))
    for _ in range(depth - 1):
        (content,) = content
    assert content == []


def test_a_deep_tuple_is_no_key(file):
    """Its hash would run out of the interpreter's stack and end the process."""
    deep = op("EMPTY_TUPLE") + op("TUPLE1") * 300_000
    with pytest.raises(UserError, match="a dict with a tuple as a key"):
        read_pickle(file(op("EMPTY_DICT") + deep + op("NONE") + op("SETITEM") + op("STOP")))


def test_doubling_by_reference_takes_no_room(file):
    """Each list holds the one before twice: 2^60 items if they were written out."""
    content = op("EMPTY_LIST") + op("MEMOIZE")
    for index in range(60):
        get = op("BINGET", bytes([index]))
        content += op("EMPTY_LIST") + op("MARK") + get * 2 + op("APPENDS") + op("MEMOIZE")
    started = time.perf_counter()
    shared = read_pickle(file(content + op("STOP")))
    assert len(shared) == 2 and shared[0] is shared[1]
    assert time.perf_counter() - started < 1


def test_doubled_references_in_a_complaint_are_not_spelled_out(tmp_path, file):
    from prunebench.bench.rollouts.importers.contract import Options
    from prunebench.bench.rollouts.importers.deepconf import read

    bomb = ["x"]
    for _ in range(60):
        bomb = [bomb, bomb]
    for question, field in ((bomb, "question_id"), (3, "text")):
        content = {"all_traces": [{"text": bomb}], "question_id": question, "ground_truth": "5"}
        started = time.perf_counter()
        with pytest.raises(UserError, match=f"field '{field}' is a list of 2, not a text"):
            list(read(file(pickle.dumps(content)), Options()))
        assert time.perf_counter() - started < 1


def test_a_huge_memo_index_takes_no_memory(file):
    """The reader in C makes room for 2^32 entries, 32 GiB, because of eight bytes: it must not be the one in use."""
    path = file(op("EMPTY_LIST") + op("LONG_BINPUT", b"\xff\xff\xff\xff") + op("STOP"))
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from prunebench.bench.rollouts.importers.unpickling import read_pickle\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))\n"
        "assert read_pickle(Path(sys.argv[1])) == []"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
