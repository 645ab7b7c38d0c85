from __future__ import annotations

import pytest

from prunebench.bench.files import append_row, rows_in


@pytest.mark.parametrize("cut", [b'\n{"a": 2, "b": [1', b"\n", b'\n"text"', b"\n\xff\xfe"])
def test_lines_that_a_kill_cut_off_are_as_if_never_written(cut, tmp_path):
    file = tmp_path / "deep" / "rows.jsonl"
    assert list(rows_in(file)) == []
    append_row(file, {"a": 1})
    append_row(file, {"a": 2})
    assert file.read_bytes() == b'{"a": 1}\n{"a": 2}'
    with file.open("ab") as stream:
        stream.write(cut)
    assert next(iter(rows_in(file))) == {"a": 1}
    append_row(file, {"a": 3, "b": "\n"})
    assert list(rows_in(file))[-1] == {"a": 3, "b": "\n"}
    assert all(isinstance(row, dict) for row in rows_in(file))
