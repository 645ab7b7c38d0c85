from __future__ import annotations

import math

import numpy as np
import pytest

from prunebench.bench.engines.base import NOTHING, Sampling
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.potential_curve import MeasuredPath, Motivation, Selection, measure_potential
from prunebench.bench.rollouts.labelling import label_prefixes, prefixes_of
from prunebench.bench.rollouts.sampling import problems_of, sample_rollouts
from prunebench.bench.rollouts.store import RolloutStore
from prunebench.figures.motivation import motivation, motivation_csv
from prunebench.tasks import catalogue
from tests.bench.conftest import refused
from tests.figures.readable import assert_readable


def path(problem: str, correct: bool, *potential: float, finished: int = 99) -> MeasuredPath:
    return MeasuredPath(
        task="t", problem=problem, path=0, correct=correct, potential=list(potential),
        finished=[i >= finished for i in range(len(potential))],
    )  # fmt: skip


@pytest.fixture
def by_hand() -> Motivation:
    """Three problems; at the second length the paths of b and c that are wrong have fallen."""
    return Motivation(
        command="", model="m", model_hash="h", sampling={}, lengths=[10, 20, 40], continuations=16,
        paths=[
            path("a", True, 0.6, 0.8, 1.0, finished=2), path("a", True, 0.2, 0.6, 0.6),
            path("b", False, 0.6, 0.0, 0.0), path("b", True, 0.5, 0.5, 0.9),
            path("c", False, 0.1, 0.0, 0.2), path("c", False, 0.7, 0.1, 0.6),
        ],
    )  # fmt: skip


def test_means_are_over_problems_that_have_such_a_path(by_hand):
    assert by_hand.mean_potential(10, correct=False).mean == pytest.approx((0.6 + 0.4) / 2)
    assert by_hand.mean_potential(40, correct=True).mean == pytest.approx((0.8 + 0.9) / 2)
    assert by_hand.doomed(20).mean == pytest.approx((0 + 0.5 + 0.5) / 3)


def test_moves_are_counted_one_length_on(by_hand):
    """Fallen: a 0.2 -> 0.6 rises; b 0 -> 0; c 0.1 -> 0, 0 -> 0.2, 0.1 -> 0.6 rises."""
    assert by_hand.recovered().mean == pytest.approx((1 + 0 + 1 / 3) / 3)
    assert by_hand.fell().mean == pytest.approx((0 + 1 + 1) / 3)


def test_a_path_that_falls_or_rises_at_any_later_length_counts_once(by_hand):
    """Fallen: a rises; b stays down; c 0.1 stays down, c 0.1 -> 0.6 rises. High: a, a stay; b falls, b has no later
    length; c falls."""
    assert by_hand.recovered_later().mean == pytest.approx((1 + 0 + 1 / 2) / 3)
    assert by_hand.fell_later().mean == pytest.approx((0 + 1 + 1) / 3)


def test_a_rise_two_lengths_on_is_one_for_later_and_none_for_next():
    only = Motivation(
        command="", model="m", model_hash="h", sampling={}, lengths=[10, 20, 40], continuations=4,
        paths=[path("a", True, 0.0, 0.4, 0.9)],
    )  # fmt: skip
    assert (only.recovered_later().mean, only.recovered().mean) == (1, 0)


def test_a_finished_path_makes_no_more_moves():
    only = Motivation(
        command="", model="m", model_hash="h", sampling={}, lengths=[10, 20], continuations=4,
        paths=[path("a", True, 0.9, 0.9, finished=0)],
    )  # fmt: skip
    assert math.isnan(only.fell().mean)


@pytest.mark.parametrize("lengths", [(10,), (20, 10), (0, 5), (5, 5)])
def test_lengths_must_rise(lengths):
    with pytest.raises(UserError, match="two or more lengths, rising"):
        Selection(lengths)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    engine = TransformersEngine.load("embedded")
    folder = tmp_path_factory.mktemp("motivation") / "store"
    problems = problems_of(catalogue.expand(["synthetic/power", "synthetic/program"]), "validation", 2, 0)
    sampling = Sampling(temperature=0.8, max_new_tokens=300)
    sample_rollouts(engine, problems, folder, n=5, sampling=sampling, seed=0, recording=NOTHING)
    return engine, folder


def test_potentials_are_those_of_the_labels_and_the_same_command_goes_on(store, tmp_path):
    engine, folder = store
    selection = Selection((20, 290), problems=1, paths=4, continuations=4)
    found = measure_potential(engine, folder, selection, tmp_path)
    assert len(found.paths) == 2 * 4
    (stored, *_) = RolloutStore.open(folder).read(hidden=False)
    cuts = [cut for length in (20, 290) for cut in prefixes_of(catalogue.get(stored.task), stored, length)]
    sampling = Sampling(temperature=0.8, max_new_tokens=300)
    labels = label_prefixes(engine, cuts, tmp_path / "own", continuations=4, sampling=sampling, seed=1)
    for row, one in enumerate(found.paths[:4]):
        ids = stored.paths[row].token_ids
        rates = [labels.lookup(stored.task, stored.problem, [ids[:length]])[1][0] for length in (20, 290)]
        np.testing.assert_allclose(one.potential, rates, atol=1e-6)
        assert one.finished == [False, len(ids) <= 290]
        assert not one.finished[1] or one.potential[1] == float(one.correct)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "labels").glob("*.parquet")}
    assert measure_potential(engine, folder, selection, tmp_path) == found == Motivation.read(tmp_path)
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "labels").glob("*.parquet")}


def test_the_figure_shows_the_means_and_can_be_read(by_hand):
    figure = motivation(by_hand)
    right = figure.axes[1]
    np.testing.assert_allclose(right.lines[0].get_ydata(), [by_hand.doomed(n).mean for n in by_hand.lengths])
    assert_readable(figure)
    assert motivation_csv(by_hand).splitlines()[2].startswith("20,0.6")


def test_bad_input_is_a_sentence(store, prunebench, tmp_path):
    _, folder = store
    assert "--set prefix=10,x: input should be a valid integer" in refused(
        prunebench("study", "motivation", folder, "--set", "prefix=10,x")
    )
    with pytest.raises(UserError, match="no motivation there; make it with: prunebench study motivation"):
        Motivation.read(tmp_path)
