"""Problems whose paths come in several rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.importers.contract import SourcePath, SourceProblem
from prunebench.bench.rollouts.importers.records import Record
from prunebench.tasks.errors import shown


class Gathering:
    """The problems of one task, in the order of their first rows."""

    def __init__(self, task: str) -> None:
        self.task = task
        self._problems: dict[str, SourceProblem] = {}

    def add(
        self,
        record: Record,
        problem: str,
        prompt: str,
        gold: str,
        paths: Sequence[SourcePath],
        left_out: int = 0,
        unread: Collection[str] = (),
    ) -> None:
        """``record`` is where they come from, ``gold`` as ``gold_of`` gives it; ``unread``: what nobody reads.

        Raises UserError for a second gold answer, and for another question: a name would stand for two problems.
        """
        known = self._problems.setdefault(problem, SourceProblem(self.task, problem, prompt, gold, []))
        if known.gold != gold:
            raise UserError(
                f"{record.file}, {record.place}: problem {shown(problem)} has the gold answer {shown(gold)} here and "
                f"{shown(known.gold)} above; problems need distinct names, and files of several tasks one import each"
            )
        if prompt and known.prompt and " ".join(prompt.split()) != " ".join(known.prompt.split()):
            raise UserError(
                f"{record.file}, {record.place}: problem {shown(problem)} has the prompt {shown(prompt)} here and "
                f"{shown(known.prompt)} above; problems need distinct names"
            )
        known.prompt = known.prompt or prompt
        known.paths += paths
        known.left_out += left_out
        known.unread |= set(unread)

    def problems(self) -> Iterator[SourceProblem]:
        yield from self._problems.values()
