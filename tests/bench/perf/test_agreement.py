from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from prunebench.bench.config import preset
from prunebench.bench.engines.base import Sampling
from prunebench.bench.engines.noise import uniforms
from prunebench.bench.engines.shipped import REASONERS
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.perf.agreement import LOGPROB_BAR, TIE, DeviceAgreement, agreement, divergence
from prunebench.bench.rollouts.sampling import problems_of
from prunebench.bench.training.loading import load_method
from prunebench.tasks import catalogue


@pytest.fixture(scope="module")
def engine():
    return TransformersEngine.load("embedded")


def compared(engine: TransformersEngine, other: TransformersEngine) -> DeviceAgreement:
    config = preset("demo", problems=1)
    problems = problems_of(catalogue.expand(["synthetic/power", "synthetic/program"]), "test", 1, 0)
    learned = REASONERS["embedded"].learned
    stops = [load_method("stop", learned, which.digest, config.prefix_tokens).pruner for which in (engine, other)]
    return agreement(engine, other, (stops[0], stops[1]), problems, config.prefix_tokens, rows=24, kept=3)


def test_a_device_agrees_with_itself(engine):
    result = compared(engine, engine)
    assert result.logprob_difference == 0 and result.diverged == 0 and result.same_choice == 1
    assert all(result.met.values())


def test_another_model_is_told_apart_by_every_claim(engine):
    """Weights that are off by a few percent: draws differ that were no ties, other paths are kept."""
    other = TransformersEngine.load("embedded")
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.01)
    result = compared(engine, other)
    assert result.logprob_difference > LOGPROB_BAR
    assert result.diverged > 0 and result.widest_tie > TIE
    assert not any(list(result.met.values())[:2])
    assert replace(result, same_choice=0.94).met != replace(result, same_choice=0.95).met


def test_the_distance_of_a_divergence_is_that_of_the_draw_to_the_boundary(engine):
    """Greedy knowledge of the distribution: the draw of path 7 at step 0, and a twin that took the next token."""
    sampling, key, path = Sampling(temperature=1.0), 123, 7
    prompt = engine.encode_prompt("power mod 7 : g = 4")
    out = engine.model(torch.from_numpy(prompt)[None]).logits[0, -1].double()
    out[engine.banned] = -torch.inf
    cumulative = out.softmax(-1).cumsum(-1).detach().numpy()
    point = uniforms(*(np.array([number], np.uint64) for number in (key, path, 0)))[0]
    token = int(np.searchsorted(cumulative, point, side="right"))
    twins = (np.array([token]), np.array([token + 1]))
    assert divergence(engine, prompt, twins, key, path, sampling) == pytest.approx(cumulative[token] - point, abs=1e-6)
    assert divergence(engine, prompt, (twins[0], twins[0]), key, path, sampling) is None
