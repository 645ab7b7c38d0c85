"""The description of a task over a data set: which rows, which fields, which prompt, which splits.

The benchmarks that are shipped (``tasks/benchmarks``) and a task of one's own are written in the same form, in YAML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prunebench.tasks.answer_types import AnswerType
from prunebench.tasks.errors import UserError, shown
from prunebench.tasks.settings_file import read_settings

BENCHMARKS = Path(__file__).parent / "benchmarks"
"""The descriptions that are shipped."""
SPLITS = ("train", "validation", "test")
PROMPT = f"{{problem}}\n\n{AnswerType.prompt}"

Fields = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
"""The first of these that a row has; YAML may give one name or a list."""


class TaskSpec(BaseModel):
    """A task as its file describes it.

    The rows come from ``data`` (a file beside the YAML: CSV, JSON, JSON Lines, XML or Parquet) or from ``dataset`` (an
    id on the hub, or a folder laid out like one; ``config``, ``revision`` and ``part``, the split that is read, are its
    own). ``splits`` gives train, validation and test a share of the problems each (by a hash of the question), or names
    what they are made of: files, splits of the data set, or values of ``split_field``.

    The text of ``context`` stands before the question, ``context_end`` between them. ``choices`` is one field with a
    list (or texts by their labels), or several fields, in their order where ``answer`` is named, else the right one
    first, which ``choice_seed`` shuffles. The answer is the letter, label or text of a choice, or its place where all
    answers are places, counted from ``choice_index``. ``gold`` is a pattern whose first group is the answer in the
    answer field. ``between`` keeps the rows whose field lies in a closed range, ``matching`` those whose field is all
    of a pattern; ``without`` names a task whose questions are left out. ``answer_suffix`` is put behind a prefix to
    force an answer (default: that of the answer type), ``step_end`` ends a step of a solution. ``strict`` and
    ``last_number`` say what counts as an answer, see
    :class:`prunebench.tasks.task.Task`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    data: str | None = None
    dataset: str | None = None
    config: str | None = None
    revision: str | None = None
    part: str = "train"
    context: Annotated[tuple[str, ...], Field(strict=False)] = ()
    context_end: str = "\n\n"
    problem: Fields = ("problem", "question", "Problem", "Question")
    answer: Fields = ("answer", "Answer", "solution")
    id: Fields = ("id", "problem_idx", "unique_id", "ID")
    answer_type: str = "math"
    strict: bool = False
    last_number: bool = False
    gold: str | None = None
    choices: Annotated[tuple[str, ...], Field(strict=False)] = ()
    choice_seed: int = 0
    choice_index: Literal[0, 1] | None = None
    prompt: str = PROMPT
    answer_suffix: str | None = None
    step_end: str = "\n\n"
    splits: dict[str, float | int | str] = {"test": 1.0}
    split_field: str | None = None
    between: dict[str, Annotated[tuple[int, int], Field(strict=False)]] = {}
    matching: dict[str, str] = {}
    without: str | None = None
    licence: str = "unknown"
    homepage: str = ""
    expected: int | None = None
    train_only: bool = False

    @model_validator(mode="before")
    @classmethod
    def _one_name_is_a_list(cls, content: Any) -> Any:
        if isinstance(content, dict):
            lists = {
                key: [content[key]]
                for key in ("context", "problem", "answer", "id", "choices")
                if isinstance(content.get(key), str)
            }
            ranges = content.get("between")
            if isinstance(ranges, dict):
                pairs = {key: tuple(value) if isinstance(value, list) else value for key, value in ranges.items()}
                lists["between"] = pairs  # type: ignore[assignment]
            return {**content, **lists}
        return content

    @model_validator(mode="after")
    def _possible(self) -> Self:
        """Refuse what cannot be read. Raises ValueError, which pydantic reports."""
        files = {value for value in self.splits.values() if isinstance(value, str)}
        shares = [value for value in self.splits.values() if not isinstance(value, str)]
        if self.data and self.dataset:
            raise ValueError("data and dataset are both given; the rows come from one of them")
        if not (self.data or self.dataset or (files and not self.split_field)):
            raise ValueError("data (a file) or dataset (an id, or a folder in the hub's layout) is missing")
        unknown = [name for name in self.splits if name not in SPLITS]
        if unknown or not self.splits:
            raise ValueError(f"splits: '{', '.join(unknown)}' is none of {', '.join(SPLITS)}")
        if files and shares:
            raise ValueError("splits: give every split a share, or every split a name, not both")
        if shares and (min(shares) <= 0 or sum(shares) > 1 + 1e-9):
            raise ValueError(f"splits: the shares {shares} must be above 0 and sum to 1 at most")
        if self.split_field and not files:
            raise ValueError(f"split_field = {self.split_field}: splits must name the values of that field")
        if self.strict and self.last_number:
            raise ValueError("strict and last_number are both true; strict takes no number that is in no box")
        if "{problem}" not in self.prompt:
            raise ValueError("prompt: must contain {problem}, which stands for the question")
        if self.choices and "{choices}" not in self.prompt:
            raise ValueError("prompt: must contain {choices}, as the task has choices")
        for key, pattern in {
            "gold": self.gold,
            **{f"matching.{key}": text for key, text in self.matching.items()},
        }.items():
            try:
                groups = re.compile(pattern or "").groups
            except re.error as error:
                raise ValueError(f"{key} = {pattern!r}: no regular expression ({error})") from error
            if key == "gold" and pattern is not None and groups < 1:
                raise ValueError(f"gold = {pattern!r}: a pattern with one group is wanted, as in 'answer: (.*)'")
        return self

    @property
    def shared_out(self) -> bool:
        """Whether splits are shares of the problems."""
        return not any(isinstance(value, str) for value in self.splits.values())


def content_of(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file with a task. Raises UserError with what to do."""
    hint = "write one with: prunebench new task"
    return read_settings(path, hint, f"describes no task; {hint}")


Spec = TypeVar("Spec", bound=BaseModel)


def checked(source: str, content: Mapping[str, Any]) -> TaskSpec:
    """A task over a data set, of named values. Raises UserError for the first that does not serve."""
    return checked_as(TaskSpec, source, content)


def checked_as(kind: type[Spec], source: str, content: Mapping[str, Any]) -> Spec:
    """Named values as a description of that kind. Raises UserError for the first that does not serve."""
    try:
        return kind(**{str(key): value for key, value in content.items()})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise UserError(f"{source}: unknown key '{key}'; {_nearest(key, kind)}") from error
        if first["type"] == "missing":
            raise UserError(f"{source}: {key} is missing") from error
        if not key:
            raise UserError(f"{source}: {first['msg'].removeprefix('Value error, ')}") from error
        raise UserError(f"{source}: {key} = {shown(first['input'])}: {first['msg'].lower()}") from error


def _nearest(key: str, kind: type[BaseModel]) -> str:
    near = get_close_matches(key, kind.model_fields, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"known are {', '.join(kind.model_fields)}"
