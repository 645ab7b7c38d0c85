"""Generation with tools: a block of Python that a path writes is run in the sandbox, and the path goes on behind it.

A tool's output is given, not sampled: its tokens count towards the length of a path, stand in its ids as a prompt's do,
and are marked (``Path.tool_spans``). The noise of a sampled token is addressed by its place, so a path without a call
is the same with and without tools, and no path depends on which others call.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.base import FinishReason, Path, Request, Rollout
from prunebench.bench.engines.chat import HARMONY
from prunebench.bench.engines.tools.sandbox import Sandbox
from prunebench.bench.files import in_groups

Ids = NDArray[np.int64]
Sample = Callable[[Iterable[Request]], Iterator[Rollout]]
TOGETHER = 16
"""Requests whose calls are answered together; results do not depend on it."""


class ToolFormat(Protocol):
    """How a model calls, and how it is answered. Texts keep their special tokens."""

    closes_with: str
    """A token can end a call only if its text has this in it."""

    def call(self, text: str) -> str | None:
        """The code of the call that ends ``text``, or None if it does not end in one."""
        ...

    def answer(self, text: str, output: str) -> str:
        """What is put behind ``text``."""
        ...

    def answered(self, behind: str) -> bool:
        """Whether the whole answer stands in the text behind a call."""
        ...


class Fenced:
    r"""Code between a line with three backticks and ``python`` and one with three; the output has a block of its own.

    Blanks before the line ends are those of the call, so that a tokenizer of whole words can write the answer.
    """

    closes_with = "`"
    _OPEN = re.compile(r"```python(?P<blank>[ ]?)\n")

    def call(self, text: str) -> str | None:
        opened = list(self._OPEN.finditer(text))
        if not opened or not text.rstrip().endswith("```"):
            return None
        code = text[opened[-1].end() :].rstrip()
        return textwrap.dedent(code[:-3]).strip() if code.count("```") == 1 else None

    def answer(self, text: str, output: str) -> str:
        blank = list(self._OPEN.finditer(text))[-1]["blank"]
        line = "" if text.endswith("\n") else f"{blank}\n"
        return f"{line}{blank}```output{blank}\n{blank}{output}{blank}\n{blank}```"

    def answered(self, behind: str) -> bool:
        return behind.count("```") > 1


class Harmony:
    """A message to ``python`` that ends with ``<|call|>``, as gpt-oss writes it; the output is the tool's message."""

    closes_with = "<|call|>"

    def call(self, text: str) -> str | None:
        if not text.endswith(self.closes_with):
            return None
        head, mark, code = text.removesuffix(self.closes_with).rpartition("<|message|>")
        addressed = "to=python" in head.rpartition("<|start|>")[2]
        return code if mark and addressed else None

    def answer(self, text: str, output: str) -> str:
        message = f"<|start|>python to=assistant<|channel|>commentary<|message|>{output}<|end|>"
        return f"{message}<|start|>assistant"

    def answered(self, behind: str) -> bool:
        return "<|end|><|start|>assistant" in behind


def format_of(tokenizer: Any) -> ToolFormat:
    """Harmony where the tokenizer has its marks, else fenced blocks."""
    vocabulary = tokenizer.get_vocab()
    return Harmony() if all(mark in vocabulary for mark in (*HARMONY, "<|call|>")) else Fenced()


@dataclass
class ToolUse:
    """Answers the calls of a model. After ``max_calls`` of a path no further one is answered."""

    tokenizer: Any
    sandbox: Sandbox
    format: ToolFormat
    max_calls: int = 16
    workers: int = 4

    def __post_init__(self) -> None:
        texts = ((int(id_), self.tokenizer.decode([id_])) for id_ in self.tokenizer.get_vocab().values())
        self.ids = frozenset(id_ for id_, text in texts if self.format.closes_with in text)

    def text(self, ids: Ids) -> str:
        return str(self.tokenizer.decode(ids.tolist(), skip_special_tokens=False))

    def pauses(self, ids: Ids) -> bool:
        """Whether sampled tokens (prompt excluded) end in a call; asked behind tokens in ``ids`` only."""
        return self.format.call(self.text(ids)) is not None

    def sample(self, requests: Iterable[Request], sample: Sample, limit: int) -> Iterator[Rollout]:
        """Rollouts of ``requests`` by way of the engine's own ``sample``, calls answered; ``limit`` ends a path.

        A given prefix may end anywhere, in a call or in its answer: what is owed is put behind it first.
        """
        for group in in_groups(requests, TOGETHER):
            yield from self._together(group, sample, limit)

    def _together(self, requests: Sequence[Request], sample: Sample, limit: int) -> Iterator[Rollout]:
        paths = [[_OpenPath(request, row) for row in range(len(request.paths))] for request in requests]
        seconds = {id(request): 0.0 for request in requests}
        going = [path for some in paths for path in some]
        self._answer([(path, *owed) for path in going if (owed := self._owed(path)) is not None], limit)
        for _ in range(self.max_calls + 1):
            groups = _marching([path for path in going if len(path.ids) < limit])
            for members, rollout in zip(groups, sample(map(self._request, groups)), strict=True):
                for path, sampled in zip(members, rollout.paths, strict=True):
                    path.go_on(sampled)
                seconds[id(members[0].request)] += rollout.launch_seconds + rollout.resume_seconds
            calls = [(path, len(path.ids), code) for path in going if (code := self._called(path)) is not None]
            if not calls:
                break
            self._answer(calls, limit)
            going = [path for path, _, _ in calls]
        for request, some in zip(requests, paths, strict=True):
            yield Rollout(request.problem, [path.finished() for path in some], launch_seconds=seconds[id(request)])

    def _request(self, members: Sequence[_OpenPath]) -> Request:
        first = members[0]
        prefixes = np.stack([path.ids for path in members]) if len(first.ids) else None
        return replace(first.request, paths=tuple(path.number for path in members), prefixes=prefixes, pause=self)

    def _called(self, path: _OpenPath) -> str | None:
        """The code of the call that a path ends in."""
        if path.finish == "length" or not len(path.ids) or int(path.ids[-1]) not in self.ids:
            return None
        return self.format.call(self.text(path.ids))

    def _owed(self, path: _OpenPath) -> tuple[int, str] | None:
        """Where the call of a given prefix ends whose answer is not whole, and its code."""
        for end in range(len(path.ids), 0, -1):
            if int(path.ids[end - 1]) in self.ids and (code := self.format.call(self.text(path.ids[:end]))) is not None:
                return None if self.format.answered(self.text(path.ids[end:])) else (end, code)
        return None

    def _answer(self, calls: Sequence[tuple[_OpenPath, int, str]], limit: int) -> None:
        """Run the code of calls that end at a place, and put behind each path what of the answer is not there yet."""
        with ThreadPoolExecutor(self.workers) as pool:
            results = list(pool.map(self.sandbox.run, [code for _, _, code in calls]))
        for (path, end, _), result in zip(calls, results, strict=True):
            output = result.output.strip() or f"({result.verdict})"
            text = self.format.answer(self.text(path.ids[:end]), output)
            whole = np.array(self.tokenizer(text, add_special_tokens=False)["input_ids"], np.int64)
            there = path.ids[end:]
            if np.array_equal(whole[: len(there)], there):  # else the model wrote something else, and goes on with it
                path.take(whole[len(there) :][: limit - len(path.ids)], limit)


def _marching(paths: Sequence[_OpenPath]) -> list[list[_OpenPath]]:
    """Paths of one request and one length can be sampled together."""
    groups: dict[tuple[int, int], list[_OpenPath]] = {}
    for path in paths:
        groups.setdefault((id(path.request), len(path.ids)), []).append(path)
    return list(groups.values())


class _OpenPath:
    """A path that may still call: ``ids`` are all its tokens behind the prompt, the given prefix included."""

    def __init__(self, request: Request, row: int) -> None:
        self.request, self.number = request, request.paths[row]
        self.ids: Ids = np.zeros(0, np.int64) if request.prefixes is None else request.prefixes[row]
        self.prefix_tokens, self.finish = len(self.ids), "length"
        self.spans: list[tuple[int, int]] = []

    def go_on(self, path: Path) -> None:
        self.ids, self.finish = np.concatenate([self.ids, path.token_ids]), path.finish

    def take(self, added: Ids, limit: int) -> None:
        """Put what a tool wrote behind it."""
        self.spans.append((len(self.ids), len(self.ids) + len(added)))
        self.ids = np.concatenate([self.ids, added])
        if len(self.ids) >= limit:
            self.finish = "length"

    def finished(self) -> Path:
        """The path as the request asked for it: new tokens only, and where among them the tools' are."""
        spans = tuple((start - self.prefix_tokens, end - self.prefix_tokens) for start, end in self.spans)
        finish: FinishReason = "length" if self.finish == "length" else "stop"
        return Path(self.number, self.ids[self.prefix_tokens :], finish, tool_spans=spans)
