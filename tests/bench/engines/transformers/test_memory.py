from __future__ import annotations

import os

import numpy as np
import pytest

from prunebench.bench.engines.base import Sampling
from prunebench.bench.engines.transformers import memory
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.engines.transformers.memory import free_bytes, tokens_in_memory


def test_a_share_of_what_is_free_is_taken_by_each_process(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 8000)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert tokens_in_memory("cpu", 10) == 200
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert tokens_in_memory("cpu", 10) == 100
    assert tokens_in_memory("cuda:0", 10) == 400


def test_free_memory_is_that_of_this_machine():
    assert 1 << 20 < free_bytes("cpu") <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(("pools", "together"), [(1.0, 1), (2.5, 2), (9.0, 3)])
def test_so_many_pools_are_in_flight_as_may_come_to_the_tokens(checkpoint, requests_of, monkeypatch, pools, together):
    engine, requests = TransformersEngine.load(str(checkpoint)), requests_of(3, 8)
    most = max(len(request.prompt_ids) for request in requests) + 40
    engine.tokens_in_flight = int(pools * 8 * most)
    flying, advance = [], type(engine.decoder).advance
    monkeypatch.setattr(
        type(engine.decoder), "advance", lambda decoder, some: (flying.append(len(some)), advance(decoder, some))
    )
    sampled = list(engine.sample(requests, Sampling(max_new_tokens=40), 5))
    assert max(flying) == together
    monkeypatch.undo()
    engine.tokens_in_flight = 1 << 40
    for one, other in zip(sampled, engine.sample(requests, Sampling(max_new_tokens=40), 5), strict=True):
        for path, twin in zip(one.paths, other.paths, strict=True):
            np.testing.assert_array_equal(path.token_ids, twin.token_ids)
