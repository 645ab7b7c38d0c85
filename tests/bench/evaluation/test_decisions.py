from __future__ import annotations

import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.decisions import read_decisions, write_decisions
from prunebench.bench.policies import TopK
from tests.bench.evaluation.tables.test_main import ByIds, KeepAll, record, score_methods


def test_what_was_decided_is_read_again(tmp_path):
    records = [record(ids=[3, 9, 4, 7]), record(problem="p1", ids=[1, 2, 3, 4])]
    write_decisions(records, score_methods(records, {"none": KeepAll(), "by-ids": ByIds()}, TopK(2)), tmp_path)
    found = read_decisions(tmp_path)
    assert [(one.problem, one.method) for one in found] == [
        ("p0", "none"), ("p0", "by-ids"), ("p1", "none"), ("p1", "by-ids"),
    ]  # fmt: skip
    one = found[1]
    assert one.paths.tolist() == [0, 1, 2, 3]
    assert one.replay.scores.tolist() == [3, 9, 4, 7]
    assert one.replay.keep.tolist() == [False, True, False, True]
    # path 0 ended at 5 tokens, path 2 was cut at 10, the others went to their ends
    assert one.replay.decoded.tolist() == [5, 20, 10, 40]


def test_a_missing_or_foreign_file_is_named(tmp_path):
    with pytest.raises(
        UserError, match=r"decisions.parquet: no such file; the comparison in a folder of its own makes it"
    ):
        read_decisions(tmp_path)
    (tmp_path / "decisions.parquet").write_text("nothing")
    with pytest.raises(UserError, match="cannot be read"):
        read_decisions(tmp_path)
