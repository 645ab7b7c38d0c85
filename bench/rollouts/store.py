"""The rollout store: one row per path in Parquet, hidden states at the checkpoints in safetensors."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prunebench.bench.errors import UserError
from prunebench.bench.files import table_of, write_atomically
from prunebench.bench.rollouts.list_column import ListColumn
from prunebench.bench.rollouts.shards import Shards
from prunebench.bench.rollouts.signal_columns import FLOATS, as_columns, columns_in, fields_of, width_of
from prunebench.tasks.catalogue import as_of_today
from prunebench.tasks.errors import first_line
from prunebench.tasks.task import Task

KIND = "rollouts"
STRICT_THEN = " (its answers were read from boxes only, which strict: true in the task says)"
IMPORTED = "imported"
"""The model, and its hash, of rollouts that were made elsewhere: nobody has it here."""

_SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("problem", pa.string()),
        ("prompt", pa.string()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("gold", pa.string()),
        ("launch_seconds", pa.float64()),
        ("path", pa.int32()),
        ("token_ids", pa.list_(pa.int32())),
        ("text", pa.string()),
        ("length", pa.int32()),
        ("finish", pa.string()),
        ("answer", pa.string()),
        ("correct", pa.bool_()),
        ("grader", pa.string()),
        ("logprobs", FLOATS),
        ("entropy", FLOATS),
        ("self_certainty", FLOATS),
        ("topk", FLOATS),
        ("topk_width", pa.int32()),
    ]
)
_OPTIONAL = (
    pa.field("ends", pa.list_(pa.int32())),
    pa.field("probed", pa.list_(pa.string())),
    pa.field("probe_every", pa.int32()),
    pa.field("tool_spans", pa.list_(pa.list_(pa.int32()))),
    pa.field("rule", pa.string()),
)
"""Columns that not every store has: written only where a path of the shard has them, in this order."""
NONE, UNKNOWN = "none", "unknown"
"""The rules of a path without an answer, and of one from a store that did not keep them."""
_FACTS = ("path", "text", "length", "finish", "answer", "correct", "grader")


@dataclass
class StoredPath:
    """One complete path with its verdict. ``signals``: by name what was recorded, float32 per token.

    ``token_ids`` int64 (``length``,) and ``text`` are None where a source elsewhere has none; ``length`` counts the
    tokens, and may be left out where ``token_ids`` are there. ``ends`` int64 (``length``,): the characters of ``text``
    up to every token's end, so that a prefix of L tokens reads ``text[: ends[L - 1]]`` without a tokenizer.
    ``probed``: answers forced after every ``StoredProblem.probe_every`` tokens. ``tool_spans``: begin and end of what
    tools wrote among the tokens. ``rule``: what found ``answer``, None where nobody wrote it down. Raises ValueError
    where these disagree.
    """

    path: int
    token_ids: NDArray[np.int64] | None
    text: str | None
    finish: str
    answer: str | None
    correct: bool | None
    grader: str
    signals: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    length: int = field(default=-1, kw_only=True)
    ends: NDArray[np.int64] | None = field(default=None, kw_only=True)
    probed: list[str | None] | None = field(default=None, kw_only=True)
    tool_spans: tuple[tuple[int, int], ...] = field(default=(), kw_only=True)
    rule: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.token_ids is not None and self.length < 0:
            self.length = len(self.token_ids)
        if self.length < 0:
            raise ValueError(f"path {self.path}: neither token_ids nor a length")
        for name, column in (("token_ids", self.token_ids), ("ends", self.ends)):
            if column is not None and len(column) != self.length:
                raise ValueError(f"path {self.path}: {len(column)} {name} for a length of {self.length}")
        if self.ends is not None and self.text is None:
            raise ValueError(f"path {self.path}: ends, but no text that they could end in")

    @property
    def found_by(self) -> str:
        """The rule that found the answer: ``none`` where there is no answer, ``unknown`` where it was not kept."""
        return NONE if self.answer is None else self.rule or UNKNOWN


@dataclass
class StoredProblem:
    """All paths of one problem. ``hidden`` maps a checkpoint to float32 (N, layers + 1, H).

    ``probe_every``: tokens between two of the paths' ``probed`` answers; None where nothing was probed.
    """

    task: str
    problem: str
    prompt: str
    prompt_ids: NDArray[np.int64]
    gold: str
    paths: list[StoredPath]
    launch_seconds: float = float("nan")
    hidden: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    probe_every: int | None = None


class RolloutStore:
    """Rollouts on disk. A finished problem is never sampled again; damaged shards are redone, not read."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards
        self._lengths: dict[str, dict[tuple[str, str], list[int]]] = {}  # by shard, as far as it was read
        self._digest: tuple[str, str] = ("", "")  # that of the shards, and what it gave

    @classmethod
    def create_or_open(cls, folder: Path, manifest: Mapping[str, Any]) -> RolloutStore:
        return cls(Shards.create_or_open(folder, KIND, manifest))

    @classmethod
    def open(cls, folder: Path) -> RolloutStore:
        return cls(Shards.open(folder, KIND))

    @property
    def manifest(self) -> Mapping[str, Any]:
        return self.shards.manifest

    def keep_tasks(self, tasks: Iterable[Task]) -> None:
        """Keep what tasks of one's own are, so that their answers can be graded again.

        Raises UserError as :meth:`require_same` does.
        """
        for task in tasks:
            described = task.described()
            if described is not None:
                self.require_same([task])
                file = self._task_file(task.name)
                file.parent.mkdir(exist_ok=True)
                write_atomically(file, (json.dumps(described, indent=1, sort_keys=True) + "\n").encode())

    def require_same(self, tasks: Iterable[Task]) -> None:
        """Raises UserError where a task of one's own was another one when its paths were sampled."""
        for task in tasks:
            described, known = task.described(), self.own_task(task.name)
            if described is None or known is None or not self.shards.names():
                continue
            if as_of_today(known) | {"folder": ""} != described | {"folder": ""}:
                strict = "" if task.strict or not as_of_today(known).get("spec", {}).get("strict") else STRICT_THEN
                raise UserError(
                    f"{self.shards.folder}: task '{task.name}' was another one when its paths were sampled "
                    f"({self._task_file(task.name)}); use another folder (--out), or put the task back{strict}"
                )

    def own_task(self, name: str) -> dict[str, Any] | None:
        """The description of a task that came from a file, as :meth:`keep_tasks` left it."""
        file = self._task_file(name)
        return dict(json.loads(file.read_text())) if file.exists() else None

    def _task_file(self, name: str) -> Path:
        return self.shards.folder / "tasks" / f"{quote(name, safe='')}.json"

    def problems(self) -> set[tuple[str, str]]:
        """(task, problem) of everything that is sealed."""
        return {problem for name in self.shards.names() for problem in self._lengths_in(name)}

    def lengths(self) -> dict[tuple[str, str], list[int]]:
        """Tokens of the paths of every problem, by (task, problem) in the order of the store; nothing else is read."""
        lengths: dict[tuple[str, str], list[int]] = {}
        for name in self.shards.names():
            for problem, tokens in self._lengths_in(name).items():
                lengths.setdefault(problem, []).extend(tokens)
        return lengths

    def _lengths_in(self, name: str) -> dict[tuple[str, str], list[int]]:
        """Tokens of the paths of every problem of a shard, which is read for it once."""
        self.shards.require_intact(name)
        if name not in self._lengths:
            table = table_of(self.shards.folder / f"{name}.parquet", ["task", "problem", "length"])
            lengths: dict[tuple[str, str], list[int]] = {}
            for row in table.to_pylist():
                lengths.setdefault((row["task"], row["problem"]), []).append(row["length"])
            self._lengths[name] = lengths
        return self._lengths[name]

    def digest(self) -> str:
        """16 hex digits over the manifest and all that was sampled and graded; measured seconds are no part of it.

        Computed once, and again when shards were added.
        """
        for name in self.shards.names():
            self.shards.require_intact(name)
        if self._digest[0] != self.shards.digest:
            self._digest = (self.shards.digest, self._content_digest())
        return self._digest[1]

    def _content_digest(self) -> str:
        digest = hashlib.sha256(json.dumps(dict(self.manifest), sort_keys=True).encode())
        for name in self.shards.names():
            table = table_of(self.shards.folder / f"{name}.parquet").drop_columns(["launch_seconds"])
            stream = io.BytesIO()
            with pa.ipc.new_stream(stream, table.schema) as writer:
                writer.write_table(table.combine_chunks())
            digest.update(stream.getbuffer())
            digest.update(self.shards.checksum(name, f"{name}.safetensors").encode())
        return digest.hexdigest()[:16]

    def append(self, problems: Sequence[StoredProblem]) -> None:
        """Seal one shard. Raises ValueError for a problem without paths or one that is there twice."""
        keys = [(problem.task, problem.problem) for problem in problems]
        if len(set(keys)) != len(keys) or not all(problem.paths for problem in problems):
            raise ValueError(f"a shard takes distinct problems with at least one path each, not {keys}")
        name = self.shards.next_name()
        files = {f"{name}.parquet": _parquet(problems)}
        hidden = {
            f"{index}/{checkpoint}": states
            for index, problem in enumerate(problems)
            for checkpoint, states in problem.hidden.items()
        }
        if hidden:
            from safetensors.numpy import save

            files[f"{name}.safetensors"] = save({key: np.ascontiguousarray(value) for key, value in hidden.items()})
        self.shards.seal(name, files)

    def read(self, hidden: bool = True) -> Iterator[StoredProblem]:
        """Problem by problem, shard by shard, so that memory stays at one shard."""
        for name in self.shards.names():
            self.shards.require_intact(name)
            yield from self._read_shard(name, hidden)

    def reader(self) -> Callable[[tuple[str, str]], StoredProblem]:
        """Reads a problem by (task, problem); the shard that was read last is held, since problems come in order."""
        place = {problem: name for name in self.shards.names() for problem in self._lengths_in(name)}

        @lru_cache(maxsize=1)
        def shard(name: str) -> dict[tuple[str, str], StoredProblem]:
            self.shards.require_intact(name)
            return {(stored.task, stored.problem): stored for stored in self._read_shard(name, hidden=True)}

        return lambda key: shard(place[key])[key]

    def _read_shard(self, name: str, hidden: bool) -> Iterator[StoredProblem]:
        path = self.shards.folder / f"{name}.parquet"
        table = table_of(path)
        if not table.schema.equals(_schema(table.column_names)):
            raise UserError(f"{path}: its columns are not those of this version; use another folder")
        states: dict[str, NDArray[np.float32]] = {}
        if hidden and f"{name}.safetensors" in self.shards.files(name):
            from safetensors.numpy import load_file

            states = load_file(self.shards.folder / f"{name}.safetensors")
        signals = columns_in(table.schema)
        columns = {field_name: table[field_name] for field_name in table.column_names}
        keys = list(zip(columns["task"].to_pylist(), columns["problem"].to_pylist(), strict=True))
        starts = [row for row in range(len(keys)) if row == 0 or keys[row] != keys[row - 1]]
        lists = {
            field_name: ListColumn(columns[field_name])
            for field_name in ("prompt_ids", "token_ids", "ends", *signals.values())
            if field_name in columns
        }
        plain: dict[str, list[Any]] = {
            field_name: columns[field_name].to_pylist() if field_name in columns else [None] * len(keys)
            for field_name in (
                "prompt",
                "gold",
                "launch_seconds",
                *map(width_of, signals.values()),
                "probed",
                "probe_every",
                "tool_spans",
                "rule",
                *_FACTS,
            )
        }
        for index, (start, end) in enumerate(pairwise([*starts, len(keys)]) if keys else ()):
            try:
                hidden_there = {
                    int(key.split("/")[1]): value for key, value in states.items() if key.split("/")[0] == str(index)
                }
                stored = StoredProblem(
                    task=keys[start][0],
                    problem=keys[start][1],
                    prompt=plain["prompt"][start],
                    prompt_ids=lists["prompt_ids"].require(start).astype(np.int64),
                    gold=plain["gold"][start],
                    launch_seconds=plain["launch_seconds"][start],
                    paths=[_path(plain, lists, signals, row) for row in range(start, end)],
                    hidden=hidden_there,
                    probe_every=plain["probe_every"][start],
                )
                _require_whole(stored)
            except (ValueError, TypeError, IndexError) as error:
                raise UserError(
                    f"{path}: row {start} and those after it are no problem ({first_line(error)}); use another folder"
                ) from error
            yield stored


def _require_whole(stored: StoredProblem) -> None:
    """Raises ValueError for what no run writes: nothing where something must be, states of other paths."""
    for name in ("task", "problem", "prompt", "gold", "launch_seconds"):
        if getattr(stored, name) is None:
            raise ValueError(f"{name} is missing")
    for path in stored.paths:
        if path.path is None or path.finish is None or path.grader is None:
            raise ValueError("path, finish or grader is missing")
    for checkpoint, states in stored.hidden.items():
        if states.ndim != 3 or len(states) != len(stored.paths):
            raise ValueError(f"states of shape {states.shape} at {checkpoint} for {len(stored.paths)} paths")


def _path(
    plain: Mapping[str, list[Any]], lists: Mapping[str, ListColumn], signals: Mapping[str, str], row: int
) -> StoredPath:
    """``signals`` names the column of each."""
    recorded = {}
    for name, column in signals.items():
        if (values := lists[column].get(row)) is not None:
            width = plain[width_of(column)][row]
            recorded[name] = values if width is None else values.reshape(-1, width)
    ids, ends = (lists[name].get(row) if name in lists else None for name in ("token_ids", "ends"))
    return StoredPath(
        token_ids=None if ids is None else ids.astype(np.int64),
        ends=None if ends is None else ends.astype(np.int64),
        probed=plain["probed"][row],
        tool_spans=tuple((int(start), int(end)) for start, end in plain["tool_spans"][row] or ()),
        rule=plain["rule"][row],
        **{name: plain[name][row] for name in _FACTS},
        signals=recorded,
    )


def _schema(names: Collection[str]) -> pa.Schema:
    """The columns of a shard, with those optional ones that are among ``names``, and those of more signals."""
    optional = [column for column in _OPTIONAL if column.name in names]
    return pa.schema([*_SCHEMA, *optional, *fields_of(names)])


def _optional(problem: StoredProblem, path: StoredPath) -> dict[str, Any]:
    """Those of the optional columns that this path has."""
    values = {
        "ends": path.ends, "probed": path.probed, "probe_every": problem.probe_every,
        "tool_spans": [list(span) for span in path.tool_spans] or None, "rule": path.rule,
    }  # fmt: skip
    return {name: value for name, value in values.items() if value is not None}


def _parquet(problems: Sequence[StoredProblem]) -> bytes:
    there: dict[str, None] = {}
    for problem in problems:
        for path in problem.paths:
            there |= dict.fromkeys((*as_columns(path.signals), *_optional(problem, path)))
    schema = _schema(there)
    rows: dict[str, list[Any]] = {name: [] for name in schema.names}
    for problem in problems:
        for number, path in enumerate(problem.paths):
            values = {
                "task": problem.task,
                "problem": problem.problem,
                "prompt": problem.prompt,
                "prompt_ids": problem.prompt_ids if number == 0 else [],
                "gold": problem.gold,
                "launch_seconds": problem.launch_seconds,
                "token_ids": path.token_ids,
                **{name: getattr(path, name) for name in _FACTS},
                **as_columns(path.signals),
                **_optional(problem, path),
            }
            for name, column in rows.items():
                column.append(values.get(name))
    stream = io.BytesIO()
    pq.write_table(pa.table(rows, schema=schema), stream, compression="zstd")
    return stream.getvalue()
