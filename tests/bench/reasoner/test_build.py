"""Rollouts and labels that are shipped are where the next build goes on."""

from bench.reasoner.build import begin_with_shipped, ship_data
from bench.store import RolloutStore
from tests.bench.test_store import fill


def test_a_build_goes_on_from_what_is_shipped_and_adds_to_it(tmp_path):
    made, shipped = tmp_path / "made" / "abc-cpu", tmp_path / "shipped"
    store = fill(made / "test" / "power" / "rollouts", ["a", "b"])
    ship_data(made, shipped)
    again = tmp_path / "later" / "abc-cpu"
    begin_with_shipped(shipped, again)
    found = RolloutStore.open(again / "test" / "power" / "rollouts")
    assert found.digest() == store.digest()
    fill(again / "test" / "power" / "rollouts", ["c"])
    ship_data(again, shipped)
    assert len(RolloutStore.open(shipped / "abc-cpu" / "test" / "power" / "rollouts").problems()) == 3
    assert not list(shipped.rglob("*.lock"))


def test_what_was_made_already_and_what_was_made_otherwise_stays(tmp_path):
    fill(tmp_path / "shipped" / "abc-cpu", ["a"])
    here = tmp_path / "abc-cpu"
    fill(here, ["b"])
    begin_with_shipped(tmp_path / "shipped", here)
    assert {problem for _, problem in RolloutStore.open(here).problems()} == {"b"}
    begin_with_shipped(tmp_path / "shipped", tmp_path / "abc-gpu")
    assert not (tmp_path / "abc-gpu").exists()
