from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the other cores run other tests
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pytest
import torch

from prunebench.bench.engines.base import Request
from prunebench.bench.engines.shipped import ReasonerShape
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.reasoner.train import export, new_model

DEVICE = os.environ.get("PRUNEBENCH_DEVICE", "cpu")
"""Where the engine under test runs: ``make gpu-check`` says cuda."""


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A randomly initialised reasoner of full width and two layers, as a checkpoint folder."""
    folder = tmp_path_factory.mktemp("checkpoint")
    shape = ReasonerShape(num_hidden_layers=2, max_position_embeddings=256)
    model = new_model(shape, seed=3)
    with torch.no_grad():  # peaked and varied distributions, and biases that matter
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.3)
        model.model.norm.weight.mul_(2.0)
    export(model, folder)
    return folder


@pytest.fixture(scope="session")
def engine(checkpoint):
    return TransformersEngine.load(str(checkpoint), device=DEVICE)


@pytest.fixture(scope="session")
def reference(checkpoint):
    """The same model on the CPU, which everything is held against."""
    return TransformersEngine.load(str(checkpoint))


@pytest.fixture(scope="session")
def requests_of():
    def build(count: int = 3, paths: int = 8, seed: int = 0) -> list[Request]:
        generator = np.random.default_rng(seed)
        return [
            Request(f"problem-{i}", generator.integers(4, 400, 9 + i).astype(np.int64), tuple(range(paths)))
            for i in range(count)
        ]

    return build
