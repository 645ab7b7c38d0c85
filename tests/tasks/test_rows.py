from __future__ import annotations

import gzip
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
    (tmp_path / "b.json").write_text(json.dumps({"version": 1, "authors": ["Ann"], "rows": PROBLEMS}))
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
        "a.jsonl": "line 2", "a.json": "item 2", "b.json": "item 2", "a.csv": "line 3", "a.xml": "line 4",
        "a.parquet": "row 2",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": \n', r"a\.jsonl, line 2: not valid JSON"),
        ("a.jsonl", b"[1]\n", r"line 1: no object with named fields"),
        ("a.jsonl", b"[" * 100_000, r"line 1: not readable as JSON"),
        (
            "a.jsonl",
            b'{"a": "gr\xfc"}\n',
            r"line 1: not UTF-8 \(byte 10 is 0xfc, ü in Windows-1252\); save the file as UTF-8",
        ),
        (
            "a.jsonl",
            b'[\n{"a": 1}]\n',
            r"line 1: not valid JSON .*; let the name of a file with one list .* end in \.json",
        ),
        ("a.csv", b"a,b\nx,caf\xe9\n", r"a\.csv, line 2: not UTF-8 \(byte 6 is 0xe9, é in Windows-1252\)"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16-le"), r"line 1: holds zero bytes, as UTF-16 without its mark does"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16")[:-1], r"line 2: not utf-16 .* save it as UTF-8"),
        ("a.csv", b"a,b\n1\n", r"line 2: has 1 values, but line 1 names 2 columns \('a, b'\), which commas part"),
        ("a.csv", b"a,b\n1,2,3\n", r"line 2: has 3 values, but line 1 names 2"),
        ("a.csv", b"a;b\n1;2\n3;4;5\n", r"line 3: has 3 values, but line 1 names 2 columns .* semicolons part"),
        (
            "a.csv",
            b'a,b\n1,2\n3,"4\n5,6\n7,8\n',
            r"line 3: not valid CSV .* reaches to line 5; is a double quote missing",
        ),
        ("a.csv", b'a,b\n"1"x,2\n', r"line 2: not valid CSV"),
        ("a.csv", b"a,b\r1,2\r", r"line 1: its lines end in carriage returns alone"),
        ("a.csv", b"a,b,a\n1,2,3\n", r"line 1: names two columns 'a'"),
        ("a.csv", b"PK\x03\x04...", r"a\.csv: looks like a zip archive, as \.xlsx files are; export the table as CSV"),
        ("a.csv", b"PAR1...", r"looks like a Parquet file; let its name end in \.parquet"),
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\n", r"looks like a pointer of Git LFS"),
        ("a.json", b"<!DOCTYPE html><html>", r"looks like a web page"),
        ("a.json", b"\x1f\x8b\x08", r"looks like a file packed by gzip; let its name end in \.gz"),
        ("a.json.gz", b"{}", r"cannot be unpacked \(Not a gzipped file"),
        ("a.json", b'{"a": 1}\n{"a": 2}\n', r"line 2: not valid JSON .*one object per line end in \.jsonl"),
        ("a.json", b'{\n"a": tru}', r"a\.json, line 2: not valid JSON"),
        ("a.json", b"3", r"no list of problems"),
        ("a.json", b"\xff\xff", r"not UTF-8"),
        ("a.xml", b"<a>\n<b>1</a>", r"a\.xml, line 2: not valid XML \(mismatched tag"),
        ("a.xml", b"", r"a\.xml, line 1: not valid XML \(no element found"),
        ("a.xml", b"<?xml version='1.0' encoding='none'?><a/>", r"line 1: not valid XML \(unknown encoding"),
        ("a.xml", b"<!DOCTYPE a [<!ENTITY x 'xxx'>]>\n<a>&x;</a>", r"line 1: a document type is not read; delete it"),
        ("a.parquet", b"PAR1 nothing", r"cannot be read as Parquet"),
        ("a.txt", b"", r"the name must end in \.jsonl, \.json, \.csv, \.tsv, \.xml, \.parquet"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        list(rows_of(tmp_path / name))


TABLE = [{"question": "What is 1,5 + 1;5?", "answer": "6"}, {"question": "two\nlines", "answer": "½"}]


def table(delimiter: str) -> str:
    return delimiter.join(["question", 'answer\r\n"What is 1,5 + 1;5?"', '6\r\n"two\nlines"', "½\r\n"])


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["a.csv", "a.TSV"])
def test_delimiters_and_marked_codings_are_found(tmp_path, delimiter, coding, name):
    (tmp_path / name).write_bytes(table(delimiter).encode(coding))
    rows_read = list(rows_of(tmp_path / name))
    assert [dict(row.values) for row in rows_read] == TABLE
    assert [row.place for row in rows_read] == ["line 2", "line 3"]


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("sep=;\nquestion;answer\n1,2?;3\n", ["question", "answer"]),
        ("question;answer;;\n1;2;;\n;;;\n", ["question", "answer"]),  # Excel's empty columns and rows
        ("question,answer (a; b; c)\n1?,2\n", ["question", "answer (a; b; c)"]),
        (" question , answer\n1,2\n", ["question", "answer"]),
        ("question\n1; 2?\n", ["question"]),
        (",question,answer\n0,1,2\n", ["question", "answer"]),  # the unnamed index of pandas
        ("question,answer\n\n1,2\n\n", ["question", "answer"]),
    ],
)
def test_the_columns_of_a_table_are_those_with_a_name(tmp_path, content, columns):
    (tmp_path / "a.csv").write_text(content)
    (row,) = rows_of(tmp_path / "a.csv")
    assert list(row.values) == columns


def test_packed_files_and_marked_json_are_read(tmp_path):
    content = json.dumps([{"question": "é"}])
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(content.encode("utf-16")))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress("question\né\n".encode()))
    (tmp_path / "a.jsonl").write_bytes(content[1:-1].encode("utf-16"))
    for name in ("a.json.gz", "a.csv.gz", "a.jsonl"):
        assert [dict(row.values) for row in rows_of(tmp_path / name)] == [{"question": "é"}], name


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
