from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prunebench.tasks import rows
from prunebench.tasks.errors import UserError
from prunebench.tasks.rows import rows_of

PROBLEMS = [{"question": 'say "a, b"', "answer": "025"}, {"question": "two\nlines", "answer": "1/2"}]


def test_every_format_gives_the_same_rows_and_their_places(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, PROBLEMS)) + "\n\n")
    (tmp_path / "a.json").write_text(json.dumps(PROBLEMS))
    (tmp_path / "b.json").write_text(json.dumps({"version": 1, "rows": PROBLEMS}))
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbfquestion,answer\r\n"say ""a, b""",025\r\n"two\nlines",1/2\r\n')
    (tmp_path / "a.xml").write_text(
        "<?xml version='1.0'?>\n<set><about>two problems</about><problems>\n"
        '<problem question="say &quot;a, b&quot;"><answer unit="m"> 025 </answer></problem>\n'
        "<problem><question>two\nlines</question><answer>1/2</answer></problem></problems></set>"
    )
    pq.write_table(pa.Table.from_pylist(PROBLEMS), tmp_path / "a.parquet")
    places = {}
    for name in ("a.jsonl", "a.json", "b.json", "a.csv", "a.xml", "a.parquet"):
        rows_read = list(rows_of(tmp_path / name))
        assert [dict(row.values) for row in rows_read] == PROBLEMS, name
        places[name] = rows_read[1].place
    assert places == {
        "a.jsonl": "line 2", "a.json": "item 2", "b.json": "item 2", "a.csv": "line 4", "a.xml": "line 4",
        "a.parquet": "row 2",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": \n', r"a\.jsonl, line 2: not valid JSON"),
        ("a.jsonl", b"[1]\n", r"line 1: no object with named fields"),
        ("a.jsonl", b"[" * 100_000, r"line 1: not readable as JSON"),
        ("a.jsonl", b'{"a": "gr\xfc"}\n', r"line 1: not UTF-8 \(byte 10 is 0xfc\); save the file as UTF-8"),
        ("a.csv", b"a,b\nx,caf\xe9\n", r"a\.csv, line 2: not UTF-8 \(byte 6 is 0xe9\)"),
        ("a.csv", b"a,b\n1\n", r"line 2: 2 columns are named in line 1, this row has another number"),
        ("a.csv", b"a,b\n1,2,3\n", r"line 2: 2 columns are named in line 1"),
        ("a.csv", b'a,b\n1,"2\n', r"not valid CSV"),
        ("a.json", b'{\n"a": tru}', r"a\.json, line 2: not valid JSON"),
        ("a.json", b"3", r"no list of problems"),
        ("a.json", b"\xff\xff", r"not UTF-8"),
        ("a.xml", b"<a>\n<b>1</a>", r"a\.xml, line 2: not valid XML \(mismatched tag"),
        ("a.xml", b"", r"a\.xml, line 1: not valid XML \(no element found"),
        ("a.xml", b"<?xml version='1.0' encoding='none'?><a/>", r"line 1: not valid XML \(unknown encoding"),
        ("a.xml", b"<!DOCTYPE a [<!ENTITY x 'xxx'>]>\n<a>&x;</a>", r"line 1: a document type is not read; delete it"),
        ("a.parquet", b"PAR1 nothing", r"cannot be read as Parquet"),
        ("a.txt", b"", r"the name must end in \.jsonl, \.json, \.csv, \.xml, \.parquet"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        list(rows_of(tmp_path / name))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_line_without_end_is_refused_before_it_is_in_memory(tmp_path, name):
    with (tmp_path / name).open("wb") as stream:
        stream.write(b"question,answer\n" if name == "a.csv" else b'{"question": "1", "answer": "1"}\n')
        stream.seek(200 * 2**20)  # a sparse file: 200 MB in one line
        stream.write(b"x")
    with pytest.raises(UserError, match=r"line 2: longer than 16 MiB; is a line end missing there\?"):
        list(rows_of(tmp_path / name))


def test_a_field_that_stands_several_times_in_xml_is_a_list(tmp_path):
    (tmp_path / "a.xml").write_text("<set><p><q>x</q><a>1</a><a>2</a><a>3</a></p><p><q>y</q><a>4</a></p></set>")
    assert [dict(row.values) for row in rows_of(tmp_path / "a.xml")] == [
        {"q": "x", "a": ["1", "2", "3"]},
        {"q": "y", "a": "4"},
    ]


def test_missing_files_and_folders_are_told(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"a\.csv: no such file"):
        list(rows_of(tmp_path / "a.csv"))
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(UserError, match=r"b\.csv: cannot be read \(Is a directory\)"):
        list(rows_of(tmp_path / "b.csv"))
    (tmp_path / "c.json").write_text("[]")
    monkeypatch.setattr(rows, "LONGEST_FILE", 1)
    with pytest.raises(UserError, match=r"write one object per line"):
        list(rows_of(tmp_path / "c.json"))
