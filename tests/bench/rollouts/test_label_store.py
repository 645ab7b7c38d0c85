from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.label_store import Label, Labels, LabelStore, prefix_hash
from prunebench.bench.rollouts.shards import LOCK

MANIFEST = {"model_hash": "m1", "sampling_digest": "s1", "seed": 1, "continuations": 5}
PREFIXES = [np.array([4, 5, 6]), np.array([4, 5]), np.array([7, 8, 9])]


def label(prefix, continuations=5, even=3, odd=1, problem="p"):
    return Label("synthetic/power", problem, prefix_hash(prefix), len(prefix), continuations, even, odd)


def fill(folder):
    store = LabelStore.create_or_open(folder, MANIFEST)
    with store.shards:
        store.append([label(PREFIXES[0])])
        store.append([label(PREFIXES[1], continuations=0, even=1, odd=1)])
    return store


def test_the_hash_of_a_prefix_depends_on_its_tokens_alone():
    ids = np.array([4, 5, 6])
    assert prefix_hash(ids) == prefix_hash(ids.astype(np.int32)) == prefix_hash(np.array([4, 0, 5, 0, 6])[::2])
    assert len({prefix_hash(p) for p in (ids, ids[:2], np.array([4, 6, 5]), np.array([], np.int64))}) == 4
    assert prefix_hash(ids) == hashlib.sha256(struct.pack("<3q", 4, 5, 6)).hexdigest()[:16]


def test_halves_count_even_and_odd_continuations():
    assert label(PREFIXES[0]).halves == (3 / 3, 1 / 2)
    assert label(PREFIXES[0]).success == 4 / 5


@pytest.mark.parametrize("verdict", [0, 1])
def test_a_finished_path_is_labelled_by_its_verdict(verdict):
    finished = label(PREFIXES[0], continuations=0, even=verdict, odd=verdict)
    assert (finished.halves, finished.success) == ((verdict, verdict), verdict)


def test_lookup_is_nan_where_there_is_no_label(tmp_path):
    fill(tmp_path / "l")
    store = LabelStore.open(tmp_path / "l")
    halves, success = store.lookup("synthetic/power", "p", PREFIXES)
    np.testing.assert_allclose(halves, [[1, 1, np.nan], [0.5, 1, np.nan]])
    np.testing.assert_allclose(success, [0.8, 1, np.nan])
    assert len(store) == 2
    assert store.get("synthetic/power", "another problem", PREFIXES[0]) is None
    empty, none = store.lookup("synthetic/power", "p", [])
    assert (empty.shape, none.shape) == ((2, 0), (0,))


def test_labels_that_were_read_again_are_equal_and_so_are_their_bytes(tmp_path):
    for name in ("one", "two"):
        fill(tmp_path / name)
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir() if path.name != LOCK}
        for name in ("one", "two")
    )
    assert one == two
    assert LabelStore.open(tmp_path / "one").get("synthetic/power", "p", PREFIXES[0]) == label(PREFIXES[0])


@pytest.mark.parametrize(
    ("key", "value"), [("model_hash", "m2"), ("sampling_digest", "s2"), ("seed", 2), ("continuations", 32)]
)
def test_labels_of_other_settings_are_refused(tmp_path, key, value):
    fill(tmp_path / "l")
    with pytest.raises(UserError, match=f"made with {key} = {MANIFEST[key]!r}, now it is {value!r}"):
        LabelStore.create_or_open(tmp_path / "l", {**MANIFEST, key: value})


def test_labels_explain_only_their_own_model_and_sampling(tmp_path):
    store = fill(tmp_path / "l")
    store.require("m1", "s1")
    with pytest.raises(UserError, match=r"made with sampling_digest s1, the rollouts with s2.*prunebench label"):
        store.require("m1", "s2")
    with pytest.raises(UserError, match="made with model_hash m1, the rollouts with m2"):
        store.require("m2", "s1")


def test_one_continuation_has_no_halves(tmp_path):
    with pytest.raises(UserError, match=r"continuations = 1: .* at least 2"):
        LabelStore.create_or_open(tmp_path / "l", {**MANIFEST, "continuations": 1})
    assert not (tmp_path / "l").exists()


def test_a_damaged_label_shard_is_refused(tmp_path):
    fill(tmp_path / "l")
    file = tmp_path / "l" / "shard-00001.parquet"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=r"shard-00001\.parquet does not match its checksum"):
        LabelStore.open(tmp_path / "l")
    with pytest.warns(UserWarning, match="shard-00001 is damaged"):
        assert len(LabelStore.create_or_open(tmp_path / "l", MANIFEST)) == 1


def test_several_stores_are_read_as_one(tmp_path):
    fill(tmp_path / "one")
    other = label(PREFIXES[0], problem="q")
    both = Labels([*LabelStore.open(tmp_path / "one"), other])
    assert len(both) == len(LabelStore.open(tmp_path / "one")) + 1
    assert both.get("synthetic/power", "q", PREFIXES[0]) == other
    assert both.get("synthetic/power", "p", PREFIXES[0]) == label(PREFIXES[0])
