"""What an importer gives: problems with their paths as the source has them, before anything is measured or graded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.errors import UserError
from prunebench.methods.base import Signal
from prunebench.tasks.rows import kind_of


@dataclass(frozen=True)
class Options:
    """What the caller says about a source.

    ``task``: the name that its problems get (None: the name of the file or folder). ``tokenizer``: folder or id of a
    fast tokenizer on this machine. ``grading``: see :class:`tasks.imported.ImportedTask`. ``fields``: what an importer
    lets be chosen by name, see :attr:`Importer.fields`. ``answer_type``: how answers are read and compared, by name
    (None: by the gold answers, see ``answer_type_for``).
    """

    task: str | None = None
    tokenizer: str | None = None
    grading: str = "equivalence"
    fields: Mapping[str, str] = field(default_factory=dict)
    answer_type: str | None = None

    def task_of(self, path: Path) -> str:
        return self.task or path.stem


@dataclass
class SourcePath:
    """One path as its source gives it; None is what the source lacks.

    ``tokens``: the texts of its tokens; ``length``: their number, where there is nothing else. ``logprobs`` and
    ``entropy``: float32, one per token of the source, NaN where that is missing. ``final_answer``, ``correct``: the
    source's own answer and verdict. ``final_text``: the part of the text in which the source looks for the answer.
    ``finish``: stop, length or unknown. ``number``: its place among the problem's paths.
    """

    text: str | None = None
    token_ids: NDArray[np.int64] | None = None
    tokens: Sequence[str] | None = None
    length: int | None = None
    logprobs: NDArray[np.float32] | None = None
    entropy: NDArray[np.float32] | None = None
    final_answer: str | None = None
    final_text: str | None = None
    correct: bool | None = None
    finish: str = "unknown"
    probed: list[str | None] | None = None
    number: int | None = None


@dataclass
class SourceProblem:
    """One problem with its paths; ``gold`` as ``gold_of`` gives it.

    ``left_out`` counts paths of the source that are not complete, hence not here. ``unread``: fields of its rows that
    nobody reads.
    """

    task: str
    problem: str
    prompt: str
    gold: str
    paths: list[SourcePath]
    probe_every: int | None = None
    left_out: int = 0
    unread: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Importer:
    """One format. ``suffixes`` of its files; ``signals`` that it can give; ``fields``: the options it understands."""

    name: str
    description: str
    suffixes: tuple[str, ...]
    signals: frozenset[Signal]
    fields: frozenset[str]
    read: Callable[[Path, Options], Iterator[SourceProblem]]


def files_of(path: Path, suffixes: Sequence[str]) -> list[Path]:
    """The file, or the files of a folder that end in one of ``suffixes``, by name. Raises UserError for none.

    JSON files beside others say something about these: they count only where there is nothing else.
    """
    if path.is_file():
        if kind_of(path) not in suffixes:
            raise UserError(f"{path}: this format has files that end in {' or '.join(suffixes)}; check FORMAT and PATH")
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: there is no such file or folder; check PATH")
    files = sorted(file for file in path.iterdir() if kind_of(file) in suffixes and not file.name.startswith("."))
    files = [file for file in files if kind_of(file) != ".json"] or files
    if not files:
        raise UserError(f"{path}: no file in it ends in {' or '.join(suffixes)}; check FORMAT and PATH")
    return files


FINISHES = {"stop": "stop", "eos": "stop", "eos_token": "stop", "length": "length", "max_tokens": "length"}


def finish_of(reason: str | None) -> str:
    """The source's reason to end as stop or length; anything else is unknown."""
    return FINISHES.get(reason or "", "unknown")
