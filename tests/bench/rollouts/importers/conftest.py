from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prunebench.bench.rollouts.importers import Options, import_rollouts
from prunebench.bench.rollouts.store import RolloutStore
from tests.bench.rollouts.importers.tokenizer import save_tokenizer


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    """The folder of a byte-level tokenizer."""
    return str(save_tokenizer(tmp_path_factory.mktemp("tokenizer")))


@pytest.fixture
def json_lines(tmp_path):
    def write(rows, name="rows.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def parquet(tmp_path):
    def write(rows, name="rows.parquet", schema=None):
        path = tmp_path / name
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
        return path

    return write


@pytest.fixture
def imported(tmp_path):
    """Import and read back: the stored problems by name, and the report."""

    def run(format, path, out="out", **options):
        report = import_rollouts(format, path, tmp_path / out, Options(**{"task": "t", **options}))
        return {problem.problem: problem for problem in RolloutStore.open(tmp_path / out).read()}, report

    return run
