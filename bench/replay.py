"""From stored rollouts back to pools: the prefixes of a problem as every method would have seen them online."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.evaluate import ProblemRecord
from bench.labels import LabelStore
from bench.store import StoredProblem
from methods.base import PrefixCache, Probe, Signal, Words
from methods.pool import LabelledPool, Pool, PrefixDataset
from tasks import catalogue
from tasks.task import Task

if TYPE_CHECKING:
    from bench.engines.transformers import TransformersEngine


SHELF_POOLS = 8
"""So many pools at other checkpoints are held at a time."""


@dataclass
class Grading:
    """The engine as a pool's generator: what it answers to a probe is read and classed as the task does it.

    Classes are those of ``known``, which begins with the final answers of the problem's paths, so that a probed answer
    can be compared with them; an answer that is new is added, and keeps its class from check to check.
    """

    engine: TransformersEngine
    task: Task
    known: list[str | None]

    @property
    def replay_seconds(self) -> float:
        return self.engine.replay_seconds

    def kv(self, pool: Pool, rows: Sequence[int]) -> PrefixCache:
        return self.engine.kv(pool, rows)

    def next_logprobs(self, pool: Pool, suffix_ids: Sequence[int], token_ids: Sequence[int]) -> NDArray[np.float64]:
        return self.engine.next_logprobs(pool, suffix_ids, token_ids)

    def probe(self, pool: Pool, suffix_ids: Sequence[int], max_new_tokens: int) -> Probe:
        probe = self.engine.probe(pool, suffix_ids, max_new_tokens)
        suffix = np.array(list(suffix_ids), np.int64)
        texts = [self.engine.decode(np.concatenate([suffix, ids])) for ids in probe.token_ids]
        return replace(probe, answer_class=self.classes([self.task.answer_of(text) for text in texts]))

    @classmethod
    def of(cls, engine: TransformersEngine, stored: StoredProblem) -> Grading:
        return cls(engine, catalogue.get(stored.task), [path.answer for path in stored.paths])

    def classes(self, answers: Sequence[str | None]) -> NDArray[np.int64]:
        """int64: classes of ``answers`` among the known ones."""
        before = len(self.known)
        classes = self.task.classes([*self.known, *answers])
        seen = set(classes[:before])
        for answer, number in zip(answers, classes[before:], strict=True):
            if number not in seen:
                seen.add(number)
                self.known.append(answer)
        return np.array(classes[before:], np.int64)


def words_of(engine: TransformersEngine, task: Task) -> Words:
    """How the task's model is asked, in the engine's tokens."""

    def ids(text: str) -> tuple[int, ...]:
        return tuple(engine.tokenizer(text, add_special_tokens=False)["input_ids"])

    question, yes, no = task.self_check
    return Words(ids(task.answer_suffix), ids(question), ids(yes)[0], ids(no)[0], ids(task.step_end)[-1])


def pool_of(
    engine: TransformersEngine,
    stored: StoredProblem,
    position: int,
    rows: Sequence[int] | None = None,
    reads: Collection[Signal] = (),
    grading: Grading | None = None,
) -> Pool:
    """The pool of ``rows`` (default: all paths) at ``position``, with every signal that the store recorded.

    Signals in ``reads`` that were not recorded there are had by encoding the prefixes again.
    """
    chosen = list(range(len(stored.paths))) if rows is None else list(rows)
    paths = [stored.paths[row] for row in chosen]
    prefixes = tuple(path.token_ids[:position] for path in paths)
    texts = tuple(engine.decode(prefix) for prefix in prefixes)
    task = catalogue.get(stored.task)
    grading = grading or Grading.of(engine, stored)
    pool = Pool(
        problem=stored.problem,
        task=stored.task,
        position=position,
        prompt=stored.prompt,
        prompt_ids=stored.prompt_ids,
        paths=np.array([path.path for path in paths]),
        lengths=np.array([len(prefix) for prefix in prefixes]),
        finished=np.array([len(path.token_ids) <= position for path in paths]),
        answer_class=grading.classes([task.answer_of(text) for text in texts]),
        signals={Signal.TOKEN_IDS: prefixes, Signal.TEXT: texts, **_recorded(stored, position, chosen)},
        generator=grading,
        words=words_of(engine, task),
    )
    missing = frozenset(reads) - frozenset(pool.signals)
    return replace(pool, signals={**pool.signals, **engine.reread(pool, missing)}) if missing else pool


def _recorded(stored: StoredProblem, position: int, rows: Sequence[int]) -> dict[Signal, Any]:
    """The columns that the store holds for all of these prefixes."""
    paths = [stored.paths[row] for row in rows]
    signals: dict[Signal, Any] = {}
    for signal, name in (
        (Signal.LOGPROBS, "logprobs"),
        (Signal.ENTROPY, "entropy"),
        (Signal.SELF_CERTAINTY, "self_certainty"),
        (Signal.TOPK_LOGPROBS, "topk"),
    ):
        columns = [getattr(path, name) for path in paths]
        if any(column is None for column in columns):
            continue
        wanted = [min(len(path.token_ids), position) for path in paths]
        if all(len(column) >= tokens for column, tokens in zip(columns, wanted, strict=True)):
            signals[signal] = tuple(column[:position] for column in columns)
    if position in stored.hidden:
        states = stored.hidden[position][list(rows)]
        by_layer = {layer: states[:, layer] for layer in range(states.shape[1])}
        signals[Signal.HIDDEN_STATE] = signals[Signal.ALL_LAYERS] = by_layer
    return signals


def record_of(
    engine: TransformersEngine,
    stored: StoredProblem,
    position: int,
    labels: LabelStore | None,
    reads: Collection[Signal] = (),
    shelf: dict[tuple[str, str, int], Pool] | None = None,
) -> ProblemRecord:
    """One problem as the evaluation wants it. Without labels, or with missing ones, there is no POTENTIAL signal.

    Pools at other checkpoints are kept on the ``shelf``, which the records of a comparison share: methods come one
    after another to the same few checkpoints of a problem, and then never again.
    """
    grading = Grading.of(engine, stored)
    pool = pool_of(engine, stored, position, reads=reads, grading=grading)
    correct = np.array([float(path.correct is True) for path in stored.paths])
    classes = grading.classes([path.answer for path in stored.paths])
    right = classes[(correct == 1) & (classes >= 0)]
    halves = None
    potential: dict[Signal, Any] = {}
    if labels is not None:
        both, success = labels.lookup(stored.task, stored.problem, pool.token_ids)
        if not np.isnan(success).any():
            halves = both
            potential = {Signal.POTENTIAL: success}

    def elsewhere(other: int) -> Pool:
        key = (stored.task, stored.problem, other)
        if shelf is not None and key in shelf:
            return shelf[key]
        there = pool_of(engine, stored, other, reads=reads, grading=grading)
        there = replace(there, signals={**there.signals, Signal.OUTCOME: correct})
        if shelf is not None:
            shelf[key] = there
            while len(shelf) > SHELF_POOLS:
                del shelf[next(iter(shelf))]
        return there

    return ProblemRecord(
        task=stored.task,
        problem=stored.problem,
        pool=replace(pool, signals={**pool.signals, Signal.OUTCOME: correct, **potential}),
        lengths=np.array([len(path.token_ids) for path in stored.paths]),
        correct=correct,
        answer_class=classes,
        gold_class=int(right[0]) if len(right) else int(grading.classes([stored.gold])[0]),
        halves=halves,
        leaky=pool.answer_class >= 0,
        launch_seconds=stored.launch_seconds,
        elsewhere=elsewhere,
    )


def labelled_pools(
    engine: TransformersEngine,
    problems: Iterable[StoredProblem],
    labels: LabelStore,
    position: int,
    reads: Collection[Signal] = (),
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
            grading = Grading.of(engine, stored)
            pool = pool_of(engine, stored, position, rows, reads, grading)
            outcome = np.array([float(stored.paths[row].correct is True) for row in rows])
            final_class = grading.classes([stored.paths[row].answer for row in rows])
            pools.append(LabelledPool(pool, np.array(success), continuations, outcome, final_class))
    return PrefixDataset(tuple(pools))
