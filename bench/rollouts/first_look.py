"""What the first finished problem says about all that follow: without answers nothing can come of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.store import NONE, RolloutStore, StoredPath, StoredProblem
from prunebench.tasks.task import Task

STOPS, WARNS = 0.9, 0.1
"""The shares of paths, without an answer or cut off, from which on nothing goes on, and from which on it is said."""
ENOUGH = 8
"""Paths that are looked at: those of more problems than one where each has fewer."""
_HEAD, _TAIL = 120, 280


@dataclass(frozen=True)
class FirstLook:
    """Stops a run whose first problem has next to no answers; ``forced``, it only says so."""

    forced: bool = False

    def through(
        self, problems: Iterable[StoredProblem], tasks: Mapping[str, Task], say: Callable[[str], None]
    ) -> Iterator[StoredProblem]:
        """``problems`` as they come. Raises UserError before the first of them is passed on."""
        first = []
        rest = iter(problems)
        for stored in rest:
            first.append(stored)
            if sum(len(each.paths) for each in first) >= ENOUGH:
                break
        self.at(first, tasks, say)
        yield from first
        yield from rest

    def at_stored(
        self,
        store: RolloutStore,
        wanted: Sequence[tuple[str, str]],
        tasks: Mapping[str, Task],
        say: Callable[[str], None],
    ) -> None:
        """Look at the first of ``wanted`` (task, problem id), which ``store`` holds."""
        read = store.reader()
        next(self.through((read(key) for key in wanted), tasks, say), None)

    def at(self, problems: Sequence[StoredProblem], tasks: Mapping[str, Task], say: Callable[[str], None]) -> None:
        """Look at these. Raises UserError: what is wrong, the text of a path, the remedy."""
        paths = [path for stored in problems for path in stored.paths]
        if not paths:
            return
        silent, cut = ([path for path in paths if wrong(path)] for wrong in (_is_silent, _is_cut))
        task = tasks[problems[0].task]
        worse = max(silent, cut, key=len)
        if len(worse) < WARNS * len(paths):
            return
        faults = [
            f"{len(some)} {what}"
            for some, what in ((silent, "state no answer"), (cut, f"were cut off at {_ends(cut)} tokens"))
            if some
        ]
        counted = f"of {len(paths)} paths of {_named(problems)} {', '.join(faults)}"
        if len(worse) < STOPS * len(paths):
            say(f"note: {counted}")
            return
        cure = _of_cut(cut) if len(cut) >= STOPS * len(paths) else remedy(task, silent)
        sentence = f"{counted}: no table can come of that; one of them: {_shown(worse[0])}; {cure}"
        if not self.forced:
            raise UserError(f"{sentence}; or go on all the same: --force")
        say(f"note: {sentence}")


def _is_silent(path: StoredPath) -> bool:
    return path.found_by == NONE


def _is_cut(path: StoredPath) -> bool:
    return path.finish == "length"


def _longest(paths: Sequence[StoredPath]) -> int:
    return max((path.length for path in paths), default=0)


def _ends(paths: Sequence[StoredPath]) -> str:
    """The length of paths, or from the shortest to the longest."""
    ends = sorted({path.length for path in paths})
    return " to ".join(f"{end:,}" for end in dict.fromkeys((*ends[:1], *ends[-1:])))


def _named(problems: Sequence[StoredProblem]) -> str:
    first = f"{problems[0].task}/{problems[0].problem}"
    return f"the first problem ({first})" if len(problems) == 1 else f"the first {len(problems)} problems"


def _shown(path: StoredPath) -> str:
    """The text of a path; of a long one its beginning and its end."""
    text = " ".join((path.text or "").split())
    return repr(text if len(text) <= _HEAD + _TAIL + 7 else f"{text[:_HEAD]} [...] {text[-_TAIL:]}")


def _of_cut(cut: Sequence[StoredPath]) -> str:
    longest = _longest(cut)
    return (
        f"if they would have come to an end, let them: --set max_new_tokens={2 * longest}, or as many as the context "
        "takes; if they repeat themselves, name what ends a path (--set stop=TOKEN) or take a model that was taught to "
        "answer"
    )


def remedy(task: Task, silent: Sequence[StoredPath]) -> str:
    """What would have read an answer out of paths that state none, else how to ask for one."""
    look = f"then see: prunebench check {task.name} --model MODEL"
    if type(task).answer_of is not Task.answer_of:
        return f"its task reads answers by its own answer_of, which finds none there; mend it, {look}"
    loose = "strict: false, " if task.strict else ""
    for keys, last_number in ((loose.rstrip(", "), task.last_number), (f"{loose}last_number: true", True)):
        found = [task.answers.find(path.text or "", last_number=last_number) for path in silent]
        answers = Counter(each.answer for each in found if each)
        if keys and 2 * answers.total() >= len(silent):
            ((answer, _),) = answers.most_common(1)
            return f"with '{keys}' in a task's file {answers.total()} of them have one, such as {answer!r}; {look}"
    return f"ask for an answer in the task's prompt, as in {task.answers.prompt!r}, {look}"
