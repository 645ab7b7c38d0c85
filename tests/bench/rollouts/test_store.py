from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.files import file_digest
from prunebench.bench.rollouts import shards as shards_module
from prunebench.bench.rollouts.shards import LISTING, LOCK, Shards
from prunebench.bench.rollouts.store import RolloutStore, StoredPath, StoredProblem

MANIFEST = {"model_hash": "m1", "sampling": {"temperature": 0.8}, "seed": 0, "n": 3}


def problem(name, task="synthetic/power", recorded=True):
    rng = np.random.default_rng(ord(name))
    paths = []
    for number, tokens in enumerate((7, 1, 4)):
        signals = {}
        if recorded:
            signals = {key: rng.normal(size=tokens).astype(np.float32) for key in ("logprobs", "entropy")}
            signals["topk_logprobs"] = rng.normal(size=(min(tokens, 5), 3)).astype(np.float32)
        paths.append(
            StoredPath(
                path=number,
                token_ids=rng.integers(0, 500, tokens),
                text=f"x \n\n {number} é",
                finish=("stop", "length", "stop")[number],
                answer=("5", None, "\\frac{1}{2}")[number],
                correct=(True, False, None)[number],
                grader=("exact 1", "no answer", "math-verify 0.9.0")[number],
                signals=signals,
            )
        )
    hidden = {4: rng.normal(size=(3, 2, 6)).astype(np.float32)} if recorded else {}
    return StoredProblem(task, name, "find x \n\n", rng.integers(0, 500, 9), "5", paths, 0.25, hidden)


def fill(folder, *groups, manifest=MANIFEST):
    store = RolloutStore.create_or_open(folder, manifest)
    with store.shards:
        for group in groups:
            store.append([problem(name) for name in group])
    return store


def assert_same(read, written):
    assert (read.task, read.problem, read.prompt, read.gold) == (
        written.task,
        written.problem,
        written.prompt,
        written.gold,
    )
    assert read.launch_seconds == written.launch_seconds
    np.testing.assert_array_equal(read.prompt_ids, written.prompt_ids)
    assert read.hidden.keys() == written.hidden.keys()
    for checkpoint, states in written.hidden.items():
        assert read.hidden[checkpoint].dtype == np.float32
        np.testing.assert_array_equal(read.hidden[checkpoint], states)
    for ours, theirs in zip(read.paths, written.paths, strict=True):
        for key in ("path", "text", "finish", "answer", "correct", "grader"):
            assert getattr(ours, key) == getattr(theirs, key), key
        assert ours.token_ids.dtype == np.int64
        np.testing.assert_array_equal(ours.token_ids, theirs.token_ids)
        assert ours.signals.keys() == theirs.signals.keys()
        for key, column in theirs.signals.items():
            assert ours.signals[key].dtype == np.float32
            np.testing.assert_array_equal(ours.signals[key], column)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != LOCK}


def test_what_is_read_is_what_was_written(tmp_path):
    fill(tmp_path / "s", ["a", "b"], ["c"])
    store = RolloutStore.open(tmp_path / "s")
    assert store.problems() == {("synthetic/power", name) for name in "abc"}
    for read, name in zip(store.read(), "abc", strict=True):
        assert_same(read, problem(name))


def test_signals_that_were_not_recorded_are_none(tmp_path):
    store = RolloutStore.create_or_open(tmp_path / "s", MANIFEST)
    with store.shards:
        store.append([problem("a", recorded=False), problem("b")])
    bare, full = store.read()
    assert_same(bare, problem("a", recorded=False))
    assert_same(full, problem("b"))


def test_hidden_states_stay_on_disk_unless_they_are_asked_for(tmp_path):
    store = fill(tmp_path / "s", ["a"])
    (read,) = store.read(hidden=False)
    assert read.hidden == {}


def test_the_same_content_gives_the_same_bytes(tmp_path):
    fill(tmp_path / "one", ["a", "b"], ["c"])
    fill(tmp_path / "two", ["a", "b"])
    fill(tmp_path / "two", ["c"])
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_shard_takes_distinct_problems_with_paths(tmp_path):
    store = RolloutStore.create_or_open(tmp_path / "s", MANIFEST)
    empty = problem("a")
    empty.paths = []
    with store.shards:
        for group in ([empty], [problem("a"), problem("a")]):
            with pytest.raises(ValueError, match="distinct problems with at least one path"):
                store.append(group)


def test_a_kill_before_the_listing_leaves_nothing_that_is_read(tmp_path):
    """Killed between writing files and listing them: a temporary file, a whole unlisted shard, stale states."""
    store = fill(tmp_path / "s", ["a"])
    fill(tmp_path / "other", ["x"], ["y"])
    (tmp_path / "s" / ".shard-00001.parquet.99.tmp").write_bytes(b"half")
    for suffix in ("parquet", "safetensors"):
        (tmp_path / "s" / f"shard-00001.{suffix}").write_bytes(
            (tmp_path / "other" / f"shard-00001.{suffix}").read_bytes()
        )
    assert RolloutStore.open(tmp_path / "s").problems() == {("synthetic/power", "a")}
    store = RolloutStore.create_or_open(tmp_path / "s", MANIFEST)
    with store.shards:
        store.append([problem("b", recorded=False)])
    _, redone = store.read()
    assert_same(redone, problem("b", recorded=False))


@pytest.mark.parametrize("suffix", ["parquet", "safetensors"])
@pytest.mark.parametrize("harm", ["truncated", "flipped", "missing"])
def test_a_damaged_shard_is_refused_by_name_and_only_it_is_made_again(tmp_path, suffix, harm):
    folder = tmp_path / "s"
    fill(folder, ["a"], ["b"], ["c"])
    before = contents(folder)
    file = folder / f"shard-00001.{suffix}"
    content = file.read_bytes()
    if harm == "missing":
        file.unlink()
    else:
        file.write_bytes(content[:-20] if harm == "truncated" else content[:50] + b"#" + content[51:])
    with pytest.raises(UserError, match=rf"shard-00001\.{suffix} .* again: it redoes only that shard"):
        list(RolloutStore.open(folder).read())
    with pytest.warns(UserWarning, match="shard-00001 is damaged"):
        store = RolloutStore.create_or_open(folder, MANIFEST)
    assert store.problems() == {("synthetic/power", "a"), ("synthetic/power", "c")}
    with store.shards:
        store.append([problem("b")])
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("key", "value", "difference"),
    [
        ("model_hash", "m2", "model_hash = 'm1', now it is 'm2'"),
        ("sampling", {"temperature": 0.6}, "sampling.temperature = 0.8, now it is 0.6"),
        ("seed", 1, "seed = 0, now it is 1"),
        ("n", 64, "n = 3, now it is 64"),
    ],
)
def test_a_store_of_other_settings_is_refused_with_both_values(tmp_path, key, value, difference):
    fill(tmp_path / "s", ["a"])
    before = contents(tmp_path / "s")
    with pytest.raises(UserError) as refusal:
        RolloutStore.create_or_open(tmp_path / "s", {**MANIFEST, key: value})
    message = str(refusal.value)
    assert f"made with {difference}; use another folder" in message
    assert contents(tmp_path / "s") == before


def test_foreign_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no manifest\.json"):
        RolloutStore.open(tmp_path)
    (tmp_path / "theirs.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"holds Parquet files but no manifest\.json"):
        RolloutStore.create_or_open(tmp_path, MANIFEST)
    labels = Shards.create_or_open(tmp_path / "labels", "labels", {})
    with pytest.raises(UserError, match="kind is 'labels', this version reads 'rollouts'"):
        RolloutStore.open(labels.folder)


def test_a_newer_schema_is_refused(tmp_path):
    fill(tmp_path / "s", ["a"])
    path = tmp_path / "s" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    with pytest.raises(UserError, match="schema_version is 99, this version reads 1"):
        RolloutStore.open(tmp_path / "s")


@pytest.mark.parametrize("file", ["manifest.json", LISTING])
def test_a_broken_json_file_is_named(tmp_path, file):
    fill(tmp_path / "s", ["a"])
    (tmp_path / "s" / file).write_text("{\n oops")
    with pytest.raises(UserError, match=rf"{file}: not valid JSON \(line 2\)"):
        RolloutStore.open(tmp_path / "s")


def test_a_second_writer_is_refused_and_told_who_writes(tmp_path):
    first, second = (RolloutStore.create_or_open(tmp_path / "s", MANIFEST) for _ in range(2))
    with first.shards:
        with pytest.raises(UserError, match=rf"process {os.getpid()} on .* is writing here"), second.shards:
            pass
        first.append([problem("a")])
    with pytest.raises(UserError, match="has just written here; run the same command again"), second.shards:
        pass
    assert RolloutStore.open(tmp_path / "s").problems() == {("synthetic/power", "a")}


def test_without_the_lock_nothing_is_sealed(tmp_path):
    store = RolloutStore.create_or_open(tmp_path / "s", MANIFEST)
    with pytest.raises(RuntimeError, match="with shards"):
        store.append([problem("a")])


def test_the_lock_of_another_process_holds_until_it_is_killed(tmp_path):
    fill(tmp_path / "s", ["a"])
    code = (
        "import sys, time; from pathlib import Path; from prunebench.bench.rollouts.store import RolloutStore\n"
        "with RolloutStore.open(Path(sys.argv[1])).shards: print('locked', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "s")], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match=f"process {holder.pid} on "):
            fill(tmp_path / "s", ["b"])
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fill(tmp_path / "s", ["b"])
    assert len(RolloutStore.open(tmp_path / "s").problems()) == 2


def test_the_digest_tells_contents_apart(tmp_path):
    one, two, three = fill(tmp_path / "1", ["a"]), fill(tmp_path / "2", ["a"]), fill(tmp_path / "3", ["b"])
    assert one.shards.digest == two.shards.digest != three.shards.digest


def changed(name, **fields):
    """A problem with some of its first path's fields replaced, or with other seconds or states of its own."""
    one = problem(name)
    own = {key: fields.pop(key) for key in ("launch_seconds", "hidden") if key in fields}
    if "entropy" in fields:
        fields = {"signals": {**one.paths[0].signals, **fields}}
    return replace(one, paths=[replace(one.paths[0], **fields), *one.paths[1:]], **own)


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({"launch_seconds": 9.0}, True),
        ({"answer": "6"}, False),
        ({"correct": False}, False),
        ({"entropy": np.zeros(7, np.float32)}, False),
        ({"hidden": {4: np.zeros((3, 2, 6), np.float32)}}, False),
    ],
)
def test_the_stores_digest_holds_all_but_measured_seconds(tmp_path, fields, same):
    first, other = fill(tmp_path / "a", "p"), RolloutStore.create_or_open(tmp_path / "b", MANIFEST)
    with other.shards:
        other.append([changed("p", **fields)])
    assert (first.digest() == other.digest()) is same
    assert len(first.digest()) == 16 and first.digest() == RolloutStore.open(tmp_path / "a").digest()


def fixed(name, recorded):
    """Numbers without a generator, so that their bytes stay."""

    def ramp(count):
        return np.arange(count, dtype=np.float32) / 8

    paths = [
        StoredPath(
            path=number,
            token_ids=np.arange(tokens) + 10 * number,
            text=f"x {number} é",
            finish=("stop", "length")[number],
            answer=("5", None)[number],
            correct=(True, False)[number],
            grader=("exact 1", "no answer")[number],
            signals={
                "logprobs": -(ramp(tokens) + 0.125),
                "entropy": ramp(tokens),
                "topk_logprobs": -(ramp(tokens * 3) + 0.125).reshape(tokens, 3),
            }
            if recorded
            else {},
        )
        for number, tokens in enumerate((5, 1))
    ]
    return StoredProblem("synthetic/power", name, "find x", np.arange(4), "5", paths, 0.25)


OLD_COLUMNS = [
    "task", "problem", "prompt", "prompt_ids", "gold", "launch_seconds", "path", "token_ids", "text", "length",
    "finish", "answer", "correct", "grader", "logprobs", "entropy", "self_certainty", "topk", "topk_width",
]  # fmt: skip


def shard_of(folder, *problems):
    store = RolloutStore.create_or_open(folder, {"seed": 0})
    with store.shards:
        store.append(problems)
    return folder / "shard-00000.parquet"


@pytest.mark.skipif(pa.__version__ != "26.0.1", reason="other versions of Arrow write the same table differently")
def test_a_sampled_shard_has_the_bytes_of_the_first_version(tmp_path):
    shard = shard_of(tmp_path, fixed("a", True), fixed("b", False))
    digest = hashlib.sha256(shard.read_bytes()).hexdigest()
    assert digest == "42ca0cb2bdfafaba2223071fb216bb938beb54e0fdee521a967268782513c2bf"


def test_a_sampled_shard_has_the_columns_of_the_first_version_and_no_others(tmp_path):
    shard = shard_of(tmp_path, fixed("a", True))
    assert pq.read_schema(shard).names == OLD_COLUMNS
    (read,) = RolloutStore.open(tmp_path).read()
    assert read.probe_every is None
    assert [(path.length, path.ends, path.probed) for path in read.paths] == [(5, None, None), (1, None, None)]


def imported():
    """A path with text and ends, one that is a token count with probed answers, one with text only."""
    facts = {"finish": "unknown", "answer": "5", "correct": True, "grader": "exact 1"}
    paths = [
        StoredPath(path=0, token_ids=np.array([7, 8]), text="so 5", ends=np.array([2, 4]), **facts),
        StoredPath(path=4, token_ids=None, text=None, length=1200, probed=["4", None], **facts),
        StoredPath(path=5, token_ids=None, text="é", length=3, probed=[], **facts),
    ]
    return StoredProblem("aime", "aime/0", "", np.zeros(0, np.int64), "5", paths, probe_every=500)


def test_what_an_import_has_beside_is_read_as_it_was_written(tmp_path):
    shard_of(tmp_path, fixed("a", True), imported())
    sampled, (first, second, third) = (problem.paths for problem in RolloutStore.open(tmp_path).read())
    assert [problem.probe_every for problem in RolloutStore.open(tmp_path).read()] == [None, 500]
    assert [path.ends for path in sampled] == [None, None]
    assert (first.token_ids.tolist(), first.ends.tolist(), first.length) == ([7, 8], [2, 4], 2)
    assert first.ends.dtype == np.int64 and first.text[: first.ends[0]] == "so"
    assert (second.path, second.token_ids, second.text, second.length) == (4, None, None, 1200)
    assert (first.probed, second.probed, third.probed) == (None, ["4", None], [])
    assert (third.text, third.length, third.token_ids, third.ends) == ("é", 3, None, None)


def test_paths_without_any_tokens_fill_a_shard(tmp_path):
    problem = imported()
    problem.paths = problem.paths[1:]
    shard_of(tmp_path, problem)
    (read,) = RolloutStore.open(tmp_path).read()
    assert [(path.token_ids, path.length) for path in read.paths] == [(None, 1200), (None, 3)]


def test_only_the_optional_columns_that_are_needed_are_written(tmp_path):
    problem = imported()
    problem.paths, problem.probe_every = problem.paths[:1], None
    shard = shard_of(tmp_path, problem)
    assert pq.read_schema(shard).names == [*OLD_COLUMNS, "ends"]
    (read,) = RolloutStore.open(tmp_path).read()
    assert read.paths[0].ends.tolist() == [2, 4] and read.paths[0].probed is None


def test_a_signal_of_ones_own_has_a_column_of_its_own(tmp_path):
    whole = fixed("a", True)
    whole.paths[0].signals["surprise"] = np.array([0.5, 1, 2, 4, 8], np.float32)
    whole.paths[1].signals["two_numbers"] = np.array([[1, 2]], np.float32)
    shard = shard_of(tmp_path, whole, fixed("b", True))
    more = ["signal.surprise", "signal.two_numbers", "signal.two_numbers.width"]
    assert pq.read_schema(shard).names == [*OLD_COLUMNS, *more]
    for read, written in zip(RolloutStore.open(tmp_path).read(), (whole, fixed("b", True)), strict=True):
        assert_same(read, written)


def test_columns_of_another_version_are_refused(tmp_path):
    shard = shard_of(tmp_path, fixed("a", True))
    pq.write_table(pq.read_table(shard).append_column("mood", pa.array(["good", "bad"])), shard)
    listing = tmp_path / LISTING
    listing.write_text(json.dumps({"shard-00000": {shard.name: hashlib.sha256(shard.read_bytes()).hexdigest()}}))
    with pytest.raises(UserError, match="its columns are not those of this version"):
        list(RolloutStore.open(tmp_path).read())


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"token_ids": None, "text": "x"}, "neither token_ids nor a length"),
        ({"token_ids": np.arange(3), "text": "x", "length": 2}, "3 token_ids for a length of 2"),
        ({"token_ids": None, "text": "x", "length": 2, "ends": np.arange(1)}, "1 ends for a length of 2"),
        ({"token_ids": np.arange(1), "text": None, "ends": np.arange(1)}, "no text that they could end in"),
    ],
)
def test_a_path_that_contradicts_itself_is_refused(fields, complaint):
    with pytest.raises(ValueError, match=f"path 3: .*{complaint}"):
        StoredPath(path=3, finish="stop", answer=None, correct=None, grader="", **fields)


@pytest.fixture
def hashed(monkeypatch):
    """The names of the files that are hashed, in order."""
    names = []
    monkeypatch.setattr(shards_module, "file_digest", lambda path: names.append(path.name) or file_digest(path))
    return names


def test_an_opened_store_hashes_every_file_once(tmp_path, hashed):
    fill(tmp_path / "s", ["a"], ["b"])
    store = RolloutStore.open(tmp_path / "s")
    assert store.problems() == set(store.lengths())
    assert len(list(store.read())) == 2
    assert store.digest() == store.digest() == RolloutStore.open(tmp_path / "s").digest()
    store.reader()(("synthetic/power", "b"))
    assert sorted(hashed) == sorted(
        2 * [f"shard-0000{n}.{kind}" for n in (0, 1) for kind in ("parquet", "safetensors")]
    )


def test_what_changes_behind_an_opened_store_is_seen(tmp_path):
    fill(tmp_path / "s", ["a"])
    store = RolloutStore.open(tmp_path / "s")
    store.digest()
    (tmp_path / "s" / "shard-00000.parquet").write_bytes(b"another")
    for asked in (store.digest, store.lengths, store.problems, store.reader, lambda: list(store.read())):
        with pytest.raises(UserError, match=r"shard-00000\.parquet does not match its checksum"):
            asked()


def test_the_digest_follows_what_is_added(tmp_path):
    store = fill(tmp_path / "s", ["a"])
    before = store.digest()
    with store.shards:
        store.append([problem("b")])
    assert before != store.digest() == RolloutStore.open(tmp_path / "s").digest()
    assert store.problems() == {("synthetic/power", "a"), ("synthetic/power", "b")}
