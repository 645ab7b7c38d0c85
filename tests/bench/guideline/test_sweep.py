from __future__ import annotations

import json
from dataclasses import replace

import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.guideline.sweep import Grid, Sweep, sweep
from prunebench.methods.confidence.entropy import Entropy
from prunebench.methods.controls.none import NoPruning
from prunebench.methods.surface.slim_sc import SlimSC
from tests.bench.conftest import refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prefixes": (0, 5)}, "prefix = .*above 0"),
        ({"gammas": (0.5, 0.25)}, "the largest must be 1"),
        ({"budgets": (5.0, 5.0)}, "different values"),
        ({"draws": 0}, "at least one pool"),
    ],
)
def test_an_impossible_grid_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        Grid(**{"prefixes": (5,), "budgets": (100.0,), **change})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """16 paths of 9 short problems of two families by the shipped reasoner."""
    from prunebench.bench.engines.base import Recording, Sampling
    from prunebench.bench.engines.transformers.engine import TransformersEngine
    from prunebench.bench.rollouts.sampling import problems_of, sample_rollouts
    from prunebench.tasks import catalogue

    engine = TransformersEngine.load("embedded")
    folder = tmp_path_factory.mktemp("sweep") / "store"
    problems = problems_of(catalogue.expand(["synthetic/power", "synthetic/program"]), "test", 9, 0)
    sampling = Sampling(temperature=0.8, max_new_tokens=120)
    sample_rollouts(engine, problems, folder, n=16, sampling=sampling, seed=0, recording=Recording(topk_tokens=0))
    return folder


GRID = Grid((10, 20), (400.0, 800.0), (1.0, 0.5, 0.25), draws=4)


def test_a_sweep_resumes_leaves_out_what_it_cannot_replay_and_says_the_same_twice(store, tmp_path):
    methods = {"entropy": Entropy(), "slim-sc": SlimSC(), "none": NoPruning()}
    first = sweep(None, store, methods, GRID, tmp_path / "a", arithmetic=None)
    assert first.methods == ["entropy"] and set(first.left_out) == {"slim-sc", "none"}
    assert len(first.cells) == 2 * 2 * 2 * 3 and all(len(cell.maj) == 9 for cell in first.cells)
    scored = sorted((tmp_path / "a" / "scores").rglob("*.json"))
    assert len(scored) == 18 * 2
    times = [file.stat().st_mtime_ns for file in scored[1:]]
    scored[0].unlink()
    again = sweep(None, store, methods, GRID, tmp_path / "a", arithmetic=None)
    assert again == first == Sweep.read(tmp_path / "a")
    assert [file.stat().st_mtime_ns for file in scored[1:]] == times and scored[0].exists()


def test_costs_stay_within_the_budget_and_keeping_all_is_the_same_at_every_prefix(store, tmp_path):
    found = sweep(None, store, {"entropy": Entropy()}, GRID, tmp_path, arithmetic=None)
    assert all(cell.cost <= cell.budget * (1 + 1e-9) or cell.n == 1 for cell in found.cells)
    whole = {(c.task, c.budget, c.n, tuple(c.maj)) for c in found.cells if c.gamma == 1}
    assert len(whole) == 4
    assert all(cell.n > whole_n for cell in found.cells if cell.gamma == 0.25 and not cell.capped
               for task, budget, whole_n, _ in whole if (task, budget) == (cell.task, cell.budget))  # fmt: skip


def test_one_path_is_taken_whatever_it_costs(store, tmp_path):
    found = sweep(None, store, {"entropy": Entropy()}, replace(GRID, budgets=(0.5,)), tmp_path, arithmetic=None)
    assert {(cell.n, cell.k) for cell in found.cells} == {(1, 1)}


def test_the_command_line_refuses_in_a_sentence(store, prunebench, tmp_path):
    assert "write ratios such as 1/8" in refused(prunebench("sweep", "--store", store, "--set", "gamma=1,x"))
    assert "longest stored path" in refused(
        prunebench("sweep", "--store", store, "--methods", "entropy", "--set", "prefix=5000", "--out", tmp_path / "x")
    )
    with pytest.raises(UserError, match="no sweep there"):
        Sweep.read(tmp_path)
    (tmp_path / "sweep.json").write_text(json.dumps({"schema_version": 2}))
    with pytest.raises(UserError, match="not a sweep of this version"):
        Sweep.read(tmp_path)


def test_a_check_that_costs_flops_is_refused_where_no_model_says_what_a_token_costs(store, tmp_path):
    class Judged(Entropy):
        def score(self, pool):
            pool.charge(check_tokens=1, flops=1e6)
            return super().score(pool)

    with pytest.raises(UserError, match=r"'entropy': its check costs FLOPs.*leave it out"):
        sweep(None, store, {"entropy": Judged()}, GRID, tmp_path, arithmetic=None)


def test_a_store_of_problems_that_a_method_was_tuned_on_is_refused(prunebench, tmp_path):
    from prunebench.bench.engines.base import Recording, Sampling
    from prunebench.bench.engines.transformers.engine import TransformersEngine
    from prunebench.bench.rollouts.sampling import problems_of, sample_rollouts
    from prunebench.tasks import catalogue

    problems = problems_of(catalogue.expand(["synthetic/power"]), "validation", 2, 0)
    sampling = Sampling(temperature=0.8, max_new_tokens=8)
    engine = TransformersEngine.load("embedded")
    sample_rollouts(
        engine, problems, tmp_path / "store", n=2, sampling=sampling, seed=0, recording=Recording(topk_tokens=0)
    )
    told = refused(prunebench("sweep", "--store", tmp_path / "store", "--methods", "entropy", "--set", "prefix=4",
                              "--out", tmp_path / "x"))  # fmt: skip
    assert "trained or tuned on 2 of these problems" in told


@pytest.fixture
def imported(prunebench, tmp_path):
    """Ten problems with eight paths of words, whose model is not at hand."""
    rows = [
        {
            "problem": f"q{q}",
            "prompt": f"what is {q} ?",
            "answer": str(q),
            "text": f"{'so ' * (5 + i)}\\boxed{{{q + i % 2}}}",
        }
        for q in range(10)
        for i in range(8)
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prunebench("import", "plain", tmp_path / "mine.jsonl", "--out", tmp_path / "imported")
    return tmp_path / "imported"


def test_of_imported_rollouts_what_needs_the_model_is_left_out_or_refused_where_it_was_asked_for(prunebench, imported):
    sweep = ("sweep", "--store", imported, "--set", "prefix=4", "--set", "budget=20,40", "--out", "swept")
    code, said, _ = prunebench(*sweep)
    assert code == 0 and "left out: entropy: needs the signal 'entropy'" in said
    assert Sweep.read(imported.parent / "swept").methods == ["length", "random"]
    assert "model of imported rollouts is not at hand" in refused(prunebench(*sweep, "--methods", "stop"))
    assert "needs the signal 'entropy'" in refused(prunebench(*sweep, "--methods", "entropy"))
    assert "left out: none: keeps all paths" in refused(prunebench(*sweep, "--methods", "none"))


def test_where_no_law_was_fitted_none_is_promised_and_the_guideline_says_why(prunebench, imported):
    sweep = ("sweep", "--store", imported, "--set", "prefix=4", "--set", "budget=20,40", "--out", "swept")
    code, said, _ = prunebench(*sweep, "--methods", "random")
    assert code == 0 and said.splitlines()[-1] == "in swept: sweep.json, sweep.csv"
    asked = ("guideline", "--file", "swept", "--budget", "20", "--prefix", "4", "--task-length", "14")
    assert "its sweep gives no guideline; it swept random choice only" in refused(prunebench(*asked))


def test_the_model_of_imported_rollouts_is_looked_for_nowhere(prunebench, imported):
    for study in ("motivation", "attention"):
        assert "imported, and their model is not at hand" in refused(prunebench("study", study, imported))
    prunebench("compare", "--store", imported, "--prefix", 4, "--methods", "length,none", "--out", "run")
    assert "that of imported rollouts is not at hand" in refused(prunebench("figures", "run", "motivation"))
