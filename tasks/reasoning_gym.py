"""Tasks over the procedural data sets of the package reasoning-gym: problems without end, made here."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from importlib.metadata import version
from importlib.util import find_spec
from itertools import count, islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from prunebench.tasks import grading
from prunebench.tasks.answer_types import AnswerType, statements
from prunebench.tasks.answer_types.base import BOXED, LAST_BOX, NO_ANSWER, STATED, ReadingRule
from prunebench.tasks.answer_types.boxes import joined_box
from prunebench.tasks.answer_types.values import expression_in, text_in
from prunebench.tasks.answering_process import AnsweringProcess
from prunebench.tasks.dataset_fields import digest
from prunebench.tasks.errors import NoProblemsError, UserError, shown
from prunebench.tasks.grading import Verdict, number
from prunebench.tasks.spelling import unstyled
from prunebench.tasks.task import Problem, Task

SPLITS = ("test", "validation", "train", "reasoner")
"""Each has a quarter of the seeds, and of the questions: those whose hash says so. ``reasoner`` is what a model may be
trained on; the other three it has never seen."""
SEEDS = 2**30
"""Seeds of a split."""
SEED_STRIDE = 2**20
"""So many of them belong to one seed of a run."""
MOST_MISSES = 400
"""So many questions in a row that are not new, and a data set has no more."""
FIRST = 20
"""Where not one of so many problems can be graded, the data set cannot."""
ANY = "(any that the data set accepts)"
"""The gold answer of a problem that has none, and is graded by its data set alone."""
_TAG = re.compile(r"<answer>\s*((?:(?!<answer>).)*?)\s*</answer>", re.IGNORECASE | re.DOTALL)
_FRACTION = re.compile(r"[-+$\s]*(?:\\[dt]?frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}|(\d+)\s*/\s*(\d+))[$\s]*")


class ReasoningGymSpec(BaseModel):
    """A task as its file describes it: ``reasoning_gym`` is the data set, ``settings`` those of its configuration.

    ``seed`` chooses other problems. The rest as in :class:`prunebench.tasks.task_spec.TaskSpec`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str, Field(pattern=r"^(?:reasoning-gym:)?[A-Za-z0-9][A-Za-z0-9._-]*$")]
    reasoning_gym: str
    settings: dict[str, Any] = {}
    seed: Annotated[int, Field(ge=0)] = 0
    prompt: str = f"{{problem}}\n\n{AnswerType.prompt}"
    answer_suffix: str = AnswerType.suffix
    step_end: str = "\n\n"
    last_number: bool = False


class GymAnswers(AnswerType):
    """Numbers are equal by their value, all other texts when they are spelled alike.

    An answer is read as it stands in its box or between ``<answer>`` tags: its lines and signs may mean something.
    """

    name = "reasoning-gym"
    rules = (
        ReadingRule(BOXED, joined_box),
        ReadingRule(STATED, lambda text: _tagged(text)),
        ReadingRule(STATED, lambda text: statements.stated(text, _value_in, text_in)),
        ReadingRule(STATED, lambda text: _number_alone(text), at_end=True),
    )
    strict_rules = (LAST_BOX,)
    numbers = True

    def accepts(self, gold: str) -> bool:
        return bool(gold.strip())

    def equal(self, answer: str, gold: str) -> Verdict:
        if number(gold) is not None:
            return grading.equal(answer, gold)
        return Verdict(_spelling(answer) == _spelling(gold), "text 2")

    def classes(self, answers: Sequence[str | None]) -> list[int]:
        numbers: dict[object, int] = {}
        return [-1 if answer is None else numbers.setdefault(_spelling(answer), len(numbers)) for answer in answers]


class ReasoningGymTask(Task):
    """Endless problems of one data set. Its entries are drawn and scored in a process of their own.

    A whole number is graded by our reading; other numbers also by the data set, which may round; the rest by the data
    set alone, whose score must be 1.
    """

    answer_type = GymAnswers.name
    licence = "Apache-2.0 (generated here)"
    homepage = "https://github.com/open-thought/reasoning-gym"
    endless = True

    def __init__(self, spec: ReasoningGymSpec, folder: Path | None = None) -> None:
        self.spec, self.folder, self.name = spec, folder, spec.name
        self.step_end, self.last_number = spec.step_end, spec.last_number
        if "{problem}" not in spec.prompt:
            raise UserError(f"task {self.name}: prompt must contain {{problem}}, which stands for the question")
        self._left_out: dict[int, str] = {}

    def require(self) -> ReasoningGymTask:
        """Itself. Raises UserError where the package, the data set or a setting is not there."""
        self._asked("look")
        return self

    @cached_property
    def answers(self) -> AnswerType:
        return GymAnswers()

    @property
    def answer_suffix(self) -> str:
        return self.spec.answer_suffix

    def entries(self, split: str, seed: int = 0) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """(number, question, answer, metadata) of a split's distinct questions. Raises UserError where they end.

        No question is in two splits: its hash decides whose it is.
        """
        if split not in SPLITS:
            raise NoProblemsError(f"task {self.name}: unknown split '{split}'; known: {', '.join(SPLITS)}")
        first = SPLITS.index(split) * SEEDS + (self.spec.seed + seed) % (SEEDS // SEED_STRIDE) * SEED_STRIDE
        seen: set[str] = set()
        misses = 0
        for place in count(first):
            entry = self._asked("entry", place)
            key = digest(" ".join(str(entry["question"]).casefold().split()))
            if key in seen or SPLITS[int(key, 16) % len(SPLITS)] != split:
                misses += 1
                if misses > MOST_MISSES:
                    raise NoProblemsError(
                        f"task {self.name}: its split '{split}' has {len(seen)} different questions; ask for no more, "
                        "or choose wider settings"
                    )
                continue
            misses = 0
            seen.add(key)
            yield place, entry

    def problems(self, split: str, limit: int | None = None, seed: int = 0) -> list[Problem]:
        if limit is None:
            raise ValueError(f"task {self.name} has no end: say how many problems are wanted")
        return list(islice(self._graded(split, seed), limit))

    def _graded(self, split: str, seed: int) -> Iterator[Problem]:
        """The problems whose answer can be graded."""
        given = False
        for place, entry in self.entries(split, seed):
            gold = None if entry["answer"] is None else str(entry["answer"]).strip()
            whole = gold is not None and _whole(gold)
            fault = None if whole else self._fault(gold, place)
            if fault is not None:
                self._left_out[place] = fault
                if not given and len(self._left_out) >= FIRST:
                    raise UserError(f"task {self.name}: nobody can grade its answers: {fault}")
                continue
            given, question = True, str(entry["question"]).strip()
            identity = f"{place}-{digest(question)[:6]}"
            yield Problem(identity, self.name, self.spec.prompt.replace("{problem}", question), gold or ANY, split)

    def _fault(self, gold: str | None, place: int) -> str | None:
        """Why its data set cannot grade a problem, if so."""
        trial = self._asked("trial", place)
        if trial["nonsense"] >= 1.0:
            return "its own scoring takes anything"
        if gold and trial["own"] < 1.0:
            return f"its own scoring does not take its own answer {shown(gold)}"
        return None if gold or trial["scores"] else "there is neither an answer nor a scoring of its own"

    def verdict(self, problem: str, answer: str | None, gold: str) -> Verdict:
        if answer is None:
            return Verdict(False, NO_ANSWER)
        numeric = number(gold) is not None
        read = self.answers.grade(answer, gold) if numeric else None
        if read is not None and (
            _whole(gold) or (read.correct and not (_FRACTION.fullmatch(gold) and _reducible(answer)))
        ):
            return read
        place, _, asked = problem.partition("-")
        if digest(str(self._asked("entry", int(place))["question"]).strip())[:6] != asked:
            raise UserError(
                f"task {self.name}: {self.grader} makes another problem {problem} than was asked; install the version "
                "that made it"
            )
        spellings = list(dict.fromkeys((answer, unstyled(answer).strip(" $"), *_plain(answer))))
        try:
            return Verdict(self._asked("score", int(place), spellings)["score"] >= 1.0, self.grader)
        except _TooLongError:
            return Verdict(None, self.grader)

    def several_right(self, gold: str) -> bool:
        return True

    @cached_property
    def grader(self) -> str:
        return f"reasoning-gym {version('reasoning-gym')}"

    def remarks(self) -> list[str]:
        """How many problems were left out, as their data set does not take its own answer."""
        if not self._left_out:
            return []
        first = next(iter(self._left_out.values()))
        count = len(self._left_out)
        return [f"task {self.name}: {count} problems were left out, as nobody can grade them: {first}"]

    def described(self) -> dict[str, Any] | None:
        if self.folder is None:
            return None
        return {"reasoning_gym": self.spec.model_dump(mode="json"), "folder": str(self.folder.resolve())}

    def __reduce__(self) -> Any:
        return ReasoningGymTask, (self.spec, self.folder)

    def _asked(self, verb: str, *rest: object) -> Mapping[str, Any]:
        return _asked(verb, self.spec.reasoning_gym, json.dumps(self.spec.settings, sort_keys=True), *rest)


class _TooLongError(UserError):
    """A question that was not answered in time."""


@cache
def _process() -> AnsweringProcess:
    """Sets are walked in the same order in every process, so that equal seeds make equal problems."""
    script = Path(__file__).with_name("reasoning_gym_process.py")
    return AnsweringProcess(script, {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}, writes=True)


def _asked(verb: str, data_set: str, settings: str, *rest: object) -> Mapping[str, Any]:
    """Raises UserError where the package is missing, and for what it refuses."""
    if find_spec("reasoning_gym") is None:
        raise UserError("reasoning-gym is not installed: pip install 'prunebench[reasoning-gym]'")
    try:
        reply: Mapping[str, Any] = _process().ask(verb, data_set, json.loads(settings), *rest)
    except EOFError:
        raise _TooLongError(
            f"reasoning-gym:{data_set}: no {verb} within the time or the memory that it may take"
        ) from None
    if "error" in reply:
        raise UserError(f"reasoning-gym: {reply['error']}")
    return reply


def _whole(gold: str) -> bool:
    value = number(gold)
    return value is not None and value.denominator == 1


def _tagged(text: str) -> str | None:
    found = _TAG.findall(text)
    return found[-1] or None if found else None


def _value_in(sentence: str) -> str | None:
    """The number that a sentence gives, else all that it says."""
    value = expression_in(sentence)
    return value if value is not None and number(value) is not None else text_in(sentence)


def _number_alone(text: str) -> str | None:
    """The only line of a text where it is a number: words alone may be the begin of a solution."""
    line = statements.only_line(text)
    return line if line is not None and number(line) is not None else None


def _terms(answer: str) -> tuple[int, int] | None:
    """Numerator and denominator of an answer that is a fraction and nothing else."""
    found = _FRACTION.fullmatch(answer)
    if found is None:
        return None
    top, bottom = (int(part) for part in found.groups() if part is not None)
    return top, bottom


def _reducible(answer: str) -> bool:
    """Whether it is a fraction that could be shorter: no answer to a question for a fraction."""
    terms = _terms(answer)
    return terms is not None and math.gcd(*terms) > 1


def _plain(answer: str) -> list[str]:
    """What a data set that knows no LaTeX reads as the same."""
    terms, value = _terms(answer), number(answer)
    if terms is not None:
        return [f"{'-' if value is not None and value < 0 else ''}{terms[0]}/{terms[1]}"]
    return [] if value is None else [f"{float(value):.15g}"]


def _spelling(answer: str) -> object:
    value = None if _reducible(answer) else number(answer)
    return unstyled(answer).strip() if value is None else value
