"""Less to learn from: some of the training problems, of their prefixes, or of the continuations of a label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from prunebench.bench.engines.noise import noise_key
from prunebench.bench.errors import UserError
from prunebench.methods.pool import LabelledPool, PrefixDataset


def with_problems(dataset: PrefixDataset, count: int, seed: int) -> PrefixDataset:
    """``count`` of the problems with all their prefixes, drawn by the seed; fewer are among more of one seed.

    Raises UserError where there are not so many.
    """
    names = [f"{labelled.pool.task}/{labelled.pool.problem}" for labelled in dataset]
    ordered = sorted(set(names), key=lambda name: noise_key(seed, "training problems", name))
    if len(ordered) < count:
        raise UserError(f"problems = {count}: there are {len(ordered)} to learn from; label more")
    drawn = set(ordered[:count])
    return PrefixDataset(tuple(labelled for name, labelled in zip(names, dataset, strict=True) if name in drawn))


def with_prefixes(dataset: PrefixDataset, count: int, seed: int) -> PrefixDataset:
    """At most ``count`` labelled prefixes of every problem and length, drawn by the seed."""
    return PrefixDataset(tuple(_with_prefixes(labelled, count, seed) for labelled in dataset))


def _with_prefixes(labelled: LabelledPool, count: int, seed: int) -> LabelledPool:
    pool = labelled.pool
    if len(pool) <= count:
        return labelled
    key = [noise_key(seed, f"prefixes of {pool.task}", pool.problem), pool.position]
    rows = np.sort(np.random.default_rng(key).permutation(len(pool))[:count])
    return replace(
        labelled,
        pool=pool.take(rows),
        success=labelled.success[rows],
        outcome=None if labelled.outcome is None else labelled.outcome[rows],
        final_class=None if labelled.final_class is None else labelled.final_class[rows],
        whole=labelled.everything,
        rows=labelled.labelled[rows],
    )


def with_labels(dataset: PrefixDataset, count: int, seed: int) -> PrefixDataset:
    """The same prefixes, each labelled by ``count`` of its n continuations, drawn without replacement.

    The number of successes among them is hypergeometric. A prefix's draw depends on the seed, its problem, path and
    length, and on nothing else. Prefixes without continuations (finished paths) keep their verdict. Raises UserError
    where there are fewer than ``count``.
    """
    return PrefixDataset(tuple(_with_labels(labelled, count, seed) for labelled in dataset))


def _with_labels(labelled: LabelledPool, count: int, seed: int) -> LabelledPool:
    pool, n = labelled.pool, labelled.continuations
    if n == 0:
        return labelled
    if n < count:
        raise UserError(
            f"labels = {count}: the prefixes of {pool.task}/{pool.problem} have {n} continuations; label them with more"
        )
    correct = np.rint(labelled.success * n).astype(np.int64)
    if not np.allclose(correct / n, labelled.success, rtol=0, atol=1e-9):
        raise UserError(f"{pool.task}/{pool.problem}: its labels are no counts of {n} continuations; label it again")
    drawn = [
        np.random.default_rng(
            [noise_key(seed, f"labels of {pool.task}", pool.problem), int(path), int(length), count]
        ).hypergeometric(right, n - right, count)
        for path, length, right in zip(pool.paths, pool.lengths, correct, strict=True)
    ]
    return replace(labelled, success=np.array(drawn, np.float64) / count, continuations=count)
