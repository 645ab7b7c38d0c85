"""From stored rollouts back to pools: the prefixes of a problem as every method would have seen them online."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.evaluate import ProblemRecord
from bench.labels import LabelStore
from bench.store import StoredProblem
from methods.base import Signal
from methods.pool import LabelledPool, Pool, PrefixDataset
from tasks import catalogue

if TYPE_CHECKING:
    from bench.engines.transformers import TransformersEngine


def pool_of(
    engine: TransformersEngine, stored: StoredProblem, position: int, rows: Sequence[int] | None = None
) -> Pool:
    """The pool of ``rows`` (default: all paths) at ``position``, with every signal that the store recorded."""
    chosen = list(range(len(stored.paths))) if rows is None else list(rows)
    paths = [stored.paths[row] for row in chosen]
    prefixes = tuple(path.token_ids[:position] for path in paths)
    texts = tuple(engine.decode(prefix) for prefix in prefixes)
    task = catalogue.get(stored.task)
    signals: dict[Signal, Any] = {Signal.TOKEN_IDS: prefixes, Signal.TEXT: texts}
    for signal, name in (
        (Signal.LOGPROBS, "logprobs"),
        (Signal.ENTROPY, "entropy"),
        (Signal.SELF_CERTAINTY, "self_certainty"),
        (Signal.TOPK_LOGPROBS, "topk"),
    ):
        columns = [getattr(path, name) for path in paths]
        if any(column is None for column in columns):
            continue
        wanted = [len(prefix) for prefix in prefixes]
        if all(len(column) >= tokens for column, tokens in zip(columns, wanted, strict=True)):
            signals[signal] = tuple(column[:position] for column in columns)
    if position in stored.hidden:
        states = stored.hidden[position][chosen]
        by_layer = {layer: states[:, layer] for layer in range(states.shape[1])}
        signals[Signal.HIDDEN_STATE] = signals[Signal.ALL_LAYERS] = by_layer
    lengths = np.array([len(prefix) for prefix in prefixes])
    return Pool(
        problem=stored.problem,
        task=stored.task,
        position=position,
        prompt=stored.prompt,
        prompt_ids=stored.prompt_ids,
        paths=np.array([path.path for path in paths]),
        lengths=lengths,
        finished=np.array([len(path.token_ids) <= position for path in paths]),
        answer_class=np.array(task.classes([task.answer_of(text) for text in texts])),
        signals=signals,
        generator=engine,
    )


def record_of(
    engine: TransformersEngine, stored: StoredProblem, position: int, labels: LabelStore | None
) -> ProblemRecord:
    """One problem as the evaluation wants it. Without labels, or with missing ones, there is no POTENTIAL signal."""

    pool = pool_of(engine, stored, position)
    task = catalogue.get(stored.task)
    correct = np.array([float(path.correct is True) for path in stored.paths])
    classes = np.array(task.classes([path.answer for path in stored.paths]))
    right = classes[(correct == 1) & (classes >= 0)]
    signals = {**pool.signals, Signal.OUTCOME: correct}
    halves = None
    if labels is not None:
        both, success = labels.lookup(stored.task, stored.problem, pool.token_ids)
        if not np.isnan(success).any():
            halves = both
            signals[Signal.POTENTIAL] = success
    return ProblemRecord(
        task=stored.task,
        problem=stored.problem,
        pool=replace(pool, signals=signals),
        lengths=np.array([len(path.token_ids) for path in stored.paths]),
        correct=correct,
        answer_class=classes,
        gold_class=int(right[0]) if len(right) else -1,
        halves=halves,
        leaky=pool.answer_class >= 0,
        launch_seconds=stored.launch_seconds,
    )


def labelled_pools(
    engine: TransformersEngine, problems: Iterable[StoredProblem], labels: LabelStore, position: int
) -> PrefixDataset:
    """Pools of the labelled, distinct prefixes of every problem; problems without any are left out."""
    pools = []
    for stored in problems:
        rows, success, continuations, seen = [], [], 0, set()
        for row, path in enumerate(stored.paths):
            label = labels.get(stored.task, stored.problem, path.token_ids[:position])
            if label is not None and label.prefix not in seen:
                seen.add(label.prefix)
                rows.append(row)
                success.append(label.success)
                continuations = max(continuations, label.continuations)
        if rows:
            pools.append(LabelledPool(pool_of(engine, stored, position, rows), np.array(success), continuations))
    return PrefixDataset(tuple(pools))
