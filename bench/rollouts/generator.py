"""The engine as a pool's generator: what it answers behind a stored prefix, read and classed as the task does it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.base import Engine
from prunebench.bench.rollouts.store import StoredProblem
from prunebench.methods.generator import Answer, LearnedTokens, PrefixCache, Probe
from prunebench.methods.pool import Pool
from prunebench.methods.signals import Signal
from prunebench.tasks.task import Task

Memory = tuple[list[str | None], dict[str, bool], dict[str | None, int], dict[Any, dict[int, tuple[Answer, float]]]]
"""What a generator was told, and how it classed that."""


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
    def memory(self) -> Memory:
        """For the generator of the same problem in another process, which takes it over by :meth:`recall`."""
        return self.known, self._right, self._class_of, self._answers

    def recall(self, memory: Memory) -> None:
        self.known, self._right, self._class_of, self._answers = memory

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
