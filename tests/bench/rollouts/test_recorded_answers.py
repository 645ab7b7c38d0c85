from __future__ import annotations

import json

import pytest

from prunebench.bench.evaluation.results import Results
from prunebench.bench.rollouts.importers import import_rollouts
from prunebench.bench.rollouts.importers.contract import Options
from prunebench.bench.rollouts.pools import record_of
from prunebench.bench.rollouts.store import RolloutStore
from prunebench.bench.rollouts.stored_config import config_of
from prunebench.methods.base import MissingSignalError, Signal
from prunebench.methods.check import cost_of
from prunebench.methods.confidence.deer import Deer
from prunebench.methods.meter import Cost
from prunebench.methods.surface.agreement import Agreement
from prunebench.tasks.imported import ImportedTask
from tests.bench.conftest import refused

# per path the answers forced after 500, 1000, ... tokens, its length, its final answer
BRANCHES = [
    (["3", "7", "07"], 1700, "7"),
    (["4", "7"], 2300, "7"),  # no longer asked at 1500: it writes down its answer
    (["ERR", "8", "8", "8"], 2400, "8"),
    (["5"], 700, "5"),
]


@pytest.fixture
def matrix(tmp_path):
    """Two problems of eight paths: the four above, twice."""
    problem = {"gold_answer": "7", "probe_freq": 500, "each_branch": [list(branch) for branch in BRANCHES] * 2}
    path = tmp_path / "aime.json"
    path.write_text(json.dumps([problem, {**problem, "gold_answer": "8"}]))
    return path


@pytest.fixture
def store(matrix, tmp_path):
    import_rollouts("matrix", matrix, tmp_path / "store", Options())
    return tmp_path / "store"


def pool(store, position):
    stored = next(iter(RolloutStore.open(store).read()))
    return record_of(None, stored, position, None, task=ImportedTask("aime")).pool.take(range(4))


def test_a_recorded_answer_is_read_at_its_place_and_costs_nothing(store):
    seven, eight, five = 0, 1, 2  # by the final answers
    for position, classes in {
        1000: [seven, seven, eight, five],  # the last path has ended and stated its answer
        1500: [seven, seven, eight, five],
        2000: [seven, seven, eight, five],
    }.items():
        at = pool(store, position)
        assert Agreement().answers(at).tolist() == classes
        assert Agreement().score(at).tolist() == [2, 2, 1, 1]
        assert cost_of(Agreement(), at) == Cost()
    early = Agreement().answers(pool(store, 500))
    assert len(set(early.tolist())) == 4 and early[2] == -1, "3, 4, none and 5"


def test_elsewhere_an_answer_was_not_forced(store):
    at = pool(store, 1100)
    assert not at.has(Signal.FORCED_ANSWERS)
    with pytest.raises(
        MissingSignalError, match=r"at 1100 tokens \(answers were forced every 500, the nearest at 1000"
    ):
        Agreement().score(at)


def test_what_reads_more_than_answers_is_not_served(store):
    at = pool(store, 1000)
    assert at.has(Signal.FORCED_ANSWERS) and not at.has(Signal.PROBE)
    with pytest.raises(MissingSignalError, match="'probe'"):
        Deer().score(at)


def test_a_comparison_reads_them(prunebench, store, tmp_path):
    code, _, _ = prunebench("compare", "--store", store, "--prefix", 500, "--k", 2, "--out", tmp_path / "out")
    assert code == 0
    results = Results.read(tmp_path / "out" / "results.json")
    rows = {row.method: row for row in results.rows}
    assert {"agreement", "parallel-probe", "dynasor", "esc", "adaptive-consistency", "none", "random"} <= set(rows)
    assert rows["agreement"]["tokens"].mean == 8 * 500 + 1200 + 1800, "the first two that agree with another, no probe"
    assert "needs the signal 'probe'" in results.left_out["deer"]


def test_another_checkpoint_is_refused_with_the_nearest(prunebench, store):
    said = refused(prunebench("compare", "--store", store, "--prefix", 700, "--k", 2, "--methods", "agreement"))
    assert "'forced_answers' at 700 tokens (answers were forced every 500, the nearest at 500)" in said


def test_the_checkpoint_that_nobody_chose_is_one_at_which_answers_were_forced(store):
    said: list[str] = []
    assert config_of(store, said.append).prefix_tokens == 500
    assert any("where answers were forced" in line for line in said)


def test_what_the_source_could_not_read_is_no_answer_unless_texts_are_compared(matrix, tmp_path):
    import_rollouts("matrix", matrix, tmp_path / "text", Options(grading="string"))
    (first, _) = RolloutStore.open(tmp_path / "text").read()
    assert first.paths[2].probed == ["ERR", "8", "8", "8"]


def test_a_comparison_is_rebuilt_without_its_rollouts(prunebench, store, tmp_path):
    out = tmp_path / "out"
    code, _, _ = prunebench("compare", "--store", store, "--prefix", 1000, "--k", 2, "--out", out)
    assert code == 0
    store.rename(tmp_path / "away")
    code, said, _ = prunebench("rebuild", out, "--out", tmp_path / "again")
    assert code == 0 and "every number equals" in said
    code, said, watched = prunebench("versus", tmp_path / "again", "agreement", "none")
    assert "grading methods" in watched
    assert code == 0 and "minus the other" in said and "agreement" in said
    (tmp_path / "again" / "paths.parquet").unlink()
    assert "store" in refused(prunebench("rebuild", tmp_path / "again", "--out", tmp_path / "third"))
