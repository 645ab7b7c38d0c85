"""Tasks over a data set: which rows, which fields, which prompt, which splits, as a YAML file says it.

The benchmarks that are shipped (``tasks/benchmarks``) and a task of one's own are written in the same form.
"""

from __future__ import annotations

import hashlib
import random
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Self
from urllib.parse import urlsplit
from urllib.request import getproxies

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prunebench.tasks.answer_types import AnswerType, answer_type_of
from prunebench.tasks.errors import NoProblemsError, UserError, first_line, shown
from prunebench.tasks.rows import SUFFIXES, Row, rows_of
from prunebench.tasks.settings_file import read_settings
from prunebench.tasks.task import Problem, Task

SHIPPED = Path(__file__).parent / "benchmarks"
SPLITS = ("train", "validation", "test")
MISSING_SHARE = 0.1
"""With more rows without an answer than this, the wrong field was named."""
PROMPT = f"{{problem}}\n\n{AnswerType.prompt}"

Fields = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
"""The first of these that a row has; YAML may give one name or a list."""


class TaskSpec(BaseModel):
    """A task as its file describes it.

    The rows come from ``data`` (a file beside the YAML: CSV, JSON, JSON Lines or Parquet) or from ``dataset`` (an id on
    the hub, or a folder laid out like one; ``config``, ``revision`` and ``part``, the split that is read, are its own).
    ``splits`` gives train, validation and test a share of the problems each (by a hash of the question), or names what
    they are made of: files, splits of the data set, or values of ``split_field``.

    The text of ``context`` stands before the question. ``choices`` is one field with a list, or several fields, the
    right one first, that ``choice_seed`` shuffles. ``gold`` is a pattern whose first group is the answer in the answer
    field. ``between`` keeps the rows whose field lies in a closed range; ``without`` names a task whose questions are
    left out. ``answer_suffix`` is put behind a prefix to force an answer (default: that of the answer type),
    ``step_end`` ends a step of a solution.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    data: str | None = None
    dataset: str | None = None
    config: str | None = None
    revision: str | None = None
    part: str = "train"
    context: Annotated[tuple[str, ...], Field(strict=False)] = ()
    problem: Fields = ("problem", "question", "Problem", "Question")
    answer: Fields = ("answer", "Answer", "solution")
    id: Fields = ("id", "problem_idx", "unique_id", "ID")
    answer_type: str = "math"
    gold: str | None = None
    choices: Annotated[tuple[str, ...], Field(strict=False)] = ()
    choice_seed: int = 0
    prompt: str = PROMPT
    answer_suffix: str | None = None
    step_end: str = "\n\n"
    splits: dict[str, float | int | str] = {"test": 1.0}
    split_field: str | None = None
    between: dict[str, Annotated[tuple[int, int], Field(strict=False)]] = {}
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
        if "{problem}" not in self.prompt:
            raise ValueError("prompt: must contain {problem}, which stands for the question")
        if self.choices and "{choices}" not in self.prompt:
            raise ValueError("prompt: must contain {choices}, as the task has choices")
        if self.gold is not None:
            try:
                if re.compile(self.gold).groups < 1:
                    raise ValueError(f"gold = {self.gold!r}: a pattern with one group is wanted, as in 'answer: (.*)'")
            except re.error as error:
                raise ValueError(f"gold = {self.gold!r}: no regular expression ({error})") from error
        return self

    @property
    def shared_out(self) -> bool:
        """Whether splits are shares of the problems."""
        return not any(isinstance(value, str) for value in self.splits.values())


def read_spec(path: Path) -> TaskSpec:
    """The task in a YAML file. Raises UserError with file, key, value and what to do."""
    hint = "write one with: prunebench new-task"
    content = read_settings(path, hint, f"describes no task; {hint}")
    return checked(str(path), content)


def checked(source: str, content: Mapping[str, Any]) -> TaskSpec:
    """A task of named values. Raises UserError for the first that does not serve."""
    try:
        return TaskSpec(**{str(key): value for key, value in content.items()})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise UserError(f"{source}: unknown key '{key}'; {_nearest(key)}") from error
        if first["type"] == "missing":
            raise UserError(f"{source}: {key} is missing") from error
        if not key:
            raise UserError(f"{source}: {first['msg'].removeprefix('Value error, ')}") from error
        raise UserError(f"{source}: {key} = {shown(first['input'])}: {first['msg'].lower()}") from error


def _nearest(key: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(key, TaskSpec.model_fields, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"known are {', '.join(TaskSpec.model_fields)}"


@dataclass(frozen=True, eq=False)
class _Found:
    """A problem as its row gives it; ``key`` is the question, layout and case aside."""

    row: Row
    split: str | None
    key: str
    id: str
    prompt: str
    answer: str | None


@dataclass
class _Loaded:
    """All problems of all splits, in the order of the rows, and what there is to say about them."""

    splits: dict[str, list[Problem]]
    rows: int = 0
    unanswered: list[Row] = field(default_factory=list)
    repeated: list[Row] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


class DatasetTask(Task):
    """A task over rows. ``folder`` is where relative paths start; ``data`` replaces what the file names."""

    def __init__(self, spec: TaskSpec, folder: Path, data: Path | None = None, without: Task | None = None) -> None:
        self.spec, self.folder, self.data, self.without = spec, folder, data, without
        self.name, self.answer_type, self.licence, self.homepage = (
            spec.name, spec.answer_type, spec.licence, spec.homepage,
        )  # fmt: skip
        self.dataset, self.revision, self.expected = spec.dataset, spec.revision, spec.expected
        self.train_only, self.step_end = spec.train_only, spec.step_end
        self.answers  # noqa: B018  (an answer type that is not known is refused at once)

    @cached_property
    def answers(self) -> AnswerType:
        return answer_type_of(self.answer_type, self.folder)

    @property
    def answer_suffix(self) -> str:
        return self.answers.suffix if self.spec.answer_suffix is None else self.spec.answer_suffix

    def problems(self, split: str, limit: int | None = None, seed: int = 0) -> list[Problem]:
        """In the order of the rows. Raises UserError for rows that do not serve, and for a split without problems."""
        if split not in self.spec.splits:
            raise NoProblemsError(f"task {self.name}: has no split '{split}'; it has {', '.join(self.spec.splits)}")
        found = self._loaded.splits[split]
        if not found:
            raise NoProblemsError(f"task {self.name}: split '{split}' is empty; give it a larger share or more rows")
        if limit is None or limit >= len(found):
            return list(found)
        chosen = set(sorted(found, key=lambda problem: _hash(f"{seed}/{problem.id}"))[:limit])
        return [problem for problem in found if problem in chosen]

    def remarks(self) -> list[str]:
        return self._loaded.remarks

    def described(self) -> dict[str, Any] | None:
        if self.folder == SHIPPED:
            return None
        return {"spec": self.spec.model_dump(mode="json"), "folder": str(self.folder.resolve())}

    def __reduce__(self) -> Any:
        return DatasetTask, (self.spec, self.folder, self.data, self.without)

    # --- rows to problems

    @cached_property
    def _loaded(self) -> _Loaded:
        loaded = _Loaded({name: [] for name in self.spec.splits})
        left_out = self._questions_of(self.without)
        found: list[_Found] = []
        by_question: dict[str, _Found] = {}
        for split, row in self._rows():
            loaded.rows += 1
            one = self._found(split, row)
            if one.key in left_out:
                continue
            if one.answer is None:
                loaded.unanswered.append(row)
                continue
            first = by_question.setdefault(one.key, one)
            if first is not one:
                self._refuse_conflict(first, one)
                loaded.repeated.append(row)
                continue
            found.append(one)
        self._share_out(found, loaded)
        self._remark(loaded)
        return loaded

    def _found(self, split: str | None, row: Row) -> _Found:
        """What a row holds, checked. The answer is None where the row has none."""
        question, answer = self._question(row), self._gold(row)
        if question is None:
            name = self._field(row, self.spec.problem)
            raise UserError(f"{row.where}: field '{name}' is empty; fill it in or delete the row")
        key, choices = _normal(question), ""
        if answer is not None:
            choices, answer = self._choices(row, answer, key)
            if not self.answers.accepts(answer):
                raise UserError(
                    f"{row.where}: answer {shown(answer)} is not {self.answers.form}, which answer_type "
                    f"'{self.spec.answer_type}' wants; mend the row, or choose another answer_type"
                )
        prompt = self.spec.prompt.replace("{choices}", choices).replace("{problem}", question)
        named = self._text(row, self.spec.id, "id", wanted=False)
        identity = f"{named}-{_hash(key)[:6]}" if named else _hash(key)[:12]  # another question is another problem
        return _Found(row, split, key, identity, prompt, answer)

    @staticmethod
    def _refuse_conflict(first: _Found, again: _Found) -> None:
        """Raises UserError where one question has two answers or is in two splits."""
        same = first.row.place if first.row.file == again.row.file else first.row.where
        where = f"{again.row.where}: the question of {same} again"
        if first.answer != again.answer:
            raise UserError(f"{where}, with answer {shown(again.answer)} instead of {shown(first.answer)}; keep one")
        if first.split != again.split:
            raise UserError(f"{where}, there in split '{first.split}' and here in '{again.split}'; delete one of them")

    def _share_out(self, found: Sequence[_Found], loaded: _Loaded) -> None:
        """Put every problem into its split: the row's own, or by the hash of its question."""
        own: dict[str, str] = {}
        if self.spec.shared_out:
            order = sorted((one.key for one in found), key=_hash)
            start = 0.0
            for name, share in self.spec.splits.items():
                end = start + float(share)
                own.update(dict.fromkeys(order[round(start * len(order)) : round(end * len(order))], name))
                start = end
        for one in found:
            split = one.split if one.split is not None else own.get(one.key)
            if split is not None:
                loaded.splits[split].append(Problem(one.id, self.name, one.prompt, str(one.answer), split))

    def _remark(self, loaded: _Loaded) -> None:
        """Say what was left out. Raises UserError where so many rows lack an answer that the field must be wrong."""
        unanswered, repeated, said = loaded.unanswered, loaded.repeated, loaded.remarks
        if len(unanswered) > MISSING_SHARE * loaded.rows:
            raise UserError(
                f"{unanswered[0].file}: {len(unanswered)} of {loaded.rows} rows have no answer in field "
                f"'{self._field(unanswered[0], self.spec.answer)}' (the first: {unanswered[0].place}); name the right "
                "field under 'answer'"
            )
        if unanswered:
            said.append(
                f"task {self.name}: {len(unanswered)} of {loaded.rows} rows have no answer and were left out (the "
                f"first: {unanswered[0].place})"
            )
        if repeated:
            said.append(
                f"task {self.name}: {len(repeated)} of {loaded.rows} rows repeat a question and its answer, and count "
                f"once (the first: {repeated[0].place})"
            )
        count = sum(map(len, loaded.splits.values()))
        if self.expected is not None and count != self.expected:
            said.append(f"task {self.name}: {count} problems, but the benchmark has {self.expected}")
        if self.revision is None and self.remote:
            said.append(f"task {self.name}: the revision of {self.dataset} is not pinned")

    def _source(self) -> Path:
        """What stands for the data, else the folder beside the task that is the data set, else the id on the hub."""
        beside = self.folder / str(self.spec.dataset)
        return self.data or (beside if beside.is_dir() else Path(str(self.spec.dataset)))

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.spec.splits)

    @property
    def remote(self) -> bool:
        return self.spec.dataset is not None and not self._source().exists()

    def _rows(self) -> Iterator[tuple[str | None, Row]]:
        """(split, row); the split is None where it is shared out later."""
        spec = self.spec
        for split, source in self._sources():
            for row in source:
                if not self._within(row):
                    continue
                if spec.split_field is None:
                    yield split, row
                    continue
                value = str(self._value(row, (spec.split_field,), "split_field"))
                yield from ((name, row) for name, wanted in spec.splits.items() if wanted == value)

    def _sources(self) -> Iterator[tuple[str | None, Iterator[Row]]]:
        spec = self.spec
        named = (
            {} if spec.split_field else {name: str(part) for name, part in spec.splits.items() if isinstance(part, str)}
        )
        if self.data is not None and self.data.suffix in SUFFIXES:
            only = next(iter(named)) if named else None
            yield only, rows_of(self.data)
        elif self.data is None and spec.data is None and spec.dataset is None:
            yield from ((name, rows_of(self.folder / file)) for name, file in named.items())
        elif self.data is None and spec.data is not None:
            yield None, rows_of(self.folder / spec.data)
        else:
            parts: list[tuple[str | None, str]] = [*named.items()] or [(None, spec.part)]
            yield from ((name, self._hub_rows(part)) for name, part in parts)

    def _hub_rows(self, part: str) -> Iterator[Row]:
        """Rows of a data set on the hub, in its cache, or in a folder that is laid out like one."""
        from datasets import load_dataset
        from datasets.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        assert self.spec.dataset is not None or self.data is not None
        source = self._source()
        if source.is_dir():  # read anew each time: the library's own cache goes by the folder's name
            with TemporaryDirectory() as cache:
                try:
                    rows = list(load_dataset(str(source), self.spec.config, split=part, cache_dir=cache))
                except Exception as error:
                    raise UserError(f"{source}: cannot be read as a data set ({first_line(error)})") from error
        else:
            go_offline_where_there_is_no_hub()
            try:
                rows = load_dataset(str(source), self.spec.config, split=part, revision=self.spec.revision)
            except Exception as error:
                raise UserError(
                    f"task {self.name}: data set {source} could not be had ({first_line(error)}); without a network, "
                    f"fetch its file elsewhere and give it: --data {self.name}=FILE (or its folder)"
                ) from error
        for number, values in enumerate(rows, 1):
            yield Row(f"{source}:{part}", f"row {number}", values)

    # --- fields

    def _within(self, row: Row) -> bool:
        for name, (low, high) in self.spec.between.items():
            value = self._value(row, (name,), "between")
            try:
                inside = low <= float(str(value)) <= high
            except ValueError as error:
                raise UserError(f"{row.where}: field '{name}' is {shown(value)}, where a number is wanted") from error
            if not inside:
                return False
        return True

    @staticmethod
    def _field(row: Row, names: Sequence[str]) -> str:
        return next((name for name in names if name in row.values), names[0])

    def _value(self, row: Row, names: Sequence[str], key: str, wanted: bool = True) -> Any:
        present = [name for name in names if name in row.values]
        if not present and wanted:
            raise UserError(
                f"{row.where}: no field {' or '.join(map(repr, names))}; it has {', '.join(map(str, row.values))}: "
                f"name the right one under '{key}' in the task"
            )
        values = [row.values[name] for name in present]
        return next((value for value in values if value not in (None, "")), None)

    def _text(self, row: Row, names: Sequence[str], key: str, wanted: bool = True) -> str | None:
        value = self._value(row, names, key, wanted)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, str | int | float | None):
            raise UserError(
                f"{row.where}: field '{self._field(row, names)}' is {shown(value)}, where a text or a number is wanted"
            )
        return (str(value).strip() or None) if value is not None else None

    def _gold(self, row: Row) -> str | None:
        text = self._text(row, self.spec.choices[:1] if len(self.spec.choices) > 1 else self.spec.answer, "answer")
        if text is None:
            return None
        if self.spec.gold is not None:
            found = re.search(self.spec.gold, text)
            if found is None:
                raise UserError(f"{row.where}: the pattern gold = {self.spec.gold!r} finds no answer in {shown(text)}")
            return found[1].strip() or None
        return (self.answers.stated(text) or None) if "\\boxed" in text else text

    def _choices(self, row: Row, answer: str, key: str) -> tuple[str, str]:
        """The choices as the prompt shows them, and the letter of the right one."""
        names = self.spec.choices
        if not names:
            return "", answer
        if len(names) > 1:
            texts = [str(self._value(row, (name,), "choices")).strip() for name in names]
            right = texts[0]
            random.Random(f"{self.spec.choice_seed}/{key}").shuffle(texts)
        else:
            value = self._value(row, names, "choices")
            if not isinstance(value, list | tuple) or not value:
                raise UserError(f"{row.where}: field '{names[0]}' is {shown(value)}, where a list of choices is wanted")
            texts, right = [str(one).strip() for one in value], answer
        letters = [chr(ord("A") + place) for place in range(len(texts))]
        listed = "\n".join(f"{letter}) {text}" for letter, text in zip(letters, texts, strict=True))
        if right in texts:
            return listed, letters[texts.index(right)]
        if right in letters:
            return listed, right
        raise UserError(f"{row.where}: answer {shown(right)} is none of the choices {shown(texts)}")

    def _question(self, row: Row) -> str | None:
        question = self._text(row, self.spec.problem, "problem")
        context = self._text(row, self.spec.context, "context") if self.spec.context else None
        return f"{context}\n\n{question}" if question and context else question

    @staticmethod
    def _questions_of(other: Task | None) -> set[str]:
        """The questions of the task that is left out."""
        if not isinstance(other, DatasetTask):
            return set()
        return {_normal(other._question(row) or "") for _, row in other._rows()}


@cache
def go_offline_where_there_is_no_hub() -> None:
    """Where the hub's name cannot be resolved, only what is in the cache is looked for: no retries, no waiting."""
    import datasets.config
    import huggingface_hub.constants

    host = urlsplit(huggingface_hub.constants.ENDPOINT).hostname or ""
    if getproxies().get("https"):
        return
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        datasets.config.HF_HUB_OFFLINE = True
        huggingface_hub.constants.HF_HUB_OFFLINE = True


def _normal(question: str) -> str:
    """Questions that differ in layout or case only are one question."""
    return " ".join(question.casefold().split())


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
