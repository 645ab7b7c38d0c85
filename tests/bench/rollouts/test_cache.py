"""Columns that are made again instead of held."""

import numpy as np
import pytest

from prunebench.bench.config import preset
from prunebench.bench.rollouts.cache import ByteLimitedCache, bytes_of
from prunebench.bench.rollouts.pools import PoolCaches, record_of
from prunebench.bench.rollouts.sampling import problems_of, sample_configured, tasks_of
from prunebench.methods.base import Signal
from prunebench.methods.pool import Columns
from prunebench.methods.registry import PRUNERS


def test_the_least_recently_used_go_first_and_are_made_again():
    made, shelf = [], ByteLimitedCache(2_400)

    def asked(key):
        return shelf.get(key, lambda: made.append(key) or np.full(100, key))

    for key in (1, 2, 3, 1, 4, 2):
        assert asked(key)[0] == key
    assert made == [1, 2, 3, 4, 2], "4 took the place of 2, 1 having been asked for since"


def test_a_value_without_room_is_held_until_the_next():
    shelf = ByteLimitedCache(10)
    held = shelf.get("large", lambda: np.zeros(100))
    assert shelf.get("large", lambda: pytest.fail("made twice")) is held


def test_memory_counts_what_a_view_holds_and_nothing_twice():
    whole = np.zeros(100)
    assert bytes_of({"a": (whole[:5], whole[5:9]), "b": {0: whole}, "text": ("abc", "de")}) == 805


def test_columns_are_read_when_they_are_asked_for():
    read = []
    columns = Columns((Signal.TEXT, Signal.ENTROPY), lambda signal: read.append(signal) or signal.name)
    assert Signal.TEXT in columns and Signal.LOGPROBS not in columns and len(columns) == 2 and not read
    assert columns[Signal.TEXT] == "text" and read == [Signal.TEXT]
    with pytest.raises(KeyError):
        columns[Signal.LOGPROBS]


@pytest.fixture(scope="module")
def store(engine, tmp_path_factory):
    config = preset("demo", tasks=("synthetic/power",), problems=2, n=8)
    chosen = problems_of(tasks_of(config), "test", 2, 0)
    return sample_configured(engine, config, chosen, tmp_path_factory.mktemp("shelf") / "rollouts")


def test_records_that_hold_next_to_nothing_tell_what_the_others_tell(engine, store):
    """Also what has to be had by reading again, at other checkpoints, and of some of the paths."""
    read, reads = store.reader(), frozenset({Signal.STATES, Signal.VARENTROPY})
    caches = PoolCaches(ByteLimitedCache(1), ByteLimitedCache(1))
    keys = [(stored.task, stored.problem) for stored in store.read()]
    poor = [record_of(engine, read(key), 40, None, reads, caches, reread=lambda key=key: read(key)) for key in keys]
    rich = [record_of(engine, read(key), 40, None, reads) for key in keys]
    for _ in range(2):
        for poor_record, other in zip(poor, rich, strict=True):
            assert set(poor_record.pool.signals) == set(other.pool.signals)
            for pool, wanted in (
                (poor_record.pool, other.pool),
                (poor_record.take([5, 2]).pool, other.take([5, 2]).pool),
                (poor_record.at(20), other.at(20)),
                (poor_record.pool.without({Signal.TEXT}), other.pool.without({Signal.TEXT})),
            ):
                for signal in wanted.signals:
                    np.testing.assert_equal(pool.signals[signal], wanted.signals[signal])
                assert pool.answer_class.tolist() == wanted.answer_class.tolist()
            for name in ("entropy", "deepconf", "perplexity"):
                pruner = PRUNERS.get(name)()
                np.testing.assert_array_equal(pruner.score(poor_record.pool), pruner.score(other.pool))
    assert len(caches.columns._held) == 1


def test_the_token_ids_of_a_pool_are_the_same_object_as_long_as_it_is_asked_for(engine, store):
    """By it the engine knows that one method after another asks for the same prefixes."""
    key = next((stored.task, stored.problem) for stored in store.read())
    record = record_of(engine, store.reader()(key), 40, None, reread=lambda: store.reader()(key))
    for pool in (record.pool, record.pool.public(), record.pool.take([1, 0])):
        assert pool.token_ids is pool.token_ids
    assert record.pool.public().token_ids is record.pool.token_ids
