"""Rollouts and labels that are shipped are where the next build goes on."""

import shutil

import numpy as np

from prunebench.bench.config import preset
from prunebench.bench.engines.shipped import REASONERS
from prunebench.bench.reasoner.build import begin_with_shipped, halve, ship_data, ship_test_rollouts
from prunebench.bench.rollouts.store import RolloutStore
from prunebench.bench.rollouts.stored_config import config_of
from prunebench.methods.learned.stop import Stop
from prunebench.tasks.synthetic import FAMILIES
from tests.bench.rollouts.test_store import fill


def test_a_build_goes_on_from_what_is_shipped_and_adds_to_it(tmp_path):
    made, shipped = tmp_path / "made" / "abc-cpu", tmp_path / "shipped"
    store = fill(made / "train" / "power" / "rollouts", ["a", "b"])
    fill(made / "test" / "power" / "rollouts", ["t"])
    ship_data(made, shipped)
    assert not (shipped / "abc-cpu" / "test").exists(), "test rollouts are shipped as one store"
    again = tmp_path / "later" / "abc-cpu"
    begin_with_shipped(shipped, again)
    found = RolloutStore.open(again / "train" / "power" / "rollouts")
    assert found.digest() == store.digest()
    fill(again / "train" / "power" / "rollouts", ["c"])
    ship_data(again, shipped)
    assert len(RolloutStore.open(shipped / "abc-cpu" / "train" / "power" / "rollouts").problems()) == 3
    assert not list(shipped.rglob("*.lock"))


def test_what_was_made_already_and_what_was_made_otherwise_stays(tmp_path):
    fill(tmp_path / "shipped" / "abc-cpu", ["a"])
    here = tmp_path / "abc-cpu"
    fill(here, ["b"])
    begin_with_shipped(tmp_path / "shipped", here)
    assert {problem for _, problem in RolloutStore.open(here).problems()} == {"b"}
    begin_with_shipped(tmp_path / "shipped", tmp_path / "abc-gpu")
    assert not (tmp_path / "abc-gpu").exists()


def test_test_rollouts_of_all_families_become_one_store_without_signals(tmp_path):
    for family, names in zip(FAMILIES, ("ab", "cd", "ef", "gh"), strict=True):
        fill(tmp_path / "made" / "test" / family / "rollouts", list(names))
    for _ in range(2):  # what an earlier build shipped is replaced
        ship_test_rollouts(tmp_path / "made", tmp_path / "shipped", FAMILIES)
    shipped = list(RolloutStore.open(tmp_path / "shipped").read())
    made = [
        stored
        for family in FAMILIES
        for stored in RolloutStore.open(tmp_path / "made" / "test" / family / "rollouts").read()
    ]
    assert [one.problem for one in shipped] == [one.problem for one in made]
    assert any(path.signals for one in made for path in one.paths)
    for one, other in zip(shipped, made, strict=True):
        for path, before in zip(one.paths, other.paths, strict=True):
            assert np.array_equal(path.token_ids, before.token_ids)
            assert (path.text, path.answer, path.correct) == (before.text, before.answer, before.correct)
            assert not path.signals
    assert not list((tmp_path / "shipped").rglob("*.lock"))


def test_a_file_that_is_too_large_is_stored_in_half_the_bits_and_loads_as_before(tmp_path):
    shipped = REASONERS["embedded"].learned / "stop.safetensors"
    path = tmp_path / "stop.safetensors"
    shutil.copy(shipped, path)
    halve(path)
    assert path.read_bytes() == shipped.read_bytes(), "small enough"
    halve(path, above=1000)
    assert path.stat().st_size < 0.6 * shipped.stat().st_size
    whole, half = Stop().load(shipped).weights_, Stop().load(path).weights_
    assert whole.keys() == half.keys()
    for name, tensor in whole.items():
        np.testing.assert_allclose(half[name].float(), tensor, rtol=2**-11, atol=1e-7)


def test_the_shipped_rollouts_are_those_of_the_comparison():
    reasoner = REASONERS["embedded-base"]
    config, asked = config_of(reasoner.rollouts), preset(reasoner.preset)
    store = RolloutStore.open(reasoner.rollouts)
    assert (config.n, len(config.tasks), config.problems) == (asked.n, len(FAMILIES), asked.problems)
    assert store.manifest["sampling_digest"] == asked.sampling.digest
