"""What tells a prefix with an open error from a clean one; which it is, arithmetic knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.base import LocalEngine
from prunebench.bench.rollouts.pools import pool_of
from prunebench.bench.rollouts.store import StoredProblem
from prunebench.methods.base import LearnablePruner, Signal
from prunebench.methods.judges.text_classifier import TextClassifier
from prunebench.methods.learned.linear_probe import LinearProbe
from prunebench.methods.pool import LabelledPool, Pool, PrefixDataset, within_problem_auroc
from prunebench.tasks.synthetic import FAMILIES
from prunebench.tasks.synthetic.family import BOX, WAIT, Instance, read_path

READ = (Signal.HIDDEN_STATE, Signal.LOGPROBS, Signal.TOPK_LOGPROBS, Signal.ENTROPY)


@dataclass(frozen=True)
class Detectors:
    """What was fitted to tell prefixes with an open error from clean ones: probes on the state at the last token and
    on the mean state of the prefix, and a text classifier."""

    last: LearnablePruner
    mean: LearnablePruner
    words: LearnablePruner

    @classmethod
    def fitted(cls, engine: LocalEngine, train: dict[str, PrefixDataset]) -> Detectors:
        """On the training problems of all families together."""
        layers = range(1, engine.shape.layers + 1)
        means = {family: mean_states(engine, dataset) for family, dataset in train.items()}
        return cls(
            last=_best([LinearProbe(layer=layer) for layer in layers], train),
            mean=_best([LinearProbe(layer=layer) for layer in layers], means),
            words=_best([TextClassifier(ngram_max=n) for n in (2, 4)], train),
        )

    def probes(self, engine: LocalEngine, errors: PrefixDataset) -> dict[str, float]:
        return {
            "AUROC of a probe, last state": told(errors, self.last.score),
            "AUROC of a probe, mean state": told(mean_states(engine, errors), self.mean.score),
        }


def tokens_of(text: str | None) -> list[str]:
    return (text or "").split(" ")


def error_dataset(
    engine: LocalEngine,
    family: str,
    problems: Sequence[StoredProblem],
    position: int,
    instances: Mapping[str, Instance],
) -> PrefixDataset:
    """Pools whose labels are 1 for prefixes without an open error and 0 with one, found by arithmetic.

    Prefixes that leave the format or that state their answer are left out.
    """
    pools = []
    for stored in problems:
        rows, clean = [], []
        for row, path in enumerate(stored.paths):
            assert path.token_ids is not None, "sampled here"
            tokens = tokens_of(engine.decode(path.token_ids[:position]))
            reading = read_path(FAMILIES[family], instances[stored.problem], tokens)
            if reading.readable and BOX not in tokens:
                rows.append(row)
                clean.append(float(not reading.has_open_error))
        if rows and 0 < np.mean(clean) < 1:
            pool = pool_of(engine, stored, position, rows, READ)
            pools.append(LabelledPool(pool, np.array(clean), 1))
    return PrefixDataset(tuple(pools))


def mean_states(engine: LocalEngine, dataset: PrefixDataset) -> PrefixDataset:
    """The same prefixes with the mean of their states instead of the state at the last token."""
    pools = []
    for labelled in dataset:
        pool = labelled.pool
        states, exists = engine.prefix_states(pool)
        means = np.einsum("lnth,nt->lnh", states, exists / exists.sum(1, keepdims=True)).astype(np.float32)
        pools.append(replace(labelled, pool=pool.adding({Signal.HIDDEN_STATE: dict(enumerate(means))})))
    return PrefixDataset(tuple(pools))


def told(dataset: PrefixDataset, score: Callable[[Pool], NDArray[np.float64]]) -> float:
    return within_problem_auroc(dataset, [score(labelled.pool) for labelled in dataset])


def _best(candidates: Sequence[LearnablePruner], families: dict[str, PrefixDataset]) -> LearnablePruner:
    """The candidate that ranks best on a fifth of the training problems, fitted on the others."""
    pools = [labelled for dataset in families.values() for labelled in dataset]
    held = PrefixDataset(tuple(pools[::5]))
    fitted_on = PrefixDataset(tuple(labelled for index, labelled in enumerate(pools) if index % 5))
    best, best_auroc = candidates[0], -1.0
    for candidate in candidates:
        candidate.fit(fitted_on, held)
        auroc = within_problem_auroc(held, [candidate.score(labelled.pool) for labelled in held])
        if auroc > best_auroc:
            best, best_auroc = candidate, auroc
    return best


def calm(engine: LocalEngine, pool: Pool) -> NDArray[np.float64]:
    """Minus the reasoner's own P(wait), mean over the tokens of the prefix."""
    import torch

    states, exists = engine.prefix_states(pool)
    with torch.inference_mode():
        logits = engine.model.get_output_embeddings()(torch.from_numpy(states[-1]).to(engine.device))
        wait = logits.double().softmax(-1)[..., engine.tokenizer.convert_tokens_to_ids(WAIT)].cpu().numpy()
    calm: NDArray[np.float64] = -np.where(exists, wait, 0.0).sum(1) / exists.sum(1)
    return calm
