from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from prunebench.bench.engines.base import NOTHING, Recording, Sampling
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.errors import UserError
from prunebench.bench.progress import uncounted
from prunebench.bench.rollouts.sampling import SHARD_PROBLEMS, job_problems, problems_of, sample_rollouts
from prunebench.bench.rollouts.store import RolloutStore
from prunebench.tasks import catalogue
from prunebench.tasks.task import Task
from tests.counted import Counted

SETTINGS = {
    "n": 4,
    "sampling": Sampling(temperature=1.0, max_new_tokens=24),
    "seed": 0,
    "recording": Recording.of((), 8),
}


@pytest.fixture
def problems():
    return problems_of([catalogue.get("synthetic/power")], "validation", 6, 0)


class StoppedError(Exception):
    pass


def stop_after(problems: int):
    told = []

    def progress(paths: int) -> None:
        told.append(paths)
        if sum(told) > problems * SETTINGS["n"]:
            raise StoppedError

    return progress


def facts(store: RolloutStore):
    """All that is stored but the measured seconds."""
    return [
        (p.task, p.problem, p.gold, p.prompt_ids.tolist(), states.tobytes(), path.token_ids.tolist(), path.answer,
         path.correct, {name: column.tobytes() for name, column in path.signals.items()})
        for p in store.read() for states in p.hidden.values() for path in p.paths
    ]  # fmt: skip


def test_an_interrupted_run_goes_on_to_the_same_store(engine, problems, tmp_path):
    whole = sample_rollouts(engine, problems, tmp_path / "whole", **SETTINGS)
    with pytest.raises(StoppedError):
        sample_rollouts(engine, problems, tmp_path / "cut", progress=Counted(stop_after(4)), **SETTINGS)
    assert len(RolloutStore.open(tmp_path / "cut").problems()) == 4, "only the shard being filled is lost"
    told: list[int] = []
    again = sample_rollouts(engine, problems, tmp_path / "cut", progress=Counted(told.append), **SETTINGS)
    assert told == [16, 4, 4]
    assert facts(again) == facts(whole)


def test_a_finished_store_is_not_sampled_again(engine, problems, tmp_path):
    store = sample_rollouts(engine, problems, tmp_path, **SETTINGS)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    told: list[int] = []
    sample_rollouts(engine, problems, tmp_path, progress=Counted(told.append), **SETTINGS)
    assert told == [24]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert len(store.problems()) == 6


def test_more_problems_are_added_to_the_fewer(engine, problems, tmp_path):
    sample_rollouts(engine, problems[:2], tmp_path / "grown", **SETTINGS)
    grown = sample_rollouts(engine, problems, tmp_path / "grown", **SETTINGS)
    whole = sample_rollouts(engine, problems, tmp_path / "whole", **SETTINGS)
    assert sorted(facts(grown)) == sorted(facts(whole))


def test_other_settings_are_refused(engine, problems, tmp_path):
    sample_rollouts(engine, problems[:1], tmp_path, **SETTINGS)
    with pytest.raises(UserError, match=r"made with seed = 0, now it is 1"):
        sample_rollouts(engine, problems[:1], tmp_path, **{**SETTINGS, "seed": 1})
    with pytest.raises(UserError, match="recording"):
        sample_rollouts(engine, problems[:1], tmp_path, **{**SETTINGS, "recording": Recording.of(("entropy",), 8)})


@pytest.mark.parametrize("signal", ["logprobs", "entropy", "topk_logprobs", "varentropy"])
def test_only_the_named_signals_are_recorded(engine, problems, tmp_path, signal):
    store = sample_rollouts(engine, problems[:1], tmp_path, **{**SETTINGS, "recording": Recording.of((signal,), 8)})
    (stored,) = store.read()
    assert all(set(path.signals) == {signal} for path in stored.paths)
    assert not stored.hidden
    assert np.isfinite(stored.launch_seconds)


class Empty(Task):
    name = "empty"

    def problems(self, split, limit=None, seed=0):
        return []

    def answer_of(self, text):
        return None

    def grade(self, answer, gold):
        raise AssertionError

    def classes(self, answers):
        return []


def test_a_task_without_problems_is_refused_in_a_sentence():
    with pytest.raises(UserError, match="task empty: split 'test' is empty; choose another split"):
        problems_of([Empty()], "test", 3, 0)


def test_several_processes_sample_the_same_paths(engine, tmp_path):
    more = problems_of([catalogue.get("synthetic/power")], "validation", SHARD_PROBLEMS + 2, 0)
    alone = sample_rollouts(engine, more, tmp_path / "alone", **SETTINGS)
    told: list[int] = []
    together = sample_rollouts(
        engine, more, tmp_path / "together", progress=Counted(told.append), processes=2, **SETTINGS
    )
    assert sum(told) == len(more) * SETTINGS["n"]
    assert facts(together) == facts(alone)


@pytest.mark.parametrize("processes", [1, 2])
def test_tokens_are_counted_while_they_are_drawn(engine, problems, tmp_path, processes):
    paths: list[int] = []
    tokens: list[int] = []
    progress = Counted(paths.append, lambda count: tokens.append(count if not sum(paths) else 0))
    store = sample_rollouts(engine, problems, tmp_path, progress=progress, processes=processes, **SETTINGS)
    whole = sum(length for lengths in store.lengths().values() for length in lengths)
    assert 0 < sum(tokens) <= whole, "before the first path is finished"
    if processes == 1:
        assert sum(tokens) == whole and len(tokens) > SETTINGS["sampling"].max_new_tokens


def test_an_engine_that_tells_nothing_is_counted_by_its_finished_paths(engine, problems, tmp_path):
    class Mute(TransformersEngine):
        def sample(self, requests, sampling, seed, recording=NOTHING, purpose="rollout"):
            return super().sample([replace(r, tick=uncounted) for r in requests], sampling, seed, recording, purpose)

    mute = Mute(engine.model, engine.tokenizer, engine.name, engine.digest)
    tokens: list[int] = []
    store = sample_rollouts(mute, problems, tmp_path, progress=Counted(uncounted, tokens.append), **SETTINGS)
    assert sum(tokens) == sum(length for lengths in store.lengths().values() for length in lengths)


def test_a_process_gets_as_many_problems_as_keep_its_products_wide():
    assert job_problems(problems=1000, n=16, rows_in_flight=256, processes=2) == 32
    assert job_problems(problems=48, n=64, rows_in_flight=256, processes=2) == 8
    assert job_problems(problems=20, n=16, rows_in_flight=256, processes=2) == 10  # no more than its share
    assert job_problems(problems=5, n=64, rows_in_flight=8, processes=2) == SHARD_PROBLEMS


def test_a_prompt_that_fills_the_context_is_refused_before_anything_is_sampled(engine, problems, tmp_path):
    task, long = problems[-1]
    filled = replace(long, prompt=long.prompt * 200)
    told: list[int] = []
    with pytest.raises(
        UserError, match=rf"^{long.id}: a prompt of \d+ tokens leaves no room .*; shorten it, take it out"
    ):
        sample_rollouts(engine, [*problems[:-1], (task, filled)], tmp_path, progress=Counted(told.append), **SETTINGS)
    assert sum(told) == 0 and not RolloutStore.open(tmp_path).problems()
