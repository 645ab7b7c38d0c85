"""Whether vLLM reads given ids as the default engine does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from prunebench.bench.engines.tokenization import pool_of_ids
from prunebench.bench.engines.transformers.engine import TransformersEngine
from prunebench.bench.errors import UserError
from prunebench.methods.base import Signal
from prunebench.methods.learned.stop import Stop
from prunebench.methods.learned.stop_reader import StopReader
from prunebench.methods.pool import Pool

if TYPE_CHECKING:
    from prunebench.bench.engines.base import Engine
    from prunebench.bench.engines.vllm.checks import CachedPrefixes

TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}
"""Largest difference by type of the weights: of a log-probability in nats, of a score, of a state by its scale."""


def differences(engine: Engine, checks: CachedPrefixes) -> dict[str, float]:
    """The largest differences to the default engine on given ids: logprob, state, score.

    Raises UserError where one is too large. ``score`` is missing where the vocabulary has no spare id.
    """
    reader = checks.reader
    generator = np.random.default_rng(0)
    known = min([reader.shape.vocabulary, *checks.spare_ids])
    texts = tuple(generator.integers(min(4, known - 1), known, 5 + 6 * row) for row in range(8))
    pool = pool_of_ids(texts, generator.integers(min(4, known - 1), known, 24))
    ours, theirs = _logprobs_of(reader, texts[-1]), checks.process.prompt_logprobs(texts[-1])
    largest = {"logprob": float(np.abs(ours - theirs).max())}
    states, others = (which.reread(pool, {Signal.ALL_LAYERS})[Signal.ALL_LAYERS] for which in (reader, engine))
    scales = {layer: max(1.0, np.abs(states[layer]).max()) for layer in states}
    largest["state"] = max(float(np.abs(states[layer] - others[layer]).max() / scales[layer]) for layer in states)
    if checks.spare_ids:
        largest["score"] = _score_difference(engine, reader, pool)
    allowed = TOLERANCE[str(reader.model.dtype).removeprefix("torch.")]
    for what, difference in largest.items():
        if not difference <= allowed:
            raise UserError(
                f"vLLM and transformers disagree on model '{reader.name}': a {what} differs by {difference:.2g} "
                f"(allowed: {allowed:g}); nothing is sampled with it"
            )
    return largest


def _score_difference(engine: Engine, reader: TransformersEngine, pool: Pool) -> float:
    """STOP with arbitrary weights, read by both."""
    stop = Stop(rank=4)
    learned = StopReader(reader.model, stop)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        weights = {name: 0.1 * torch.randn(tensor.shape) for name, tensor in learned.learned().items()}
        learned.adopt(weights)
        ours = learned.scores(reader.kv(pool, range(len(pool))))
    stop.weights_ = weights
    return float(np.abs(ours - stop.score(replace(pool, generator=engine))).max())


def _logprobs_of(reader: TransformersEngine, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    with torch.inference_mode():
        logits = reader.model(torch.from_numpy(ids)[None].to(reader.device)).logits[0, :-1].float()
        logprobs = logits.log_softmax(-1)[torch.arange(len(ids) - 1), ids[1:]]
    return logprobs.double().cpu().numpy()  # type: ignore[no-any-return]
