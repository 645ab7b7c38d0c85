from __future__ import annotations

import math
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.ledger import paper_tokens
from prunebench.figures.paper import published

# mean and standard deviation over the rows, in thousands of tokens
RESIDUALS = {"III": (-1.7, 1.9), "IV": (-5.5, 2.6), "II": (-1.2, 2.0), "I": (4.3, 2.0)}


def baseline() -> dict[tuple[str, str], published.MainRow]:
    return {(row.model, row.dataset): row for row in published.main_table() if row.type == "baseline"}


def residuals(type_: str) -> Iterable[float]:
    """Published minus predicted tokens (k) of one type's rows.

    The table has totals, not paths: all 64 paths are taken at the baseline's mean length, the 8 kept ones too. A type
    that keeps longer paths than the mean has a positive residual.
    """
    keep = np.arange(64) < 8
    for row in published.main_table():
        if row.type == type_ and not math.isnan(row.tokens_k):
            lengths = np.full(64, round(1000 * baseline()[row.model, row.dataset].tokens_k / 64))
            yield row.tokens_k - paper_tokens(lengths, 2048, keep, type_ii=type_ == "II") / 1000


@pytest.mark.parametrize("type_", RESIDUALS)
def test_paper_tokens_explain_the_papers_token_column(type_):
    """The +- is the sample standard deviation (n - 1) over the rows of a type: not the error of their mean, which is
    0.4 to 0.6, and not the population's, which would give 2.5 for type IV and 1.9 for II.
    """
    measured = np.array(list(residuals(type_)))
    assert len(measured) == (16 if type_ == "II" else 20)
    assert (round(measured.mean(), 1), round(measured.std(ddof=1), 1)) == RESIDUALS[type_]


def test_main_table_is_whole_and_its_reductions_follow_from_its_tokens():
    rows = published.main_table()
    assert len(rows) == 4 * 5 * 5
    assert len({(row.model, row.dataset, row.type) for row in rows}) == 100
    left_open = [row for row in rows if math.isnan(row.tokens_k)]
    assert {(row.type, row.dataset) for row in left_open} == {("II", "GPQA-D")}
    assert len(left_open) == 4
    for row in rows:
        if row not in left_open:  # the paper rounds tokens to 0.1k, above 1,000k to 1k
            reduction = 100 * (row.tokens_k / baseline()[row.model, row.dataset].tokens_k - 1)
            assert row.reduction_pct == pytest.approx(reduction, abs=0.02)


def test_retention_grids_have_their_tasks_lengths_prefixes_and_budgets_in_tokens():
    gpqa, aime = published.retention_grids()
    assert (gpqa.task, gpqa.task_length, len(gpqa.cells)) == ("gpqa", 8650, 45)
    assert (aime.task, aime.task_length, len(aime.cells)) == ("aime", 11950, 45)
    assert gpqa.cells[0] == published.RetentionCell(prefix=512, budget=140 * 1024, inverse_gamma=5.23)
    assert aime.cells[-1] == published.RetentionCell(prefix=5120, budget=600 * 1024, inverse_gamma=5.90)


def test_latency_adds_up_and_generates_sixteen_prefixes():
    rows = published.latency()
    assert [row.type for row in rows] == ["none", "I", "II", "IV"]
    for row in rows:
        assert row.generate_s + row.check_s == pytest.approx(row.total_s, abs=0.021)
        # type I prints 40.64 s beside 812.1 tokens/s, which would be 40.35 s
        assert row.tokens_per_s * row.generate_s == pytest.approx(16 * 2048, rel=0.008 if row.type == "I" else 2e-4)


def test_ablations_and_the_retrained_type_two():
    ablations = published.ablations()
    assert [sum(row.table == table for row in ablations) for table in (3, 4, 5, 6, 8, 9)] == [8, 4, 9, 4, 2, 3]
    stop_tokens = {row.value: row.result for row in ablations if row.setting == "stop tokens"}
    assert max(stop_tokens, key=stop_tokens.__getitem__) == "6"
    retrained = published.type_two_retrain()
    assert {(row.model, row.dataset) for row in retrained} == {key for key in baseline() if key[1] != "GPQA-D"}
    assert retrained[0].tokens_k == 318.2


def broken(folder: Path, monkeypatch, name: str, old: str, new: str) -> None:
    shutil.copytree(published.PAPER, folder, dirs_exist_ok=True)
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    monkeypatch.setattr(published, "PAPER", folder)


def test_a_missing_table_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "PAPER", tmp_path)
    for read in (published.main_table, published.ablations, published.latency, published.type_two_retrain):
        with pytest.raises(UserError, match=r"\.csv: this published table is missing; install"):
            read()
    with pytest.raises(UserError, match=r"retention_gpqa\.csv: this published table is missing"):
        published.retention_grids()


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("main_table.csv", "26.25,218.3", "26.25,many", "main_table.csv, line 3: tokens_k = 'many': "),
        ("main_table.csv", "AIME24,III", "AIME24,V", "line 5: type = 'V': "),
        ("main_table.csv", ",218.3,-72.09", ",218.3", "line 3: reduction_pct = None: "),
        ("main_table.csv", "reduction_pct", "saved", "line 2: reduction_pct is missing"),
        ("retention_aime.csv", "2.07", "two", "line 2: prefix_tokens = '1024', column '250k', value 'two': not all"),
        ("retention_aime.csv", ",3.10", "", "line 2: prefix_tokens = '1024', column '600k', value 'None': not all"),
    ],
)  # fmt: skip
def test_a_broken_table_names_file_line_field_and_value(tmp_path, monkeypatch, name, old, new, message):
    broken(tmp_path, monkeypatch, name, old, new)
    with pytest.raises(UserError) as raised:
        published.main_table() if name == "main_table.csv" else published.retention_grids()
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
