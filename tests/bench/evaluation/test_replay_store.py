from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from prunebench.bench.evaluation.replay_store import FILE, ReplayStore
from prunebench.bench.evaluation.replays import replay_methods
from prunebench.bench.policies import Ratio
from prunebench.methods.base import Signal
from tests.bench.evaluation.tables.test_main import ByIds, candidates_of, many, record


@dataclass
class Counted(ByIds):
    """Counts how often it scores, and charges every path and every distinct text."""

    scored = 0

    def score(self, pool):
        Counted.scored += 1
        pool.charge(check_tokens=3)
        pool.charge(reencoded_tokens=5, flops=2.5, model_bytes=7, read=[str(path % 2) for path in pool.paths])
        return super().score(pool)


def replayed(records, folder, context="c", identities=None, policy=None):
    """The replays, and how many pools were scored for them."""
    Counted.scored = 0
    held = ReplayStore(folder, context, identities or {"counted": "one"})
    replays = replay_methods(records, candidates_of({"counted": Counted()}, policy), held=held)
    return replays.of["counted"], Counted.scored


def equal(first, second):
    for (one,), (other,) in zip(first, second, strict=True):
        for name in ("keep", "decoded", "launched", "answer_class", "scores"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert (one.stopped, one.cost, one.seconds) == (other.stopped, other.cost, other.seconds)
        for charge, again in zip(one.charges, other.charges, strict=True):
            assert charge.cost == again.cost and charge.model_bytes == again.model_bytes
            assert (charge.names is None) == (again.names is None)
    return True


def test_what_was_replayed_is_read_again_to_the_last_bit(tmp_path):
    records = many(3)
    first, scored = replayed(records, tmp_path)
    again, scored_again = replayed(records, tmp_path)
    assert (scored, scored_again) == (3, 0)
    assert equal(first, again)


def test_a_comparison_that_was_stopped_replays_only_what_is_missing(tmp_path):
    records = many(4)
    whole, _ = replayed(records, tmp_path)
    lines = (tmp_path / FILE).read_bytes().split(b"\n")
    (tmp_path / FILE).write_bytes(b"\n".join(lines[:2]) + b"\n" + lines[2][:-20])  # a kill in the middle of a line
    again, scored = replayed(records, tmp_path)
    assert scored == 2, "the line that was cut off, and the one that never came"
    assert [one.scores.tolist() for (one,) in again] == [one.scores.tolist() for (one,) in whole]
    assert replayed(records, tmp_path)[1] == 0


def test_whatever_a_replay_depends_on_makes_it_another(tmp_path):
    one = record()
    for name, changed in {
        "first": {},
        "another model or code": {"context": "d"},
        "learned again": {"identities": {"counted": "two"}},
        "another policy": {"policy": Ratio(0.25)},
    }.items():
        assert replayed([one], tmp_path, **changed)[1] == 1, name
    others = {
        "other verdicts": replace(one, correct=1 - one.correct),
        "other answers": replace(one, answer_class=one.answer_class + 1),
        "other tokens": record(ids=[9, 8, 7, 6]),
        "other paths": one.take([0, 1, 2]),
        "another problem": record(problem="p1"),
    }
    for name, other in others.items():
        assert replayed([other], tmp_path)[1] == 1, name
    assert replayed([one], tmp_path)[1] == 0


def test_new_labels_make_another_replay_of_those_only_who_are_given_them(tmp_path):
    one = record()
    labelled = replace(one, halves=np.full((2, len(one.lengths)), 0.5))
    assert replayed([one], tmp_path)[1] == 1
    assert replayed([labelled], tmp_path)[1] == 0
    (reader,) = candidates_of({"counted": Counted()}).values()
    reader, held = replace(reader, reads=frozenset({Signal.POTENTIAL})), ReplayStore(tmp_path, "c", {"counted": "one"})
    assert held.holds(reader, one) and not held.holds(reader, labelled)


def test_another_process_finds_what_one_has_written(tmp_path):
    """Nothing of a key may hang on where this process has its objects."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    records = many(2)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        theirs, scored = pool.submit(replayed, records, tmp_path).result()
    ours, scored_again = replayed(records, tmp_path)
    assert (scored, scored_again) == (2, 0) and equal(theirs, ours)
