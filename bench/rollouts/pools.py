"""From stored rollouts back to pools: the prefixes of a problem as every method would have seen them online."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.base import OF_STATES, Engine, rereadable
from prunebench.bench.engines.chat import longest_closing
from prunebench.bench.rollouts.cache import ByteLimitedCache
from prunebench.bench.rollouts.label_store import Labels
from prunebench.bench.rollouts.recorded_answers import answers_at
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.bench.rollouts.store import StoredPath, StoredProblem
from prunebench.methods.generator import Answer, LearnedTokens, Phrases, PrefixCache, Probe
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


@dataclass
class PoolGenerator:
    """The engine as a pool's generator: what it answers to a probe is read and classed as the task does it.

    Classes are those of ``known``, which begins with the final answers of the problem's paths, so that a probed answer
    can be compared with them; an answer that is new is added, and keeps its class from check to check. Without an
    engine (rollouts from elsewhere) there is nobody to ask, and it only classes.

    A probe that was put to a path before is answered from memory, since it depends on that path alone; a check that is
    timed is told the seconds that it took then, as time that was not spent on rebuilding (:attr:`replay_seconds`).
    """

    engine: Engine | None
    task: Task
    known: list[str | None]
    problem: str = ""
    gold: str = ""
    _right: dict[str, bool] = field(default_factory=dict)
    _class_of: dict[str | None, int] = field(default_factory=dict)
    _answers: dict[tuple[int, tuple[int, ...], int], dict[int, tuple[Answer, float]]] = field(default_factory=dict)
    _recalled_seconds: float = 0.0

    @property
    def replay_seconds(self) -> float:
        return self._asked.replay_seconds - self._recalled_seconds

    @property
    def _asked(self) -> Engine:
        assert self.engine is not None, "a pool without an engine has no generator"
        return self.engine

    def kv(self, pool: Pool, rows: Sequence[int]) -> PrefixCache:
        return self._asked.kv(pool, rows)

    def behind(self, pool: Pool, learned: LearnedTokens) -> NDArray[np.float32] | None:
        return self._asked.behind(pool, learned)

    def next_logprobs(self, pool: Pool, suffix_ids: Sequence[int], token_ids: Sequence[int]) -> NDArray[np.float64]:
        pool = complete_steps(pool)
        logprobs = np.empty((len(pool), len(token_ids)))
        for rows, suffix in self._asking(pool, suffix_ids):
            logprobs[rows] = self._asked.next_logprobs(pool.take(rows), suffix, token_ids)
        return logprobs

    def probe(self, pool: Pool, suffix_ids: Sequence[int], max_new_tokens: int) -> Probe:
        known = self._answers.setdefault((pool.position, tuple(suffix_ids), max_new_tokens), {})
        paths = pool.paths.tolist()
        new = [row for row, path in enumerate(paths) if path not in known]
        self._recalled_seconds += sum(known[path][1] for path in paths if path in known)
        if new:
            started, rebuilding = time.perf_counter(), self._asked.replay_seconds
            told = self._told(pool if len(new) == len(paths) else pool.take(new), suffix_ids, max_new_tokens)
            took = time.perf_counter() - started - (self._asked.replay_seconds - rebuilding)
            known.update({path: (answer, max(took, 0.0) / len(new)) for path, answer in told.items()})
        return Probe.of([known[path][0] for path in paths])

    def _told(self, pool: Pool, suffix_ids: Sequence[int], max_new_tokens: int) -> dict[int, Answer]:
        """What every path of the pool answers, by its id."""
        answers: dict[int, Answer] = {}
        for group, asked in self._asking(pool, suffix_ids):
            probe = self._asked.probe(pool.take(group), asked, max_new_tokens)
            suffix = np.array(asked, np.int64)
            texts = [self._asked.decode(np.concatenate([suffix, ids])) for ids in probe.token_ids]
            classes = self.classes([self.task.answer_of(text) for text in texts])
            opened = self._asked.decode(suffix)
            answered = [answer_length(ids, opened, self._asked.decode) for ids in probe.token_ids]
            told = replace(probe, answer_class=classes, answered=np.array(answered, np.int64))
            answers.update(zip(pool.paths[group].tolist(), told, strict=True))
        return answers

    def _asking(self, pool: Pool, suffix_ids: Sequence[int]) -> list[tuple[list[int], tuple[int, ...]]]:
        """Rows and what is put behind their prefixes: where the reasoning is still open, it is closed first."""
        suffix = tuple(suffix_ids)
        if not self._asked.reasons:
            return [(list(range(len(pool))), suffix)]
        groups: dict[tuple[int, ...], list[int]] = {}
        for row, ids in enumerate(pool.token_ids):
            closing = self._asked.closing_ids(np.concatenate([pool.prompt_ids, ids]), len(pool.prompt_ids))
            groups.setdefault(closing, []).append(row)
        return [(rows, (*closing, *suffix)) for closing, rows in groups.items()]

    @classmethod
    def of(cls, engine: Engine | None, task: Task, stored: StoredProblem) -> PoolGenerator:
        return cls(engine, task, [path.answer for path in stored.paths], problem=stored.problem, gold=stored.gold)

    def classes(self, answers: Sequence[str | None]) -> NDArray[np.int64]:
        """int64: classes of ``answers`` among the known ones."""
        new = [answer for answer in dict.fromkeys(answers) if answer not in self._class_of]
        if new:
            before = len(self.known)
            classes = self._classed([*self.known, *new])
            seen = set(classes[:before])
            for answer, number in zip(new, classes[before:], strict=True):
                self._class_of[answer] = number
                if number not in seen:
                    seen.add(number)
                    self.known.append(answer)
        return np.array([self._class_of[answer] for answer in answers], np.int64)

    def _classed(self, answers: Sequence[str | None]) -> list[int]:
        """Classes of ``answers``; where answers that differ may be right, those that are right are one class."""
        classes = self.task.classes(answers)
        if not self.task.several_right(self.gold):
            return classes
        right = {
            number for answer, number in zip(answers, classes, strict=True) if number >= 0 and self._is_right(answer)
        }
        return [min(right) if number in right else number for number in classes]

    def _is_right(self, answer: str | None) -> bool:
        """Whether it is; an answer is judged once."""
        if answer is None:
            return False
        if answer not in self._right:
            self._right[answer] = self.task.verdict(self.problem, answer, self.gold).correct is True
        return self._right[answer]


def complete_steps(pool: Pool) -> Pool:
    """The prefixes up to the last end of a step, as token ids only; one without a complete step stays whole."""
    assert pool.phrases is not None, "nothing is asked without phrases"
    ends = [np.flatnonzero(ids == pool.phrases.step_end) for ids in pool.token_ids]
    ids = tuple(row[: end[-1] + 1] if len(end) else row for row, end in zip(pool.token_ids, ends, strict=True))
    return replace(pool, lengths=np.array([len(row) for row in ids]), signals={Signal.TOKEN_IDS: ids})


def answer_length(ids: NDArray[np.int64], opened: str, decode: Callable[[NDArray[np.int64]], str]) -> int:
    """How many of the first forced tokens are the answer: up to the brace that closes the one that ``opened`` left
    open, the end of the line, or a special token. A token that holds the answer's last character and what closes it
    belongs to it."""
    depth = opened.count("{") - opened.count("}")
    for number in range(len(ids)):
        text = decode(ids[number : number + 1])
        for place, character in enumerate(text):
            depth += {"{": 1, "}": -1}.get(character, 0)
            if (character == "}" and depth == 0) or (character == "\n" and number):
                return number + bool(text[:place].strip())
        if not text:
            return number
    return len(ids)


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
    for name in paths[0].signals if paths else ():
        columns = [path.signals.get(name) for path in paths]
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
    once more, nothing of ``stored`` is kept but what the ``caches`` have room for.
    """
    caches = caches or PoolCaches()
    generator = PoolGenerator.of(engine, task or catalogue.get(stored.task), stored)
    pool = pool_of(engine, stored, position, reads=reads, generator=generator)
    correct = np.array([float(path.correct is True) for path in stored.paths])
    classes = generator.classes([path.answer for path in stored.paths])
    right = classes[(correct == 1) & (classes >= 0)]
    halves, potential = _labels_of(pool, labels)
    identity = (stored.task, stored.problem)
    kept = reread or (lambda: stored)

    def rebuilt() -> Pool:
        return pool_of(engine, kept(), position, reads=reads, generator=generator)

    def elsewhere(other: int) -> Pool:
        held = caches.elsewhere.get(
            (identity, other),
            lambda: pool_of(engine, kept(), other, generator=generator).adding({Signal.OUTCOME: correct}),
        )
        return _with_rereads(engine, held, reads, caches.columns, identity)

    if reread is not None:
        pool = replace(pool, signals=_read_columns(caches.columns, identity, pool.signals, reads, rebuilt))
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
    """The pool with those of ``reads`` that it lacks, each encoded again when somebody asks for it: at a checkpoint of
    several most methods ask for none."""
    missing = frozenset(filter(rereadable, reads)) - frozenset(pool.signals)
    if engine is None or not engine.reads or not missing:
        return pool

    def column(signal: Signal) -> Any:
        alike = frozenset(other for other in missing if (other in OF_STATES) == (signal in OF_STATES))
        key = (identity, pool.position, signal in OF_STATES)
        return cache.get(key, lambda: engine.reread(pool, alike))[signal]

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
