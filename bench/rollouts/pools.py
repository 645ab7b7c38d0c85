"""From stored rollouts back to pools: the prefixes of a problem as every method would have seen them online."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.base import Engine, rereadable
from prunebench.bench.engines.chat import longest_closing
from prunebench.bench.rollouts.cache import ByteLimitedCache
from prunebench.bench.rollouts.generator import PoolGenerator
from prunebench.bench.rollouts.label_store import Labels
from prunebench.bench.rollouts.recorded_answers import answers_at
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.bench.rollouts.store import StoredPath, StoredProblem
from prunebench.methods.generator import Phrases
from prunebench.methods.pool import Columns, Pool
from prunebench.methods.signals import Signal, signal_named
from prunebench.tasks import catalogue
from prunebench.tasks.answer_types.golds import accepted
from prunebench.tasks.task import Task


@dataclass(frozen=True)
class PoolCaches:
    """What the records of one comparison share: columns at their own checkpoint, and pools at others.

    Methods come one after another to the same few checkpoints of a problem, and then never again.
    """

    columns: ByteLimitedCache[Mapping[Signal, Any]] = field(default_factory=lambda: ByteLimitedCache(512 << 20))
    elsewhere: ByteLimitedCache[Pool] = field(default_factory=lambda: ByteLimitedCache(128 << 20))


def phrases_of(engine: Engine, task: Task, texts: Sequence[str] = ()) -> Phrases:
    """What the task's model is asked with behind prefixes of these texts, in the engine's tokens."""

    def ids(text: str) -> tuple[int, ...]:
        return tuple(engine.tokenizer(text, add_special_tokens=False)["input_ids"])

    question, yes, no = task.self_check
    closing = len(ids(longest_closing(engine.tokenizer, texts))) if engine.reasons else 0
    return Phrases(ids(task.answer_suffix), ids(question), ids(yes)[0], ids(no)[0], ids(task.step_end)[-1], closing)


def pool_of(
    engine: Engine | None,
    stored: StoredProblem,
    position: int,
    rows: Sequence[int] | None = None,
    reads: Collection[Signal] = (),
    generator: PoolGenerator | None = None,
) -> Pool:
    """The pool of ``rows`` (default: all paths) at ``position``, with every signal that the store recorded.

    Signals in ``reads`` that were not recorded there are had by encoding the prefixes again. Without an engine
    (rollouts from elsewhere) they are missing, and so are texts whose tokens' places are not known; then a path states
    its answer where it ends. An engine that does not read (a server) gives texts and answers only.
    """
    chosen = list(range(len(stored.paths))) if rows is None else list(rows)
    paths = [stored.paths[row] for row in chosen]
    generator = generator or PoolGenerator.of(engine, catalogue.get(stored.task), stored)
    signals = _recorded(stored, position, chosen)
    texts = _prefix_texts(engine, paths, position)
    if texts is not None:
        signals[Signal.TEXT] = texts
        ended = [path.length <= position for path in paths]
        found = map(generator.task.found_in, texts, ended)
        stated = generator.classes([None if one is None else one.answer for one in found])
    else:
        stated = generator.classes([path.answer if path.length <= position else None for path in paths])
    forced = answers_at(stored, position, chosen)
    if forced is not None:
        signals[Signal.FORCED_ANSWERS] = generator.classes(forced)
    pool = Pool(
        problem=stored.problem,
        task=stored.task,
        position=position,
        prompt=stored.prompt,
        prompt_ids=stored.prompt_ids,
        paths=np.array([path.path for path in paths]),
        lengths=np.array([min(path.length, position) for path in paths]),
        finished=np.array([path.length <= position for path in paths]),
        answer_class=stated,
        signals=signals,
        probe_every=stored.probe_every,
        generator=generator if engine else None,
        phrases=None
        if engine is None
        else phrases_of(engine, generator.task, [_asked(engine, stored), *(texts or ())]),
    )
    missing = frozenset(reads) - frozenset(pool.signals)
    if engine is None or not engine.reads or not missing:
        return pool
    return replace(pool, signals={**signals, **engine.reread(pool, missing)})


def _asked(engine: Engine, stored: StoredProblem) -> str:
    """The prompt as the model gets it."""
    return str(engine.tokenizer.decode(stored.prompt_ids))


def _prefix_texts(engine: Engine | None, paths: Sequence[StoredPath], position: int) -> tuple[str, ...] | None:
    """The texts of the prefixes; None where nobody can tell where a prefix ends in the text."""
    texts = []
    for path in paths:
        if engine is not None and path.token_ids is not None:
            texts.append(engine.decode(path.token_ids[:position]))
        elif path.text is not None and path.length <= position:
            texts.append(path.text)
        elif path.text is not None and path.ends is not None:
            texts.append(path.text[: int(path.ends[position - 1])])
        else:
            return None
    return tuple(texts)


def _recorded(stored: StoredProblem, position: int, rows: Sequence[int]) -> dict[Signal, Any]:
    """The columns that the store holds for all of these prefixes."""
    paths = [stored.paths[row] for row in rows]
    signals: dict[Signal, Any] = {}
    # Copies: a view would hold the whole path.
    prefixes = [None if path.token_ids is None else path.token_ids[:position].copy() for path in paths]
    if all(prefix is not None for prefix in prefixes):
        signals[Signal.TOKEN_IDS] = tuple(prefixes)
    wanted = [min(path.length, position) for path in paths]
    for name in dict.fromkeys(name for path in paths for name in path.signals):
        nothing = next(path.signals[name] for path in paths if name in path.signals)[:0]
        columns = [path.signals.get(name, None if path.length else nothing) for path in paths]
        whole = all(c is not None and len(c) >= tokens for c, tokens in zip(columns, wanted, strict=True))
        signal = signal_named(name) if whole else None
        if signal is not None:
            signals[signal] = tuple(column[:position].copy() for column in columns if column is not None)
    if position in stored.hidden:
        states = stored.hidden[position][list(rows)]
        by_layer = {layer: states[:, layer] for layer in range(states.shape[1])}
        signals[Signal.HIDDEN_STATE] = signals[Signal.ALL_LAYERS] = by_layer
    return signals


def record_of(
    engine: Engine | None,
    stored: StoredProblem,
    position: int,
    labels: Labels | None,
    reads: Collection[Signal] = (),
    caches: PoolCaches | None = None,
    task: Task | None = None,
    reread: Callable[[], StoredProblem] | None = None,
) -> ProblemRecord:
    """One problem as the evaluation wants it. Without labels, or with missing ones, there is no POTENTIAL signal.

    ``task`` reads and grades answers; default: the known task of that name. With ``reread``, which reads the problem
    once more, nothing of ``stored`` is kept but what the ``caches`` have room for, and no prefix is encoded again
    before a method asks for what that gives.
    """
    caches = caches or PoolCaches()
    generator = PoolGenerator.of(engine, task or catalogue.get(stored.task), stored)
    pool = pool_of(engine, stored, position, reads=reads if reread is None else (), generator=generator)
    correct = np.array([float(path.correct is True) for path in stored.paths])
    classes = generator.classes([path.answer for path in stored.paths])
    right = classes[(correct == 1) & (classes >= 0)]
    halves, potential = _labels_of(pool, labels)
    identity = (stored.task, stored.problem)
    kept = reread or (lambda: stored)

    def rebuilt() -> Pool:
        return pool_of(engine, kept(), position, generator=generator)

    def elsewhere(other: int) -> Pool:
        held = caches.elsewhere.get(
            (identity, other),
            lambda: pool_of(engine, kept(), other, generator=generator).adding({Signal.OUTCOME: correct}),
        )
        return _with_rereads(engine, held, reads, caches.columns, identity)

    if reread is not None:
        pool = replace(pool, signals=_read_columns(caches.columns, identity, pool.signals, reads, rebuilt))
        pool = _with_rereads(engine, pool, reads, caches.columns, identity)
    return ProblemRecord(
        task=stored.task,
        problem=stored.problem,
        pool=pool.adding({Signal.OUTCOME: correct, **potential}),
        lengths=np.array([path.length for path in stored.paths]),
        correct=correct,
        answer_class=classes,
        gold_class=int(right[0]) if len(right) else int(generator.classes(accepted(stored.gold))[0]),
        halves=halves,
        leaky=pool.answer_class >= 0 if pool.has(Signal.TEXT) else None,
        launch_seconds=stored.launch_seconds,
        elsewhere=elsewhere,
        entropy=_mean_entropy(stored),
        found_by=tuple(path.found_by for path in stored.paths),
        ungraded=np.array([path.correct is None for path in stored.paths]),
        tool_spans=tuple(path.tool_spans for path in stored.paths) if any(p.tool_spans for p in stored.paths) else None,
    )


def _labels_of(pool: Pool, labels: Labels | None) -> tuple[NDArray[np.float64] | None, dict[Signal, Any]]:
    """The two halves of the prefixes' labels, and the signal POTENTIAL; nothing where one of them has none."""
    if labels is None or not pool.has(Signal.TOKEN_IDS):
        return None, {}
    halves, success = labels.lookup(pool.task, pool.problem, pool.token_ids)
    return (None, {}) if np.isnan(success).any() else (halves, {Signal.POTENTIAL: success})


def _with_rereads(
    engine: Engine | None,
    pool: Pool,
    reads: Collection[Signal],
    cache: ByteLimitedCache[Mapping[Signal, Any]],
    identity: tuple[str, str],
) -> Pool:
    """The pool with those of ``reads`` that it lacks, encoded again once somebody asks for one: at a checkpoint of
    several most methods ask for none."""
    missing = frozenset(filter(rereadable, reads)) - frozenset(pool.signals)
    if engine is None or not engine.reads or not missing:
        return pool

    def column(signal: Signal) -> Any:
        return cache.get((identity, pool.position), lambda: engine.reread(pool, missing))[signal]

    return pool.adding(Columns(missing, column))


def _read_columns(
    cache: ByteLimitedCache[Mapping[Signal, Any]],
    key: tuple[str, str],
    columns: Mapping[Signal, Any],
    reads: Collection[Signal],
    rebuilt: Callable[[], Pool],
) -> Columns:
    """``columns``, of which those that methods declare to read are held while there is room; the rest is had again."""
    names, lasting = tuple(columns), {*reads, Signal.TEXT, Signal.TOKEN_IDS}

    def held(signals: Mapping[Signal, Any]) -> Mapping[Signal, Any]:
        return {signal: signals[signal] for signal in names if signal in lasting}

    def column(signal: Signal) -> Any:
        if signal in lasting:
            return cache.get(key, lambda: held(rebuilt().signals))[signal]
        return rebuilt().signals[signal]

    cache.get(key, lambda: held(columns))
    return Columns(names, column)


def _mean_entropy(stored: StoredProblem) -> NDArray[np.float64] | None:
    """(N,) nats per token of the complete paths; None where they were not recorded to their ends."""
    columns = [path.signals.get("entropy") for path in stored.paths]
    pairs = zip(columns, stored.paths, strict=True)
    whole = [column is not None and len(column) == path.length > 0 for column, path in pairs]
    return np.array([float(np.mean(column)) for column in columns if column is not None]) if all(whole) else None
